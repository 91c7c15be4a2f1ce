// test_nets - nets, loss and AdamW against PyTorch (tests/golden/make_predictor.py), finite differences, how nets
// begin.
#include "predictor_fixture.h"
#include "fit.h"
#include "nets.h"

enum { STEPS = 6, BATCH = 4, IN = 12, OUT = 10 };
typedef struct {
    const char *name;
    net_kind kind;
    int hidden;
    loss_kind loss;
    double positive;
} case_of;
static const case_of cases[] = {
    {"mlp", NET_MLP, 9, LOSS_MSE, 0}, {"pair", NET_PAIR, 5, LOSS_BCE, 0.4}, {"pool", NET_POOL, 9, LOSS_MSE, 0}};

typedef struct {
    net n;
    net_work k;
    double *x, *y, *t, *loss;
    size_t row;
    int length[BATCH];
    float target[BATCH * OUT];
} run;

static void parameters(const case_of *c, const char *when, const net *n, float *w) {
    memset(w, 0, n->floats * sizeof *w);
    for (int i = 0; i < n->n; i++) {
        char *name = xasprintf("%s/%s", when, n->t[i].name);
        size_t count;
        double *v = read_of(c->name, name, &count);
        assert_int_equal(count, (size_t)n->t[i].rows * (size_t)n->t[i].cols);
        narrow(w + n->t[i].at, v, count);
        free(v);
        free(name);
    }
}

static run begin(const case_of *c) {
    run r = {0};
    net_shape(&r.n, c->kind, IN, c->hidden, OUT);
    r.n.w = xaligned(r.n.floats * sizeof(float));
    parameters(c, "start", &r.n, r.n.w);
    net_work_new(&r.k, ops_cpu(), &r.n, BATCH, true);
    size_t n;
    r.x = read_of(c->name, c->kind == NET_POOL ? "tokens" : "x", &n);
    r.row = n / STEPS;
    r.y = read_of(c->name, "y", NULL);
    r.t = read_of(c->name, "t", NULL);
    r.loss = read_of(c->name, "loss", NULL);
    if (c->kind == NET_POOL) {
        double *length = read_of(c->name, "length", NULL);
        for (int i = 0; i < BATCH; i++) r.length[i] = (int)length[i];
        free(length);
    }
    return r;
}

static void end(run *r) {
    net_work_free(&r->k);
    void *all[] = {r->n.w, r->x, r->y, r->t, r->loss};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

// Forward of batch s; the loss, and its gradient at the outputs.
static double forward(const case_of *c, run *r, int s) {
    if (c->kind == NET_POOL) {
        net_work_tokens(&r->k, &r->n, (int)(r->row / IN));
        for (int i = 0, row = 0; i < BATCH; row += r->length[i++]) r->k.s[i] = (span){row, r->length[i]};
        for (size_t row = 0; row < r->row / IN; row++) r->k.count[row] = 1;
    }
    narrow(c->kind == NET_POOL ? r->k.tokens : r->k.x, r->x + (size_t)s * r->row, r->row);
    narrow(r->target, r->t + s * BATCH * OUT, BATCH * OUT);
    net_forward(&r->n, &r->k, BATCH);
    double loss;
    ops_cpu()->loss(&loss, r->k.dy, r->k.y, r->target, c->loss, c->positive, BATCH * OUT);
    return loss;
}

// A step without moments and without a rate leaves the gradient in m.
static net_update only_gradient(float *grad, float *v) {
    return (net_update){.a = adamw_step(0, 0, 0, 0.999, 1, 1), .m = grad, .v = v};
}

static void outputs_gradients_and_steps(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const case_of *c = &cases[i];
        run r = begin(c);
        const size_t bytes = r.n.floats * sizeof(float);
        float *m = xcalloc(1, bytes), *v = xcalloc(1, bytes), *got = xcalloc(1, bytes), *spare = xcalloc(1, bytes);
        for (int s = 0; s < STEPS; s++) {
            const double loss = forward(c, &r, s);
            assert_agree(c->name, r.k.y, r.y + s * BATCH * OUT, BATCH * OUT, 1e-4);
            assert_true(fabs(loss - r.loss[s]) <= 1e-5 * r.loss[s]);
            if (s == 0) {
                const net_update only = only_gradient(got, spare);
                net_backward(&r.n, &r.k, BATCH, &only);
                for (int j = 0; j < r.n.n; j++) {
                    char *name = xasprintf("gradient/%s", r.n.t[j].name);
                    size_t count;
                    double *want = read_of(c->name, name, &count);
                    // the scores of a query all move alike with the keys' bias, so its gradient is zero but for
                    // rounding
                    if (strcmp(r.n.t[j].name, "key.bias") != 0)
                        assert_agree(name, got + r.n.t[j].at, want, count, 1e-4);
                    free(want);
                    free(name);
                }
                forward(c, &r, s);
            }
            const net_update u = {.a = adamw_step(cosine(1e-2, s, STEPS), 0.01, 0.9, 0.999, 1, s + 1), .m = m, .v = v};
            net_backward(&r.n, &r.k, BATCH, &u);
        }
        for (int j = 0; j < r.n.n; j++) {
            char *name = xasprintf("end/%s", r.n.t[j].name);
            size_t count;
            double *want = read_of(c->name, name, &count);
            // a step is at most lr: 1e-4 of the way that parameters went
            for (size_t k = 0; k < count && strcmp(r.n.t[j].name, "key.bias") != 0; k++)
                if (!(fabs((double)r.n.w[r.n.t[j].at + k] - want[k]) <= 1e-4 * STEPS * 1e-2 + 1e-5 * fabs(want[k])))
                    fail_msg("%s %s: value %zu is %.9g, want %.9g", c->name, name, k, (double)r.n.w[r.n.t[j].at + k],
                             want[k]);
            free(want);
            free(name);
        }
        free(got);
        free(spare);
        free(v);
        free(m);
        end(&r);
    }
}

// The slope along a random direction, of every kind of net and of every tensor apart.
static void finite_differences(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const case_of *c = &cases[i];
        run r = begin(c);
        float *grad = xcalloc(r.n.floats, sizeof *grad), *w = xcalloc(r.n.floats, sizeof *w),
              *v = xcalloc(r.n.floats, sizeof *v);
        forward(c, &r, 0);
        const net_update only = only_gradient(grad, v);
        net_backward(&r.n, &r.k, BATCH, &only);
        memcpy(w, r.n.w, r.n.floats * sizeof *w);
        for (int j = 0; j < r.n.n; j++) {
            const size_t count = (size_t)r.n.t[j].rows * (size_t)r.n.t[j].cols, at = r.n.t[j].at;
            double norm = 0, ends[2];
            for (size_t k = at; k < at + count; k++) norm += (double)grad[k] * (double)grad[k];
            norm = sqrt(norm);
            if (norm < 1e-6) continue;
            const double h = 2e-3;  // along the gradient itself the slope is its norm
            for (int side = 0; side < 2; side++) {
                for (size_t k = at; k < at + count; k++)
                    r.n.w[k] = w[k] + (float)((side ? h : -h) * (double)grad[k] / norm);
                ends[side] = forward(c, &r, 0);
            }
            memcpy(r.n.w, w, r.n.floats * sizeof *w);
            const double slope = (ends[1] - ends[0]) / (2 * h);
            if (!(fabs(slope - norm) <= 0.01 * norm + 1e-4))
                fail_msg("%s %s: slope %.6g, norm of the gradient %.6g", c->name, r.n.t[j].name, slope, norm);
        }
        free(w);
        free(v);
        free(grad);
        end(&r);
    }
}

// Rows that stand for several tokens, and the same tokens row by row.
static void a_row_stands_for_equal_tokens(void **state) {
    (void)state;
    enum { MOST = 3 };
    const case_of *c = &cases[2];
    run r = begin(c);
    float *grad[2], *spare = xcalloc(r.n.floats, sizeof *spare), y[BATCH * OUT];
    for (int written_out = 0; written_out < 2; written_out++) {
        grad[written_out] = xcalloc(r.n.floats, sizeof **grad);
        net_work_tokens(&r.k, &r.n, MOST * (int)(r.row / IN));
        for (int i = 0, from = 0, at = 0; i < BATCH; from += r.length[i++]) {
            const int start = at;
            for (int t = 0; t < r.length[i]; t++)
                for (int times = 1 + (from + t) % MOST, copy = 0; copy < (written_out ? times : 1); copy++, at++) {
                    narrow(r.k.tokens + at * IN, r.x + (from + t) * IN, IN);
                    r.k.count[at] = written_out ? 1 : (float)times;
                }
            r.k.s[i] = (span){start, at - start};
        }
        net_forward(&r.n, &r.k, BATCH);
        for (int j = 0; written_out && j < BATCH * OUT; j++) assert_true(fabsf(r.k.y[j] - y[j]) <= 1e-6f);
        memcpy(y, r.k.y, sizeof y);
        narrow(r.target, r.t, BATCH * OUT);
        double loss;
        ops_cpu()->loss(&loss, r.k.dy, r.k.y, r.target, c->loss, c->positive, BATCH * OUT);
        const net_update only = only_gradient(grad[written_out], spare);
        net_backward(&r.n, &r.k, BATCH, &only);
    }
    for (size_t j = 0; j < r.n.floats; j++) assert_true(fabsf(grad[0][j] - grad[1][j]) <= 1e-6f);
    free(grad[0]);
    free(grad[1]);
    free(spare);
    end(&r);
}

static void a_started_pool_reads_standardised(void **state) {
    (void)state;
    run r = begin(&cases[2]);
    const float *w = r.n.w + r.n.t[4].at, *b = r.n.w + r.n.t[5].at;
    double mean[IN], deviation[IN], want[BATCH * IN];
    forward(&cases[2], &r, 0);
    for (int e = 0; e < IN; e++) {
        mean[e] = 0.5 + 0.01 * e;
        deviation[e] = 0.02 + 0.003 * e;
    }
    assert_string_equal(r.n.t[4].name, "value.weight");
    for (int i = 0; i < BATCH * IN; i++) {
        want[i] = (double)b[i % IN];
        for (int e = 0; e < IN; e++)
            want[i] += (double)w[i % IN * IN + e] * ((double)r.k.c[i / IN * IN + e] - mean[e]) / deviation[e];
    }
    net_start_pool(&r.n, mean, deviation);
    forward(&cases[2], &r, 0);
    assert_agree("values", r.k.u, want, BATCH * IN, 1e-5);
    end(&r);
}

static void a_started_net_gives_what_it_was_told(void **state) {
    (void)state;
    run r = begin(&cases[0]);
    double y[OUT];
    for (int i = 0; i < OUT; i++) y[i] = 0.25 * i;
    net_start(&r.n, y);
    forward(&cases[0], &r, 0);
    for (int i = 0; i < BATCH * OUT; i++) assert_true(r.k.y[i] == (float)y[i % OUT]);
    end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_gradients_and_steps), cmocka_unit_test(finite_differences),
        cmocka_unit_test(a_row_stands_for_equal_tokens), cmocka_unit_test(a_started_net_gives_what_it_was_told),
        cmocka_unit_test(a_started_pool_reads_standardised)};
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
