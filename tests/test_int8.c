// test_int8 - products of weights in blocks with rows of 8-bit numbers (METHOD 2.5): rows by their formula, kernels of
// every instruction set against double precision on the rounded rows and against each other, bit for bit; operations
// and models against weights and rows that are widened.
#include "opt_fixture.h"
#include "blocks_fixture.h"
#include "convert.h"
#include "cpu_int8.h"
#include "gguf.h"
#include "refusal.h"
#include <omp.h>

static const char *const set_names[] = {"avx512", "avx2", "plain"};
static const dtype types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q4_K};
enum { SETS = 3, TYPES = 4, BLOCK = 32 };

// x rounded by the formula: d = max|x| / 127, q = x (127 / max|x|) to nearest even.
static void round_row(float *to, const float *x, int n) {
    for (int b = 0; b < n; b += BLOCK) {
        float most = 0;
        for (int i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(x[b + i]));
        const float d = most / 127, c = most > 1e-36f ? 127 / most : 0;
        for (int i = 0; i < BLOCK; i++) to[b + i] = d * nearbyintf(x[b + i] * c);
    }
}

static void *row_memory(int n) { return xaligned(int8_row_bytes(n)); }

// ---------------------------------------------------------------- rows
static void rows(void **state) {
    (void)state;
    rng r = rng_make(1);
    for (int n = BLOCK; n <= 40 * BLOCK; n += n < 3 * BLOCK ? BLOCK : 37 * BLOCK) {
        float *x = normal_floats(&r, (size_t)n), *want = xmalloc((size_t)n * sizeof *want);
        for (int i = 0; i < n; i++) x[i] *= (float)pow(10, i / BLOCK % 80 - 40);  // from subnormal numbers on
        for (int i = 0; i < BLOCK && n > BLOCK; i++) x[BLOCK + i] = i < 3 ? (float)(i - 1) * 127 : (float)i + 0.5f;
        round_row(want, x, n);
        void *memory = row_memory(n);
        const int8_row row = int8_row_make(memory, x, n);
        for (int b = 0; b < n / BLOCK; b++) {
            int all = 0;
            for (int i = 0; i < BLOCK; i++) {
                const float got = row.d[b] * (float)row.q[b * BLOCK + i], was = x[b * BLOCK + i];
                if (got != want[b * BLOCK + i]) fail_msg("%g becomes %g, not %g", was, got, want[b * BLOCK + i]);
                if (!(fabsf(got - was) <= row.d[b] * 0.50001f + 1e-36f)) fail_msg("%g becomes %g", was, got);
                all += row.q[b * BLOCK + i];
            }
            assert_true(row.sum[b] == row.d[b] * (float)all);
        }
        for (int i = n; i % 64; i++) assert_true(row.q[i] == 0);
        for (int b = n / BLOCK; b % INT8_CHUNK; b++) assert_true(row.d[b] == 0 && row.sum[b] == 0);
        x[n - 1] = n == BLOCK ? NAN : -INFINITY;
        int8_row_make(memory, x, n);
        assert_true(!isfinite(row.d[n / BLOCK - 1]) && !isfinite(row.sum[n / BLOCK - 1]));
        free(x), free(want), free(memory);
    }
}

// ---------------------------------------------------------------- kernels
enum { ROWS = 5 };

static void check_dots(rng *r, dtype type, int n) {
    float *wide, *x = normal_floats(r, VEC_ROWS * (size_t)n), *round = xmalloc(VEC_ROWS * (size_t)n * sizeof *round),
                 first[ROWS * VEC_ROWS];
    uint8_t *data = random_blocks(r, type, ROWS * (size_t)n, &wide);
    const void *w[ROWS + VEC_AHEAD];
    const int8_row *of[VEC_ROWS];
    int8_row row[VEC_ROWS];
    void *memory[VEC_ROWS];
    bool begun = false;
    for (int i = 0; i < ROWS + VEC_AHEAD; i++)
        w[i] = data + (size_t)(ROWS - 1 - i % ROWS) * dtype_size(type, (size_t)n);
    for (int i = 0; i < VEC_ROWS; i++) {
        row[i] = int8_row_make(memory[i] = row_memory(n), x + i * n, n);
        round_row(round + i * n, x + i * n, n);
        of[i] = &row[i];
    }
    for (int set = 0; set < SETS; set++) {
        const int8_kernels *k = int8_find(set_names[set]);
        if (!k) continue;
        for (int R = VEC_ROWS; R >= 1; R--) {
            float out[ROWS * VEC_ROWS + 1];
            out[ROWS * R] = 12345;
            k->dot[type](out, &(vec_rows){w, ROWS, R % 2}, of, R, n);
            assert_true(out[ROWS * R] == 12345);
            if (!begun) memcpy(first, out, sizeof first);
            begun = true;
            for (int i = 0; i < ROWS * R; i++) {
                const float *wi = wide + (ROWS - 1 - i / R) * n, *xi = round + i % R * n;
                double want = 0, scale = 0;
                for (int j = 0; j < n; j++) {
                    want += (double)wi[j] * (double)xi[j];
                    scale += fabs((double)wi[j] * (double)xi[j]);
                }
                assert_sum(k->name, out[i], want, scale);
                assert_same_bits(k->name, &out[i], &first[i / R * VEC_ROWS + i % R], sizeof *out);
            }
        }
    }
    for (int i = 0; i < VEC_ROWS; i++) free(memory[i]);
    free(x), free(round), free(wide), free(data);
}

static void dots(void **state) {
    (void)state;
    rng r = rng_make(2);
    for (int t = 0; t < TYPES; t++)
        for (int blocks = 1; blocks <= 35; blocks += blocks < 3 ? 1 : 16)
            check_dots(&r, types[t], blocks * (int)dtype_block(types[t]));
}

// ---------------------------------------------------------------- operations
static void widened(const float *x, float *round, int cols, int n) {
    for (int i = 0; i < n; i++) round_row(round + (size_t)i * (size_t)cols, x + (size_t)i * (size_t)cols, cols);
}

// y = x W' + b with few rows and many, of all rows of W and of live ones, some of them not wanted by every span.
static void check_products(rng *r, dtype type, int rows_of_w, int cols) {
    enum { SEQS = 5, N = 82, D = 2 };
    const span s[SEQS] = {{0, 3}, {3, 35}, {38, 1}, {39, 29}, {68, 14}};
    float *wide, *x = normal_floats(r, N * (size_t)cols), *round = xmalloc(N * (size_t)cols * sizeof *round),
                 *bias = normal_floats(r, (size_t)rows_of_w), *y[3];
    uint8_t *data = random_blocks(r, type, (size_t)rows_of_w * (size_t)cols, &wide);
    widened(x, round, cols, N);
    const weight plain = {wide, DT_F32, rows_of_w, cols, NULL, NULL, false},
                 blocks = {data, type, rows_of_w, cols, NULL, "w", false},
                 b = {bias, DT_F32, rows_of_w, 1, NULL, NULL, false};
    int32_t unit[256];
    uint8_t wants[256 * SEQS];
    live_units u = {.unit = unit, .seqs = SEQS, .wants = wants};
    for (int k = 0; k < rows_of_w / D; k++) {
        if (!rng_below(r, 2)) continue;
        for (int i = 0; i < SEQS; i++) wants[u.n * SEQS + i] = rng_below(r, 3) != 0;
        unit[u.n++] = k;
    }
    const ops *o = ops_cpu();
    const size_t count = N * (size_t)rows_of_w;
    for (int k = 0; k < 3; k++) y[k] = xmalloc(count * sizeof **y);
    for (int way = 0; way < 3; way++) {
        const bool live = way == 1;
        for (int k = 0; k < 3; k++) {
            for (size_t i = 0; i < count; i++) y[k][i] = 7;
            if (k == 2) omp_set_num_threads(3);
            if (live)
                o->live_linear(y[k], k ? x : round, k ? &blocks : &plain, &b, true, D, &u, s, SEQS);
            else
                o->linear(y[k], k ? x : round, k ? &blocks : &plain, way ? NULL : &b, way == 0, s, SEQS);
        }
        omp_set_num_threads(2);
        for (size_t i = 0; i < count; i++) assert_sum("product", y[1][i], (double)y[0][i], sqrt(cols));
        assert_same_bits("threads", y[1], y[2], count * sizeof **y);
    }
    for (int k = 0; k < 3; k++) free(y[k]);
    free(x), free(round), free(bias), free(wide), free(data);
}

static void products(void **state) {
    (void)state;
    rng r = rng_make(3);
    for (int set = 0; set < SETS; set++) {
        vec_use(vec_find(set_names[set]));
        for (int t = 0; t < TYPES; t++) check_products(&r, types[t], 70, 3 * (int)dtype_block(types[t]));
    }
    vec_use(NULL);
}

// What is not finite in a row is so in what comes of it.
static void not_finite(void **state) {
    (void)state;
    rng r = rng_make(4);
    float *wide, *x = normal_floats(&r, 10 * BLOCK), y[40];
    uint8_t *data = random_blocks(&r, DT_Q8_0, 4 * BLOCK, &wide);
    const weight w = {data, DT_Q8_0, 4, BLOCK, NULL, "w", false};
    x[3 * BLOCK + 5] = NAN;
    for (int set = 0; set < SETS; set++)
        for (int n = 4; n <= 10; n += 6) {
            vec_use(vec_find(set_names[set]));
            ops_cpu()->linear(y, x, &w, NULL, false, &(span){0, n}, 1);
            for (int i = 0; i < 4 * n; i++)
                if (isnan(y[i]) != (i / 4 == 3)) fail_msg("number %d of %d rows is %g", i, n, (double)y[i]);
        }
    vec_use(NULL);
    free(x), free(wide), free(data);
}

// ---------------------------------------------------------------- models
static const model_config plain_opt = {
    .L = 3, .H = 4, .D = 16, .E = 64, .F = 90, .P = 32, .V = 80, .positions = 90, .bias = true};

static double distance(const float *a, const float *b, int n) {
    double off = 0, square = 0;
    for (int i = 0; i < n; i++) {
        off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        square += (double)b[i] * (double)b[i];
    }
    return sqrt(off / square);
}

// Sparse passes have the numbers of masked dense ones, whatever the thread count; both are near those of fp32
// activations, and not the same.
static void models(void **state) {
    (void)state;
    rng r = rng_make(5);
    random_opt from;
    model eight, whole;
    random_opt_make(&from, &plain_opt, 6);
    if (model_from_tensors_as(&eight, &plain_opt, from.t, from.n, ops_open_as("cpu", DT_Q8_0), DT_Q8_0) ||
        model_from_tensors_as(&whole, &plain_opt, from.t, from.n, ops_cpu(), DT_Q8_0))
        fail_msg("%s", err_get());
    assert_true(eight.changed && eight.layer[1].w1.narrow && !eight.layer[1].w2.narrow);
    const size_t units = (size_t)plain_opt.L * (size_t)(plain_opt.H + plain_opt.F);
    uint8_t *keep = xmalloc(units);
    for (size_t i = 0; i < units; i++) keep[i] = rng_below(&r, 2) != 0;
    const mask half = {keep, keep + plain_opt.L * plain_opt.H};
    int32_t tokens[40];
    float masked[80], live[80], again[80], near[80];
    for (int n = 2; n <= 40; n += 38) {
        random_tokens(tokens, n, plain_opt.V, &r);
        logits_of(&eight, tokens, n, &half, RUN_MASK_BY_ZERO, masked);
        logits_of(&eight, tokens, n, &half, RUN_FORWARD, live);
        logits_of(&whole, tokens, n, &half, RUN_FORWARD, near);
        omp_set_num_threads(3);
        logits_of(&eight, tokens, n, &half, RUN_FORWARD, again);
        omp_set_num_threads(2);
        assert_same_bits("threads", again, live, sizeof again);
        const double sparse = distance(live, masked, plain_opt.V), rounding = distance(live, near, plain_opt.V);
        if (!(sparse < 1e-4)) fail_msg("live units alone change logits by %g of their size", sparse);
        if (!(rounding > 1e-4 && rounding < 0.02)) fail_msg("rounding changes logits by %g of their size", rounding);
    }
    free(keep);
    model_free(&eight);
    expect_error(model_from_tensors_as(&eight, &plain_opt, from.t, from.n, ops_open_as("cpu", DT_Q8_0), DT_F32),
                 "--activations q8_0: no matrix is in blocks");
    model_free(&whole);
    random_opt_free(&from);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows), cmocka_unit_test(dots), cmocka_unit_test(products),
                                       cmocka_unit_test(not_finite), cmocka_unit_test(models)};
    return cmocka_run_group_tests_name("int8", tests, NULL, NULL);
}
