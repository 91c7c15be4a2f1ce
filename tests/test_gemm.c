// test_gemm - products of many rows by panels (cpu_gemm.h): kernels against double precision, with numbers of all
// magnitudes, sides packed along and across, one to three parts, and sizes that fill no panel; maps with weights of
// every type, whole or of some units; and that the bits of a row depend on nothing but the row and its units. Where the
// processor has no such kernels, the maps alone are tested, as OpenBLAS makes them.
#include "opt_fixture.h"
#include "blocks_fixture.h"
#include "cpu_gemm.h"
#include "simd.h"
#include <omp.h>

// ---------------------------------------------------------------- kernels
// A number of as many bits as `parts` parts hold, of some magnitude between 1e-15 and 1e15.
static float number(rng *r, int parts) {
    const float x = (float)(rng_normal(r) * pow(10, (double)rng_below(r, 31) - 15));
    if (parts == GEMM_PARTS) return x;
    const int bits = parts == 1 ? 8 : 11;
    int exponent;
    const double m = frexp(x, &exponent);
    return (float)ldexp(nearbyint(ldexp(m, bits)), exponent - bits);
}

static void check_product(rng *r, const gemm_kernels *g, int rows, int cols, int k, int layout) {
    const bool a_across = layout & 1, b_across = layout & 2;
    const int a_parts = 1 + (int)rng_below(r, GEMM_PARTS), b_parts = 1 + (int)rng_below(r, GEMM_PARTS), ld = 80;
    // a row of A and a column of B are of one magnitude, so that no term of a sum is lost beside another
    float *a = xmalloc((size_t)ld * (size_t)ld * sizeof *a), *b = xmalloc((size_t)ld * (size_t)ld * sizeof *b),
          *c = xaligned(GEMM_SIDE * GEMM_SIDE * sizeof *c);
    for (int i = 0; i < ld * ld; i++) a[i] = b[i] = NAN;  // what is not of the matrix
#define A(i, p) a[a_across ? (p)*ld + 3 + (i) : ((i) + 3) * ld + (p)]
#define B(p, j) b[b_across ? (p)*ld + 5 + (j) : ((j) + 5) * ld + (p)]
    for (int i = 0; i < rows; i++)
        for (int p = 0; p < k; p++) A(i, p) = number(r, a_parts);
    for (int j = 0; j < cols; j++)
        for (int p = 0; p < k; p++) B(p, j) = number(r, b_parts);
    const gemm_matrix of_a = {a, (size_t)ld, NULL, a_across, a_parts}, of_b = {b, (size_t)ld, NULL, b_across, b_parts};
    void *pa = xaligned(gemm_panel_bytes(k, a_parts)), *pb = xaligned(gemm_panel_bytes(k, b_parts));
    g->pack_a(pa, &of_a, 3, rows, 0, k);
    g->pack_b(pb, &of_b, 5, cols, 0, k);
    g->begin();
    for (int add = 0; add < 2; add++) g->tile(c, GEMM_SIDE, pa, pb, rows, k, a_parts, b_parts, add);
    g->end();
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            double want = 0, size = 0;
            for (int p = 0; p < k; p++) {
                want += 2 * (double)A(i, p) * B(p, j);
                size += 2 * fabs((double)A(i, p) * B(p, j));
            }
            // of one product the error is that of its rounding and of the parts left out
            const double tol = k == 1 ? 2.5e-7 : 1e-6;
            if (!(fabs((double)c[i * GEMM_SIDE + j] - want) <= tol * size))
                fail_msg("%s, %d parts by %d, layout %d, sum of %d: %.9g, want %.9g", g->name, a_parts, b_parts, layout,
                         k, (double)c[i * GEMM_SIDE + j], want);
        }
#undef A
#undef B
    free(a), free(b), free(c), free(pa), free(pb);
}

static void kernels(void **state) {
    (void)state;
    const gemm_kernels *g = gemm_amx();
    if (!g) skip();
    rng r = rng_make(1);
    static const int lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 75};
    for (int l = 0; l < 4; l++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
            for (int n = 0; n < 4; n++)
                check_product(&r, g, n ? 1 + (int)rng_below(&r, GEMM_SIDE) : GEMM_SIDE,
                              n ? 1 + (int)rng_below(&r, GEMM_SIDE) : GEMM_SIDE, lengths[k], l);
}

// ---------------------------------------------------------------- maps
enum { ROWS = 700, SPANS = 6 };
static const span spans[SPANS] = {{1, 9}, {12, 40}, {52, 8}, {60, 5}, {70, 600}, {690, 10}};  // one of few rows

static void *weight_of(rng *r, dtype type, size_t n, float **wide) {
    if (dtype_in_blocks(type)) return random_blocks(r, type, n, wide);
    float *x = normal_floats(r, n);
    void *data = xmalloc(dtype_size(type, n));
    *wide = xmalloc(n * sizeof **wide);
    if (type == DT_F32) memcpy(data, x, n * sizeof *x);
    for (size_t i = 0; type != DT_F32 && i < n; i++)
        ((uint16_t *)data)[i] = type == DT_F16 ? float_to_half(x[i]) : float_to_bf16(x[i]);
    dtype_widen(*wide, data, type, n);
    free(x);
    return data;
}

// y = x W' (+ b), or x W, of all spans at once, by gemm's kernels or without.
static void map(float *y, const float *x, const weight *w, const weight *b, bool back, bool add, const span *s, int n) {
    if (back)
        ops_cpu()->linear_back(y, x, w, add, s, n);
    else
        ops_cpu()->linear(y, x, w, b, add, s, n);
}

static void check_map(rng *r, dtype type, int out, int in, bool back, bool add, bool biased) {
    const size_t wide_x = (size_t)(back ? out : in), wide_y = (size_t)(back ? in : out);
    float *wide, *x = normal_floats(r, ROWS * wide_x), *y = normal_floats(r, ROWS * wide_y), *was, *alone,
                 *bias = normal_floats(r, (size_t)out);
    was = xmalloc(ROWS * wide_y * sizeof *was), alone = xmalloc(ROWS * wide_y * sizeof *alone);
    memcpy(was, y, ROWS * wide_y * sizeof *was);
    memcpy(alone, y, ROWS * wide_y * sizeof *alone);
    void *data = weight_of(r, type, (size_t)out * (size_t)in, &wide);
    const weight w = {.data = data, .type = type, .rows = out, .cols = in},
                 b = {.data = bias, .type = DT_F32, .rows = out, .cols = 1};
    omp_set_num_threads(3);
    map(y, x, &w, biased ? &b : NULL, back, add, spans, SPANS);
    omp_set_num_threads(1);
    for (int i = 0; i < SPANS; i++) map(alone, x, &w, biased ? &b : NULL, back, add, &spans[i], 1);
    assert_same_bits("spans together and alone", y, alone, ROWS * wide_y * sizeof *y);
    char *name = xasprintf("type %d, %d x %d, back %d, add %d", type, out, in, back, add);
    bool inside[ROWS] = {false};
    for (int i = 0; i < SPANS; i++)
        for (int t = spans[i].row; t < spans[i].row + spans[i].n; t++) inside[t] = true;
    for (size_t t = 0; t < ROWS; t++)
        for (size_t j = 0; j < wide_y; j += 1 + rng_below(r, 40)) {
            double want = add ? (double)was[t * wide_y + j] : 0, size = fabs(want);
            if (biased && !back) want += (double)bias[j];
            for (size_t p = 0; p < wide_x; p++) {
                const double v = (double)x[t * wide_x + p] * (back ? wide[p * wide_y + j] : wide[j * wide_x + p]);
                want += v, size += fabs(v);
            }
            if (!inside[t]) want = (double)was[t * wide_y + j];
            assert_sum(name, y[t * wide_y + j], want, inside[t] ? size : 0);
        }
    free(name), free(x), free(y), free(was), free(alone), free(bias), free(wide), free(data);
}

// ---------------------------------------------------------------- maps of some units
enum { UNITS = 7 };
// Which units each span runs: all, none, those of even number, ...
static bool runs(int span_, int unit) {
    if (span_ == 1) return false;
    return span_ == 0 || unit % (span_ + 1) == 0;
}

// Lists of units as a batch has them: of one sequence (seq >= 0), or of all those that some sequence runs.
typedef struct {
    int32_t unit[UNITS];
    uint8_t wants[UNITS * SPANS];
    live_units u;
} units;
static void list_units(units *l, int seq) {
    *l = (units){.u = {.unit = l->unit, .seqs = SPANS}};
    for (int k = 0; k < UNITS; k++) {
        bool any = false;
        for (int i = 0; i < SPANS; i++) {
            const bool one = seq < 0 ? runs(i, k) : runs(seq, k);
            l->wants[l->u.n * SPANS + i] = one;
            any |= one;
        }
        if (any) l->unit[l->u.n++] = k;
    }
    if (seq < 0) l->u.wants = l->wants;
}

static void live_map(float *y, const float *x, const weight *w, const weight *b, bool back, int D, const live_units *u,
                     const span *s, int n) {
    if (back)
        ops_cpu()->live_linear_t(y, x, w, b, D, u, s, n);
    else
        ops_cpu()->live_linear(y, x, w, b, true, D, u, s, n);
}

// Rows of W are units of D rows; y = ReLU(x W' + b) at their columns, or (back) y += x W + b over their rows.
static void check_live(rng *r, dtype type, int D, int cols, bool back, bool biased) {
    const int all = UNITS * D;
    const size_t wide_x = (size_t)(back ? all : cols), wide_y = (size_t)(back ? cols : all);
    float *wide, *x = normal_floats(r, ROWS * wide_x), *was = normal_floats(r, ROWS * wide_y),
                 *bias = normal_floats(r, (size_t)(back ? cols : all)), *y[2];
    void *data = weight_of(r, type, (size_t)all * (size_t)cols, &wide);
    const weight w = {.data = data, .type = type, .rows = all, .cols = cols},
                 b = {.data = bias, .type = DT_F32, .rows = back ? cols : all, .cols = 1};
    for (size_t t = 0; t < ROWS; t++)  // columns of x that no unit of the row has are not read
        for (int i = 0; i < SPANS && back; i++)
            for (int j = 0; j < all; j++)
                if ((int)t >= spans[i].row && (int)t < spans[i].row + spans[i].n && !runs(i, j / D))
                    x[t * wide_x + (size_t)j] = NAN;
    for (int k = 0; k < 2; k++) y[k] = memcpy(xmalloc(ROWS * wide_y * sizeof **y), was, ROWS * wide_y * sizeof **y);
    units l;
    list_units(&l, -1);
    omp_set_num_threads(3);
    live_map(y[0], x, &w, biased ? &b : NULL, back, D, &l.u, spans, SPANS);
    omp_set_num_threads(1);
    for (int i = 0; i < SPANS; i++) {
        list_units(&l, i);
        live_map(y[1], x, &w, biased ? &b : NULL, back, D, &l.u, &spans[i], 1);
    }
    assert_same_bits("one list and own lists", y[0], y[1], ROWS * wide_y * sizeof **y);
    char *name = xasprintf("type %d, units of %d, %d columns, back %d", type, D, cols, back);
    for (int i = 0; i < SPANS; i++)
        for (int t = spans[i].row; t < spans[i].row + spans[i].n; t++)
            for (size_t j = 0; j < wide_y; j += 1 + rng_below(r, 9)) {
                const float before = was[(size_t)t * wide_y + j];
                double want = back ? (double)before : 0, size = fabs(want);
                if (biased) want += (double)bias[j];
                for (size_t p = 0; p < wide_x; p++) {
                    if (back && !runs(i, (int)p / D)) continue;
                    const double v =
                        (double)x[(size_t)t * wide_x + p] * (back ? wide[p * wide_y + j] : wide[j * wide_x + p]);
                    want += v, size += fabs(v);
                }
                if (!back && want < 0) want = 0;
                const bool stays = !back && !runs(i, (int)j / D);
                assert_sum(name, y[0][(size_t)t * wide_y + j], stays ? (double)before : want, stays ? 0 : size);
            }
    free(name), free(x), free(was), free(bias), free(wide), free(data), free(y[0]), free(y[1]);
}

static void live_maps(void **state) {
    (void)state;
    rng r = rng_make(3);
    for (int way = 0; way < (gemm_amx() ? 2 : 1); way++) {
        gemm_use(way ? gemm_amx() : NULL);
        for (int t = 0; t < DTYPES; t++)
            for (int back = 0; back < 2; back++) {
                const int cols = dtype_block((dtype)t) > 1 ? 512 : 401;
                check_live(&r, (dtype)t, 1, cols, back, true);
                check_live(&r, (dtype)t, 67, cols, back, back);
            }
    }
}

static void maps(void **state) {
    (void)state;
    rng r = rng_make(2);
    for (int way = 0; way < (gemm_amx() ? 2 : 1); way++) {
        gemm_use(way ? gemm_amx() : NULL);
        for (int t = 0; t < DTYPES; t++) {
            const int block = dtype_block((dtype)t);
            for (int back = 0; back < 2; back++) {
                check_map(&r, (dtype)t, 70, block > 1 ? 2 * 256 : 437, back, false, true);
                check_map(&r, (dtype)t, 33, block > 1 ? 256 : 31, back, true, back);
            }
        }
    }
}

int main(void) {
    cpu_blas_one_thread();
    const struct CMUnitTest tests[] = {cmocka_unit_test(kernels), cmocka_unit_test(maps), cmocka_unit_test(live_maps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
