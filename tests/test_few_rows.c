// test_few_rows - products of few rows and norms of wide ones, as a token of generation has them, through the CUDA
// table: against double precision, up to sums of 20,480 terms; a row has the same bits alone and in any company, also
// of widths whose rows are not aligned (CUDA on the CPU sums unaligned operands of cuBLAS in another order).
#include "convert.h"
#include "cuda_compare.h"
#include "shim.h"

static const ops *gpu;

// A weight of one of the stored types on the device, and what it is.
typedef struct {
    weight w;
    double *value;
} matrix;

static matrix make_matrix(uint64_t seed, dtype type, int rows, int cols) {
    const size_t n = (size_t)rows * (size_t)cols;
    float *x = random_floats(seed, n), *wide = xmalloc(n * sizeof *wide);
    void *stored = xmalloc(n * sizeof *x), *device = gpu->alloc(n * dtype_bytes(type));
    memcpy(stored, x, n * sizeof *x);
    if (type != DT_F32) dtype_narrow(stored, type, x, n);
    dtype_widen(wide, stored, type, n);
    gpu->put(device, stored, n * dtype_bytes(type));
    matrix m = {{.data = device, .type = type, .rows = rows, .cols = cols}, xmalloc(n * sizeof *m.value)};
    for (size_t i = 0; i < n; i++) m.value[i] = (double)wide[i];
    free(x), free(wide), free(stored);
    return m;
}
static void free_matrix(matrix *m) {
    gpu->release((void *)(uintptr_t)m->w.data);
    free(m->value);
}

static float *put(const float *x, size_t n) {
    float *to = gpu->alloc(n * sizeof *to);
    gpu->put(to, x, n * sizeof *to);
    return to;
}
static float *get(float *p, size_t n) {
    float *to = xmalloc(n * sizeof *to);
    gpu->get(to, p, n * sizeof *to);
    gpu->release(p);
    return to;
}

// ---------------------------------------------------------------- few rows, of whatever sequences
enum { ROWS = 18, SEQS = 9 };  // row 2 i is sequence i's

enum { LIVE, LIVE_T, LINEAR, OPERATIONS };
static const char *const names[] = {"live_linear", "live_linear_t", "linear"};

typedef struct {
    int E, F, D;  // of W (F, E), or Wt (F, E)
    matrix m, bias;
    uint8_t wants[SEQS * 600];  // [units, sequences]
    int32_t list[600];
    int n;
} few;

static bool runs(const few *f, int what, int unit, int seq) {
    for (int k = 0; k < f->n; k++)
        if (f->list[k] == unit) return f->wants[k * SEQS + seq];
    return what == LINEAR;
}

static int in_of(const few *f, int what) { return what == LIVE_T ? f->F : f->E; }
static int out_of(const few *f, int what) { return what == LIVE_T ? f->E : f->F; }

// The first n sequences together; y [ROWS, out].
static float *product_of(const few *f, int what, const float *x, const float *y, int n) {
    span s[SEQS];
    for (int i = 0; i < n; i++) s[i] = (span){2 * i, 1};
    float *on_x = put(x, (size_t)in_of(f, what) * ROWS), *on_y = put(y, (size_t)out_of(f, what) * ROWS);
    int32_t *list = (int32_t *)(void *)put((const float *)(const void *)f->list, 600);
    uint8_t *wants = (uint8_t *)(void *)put((const float *)(const void *)f->wants, SEQS * 150);
    const live_units u = {.unit = list, .n = f->n, .seqs = SEQS, .wants = wants};
    if (what == LIVE) gpu->live_linear(on_y, on_x, &f->m.w, &f->bias.w, true, f->D, &u, s, n);
    if (what == LIVE_T) gpu->live_linear_t(on_y, on_x, &f->m.w, &f->bias.w, f->D, &u, s, n);
    if (what == LINEAR) gpu->linear(on_y, on_x, &f->m.w, &f->bias.w, true, s, n);
    float *got = get(on_y, (size_t)out_of(f, what) * ROWS);
    gpu->release(on_x), gpu->release(list), gpu->release(wants);
    return got;
}

static double want_of(const few *f, int what, const float *x, const float *y, int seq, int j) {
    const int row = 2 * seq, E = f->E, F = f->F;
    double sum = f->bias.value[j] + (what == LIVE ? 0 : (double)y[row * out_of(f, what) + j]);
    if (what == LIVE && !runs(f, what, j / f->D, seq)) return (double)y[row * F + j];
    for (int e = 0; e < E && what != LIVE_T; e++) sum += (double)x[row * E + e] * f->m.value[j * E + e];
    for (int i = 0; i < F && what == LIVE_T; i++)
        if (runs(f, what, i / f->D, seq)) sum += (double)x[row * F + i] * f->m.value[i * E + j];
    return what == LIVE && sum < 0 ? 0 : sum;
}

static void check_few(const few *f, int what) {
    const int in = in_of(f, what), out = out_of(f, what);
    float *x = random_floats(3, (size_t)in * ROWS), *y = random_floats(4, (size_t)out * ROWS);
    for (int i = 0; i < in * ROWS; i++)
        if (i / in % 2 == 0 && what == LIVE_T && !runs(f, what, i % in / f->D, i / in / 2)) x[i] = NAN;  // is not read
    float *all = product_of(f, what, x, y, SEQS);
    char text[120];
    for (int i = 0; i < SEQS; i++) {
        double *want = xmalloc((size_t)out * sizeof *want);
        for (int j = 0; j < out; j++) want[j] = want_of(f, what, x, y, i, j);
        snprintf(text, sizeof text, "%s, %s, %d x %d, sequence %d", names[what], dtype_name(f->m.w.type), f->F, f->E,
                 i);
        assert_agree(text, all + 2 * i * out, want, (size_t)out, 2e-6);
        assert_same_bits(text, all + (2 * i + 1) * out, y + (2 * i + 1) * out, (size_t)out * sizeof *y);
        free(want);
    }
    for (int n = 1; n < SEQS; n++) {
        float *some = product_of(f, what, x, y, n);
        snprintf(text, sizeof text, "%s, %s, %d x %d, %d sequences", names[what], dtype_name(f->m.w.type), f->F, f->E,
                 n);
        assert_same_bits(text, some, all, (size_t)(2 * n - 1) * (size_t)out * sizeof *all);
        free(some);
    }
    free(x), free(y), free(all);
}

static void every_operation(void **state) {
    (void)state;
    static const struct { int E, F, D; } shapes[] = {{264, 520, 8}, {77, 129, 3}, {36, 600, 1}, {521, 40, 40}};
    for (dtype type = DT_F32; type <= DT_BF16; type++)
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
            few f = {.E = shapes[k].E, .F = shapes[k].F, .D = shapes[k].D};
            rng r = rng_make(k);
            for (int u = 0; u < f.F / f.D; u++) {
                f.list[f.n] = u;
                bool any = false;
                for (int i = 0; i < SEQS; i++) any |= f.wants[f.n * SEQS + i] = rng_uniform(&r) < 0.3;
                f.n += any;
            }
            f.m = make_matrix(5 + k, type, f.F, f.E);
            for (int what = 0; what < OPERATIONS; what++) {
                f.bias = make_matrix(6, DT_F32, out_of(&f, what), 1);
                check_few(&f, what);
                free_matrix(&f.bias);
            }
            free_matrix(&f.m);
        }
}

// ---------------------------------------------------------------- long sums
// Rows of 20,480 numbers, OPT-13b's and OPT-30b's widest, as rows of W and of Wt: the error, against double, of the
// terms' absolute sum.
static void sums_of_20480_terms(void **state) {
    (void)state;
    enum { K = 20480, OUT = 8 };
    int32_t *unit = xmalloc(K * sizeof *unit);
    for (int k = 0; k < K; k++) unit[k] = k;
    int32_t *on_unit = (int32_t *)(void *)put((const float *)(const void *)unit, K);
    const live_units u = {.unit = on_unit, .n = K, .seqs = 1};
    const span s = {0, 1};
    float *x = random_floats(8, K), zeros[OUT] = {0};
    for (dtype type = DT_F32; type <= DT_BF16; type++)
        for (int turned = 0; turned < 2; turned++) {
            matrix m = make_matrix(9, type, turned ? K : OUT, turned ? OUT : K);
            float *on_x = put(x, K), *on_y = put(zeros, OUT);
            if (turned)
                gpu->live_linear_t(on_y, on_x, &m.w, NULL, 1, &u, &s, 1);
            else
                gpu->linear(on_y, on_x, &m.w, NULL, false, &s, 1);
            float *got = get(on_y, OUT);
            for (int j = 0; j < OUT; j++) {
                double sum = 0, size = 0;
                for (int k = 0; k < K; k++) {
                    const double term = (double)x[k] * m.value[turned ? k * OUT + j : j * K + k];
                    sum += term, size += fabs(term);
                }
                if (!(fabs((double)got[j] - sum) <= 1e-7 * size))
                    fail_msg("%s, turned %d: error %g of the sum of absolute terms", dtype_name(type), turned,
                             fabs((double)got[j] - sum) / size);
            }
            gpu->release(on_x);
            free(got);
            free_matrix(&m);
        }
    gpu->release(on_unit);
    free(x), free(unit);
}

// ---------------------------------------------------------------- widths whose rows are not aligned
// Spans of few rows and of many, of odd widths: the bits of each alone, at another place.
static void odd_widths_have_the_bits_of_one(void **state) {
    (void)state;
    enum { E = 301, F = 503, ALL = 61 };
    static const span spans[] = {{0, 1}, {1, 18}, {19, 3}, {22, 20}, {43, 17}};
    enum { SPANS = sizeof spans / sizeof *spans };
    float *x = random_floats(11, (size_t)ALL * F), *y = random_floats(12, (size_t)ALL * F);
    for (dtype type = DT_F32; type <= DT_BF16; type++) {
        matrix m = make_matrix(13, type, F, E), bias = make_matrix(14, DT_F32, F, 1);
        for (int back = 0; back < 2; back++)
            for (int add = 0; add < 2; add++) {
                const size_t in = back ? F : E, out = back ? E : F;
                float *on_x = put(x, in * ALL), *on_y = put(y, out * ALL);
                if (back)
                    gpu->linear_back(on_y, on_x, &m.w, add, spans, SPANS);
                else
                    gpu->linear(on_y, on_x, &m.w, &bias.w, add, spans, SPANS);
                float *all = get(on_y, out * ALL);
                gpu->release(on_x);
                for (int i = 0; i < SPANS; i++) {
                    const size_t from = (size_t)spans[i].row, n = (size_t)spans[i].n;
                    const span alone = {0, spans[i].n};
                    on_x = put(x + from * in, n * in), on_y = put(y + from * out, n * out);
                    if (back)
                        gpu->linear_back(on_y, on_x, &m.w, add, &alone, 1);
                    else
                        gpu->linear(on_y, on_x, &m.w, &bias.w, add, &alone, 1);
                    float *one = get(on_y, n * out);
                    char text[100];
                    snprintf(text, sizeof text, "%s, back %d, add %d, span %d", dtype_name(type), back, add, i);
                    assert_same_bits(text, all + from * out, one, n * out * sizeof *one);
                    gpu->release(on_x);
                    free(one);
                }
                free(all);
            }
        free_matrix(&m), free_matrix(&bias);
    }
    free(x), free(y);
}

// ---------------------------------------------------------------- norms
// Of widths on both sides of those that have a block per row, in place too.
static void norms_of_wide_rows(void **state) {
    (void)state;
    static const int widths[] = {511, 512, 515, 2048, 2049, 5120, 9216, 12288, 12289};
    enum { N = 3 };
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++)
        for (int rms = 0; rms < 2; rms++) {
            const size_t E = (size_t)widths[k];
            const span s[] = {{0, 1}, {2, 1}};
            const norm_shape h = {(int)E, rms ? NORM_RMS : NORM_LAYER, 1e-5f};
            matrix gain = make_matrix(15, DT_F32, (int)E, 1), bias = make_matrix(16, DT_F32, (int)E, 1);
            float *x = random_floats(17, N * E);
            for (size_t i = 0; i < N * E; i++) x[i] += 3;
            float *in_place = put(x, N * E);
            gpu->norm(in_place, in_place, &gain.w, rms ? NULL : &bias.w, h, s, 2);
            float *got = get(in_place, N * E);
            assert_same_bits("the row between", got + E, x + E, E * sizeof *x);
            for (int row = 0; row < N; row += 2) {
                double mean = 0, var = 0, *want = xmalloc(E * sizeof *want);
                const float *at = x + (size_t)row * E;
                for (size_t e = 0; e < E && !rms; e++) mean += (double)at[e] / (double)E;
                for (size_t e = 0; e < E; e++) var += ((double)at[e] - mean) * ((double)at[e] - mean) / (double)E;
                for (size_t e = 0; e < E; e++)
                    want[e] = ((double)at[e] - mean) / sqrt(var + 1e-5) * gain.value[e] + (rms ? 0 : bias.value[e]);
                assert_agree("norm", got + (size_t)row * E, want, E, 2e-6);
                free(want);
            }
            free(x), free(got);
            free_matrix(&gain), free_matrix(&bias);
        }
}

// ---------------------------------------------------------------- maps in one launch
// q, k and v of one to five sequences, and a gated FFN, with their norm: the bits of the operations one by one. Of one
// and two rows the norm is made in the launch; the widths are those of a warp's norm and of a block's.
enum { MAPS_SEQS = 5, MAPS_ROWS = 2 * MAPS_SEQS, HEADS = 5, SIZE = 8, OUT = HEADS * SIZE, CAP = 9 };

// The same outputs either way: q, k, v, h [MAPS_ROWS, ..], caches of K and V [MAPS_SEQS, CAP, OUT], r.
typedef struct {
    float *q, *k, *v, *h, *cache[2], *r, *z, *u;
} maps_out;
static maps_out new_maps_out(int E) {
    float *zeros = xcalloc((size_t)MAPS_SEQS * CAP * OUT + (size_t)MAPS_ROWS * (size_t)E, sizeof *zeros);
    const size_t y = (size_t)MAPS_ROWS * OUT, cache = (size_t)MAPS_SEQS * CAP * OUT;
    const maps_out o = {put(zeros, y),
                        put(zeros, y),
                        put(zeros, y),
                        put(zeros, (size_t)MAPS_ROWS * (size_t)E),
                        {put(zeros, cache), put(zeros, cache)},
                        put(zeros, y),
                        put(zeros, y),
                        put(zeros, y)};
    free(zeros);
    return o;
}

static void same_array(const char *what, float *got, float *want, size_t n) {
    float *a = get(got, n), *b = get(want, n);
    assert_same_bits(what, a, b, n * sizeof *a);
    free(a), free(b);
}

static void maps_have_the_bits_of_operations(void **state) {
    (void)state;
    static const int widths[] = {264, 520, 2064, 5120, 77};
    static const int32_t places[MAPS_SEQS] = {3, 0, 7, 1, 8};
    int32_t *first = gpu->alloc(sizeof places);
    gpu->put(first, places, sizeof places);
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
        const int E = widths[k];
        const dtype type = (dtype)(k % 3 + DT_F32);
        const norm_shape shape = {E, k % 2 ? NORM_RMS : NORM_LAYER, 1e-5f};
        matrix w[3], bias = make_matrix(21, DT_F32, OUT, 1), gain = make_matrix(22, DT_F32, E, 1),
                     shift = make_matrix(23, DT_F32, E, 1), angles = make_matrix(24, DT_F32, CAP, SIZE / 2);
        for (int i = 0; i < 3; i++) w[i] = make_matrix(25 + (uint64_t)i, type, OUT, E);
        float *numbers = random_floats(29, (size_t)MAPS_ROWS * (size_t)E),
              *x = put(numbers, (size_t)MAPS_ROWS * (size_t)E);
        for (int n = 1; n <= MAPS_SEQS; n++) {
            span s[MAPS_SEQS];
            float *to[2][2][MAPS_SEQS];
            maps_out out[2] = {new_maps_out(E), new_maps_out(E)};
            for (int i = 0; i < n; i++) {
                s[i] = (span){2 * i, 1};
                for (int side = 0; side < 4; side++)
                    to[side / 2][side % 2][i] = i == 3 ? NULL : out[side / 2].cache[side % 2] + i * CAP * OUT;
            }
            const sublayer_input in = {out[0].h, x, &gain.w, k % 2 ? NULL : &shift.w, shape};
            const sublayer_map qkv[] = {{out[0].q, &w[0].w, &bias.w, SIZE, NULL, true, NULL},
                                        {out[0].k, &w[1].w, NULL, SIZE, NULL, true, to[0][0]},
                                        {out[0].v, &w[2].w, &bias.w, SIZE, NULL, false, to[0][1]}};
            const sublayer_map ffn[] = {{out[0].z, &w[0].w, &bias.w, 1, NULL, false, NULL},
                                        {out[0].u, &w[1].w, NULL, 1, NULL, false, NULL}};
            gpu->maps(&in, qkv, 3, &angles.w, first, s, n);
            gpu->hidden(out[0].r, &in, ffn, 2, ACT_SILU, s, n);

            maps_out *o = &out[1];
            gpu->norm(o->h, x, in.gain, in.bias, shape, s, n);
            gpu->linear(o->q, o->h, &w[0].w, &bias.w, false, s, n);
            gpu->linear(o->k, o->h, &w[1].w, NULL, false, s, n);
            gpu->linear(o->v, o->h, &w[2].w, &bias.w, false, s, n);
            gpu->gated(o->r, o->q, o->k, ACT_SILU, OUT, s, n);
            gpu->rotate(o->q, SIZE, &angles.w, first, HEADS, false, s, n);
            gpu->rotate(o->k, SIZE, &angles.w, first, HEADS, false, s, n);
            gpu->append(to[1][0], o->k, OUT, first, s, n);
            gpu->append(to[1][1], o->v, OUT, first, s, n);
            // where nothing lives N(x) is made all the same: a cache may keep it
            const live_units none = {.unit = first, .seqs = MAPS_SEQS};
            const sublayer_input alone = {put(numbers, (size_t)MAPS_ROWS * (size_t)E), x, in.gain, in.bias, shape};
            const sublayer_map nothing = {out[0].z, &w[0].w, NULL, SIZE, &none, false, NULL};
            gpu->move(alone.h, o->h, E, &(span){0, MAPS_ROWS}, 1);
            gpu->zero(alone.h, (size_t)E * sizeof *alone.h);
            gpu->maps(&alone, &nothing, 1, NULL, first, s, n);
            char text[80];
            snprintf(text, sizeof text, "%s, %d numbers, %d sequences", dtype_name(type), E, n);
            float *want_h = put(numbers, (size_t)MAPS_ROWS * (size_t)E);
            gpu->copy(want_h, o->h, (size_t)MAPS_ROWS * (size_t)E * sizeof *want_h);
            same_array(text, alone.h, want_h, (size_t)MAPS_ROWS * (size_t)E);
            same_array(text, out[0].h, o->h, (size_t)MAPS_ROWS * (size_t)E);
            same_array(text, out[0].q, o->q, MAPS_ROWS * OUT);
            same_array(text, out[0].k, o->k, MAPS_ROWS * OUT);
            same_array(text, out[0].v, o->v, MAPS_ROWS * OUT);
            same_array(text, out[0].r, o->r, MAPS_ROWS * OUT);
            for (int i = 0; i < 2; i++) same_array(text, out[0].cache[i], o->cache[i], MAPS_SEQS * CAP * OUT);
            for (int i = 0; i < 2; i++) gpu->release(out[i].z), gpu->release(out[i].u);
        }
        gpu->release(x);
        free(numbers);
        for (int i = 0; i < 3; i++) free_matrix(&w[i]);
        free_matrix(&bias), free_matrix(&gain), free_matrix(&shift), free_matrix(&angles);
    }
    gpu->release(first);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_operation), cmocka_unit_test(sums_of_20480_terms),
                                       cmocka_unit_test(odd_widths_have_the_bits_of_one),
                                       cmocka_unit_test(norms_of_wide_rows),
                                       cmocka_unit_test(maps_have_the_bits_of_operations)};
    gpu = shim_open();
    if (!gpu) return 77;
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const int bad = cmocka_run_group_tests(tests, NULL, NULL) != 0;
    if (argc > 1 || !strstr(gpu->about, "stand-in")) return bad;
    return bad | again(argv[0], "every_operation", "CUH_ORDER=rev CU_FAKE_STREAMS=eager");
}
