// test_ops_memory - operations on memory (model/ops/ops_memory.h), on the CPU and through the CUDA table: copies of all
// sizes about the limits of the pinned buffers; uploads and downloads, whichever of host and device is faster; random
// weights against numbers that cuRAND's own host generator drew, against the moments of the uniform distribution and
// against rounding on the host; untrained predictors; transposes and sums by definition.
#include "convert.h"
#include "cuda_compare.h"
#include "nets.h"
#include "op_cover.h"
#include "model_random.h"
#include "shim.h"
#include "simd.h"

static const ops *side[2];
static int sides = 1;

static void *on_host(const ops *o, const void *p, size_t bytes) {
    void *host = xmalloc(bytes);
    o->get(host, p, bytes);
    return host;
}
static void *drawn(const ops *o, dtype type, size_t n, double bound, uint64_t seed) {
    void *p = o->alloc(n * dtype_bytes(type));
    o->random(p, type, n, bound, seed);
    void *host = on_host(o, p, n * dtype_bytes(type));
    o->release(p);
    return host;
}

// Copies of all sizes about the limits of the pinned buffers, zero, room.
static void copies(void) {
    static const size_t sizes[] = {1, 4, 65536, 65537, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20};
    const size_t most = 9 << 20;
    uint8_t *from = xmalloc(most), *to = xmalloc(most);
    for (size_t i = 0; i < most; i++) from[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int k = 0; k < sides; k++) {
        const ops *o = side[k];
        const size_t room = o->room();
        o->reserve(3 * most);
        if (!o->host) assert_true(o->room() <= room - 3 * most);
        uint8_t *a = o->alloc(most), *b = o->alloc(most);
        o->get(to, a, most);
        for (size_t i = 0; i < most; i++) assert_int_equal(to[i], 0);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const size_t bytes = sizes[i] - (i == 7) * 8;
            o->put(a, from + i, bytes);
            o->copy(b, a, sizes[i]);
            memset(to, 0xAA, most);
            o->get(to, b, bytes);
            assert_same_bits("copy", to, from + i, bytes);
        }
        o->zero(b, most);
        o->get(to, b, most);
        for (size_t i = 0; i < most; i++) assert_int_equal(to[i], 0);
        o->release(a), o->release(b);
        assert_true(o->room() == room);
    }
    free(from), free(to);
}

static void part_has_a_name(void) {
    for (int k = 0; k < sides; k++)
        assert_ptr_equal(strstr(side[k]->use(0), side[k]->host ? "cpu" : "cuda:0"), side[k]->use(0));
}

// A feed as training uses it: the host fills and sends the next rows as soon as operations on the last were enqueued.
// They find the rows that were taken, whatever runs first; rows that were sent and not taken (NaN here) are replaced.
// After every round sum number 0 .. round has what was taken.
static void feeds(void) {
    enum { ROUNDS = 9, E = 500 };
    static const float zeros[ROUNDS * E];
    for (int k = 0; k < sides; k++) {
        const ops *o = side[k];
        float *sum = put_guarded(o, zeros, ROUNDS * E);
        struct feed *f = o->feed_new(E * sizeof *sum);
        for (int round = -1; round < ROUNDS; round++) {
            const float *x = round < 0 ? NULL : o->feed_take(f);
            for (int at = 0; at <= round; at++) o->add(sum + at * E, x, 1, E, &(span){0, 1}, 1);
            for (int replaced = round % 3 == 0; replaced >= 0 && round < ROUNDS - 1; replaced--) {
                float *next = o->feed_fill(f);
                for (int i = 0; i < E; i++) next[i] = replaced ? NAN : (float)((round + 1) * 1000 + i);
                o->feed_send(f, E * sizeof *next);
            }
        }
        float *got = get_guarded(o, sum, ROUNDS * E, "feed");  // the last upload has been waited for by nobody else
        o->feed_free(f);
        for (int at = 0; at < ROUNDS; at++)
            for (int i = 0; i < E; i++) {
                float want = 0;
                for (int round = at; round < ROUNDS; round++) want += (float)(round * 1000 + i);
                if (got[at * E + i] != want)
                    fail_msg("%s: what was fed: sum %d, place %d is %.9g, want %.9g", o->device, at, i,
                             (double)got[at * E + i], (double)want);
            }
        free(got);
        release_guarded(o, sum);
    }
}

// Fetches find what was there when they were enqueued, whatever is written after them; a wait is for what was fetched
// before it, and the host's places are used again after it.
static void fetches(void) {
    enum { ROUNDS = 5, E = 100 };
    float ones[E];
    for (int i = 0; i < E; i++) ones[i] = (float)(i + 1);
    for (int k = 0; k < sides; k++) {
        const ops *o = side[k];
        float *one = put_guarded(o, ones, E), *sum = put_guarded(o, ones, E);
        struct fetch *f = o->fetch_new(ROUNDS * fetch_room(E * sizeof *sum));
        const void *first = NULL;
        for (int again = 0; again < 3; again++) {
            const float *at[ROUNDS];
            for (int round = 0; round < ROUNDS; round++) {
                at[round] = o->fetch(f, sum, E * sizeof *sum);
                o->add(sum, one, 1, E, &(span){0, 1}, 1);
            }
            if (!again) first = at[0];
            assert_ptr_equal(at[0], first);
            o->fetch_wait(f);
            for (int round = 0; round < ROUNDS; round++)
                for (int i = 0; i < E; i++)
                    if (at[round][i] != (float)((again * ROUNDS + round + 1) * (i + 1)))
                        fail_msg("%s: fetch %d of %d: place %d is %g", o->device, round, again, i,
                                 (double)at[round][i]);
        }
        o->fetch_free(f);
        release_guarded(o, one), release_guarded(o, sum);
    }
}

// Copies of x by two lanes, which come before x is counted up, because that comes after their tickets, the first of
// which is the oldest of all; and what is copied from one lane's copy by the computation, after its ticket.
static void lanes(void) {
    enum { ROUNDS = 70, E = 50 };
    static const float zeros[ROUNDS * E];
    float ones[E];
    for (int i = 0; i < E; i++) ones[i] = 1;
    for (int k = 0; k < sides; k++) {
        const ops *o = side[k];
        float *one = put_guarded(o, ones, E), *x = put_guarded(o, zeros, E), *copied[OPS_LANES + 1];
        for (int l = 0; l <= OPS_LANES; l++) copied[l] = put_guarded(o, zeros, ROUNDS * E);
        long first = 0;
        for (int round = 0; round < ROUNDS; round++) {
            long ticket[OPS_LANES];
            for (int l = 0; l < OPS_LANES; l++) {
                o->aside(l);
                o->copy(copied[l] + round * E, x, E * sizeof *x);
                ticket[l] = o->mark();
                o->back();
            }
            if (!round) first = ticket[0];
            for (int l = 0; l < OPS_LANES; l++) o->join(ticket[l]);
            o->add(x, one, 1, E, &(span){0, 1}, 1);
            o->copy(copied[OPS_LANES] + round * E, copied[round % OPS_LANES] + round * E, E * sizeof *x);
        }
        o->join(first);
        for (int l = 0; l <= OPS_LANES; l++) {
            float *got = get_guarded(o, copied[l], ROUNDS * E, "lane");
            for (int i = 0; i < ROUNDS * E; i++)
                if (got[i] != (float)(i / E))
                    fail_msg("%s: lane %d, round %d: %g was copied", o->device, l, i / E, (double)got[i]);
            free(got);
            release_guarded(o, copied[l]);
        }
        release_guarded(o, one), release_guarded(o, x);
    }
}

// Words of curandGenerate by libcurand 10's host generator, Philox 4x32-10 in CURAND_ORDERING_PSEUDO_LEGACY, seed
// 0x123456789abcdef; the last ones are after the end of a piece of the workspace.
static void cuda_draws_what_curand_draws(void **state) {
    (void)state;
    static const struct {
        size_t at;
        uint32_t word;
    } known[] = {{0, 0xb850222eu},       {1, 0xc58cb04bu},       {2, 0x14a7a020u},      {3, 0x7a84fff9u},
                 {5, 0x6c10844bu},       {262143, 0xa2b781bau},  {262144, 0xadca1466u}, {262147, 0xb299da3fu},
                 {8388607, 0xebbbb121u}, {8388608, 0xc23fbfdeu}, {8388611, 0x89bbe31eu}};
    if (sides < 2) skip();
    float *x = drawn(side[1], DT_F32, 8388612, 1, 0x123456789abcdef);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const double want = 2 * (known[i].word * 0x1p-32 + 0x1p-33) - 1, got = (double)x[known[i].at];
        if (!(fabs(got - want) <= 0x1p-23)) fail_msg("number %zu: %.9g, want %.9g", known[i].at, got, want);
    }
    free(x);
}

// Mean, variance and fourth moment of the uniform distribution within 6 of their standard errors, 16 equal shares by
// chi square (15 degrees: 60 is 4e-7), neighbours without correlation, and the whole range.
static void numbers_are_uniform(void **state) {
    (void)state;
    enum { N = 300000, SHARES = 16 };
    const double bound = 0.05, n = N;
    for (int k = 0; k < sides; k++) {
        float *x = drawn(side[k], DT_F32, N, bound, 77);
        double mean = 0, square = 0, fourth = 0, next = 0, most = -1, least = 1, chi = 0;
        int count[SHARES] = {0};
        for (int i = 0; i < N; i++) {
            const double v = (double)x[i] / bound;
            if (!(fabs(v) <= 1 + 1e-6)) fail_msg("%s: number %d is %g of the bound", side[k]->device, i, v);
            mean += v / n, square += v * v / n, fourth += v * v * v * v / n;
            if (i) next += v * (double)x[i - 1] / bound / n;
            most = v > most ? v : most, least = v < least ? v : least;
            count[(int)fmin((v + 1) / 2 * SHARES, SHARES - 1)]++;
        }
        for (int s = 0; s < SHARES; s++) chi += (count[s] - n / SHARES) * (count[s] - n / SHARES) / (n / SHARES);
        const double error[] = {mean * sqrt(3 * n), (square - 1.0 / 3) / sqrt(4.0 / 45 / n),
                                (fourth - 0.2) / sqrt(16.0 / 225 / n), next * 3 * sqrt(n)};
        for (int e = 0; e < 4; e++)
            if (!(fabs(error[e]) < 6))
                fail_msg("%s: statistic %d is %g standard errors off", side[k]->device, e, error[e]);
        if (!(chi < 60 && most > 1 - 1e-3 && least < -1 + 1e-3))
            fail_msg("%s: chi square %g, range %g to %g", side[k]->device, chi, least, most);
        free(x);
    }
}

static void types_round_the_same_numbers(void **state) {
    (void)state;
    enum { N = 40001 };
    for (int k = 0; k < sides; k++) {
        float *x = drawn(side[k], DT_F32, N, 0.03, 5), *again = drawn(side[k], DT_F32, N / 2, 0.03, 5),
              *other = drawn(side[k], DT_F32, N / 2, 0.03, 6);
        uint16_t *half = drawn(side[k], DT_F16, N, 0.03, 5), *brain = drawn(side[k], DT_BF16, N, 0.03, 5);
        for (int i = 0; i < N; i++)
            if (half[i] != float_to_half(x[i]) || brain[i] != float_to_bf16(x[i]))
                fail_msg("%s: number %d, %.9g, is fp16 %x, bf16 %x", side[k]->device, i, (double)x[i], half[i],
                         brain[i]);
        assert_same_bits("a shorter block", x, again, N / 2 * sizeof *x);
        int same = 0;
        for (int i = 0; i < N / 2; i++) same += x[i] == other[i];
        assert_true(same < 10);
        free(x), free(again), free(other), free(half), free(brain);
    }
}

static void transposes(void **state) {
    (void)state;
    static const int shapes[][2] = {{1, 1}, {33, 64}, {100, 31}, {1, 70}, {70, 1}, {128, 96}};
    for (int k = 0; k < sides; k++)
        for (int i = 0; i < 6; i++)
            for (dtype type = DT_F32; type <= DT_BF16; type++) {
                const size_t rows = (size_t)shapes[i][0], cols = (size_t)shapes[i][1], b = dtype_bytes(type),
                             guard = 64;
                uint8_t *from = xmalloc(rows * cols * b);
                for (size_t j = 0; j < rows * cols * b; j++) from[j] = (uint8_t)(j * 2654435761u >> 11);
                uint8_t *at = side[k]->alloc(rows * cols * b), *to = side[k]->alloc(rows * cols * b + guard);
                side[k]->put(at, from, rows * cols * b);
                side[k]->transpose(to, &(weight){at, type, (int)rows, (int)cols, NULL, NULL, false});
                uint8_t *got = on_host(side[k], to, rows * cols * b + guard);
                for (size_t r = 0; r < rows; r++)
                    for (size_t c = 0; c < cols; c++)
                        if (memcmp(got + (c * rows + r) * b, from + (r * cols + c) * b, b) != 0)
                            fail_msg("%s: %zu x %zu of %zu bytes: row %zu, column %zu", side[k]->device, rows, cols, b,
                                     r, c);
                for (size_t j = 0; j < guard; j++) assert_int_equal(got[rows * cols * b + j], 0);
                side[k]->release(at), side[k]->release(to);
                free(from), free(got);
            }
}

static void reading_reads_everything(void **state) {
    (void)state;
    enum { N = 200002 };
    static uint64_t words[N];
    rng r = rng_make(3);
    for (int i = 0; i < N; i++) words[i] = rng_u64(&r);
    for (int k = 0; k < sides; k++)
        for (size_t n = 2; n <= N; n += n == 2 ? 4000 : N - 4002) {
            uint64_t want = 0, got = 0, *p = side[k]->alloc(n * sizeof *p);
            for (size_t i = 0; i < n; i++) want += words[i];
            side[k]->put(p, words, n * sizeof *p);
            for (int again = 0; again < 2; again++) {
                assert_true(side[k]->read(&got, p, n * sizeof *p) > 0);
                assert_true(got == want);
            }
            side[k]->release(p);
        }
}

// A model of random weights in the device's memory: the transposed copies are those of its weights, or another device
// has the transposes alone; and a matrix has the distribution that model_random.h says.
static void random_models(void **state) {
    (void)state;
    model_config c;
    assert_int_equal(model_shape(&c, "2x2x24x40x50x30"), 0);
    for (int k = 0; k < sides; k++)
        for (dtype type = DT_F32; type <= DT_BF16; type++) {
            model_random m, other;
            assert_int_equal(model_random_make(&m, &c, type, 9, side[k]), 0);
            assert_int_equal(model_random_make(&other, &c, type, 9, side[k]), 0);
            model_sparse_prepare(&m.m);
            const weight *w = &m.m.layer[1].w2, *t = &m.m.layer[1].w2_t, *gain = &m.m.layer[0].ln1_g,
                         *bias = &m.m.layer[1].b1;
            const size_t bytes = 24 * 40 * dtype_bytes(type);
            uint8_t *a = on_host(side[k], w->data, bytes), *b = on_host(side[k], t->data, bytes),
                    *same = on_host(side[k], other.m.layer[1].w2.data, bytes);
            assert_true(w->turned == !side[k]->host && w->turned == (w->data == t->data));
            for (size_t i = 0; i < 24 && !w->turned; i++)
                for (size_t j = 0; j < 40; j++)
                    assert_memory_equal(a + (i * 40 + j) * dtype_bytes(type), b + (j * 24 + i) * dtype_bytes(type),
                                        dtype_bytes(type));
            assert_memory_equal(a, same, bytes);
            float ones[24], zeros[40], wide[24 * 40];
            uint8_t *g = on_host(side[k], gain->data, 24 * dtype_bytes(gain->type)),
                    *z = on_host(side[k], bias->data, 40 * dtype_bytes(bias->type));
            dtype_widen(ones, g, gain->type, 24);
            dtype_widen(zeros, z, bias->type, 40);
            dtype_widen(wide, a, type, 24 * 40);
            double square = 0;
            for (int i = 0; i < 24; i++) assert_true(ones[i] == 1);
            for (int i = 0; i < 40; i++) assert_true(zeros[i] == 0);
            for (int i = 0; i < 24 * 40; i++) square += (double)wide[i] * (double)wide[i] / (24 * 40);
            assert_true(fabs(square / 4e-4 - 1) < 6 * sqrt(0.8 / (24 * 40)));
            free(a), free(b), free(same), free(g), free(z);
            model_random_free(&m);
            model_random_free(&other);
        }
}

// A loaded model: another device has the transposes of out_proj and fc2 in the place of these; nothing is allocated for
// passes over live units, and loading leaves no more than the weights.
static void loaded_models_keep_transposes(void **state) {
    (void)state;
    model_config c;
    assert_int_equal(model_shape(&c, "2x2x24x40x50x30"), 0);
    if (sides < 2) skip();
    for (dtype type = DT_F32; type <= DT_BF16; type++) {
        random_opt o;
        random_opt_make_as(&o, &c, type, 11);
        model m;
        const size_t room = side[1]->room();
        if (model_from_tensors_on(&m, &c, o.t, o.n, side[1]) != 0) fail_msg("%s", err_get());
        const size_t took = room - side[1]->room();
        size_t bytes = 0;
        for (int i = 0; i < o.n; i++) bytes += (tensor_bytes(&o.t[i]) + 255) / 256 * 256 * (o.t[i].rank > 1 ? 1 : 2);
        if (took > bytes) fail_msg("%s: the weights take %zu bytes, want %zu at most", dtype_name(type), took, bytes);
        const size_t before = side[1]->room();
        assert_true(model_sparse_bytes(&m) == 0 && model_sparse_prepare(&m) == 0);
        assert_true(before - side[1]->room() <= 256);
        for (int l = 0; l < c.L; l++)
            for (int k = 0; k < 2; k++) {
                const weight *w = k ? &m.layer[l].w2 : &m.layer[l].wo, *t = k ? &m.layer[l].w2_t : &m.layer[l].wo_t,
                             *from = k ? &m.stored[l].w2 : &m.stored[l].wo;
                const size_t each = dtype_bytes(w->type), rows = (size_t)w->rows, cols = (size_t)w->cols;
                assert_true(w->turned && t->data == w->data && t->rows == w->cols && !t->turned && !from->turned);
                char *got = on_host(side[1], w->data, rows * cols * each);
                for (size_t r = 0; r < rows; r++)
                    for (size_t e = 0; e < cols; e++)
                        assert_memory_equal(got + (e * rows + r) * each,
                                            (const char *)from->data + (r * cols + e) * each, each);
                free(got);
            }
        model_free(&m);
        random_opt_free(&o);
    }
}

// Untrained nets drawn on a device: every tensor fills its bounds, which are those of PyTorch's layers, or is zero; a
// seed gives them again.
static void untrained_predictors(void **state) {
    (void)state;
    const predictor_design designs[] = {PREDICTOR_SHADOW, PREDICTOR_DEJAVU, PREDICTOR_SEQUENCE};
    for (int k = 0; k < sides; k++)
        for (int d = 0; d < 3; d++)
            for (dtype type = DT_F32; type <= DT_BF16; type++) {
                predictor_info what = {.design = designs[d],
                                       .L = 3,
                                       .H = 4,
                                       .E = 32,
                                       .F = 48,
                                       .hidden = {16, 24},
                                       .has = {true, true},
                                       .per_layer = d == 1,
                                       .lag = d == 1};
                predictor *p = predictor_new_on(&what, 3, type, side[k]),
                          *q = predictor_new_on(&what, 3, type, side[k]),
                          *other = predictor_new_on(&what, 4, type, side[k]);
                assert_true(p && q && other && predictor_about(p)->weights == type && predictor_on(p) == side[k]);
                assert_string_equal(predictor_about(p)->hash, predictor_about(q)->hash);
                assert_string_not_equal(predictor_about(p)->hash, predictor_about(other)->hash);
                for (int kind = 0; kind < 2; kind++)
                    for (int i = 0; i < p->n; i++) {
                        const net *n = &p->net[kind][i], *m = &q->net[kind][i];
                        const size_t bytes = n->floats * dtype_bytes(type);
                        void *a = on_host(side[k], type == DT_F32 ? (const void *)n->w : n->narrow, bytes),
                             *b = on_host(side[k], type == DT_F32 ? (const void *)m->w : m->narrow, bytes);
                        assert_same_bits("the same seed", a, b, bytes);
                        float *w = xmalloc(n->floats * sizeof *w);
                        dtype_widen(w, a, type, n->floats);
                        for (int t = 0; t < n->n; t++) {
                            const net_tensor *of = &n->t[t];
                            const bool zero = d == 2 && t < 8 && t % 2;  // biases of attention
                            const int fan_in = of->cols == 1 ? n->t[t - 1].cols : of->cols;
                            double bound = d == 2 && t < 6 ? sqrt(6.0 / (4 * what.E)) : 1 / sqrt(fan_in);
                            if (zero) bound = 0;
                            double most = 0;
                            for (int e = 0; e < of->rows * of->cols; e++)
                                most = fmax(most, fabs((double)w[of->at + (size_t)e]));
                            if (!(most <= bound * (1 + 0x1p-8) && most >= 0.6 * bound))
                                fail_msg("%s, design %d, %s: %g of %g", side[k]->device, d, of->name, most, bound);
                        }
                        free(a), free(b), free(w);
                    }
                predictor_close(p), predictor_close(q), predictor_close(other);
            }
}

// Two layers on one GPU and on two, whose memory is apart: this program, called with a device, prints a hash of all
// weights.
static void print_hash(const char *device) {
    model_config c;
    model_random m;
    char hash[2][33] = {"", ""};
    const ops *o = ops_open(device);
    if (!o || model_shape(&c, "2x2x24x40x50x30") != 0 || model_random_make(&m, &c, DT_F16, 9, o) != 0)
        die(1, "%s", err_get());
    const weight *all[] = {&m.m.embed,       &m.m.pos,         &m.m.layer[0].wq, &m.m.layer[1].wq,
                           &m.m.layer[0].w1, &m.m.layer[1].w1, &m.m.lnf_g,       &m.m.head};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const size_t bytes = (size_t)all[i]->rows * (size_t)all[i]->cols * dtype_bytes(all[i]->type);
        void *host = on_host(o, all[i]->data, bytes);
        hash_bytes(hash[1], host, bytes);
        hash_bytes(hash[0], hash, sizeof hash);
        free(host);
    }
    printf("%s\n", hash[0]);
    model_random_free(&m);
}

static const char *self;

static void weights_do_not_depend_on_their_place(void **state) {
    (void)state;
    char line[2][64] = {"", ""};
    if (sides < 2 || !strstr(side[1]->about, "stand-in")) skip();
    for (int k = 0; k < 2; k++) {
        char *command = xasprintf("CU_FAKE_DEVICES=2 '%s' cuda:%s 2>/dev/null", self, k ? "0,1" : "1");
        FILE *f = popen(command, "r");
        assert_non_null(f);
        if (!fgets(line[k], sizeof line[k], f)) fail_msg("%s prints nothing", command);
        assert_int_equal(pclose(f), 0);
        free(command);
    }
    assert_string_equal(line[0], line[1]);
}

static void no_operation_is_forgotten(void **state) {
    (void)state;
    static const char *const names[] = {
#define OP(type, name, args) #name,
#include "ops_memory.h"
#undef OP
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_call(names[i], "tests/test_ops_memory.c");
}

// What depends on the order of the host and of streams; this runs again in others (orders.h).
static void every_operation(void **state) {
    (void)state;
    copies();
    feeds();
    lanes();
    fetches();
    part_has_a_name();
}

// An argument with a colon is a device whose weights' hash is wanted; another one names the tests that run.
int main(int argc, char **argv) {
    self = argv[0];
    if (argc > 1 && strchr(argv[1], ':')) return shim_name(), print_hash(argv[1]), 0;
    side[0] = ops_cpu();
    side[1] = shim_open();
    if (side[1]) sides = 2;
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_operation_is_forgotten),
                                       cmocka_unit_test(every_operation),
                                       cmocka_unit_test(cuda_draws_what_curand_draws),
                                       cmocka_unit_test(numbers_are_uniform),
                                       cmocka_unit_test(types_round_the_same_numbers),
                                       cmocka_unit_test(transposes),
                                       cmocka_unit_test(reading_reads_everything),
                                       cmocka_unit_test(random_models),
                                       cmocka_unit_test(loaded_models_keep_transposes),
                                       cmocka_unit_test(untrained_predictors),
                                       cmocka_unit_test(weights_do_not_depend_on_their_place)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const int bad = cmocka_run_group_tests(tests, NULL, NULL) != 0;
    if (argc > 1 || sides < 2 || !strstr(side[1]->about, "stand-in")) return bad;
    return bad | in_other_orders(argv[0]);
}
