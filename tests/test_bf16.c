// test_bf16 - products of bfloat16 (cpu_bf16.h) by every set of instructions that the processor has: against double
// precision on operands that were rounded here, by definition; sizes that fill no tile; small rows; spans alone and
// among others, and any number of threads, to the same bits. test_rounded has the operations.
#include "opt_fixture.h"
#include "convert.h"
#include "cpu_bf16.h"
#include <omp.h>

static const char *const set_names[] = {"amx", "avx512bf16"};
enum { SETS = 2, ROWS = 83, SPANS = 4 };
static const span spans[SPANS] = {{0, 7}, {8, 1}, {9, 40}, {50, 33}};  // row 7 is nobody's

// To 8 significant bits, ties to even.
static double rounded(double x) {
    int e;
    const double m = frexp(x, &e);
    return ldexp(nearbyint(ldexp(m, 8)), e - 8);
}

typedef struct {
    int out, in;  // of W
    uint16_t *bits;
    double *value;
    weight w;
} matrix;
static matrix matrix_new(int out, int in, rng *r) {
    const size_t n = (size_t)out * (size_t)in;
    matrix m = {.out = out, .in = in, .bits = xmalloc(n * sizeof *m.bits), .value = xmalloc(n * sizeof *m.value)};
    for (size_t i = 0; i < n; i++) {
        m.value[i] = rounded(0.1 * rng_normal(r));
        const float x = (float)m.value[i];
        dtype_narrow(m.bits + i, DT_BF16, &x, 1);
    }
    m.w = (weight){.data = m.bits, .type = DT_BF16, .rows = out, .cols = in, .narrow = "a.weight"};
    return m;
}
static void matrix_free(matrix *m) { free(m->bits), free(m->value); }

// Rows whose sizes lie far apart, each of normal numbers.
static float *rows_new(int width, rng *r) {
    float *x = normal_floats(r, (size_t)ROWS * (size_t)width);
    for (int i = 0; i < ROWS * width; i++) x[i] *= ldexpf(1, i / width % 7 * 30 - 100);
    return x;
}

// The product at (row, j), and the sum of the sizes of its terms.
static double want_of(const matrix *m, const float *x, bool back, int row, int j, double *size) {
    const int in = back ? m->out : m->in;
    double sum = 0;
    *size = 0;
    for (int i = 0; i < in; i++) {
        const double w = m->value[back ? i * m->in + j : j * m->in + i];
        const double term = rounded((double)x[row * in + i]) * w;
        sum += term, *size += fabs(term);
    }
    return sum;
}

static void check_product(const bf16_kernels *k, const char *name, const matrix *m, bool back, bool add, bool biased,
                          rng *r) {
    const int in = back ? m->out : m->in, cols = back ? m->in : m->out;
    float *x = rows_new(in, r), *b = normal_floats(r, (size_t)cols), *was = normal_floats(r, (size_t)(ROWS * cols)),
          *y = xmalloc(sizeof *y * (size_t)(ROWS * cols));
    memcpy(y, was, sizeof *y * (size_t)(ROWS * cols));
    bf16_many(k, &(bf16_product){y, x, &m->w, biased ? b : NULL, add, back}, spans, SPANS, 8, "test");
    for (int i = 0; i < SPANS; i++)
        for (int row = spans[i].row; row < spans[i].row + spans[i].n; row++)
            for (int j = 0; j < cols; j++) {
                double size, want = want_of(m, x, back, row, j, &size) + (biased ? (double)b[j] : 0) +
                                    (add ? (double)was[row * cols + j] : 0);
                size += biased || add ? 8 : 0;
                if (spans[i].n < 8) want = (double)was[row * cols + j], size = 0;  // left alone
                const double got = (double)y[row * cols + j];
                if (!(fabs(got - want) <= 1e-6 * size))
                    fail_msg("%s, %d x %d%s%s%s: row %d, column %d: %.9g, want %.9g", name, m->out, m->in,
                             back ? ", back" : "", add ? ", added" : "", biased ? ", bias" : "", row, j, got, want);
            }
    free(x), free(b), free(was), free(y);
}

static void products(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {33, 31}, {32, 64}, {70, 100}, {300, 47}};
    rng r = rng_make(1);
    int sets = 0;
    for (int s = 0; s < SETS; s++) {
        const bf16_kernels *k = bf16_find(set_names[s]);
        sets += k != NULL;
        for (size_t i = 0; k && i < sizeof sizes / sizeof *sizes; i++) {
            matrix m = matrix_new(sizes[i][0], sizes[i][1], &r);
            for (int back = 0; back < 2; back++)
                for (int add = 0; add < 2; add++) check_product(k, set_names[s], &m, back, add, !back && i % 2, &r);
            matrix_free(&m);
        }
    }
    if (!sets) print_message("SKIP: this processor multiplies no bfloat16\n");
}

// Each span alone, at another place, and all of them on more threads.
static void same_bits(void **state) {
    (void)state;
    rng r = rng_make(2);
    matrix m = matrix_new(300, 90, &r);
    float *x = rows_new(m.in, &r);
    const size_t n = (size_t)(ROWS * m.out);
    for (int s = 0; s < SETS; s++) {
        const bf16_kernels *k = bf16_find(set_names[s]);
        if (!k) continue;
        float *y = xcalloc(n, sizeof *y), *other = xcalloc(n, sizeof *other);
        omp_set_num_threads(1);
        bf16_many(k, &(bf16_product){y, x, &m.w, NULL, false, false}, spans, SPANS, 1, "test");
        omp_set_num_threads(3);
        bf16_many(k, &(bf16_product){other, x, &m.w, NULL, false, false}, spans, SPANS, 1, "test");
        assert_memory_equal(y, other, n * sizeof *y);
        for (int i = 0; i < SPANS; i++) {
            const size_t in = (size_t)(spans[i].row * m.in), out = (size_t)(spans[i].row * m.out);
            bf16_many(k, &(bf16_product){other, x + in, &m.w, NULL, false, false}, &(span){0, spans[i].n}, 1, 1,
                      "test");
            assert_memory_equal(y + out, other, (size_t)(spans[i].n * m.out) * sizeof *y);
        }
        free(y), free(other);
    }
    omp_set_num_threads(2);
    free(x);
    matrix_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
