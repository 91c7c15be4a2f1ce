// test_ops_nets - what nets that predict scores are trained and run with (model/ops/ops_nets.h), on CUDA against the
// CPU at 1e-5, with the orders of threads, streams and guard words of test_ops_transformer; the choice of units
// exactly; and steps of whole nets of every kind.
#include "cuda_compare.h"
#include "net.h"
#include "shim.h"

static const ops *cpu, *gpu;
static const ops *side(int k) { return k ? gpu : cpu; }

typedef struct {
    float *on[2];
    size_t n;
} pair;  // the same numbers on both sides

static pair put_pair(const float *x, size_t n) { return (pair){{put_guarded(cpu, x, n), put_guarded(gpu, x, n)}, n}; }

static pair random_pair(uint64_t seed, size_t n) {
    float *x = random_floats(seed, n);
    const pair p = put_pair(x, n);
    free(x);
    return p;
}

static pair square_pair(uint64_t seed, size_t n) {
    float *x = random_floats(seed, n);
    for (size_t i = 0; i < n; i++) x[i] *= x[i];
    const pair p = put_pair(x, n);
    free(x);
    return p;
}

static void compare(const char *what, pair p, double tol) {
    float *want = get_guarded(cpu, p.on[0], p.n, what), *got = get_guarded(gpu, p.on[1], p.n, what);
    agree(what, got, want, p.n, tol);
    free(want), free(got);
    for (int k = 0; k < 2; k++) release_guarded(side(k), p.on[k]);
}

static void linear_steps(void) {
    static const struct { int out, in, rows; } shapes[] = {{1, 1, 1}, {31, 21, 5}, {300, 64, 16}, {129, 4100, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int biased = 0; biased < 2; biased++) {
            const int out = shapes[i].out, in = shapes[i].in, rows = shapes[i].rows;
            const size_t W = (size_t)out * (size_t)in, bias = biased ? W + 3 : 0, all = W + 3 + (size_t)out;
            pair w = random_pair(1, all), m = random_pair(2, all), v = square_pair(3, all),
                 dy = random_pair(4, (size_t)rows * (size_t)out), x = random_pair(5, (size_t)rows * (size_t)in);
            const adamw a = adamw_step(1e-2, 0.1, 0.9, 0.999, 1, 3);
            for (int k = 0; k < 2; k++)
                side(k)->linear_step(w.on[k], m.on[k], v.on[k], &a, bias, dy.on[k], x.on[k], out, in, rows);
            compare("linear_step, w", w, 1e-5), compare("m", m, 1e-5), compare("v", v, 1e-5), compare("dy", dy, 0),
                compare("x", x, 0);
        }
}

static void losses(void) {
    static const size_t sizes[] = {1, 100, 2048, 40000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = LOSS_MSE; kind <= LOSS_BCE; kind++)
            for (int slope = 0; slope < 2; slope++) {
                const size_t n = sizes[i];
                float *label = random_floats(6, n);
                for (size_t j = 0; j < n && kind == LOSS_BCE; j++) label[j] = label[j] > 0;
                pair y = random_pair(7, n), t = put_pair(label, n), dy = random_pair(8, n);
                double mean[2];
                for (int k = 0; k < 2; k++) {
                    double *device = side(k)->alloc(sizeof *device);
                    side(k)->loss(device, slope ? dy.on[k] : NULL, y.on[k], t.on[k], (loss_kind)kind, 0.3, n);
                    side(k)->get(&mean[k], device, sizeof mean[k]);
                    side(k)->release(device);
                }
                if (!(fabs(mean[0] - mean[1]) <= 1e-6 * mean[0]))
                    fail_msg("loss %d of %zu: %.9g, want %.9g", kind, n, mean[1], mean[0]);
                compare("loss, dy", dy, 1e-5), compare("y", y, 0), compare("t", t, 0);
                free(label);
            }
}

static void pooling(void) {
    static const struct {
        int E, length[4];
    } shapes[] = {{5, {1, 2, 33, 7}}, {64, {70, 1, 300, 40}}, {160, {12, 513, 1, 31}}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int E = shapes[i].E;
        span s[4];
        int rows = 0;
        for (int j = 0; j < 4; j++) {
            s[j] = (span){rows + j % 2, shapes[i].length[j]};
            rows = s[j].row + s[j].n;
        }
        const size_t wide = (size_t)rows * (size_t)E, R = (size_t)rows;
        pair c = random_pair(9, 4 * (size_t)E), p = random_pair(10, R), lse = random_pair(11, R),
             x = random_pair(12, wide), q = random_pair(13, wide), k = random_pair(14, wide);
        pair dq = random_pair(15, wide), dk = random_pair(16, wide), dp = random_pair(17, R),
             dc = random_pair(18, 4 * (size_t)E);
        float *times = xmalloc(R * sizeof *times);
        for (size_t r = 0; r < R; r++) times[r] = (float)(1 + r % 3);
        pair count = put_pair(times, R);
        free(times);
        for (int d = 0; d < 2; d++) {
            side(d)->pool(c.on[d], p.on[d], lse.on[d], x.on[d], count.on[d], q.on[d], k.on[d], E, s, 4);
            side(d)->pool_back(dq.on[d], dk.on[d], dp.on[d], dc.on[d], x.on[d], count.on[d], q.on[d], k.on[d],
                               lse.on[d], E, s, 4);
        }
        compare("pool, c", c, 1e-5), compare("p", p, 1e-5), compare("lse", lse, 1e-5),
            compare("pool_back, dq", dq, 1e-5), compare("dk", dk, 1e-5), compare("dp", dp, 1e-5);
        compare("x", x, 0), compare("q", q, 0), compare("k", k, 0), compare("dc", dc, 0), compare("count", count, 0);
    }
}

static void normalising(void) {
    enum { E = 37, SPANS = 130 };
    span s[SPANS];
    int rows = 0;
    for (int i = 0; i < SPANS; i++) {
        s[i] = (span){rows + i % 2, i % 5 == 4 ? 0 : 1 + i % 13};
        rows = s[i].row + s[i].n;
    }
    const size_t n = (size_t)rows * E;
    float *x = random_floats(19, n);
    for (int e = 0; e < s[1].n * E; e++) x[s[1].row * E + e] = 3.5f;  // all equal
    x[s[2].row * E] = -3e38f, x[s[2].row * E + 5] = 3e38f;            // a range that overflows
    pair from = put_pair(x, n), to = random_pair(20, n), same = put_pair(x, n);
    for (int k = 0; k < 2; k++) {
        side(k)->minmax(to.on[k], from.on[k], E, s, SPANS);
        side(k)->minmax(same.on[k], same.on[k], E, s, SPANS);
    }
    compare("minmax", to, 1e-5), compare("minmax, in place", same, 1e-5), compare("x", from, 0);
    free(x);
}

// Units that go, by sorting: places in order of score, then of place.
static const float *sorted_by;
static int lower_first(const void *a, const void *b) {
    const long x = *(const long *)a, y = *(const long *)b;
    const float p = sorted_by[x], q = sorted_by[y];
    return p != q ? (p > q) - (p < q) : (x > y) - (x < y);
}

static void expect_cut(uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c) {
    long *at = xmalloc(((size_t)c->n + 1) * sizeof *at), n = 0;
    for (long i = c->first; i < c->first + c->n; i++)
        if (!only || only[i]) at[n++] = i;
    sorted_by = score;
    qsort(at, (size_t)n, sizeof *at, lower_first);
    for (long i = 0; i < n; i++) keep[at[i]] = i >= c->k;
    free(at);
}

enum { SPREAD, FEW_VALUES, ZEROS_OF_BOTH_SIGNS, TINY_AND_HUGE, SORTS_OF_SCORES };
static float *scores_of(int sort, size_t n) {
    rng r = rng_make((uint64_t)sort + 40);
    float *x = random_floats((uint64_t)sort + 50, n);
    for (size_t i = 0; i < n && sort != SPREAD; i++)
        if (sort == FEW_VALUES)
            x[i] = (float)rng_below(&r, 5) - 2;
        else if (sort == ZEROS_OF_BOTH_SIGNS)
            x[i] = rng_below(&r, 3) ? 0.0f : -0.0f;
        else
            x[i] = ldexpf(x[i], (int)rng_below(&r, 260) - 140);
    return x;
}

// Bytes as arrays of floats, which guard words surround.
static float *put_bytes(const ops *o, const uint8_t *x, size_t n) {
    float *f = xcalloc((n + 3) / 4, sizeof *f);
    memcpy(f, x, n);
    float *p = put_guarded(o, f, (n + 3) / 4);
    free(f);
    return p;
}
static void get_bytes(const ops *o, uint8_t *x, float *p, size_t n) {
    float *f = get_guarded(o, p, (n + 3) / 4, "bytes");
    memcpy(x, f, n);
    free(f);
    release_guarded(o, p);
}

// cut, or cut_here, whose bad score is place 0.
static long cut_by(const ops *o, bool here, uint8_t *keep, const float *score, const uint8_t *only, size_t units,
                   const cut_range *c, int n) {
    int32_t bad = 0;
    if (!here) return o->cut(keep, score, only, c, n);
    float *kept = put_bytes(o, keep, units), *which = only ? put_bytes(o, only, units) : NULL,
          *flag = put_guarded(o, (const float *)(const void *)&bad, 1);
    o->cut_here((uint8_t *)kept, (int32_t *)(void *)flag, score, (const uint8_t *)which, c, n);
    get_bytes(o, keep, kept, units);
    get_bytes(o, (uint8_t *)&bad, flag, sizeof bad);
    if (which) release_guarded(o, which);
    return bad ? 0 : -1;
}

// The same units as the CPU's, which are those that sorting gives: ranges of all sizes, none to all of them, with ties,
// among some of the units only; a NaN is found.
static void cuts(void) {
    enum { UNITS = 40000 };
    static const struct {
        cut_range c[4];
        int n, some;
    } sets[] = {{{{0, 1, 0}, {1, 1, 1}, {2, 40, 20}, {50, 512, 500}}, 4, 1},
                {{{3, 1000, 499}, {1600, 1025, 0}, {2700, 11, 11}, {2800, 200, 999}}, 4, 2},
                {{{0, 3000, 1500}}, 1, 2},
                {{{1, 9000, 7001}, {13000, 25000, 24000}}, 2, 1},
                {{{0, UNITS, 15001}}, 1, 2},
                {{{5, 30000, 30000}, {30010, 100, 50}, {31000, 6000, 0}}, 3, 1}};
    uint8_t *only = xmalloc(UNITS), *keep[3];
    rng r = rng_make(60);
    for (int k = 0; k < 3; k++) keep[k] = xmalloc(UNITS);
    for (int i = 0; i < UNITS; i++) only[i] = rng_below(&r, 3) > 0;
    for (int sort = 0; sort < SORTS_OF_SCORES; sort++) {
        float *x = scores_of(sort, UNITS);
        pair score = put_pair(x, UNITS);
        for (size_t i = 0; i < (sort > FEW_VALUES ? 3 : sizeof sets / sizeof *sets); i++)
            for (int how = 0; how < 2 * sets[i].some; how++) {
                const uint8_t *some = how / 2 ? only : NULL;
                for (int k = 0; k < 3; k++) memset(keep[k], 7, UNITS);
                for (int k = 0; k < 2; k++)
                    if (cut_by(side(k), how % 2, keep[k], score.on[k], some, UNITS, sets[i].c, sets[i].n) != -1)
                        fail_msg("cut finds a score that is no number");
                for (int j = 0; j < sets[i].n; j++) expect_cut(keep[2], x, some, &sets[i].c[j]);
                for (int k = 0; k < 2; k++)
                    if (memcmp(keep[k], keep[2], UNITS) != 0)
                        fail_msg("%s: cut, scores %d, ranges %zu, way %d: other units than sorting gives",
                                 side(k)->device, sort, i, how);
            }
        const float bad[] = {NAN, INFINITY, -INFINITY};
        for (int b = 0; b < 3 && sort == 0; b++)
            for (int k = 0; k < 2; k++) {
                side(k)->put(score.on[k] + 2500, &bad[b], sizeof *bad);
                side(k)->put(score.on[k] + 2900, &bad[b], sizeof *bad);
                for (int here = 0; here < 2; here++) {
                    const long want = here ? 0 : 2500;
                    if (cut_by(side(k), here, keep[k], score.on[k], NULL, UNITS, sets[2].c, 1) != want)
                        fail_msg("%s: cut does not find the first bad score", side(k)->device);
                    if (cut_by(side(k), here, keep[k], score.on[k], only, UNITS, sets[4].c, 1) != want)
                        fail_msg("%s: cut of a long range does not find the first bad score", side(k)->device);
                    if (cut_by(side(k), here, keep[k], score.on[k], only, UNITS, sets[1].c, 4) != want)
                        fail_msg("%s: cut of ranges does not find the first bad score", side(k)->device);
                    if (cut_by(side(k), here, keep[k], score.on[k], NULL, UNITS, sets[0].c, 4) != -1)
                        fail_msg("%s: cut finds a bad score outside of its ranges", side(k)->device);
                }
            }
        for (int k = 0; k < 2; k++) release_guarded(side(k), score.on[k]);
        free(x);
    }
    for (int k = 0; k < 3; k++) free(keep[k]);
    free(only);
}

// One function may test several operations.
static const struct {
    const char *op;
    void (*run)(void);
} cases[] = {
    {.op = "linear_step", .run = linear_steps},
    {.op = "loss", .run = losses},
    {.op = "pool", .run = pooling},
    {.op = "pool_back", .run = pooling},
    {.op = "minmax", .run = normalising},
    {.op = "cut", .run = cuts},
    {.op = "cut_here", .run = cuts},
};
enum { CASES = sizeof cases / sizeof *cases };

#define OP_GROUP "ops_nets.h"
#define OP_ELSEWHERE
#include "op_group.h"

static void every_operation(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++)
        if (!i || cases[i].run != cases[i - 1].run) cases[i].run();
}

// Steps of a net from one start: a step moves a parameter by about its rate, whatever the size of its gradient, which
// may be near rounding: the sides differ by 1e-3 of that way at most.
static void nets_take_the_same_steps(void **state) {
    (void)state;
    enum { STEPS = 5, BATCH = 4, IN = 24, HIDDEN = 18, OUT = 40, TOKENS = 9 };
    static const double rate = 1e-2;
    float times[BATCH * TOKENS];
    for (int i = 0; i < BATCH * TOKENS; i++) times[i] = (float)(1 + i % 3);
    for (int kind = NET_MLP; kind <= NET_POOL; kind++) {
        net n[2];
        net_work k[2];
        float *w[2], *start = NULL;
        pair m, v;
        for (int d = 0; d < 2; d++) {
            net_shape(&n[d], (net_kind)kind, IN, HIDDEN, OUT);
            if (!d) {
                n[d].w = start = xaligned(n[d].floats * sizeof *start);
                net_init(&n[d], 3);
            }
            w[d] = n[d].w = put_guarded(side(d), start, n[d].floats);
            net_work_new(&k[d], side(d), &n[d], BATCH, true);
        }
        float *zero = xcalloc(n[0].floats, sizeof *zero);
        m = put_pair(zero, n[0].floats), v = put_pair(zero, n[0].floats);
        for (int step = 0; step < STEPS; step++) {
            float *x = random_floats((uint64_t)step, BATCH * TOKENS * IN), *t = random_floats(99, BATCH * OUT);
            for (int i = 0; i < BATCH * OUT; i++) t[i] = t[i] > 0;
            for (int d = 0; d < 2; d++) {
                const ops *o = side(d);
                if (kind == NET_POOL) net_work_tokens(&k[d], &n[d], BATCH * TOKENS);
                for (int i = 0; i < BATCH && kind == NET_POOL; i++) k[d].s[i] = (span){i * TOKENS, TOKENS - i};
                if (kind == NET_POOL) o->put(k[d].count, times, sizeof times);
                o->put(kind == NET_POOL ? k[d].tokens : k[d].x, x,
                       (size_t)BATCH * (kind == NET_POOL ? TOKENS : 1) * IN * sizeof *x);
                float *target = o->alloc(BATCH * OUT * sizeof *target);
                double *loss = o->alloc(sizeof *loss);
                o->put(target, t, BATCH * OUT * sizeof *target);
                net_forward(&n[d], &k[d], BATCH);
                o->loss(loss, k[d].dy, k[d].y, target, kind == NET_PAIR ? LOSS_BCE : LOSS_MSE, 0.5, BATCH * OUT);
                const net_update u = {.a = adamw_step(rate, 0.01, 0.9, 0.999, 1, step + 1), .m = m.on[d], .v = v.on[d]};
                net_backward(&n[d], &k[d], BATCH, &u);
                o->release(target), o->release(loss);
            }
            free(x), free(t);
        }
        float *want = get_guarded(cpu, w[0], n[0].floats, "w"), *got = get_guarded(gpu, w[1], n[0].floats, "w");
        for (int j = 0; j < n[0].n; j++)
            for (size_t i = n[0].t[j].at; i < n[0].t[j].at + (size_t)n[0].t[j].rows * (size_t)n[0].t[j].cols; i++)
                // the scores of a query all move alike with the keys' bias, so its gradient is zero but for rounding
                if (strcmp(n[0].t[j].name, "key.bias") != 0 &&
                    !(fabs((double)got[i] - (double)want[i]) <= 1e-3 * STEPS * rate))
                    fail_msg("net %d, %s: value %zu is %.9g, want %.9g", kind, n[0].t[j].name, i - n[0].t[j].at,
                             (double)got[i], (double)want[i]);
        for (int d = 0; d < 2; d++) {
            net_work_free(&k[d]);
            release_guarded(side(d), w[d]), release_guarded(side(d), m.on[d]), release_guarded(side(d), v.on[d]);
        }
        free(want), free(got), free(start), free(zero);
    }
}

int main(int argc, char **argv) {
    cpu = ops_open("cpu");
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_operation_is_forgotten), cmocka_unit_test(every_operation),
                                       cmocka_unit_test(nets_take_the_same_steps)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    int bad = cmocka_run_group_tests(tests, NULL, NULL) != 0;
    if (argc > 1 || !strstr(gpu->about, "stand-in")) return bad;
    return bad | in_other_orders(argv[0]);
}
