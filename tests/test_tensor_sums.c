// test_tensor_sums - what model/CUDA.md says of sums on tensor cores, by a model of them (Fasi, Higham, Mikaitis and
// Pranesh 2021): 16 products and the sum so far are cut off below the last digit that the largest of them has in fp32,
// and EXTRA digits more, added up, and the result is cut off to fp32. x in three parts of W's type, bf16 or fp16
// (cuda_split.cu), the small ones first, which fp32 adds up. The errors, of the terms' sizes, of 20,480 terms.
#include "convert.h"
#include "opt_fixture.h"

enum { K = 20480, OUT = 16, STEP = 16, PARTS = 3 };

static double cut(double x, int exponent) { return ldexp(trunc(ldexp(x, -exponent)), exponent); }
static int exponent_of(double x) {
    int e;
    frexp(x, &e);
    return e - 24;  // of the last of fp32's digits
}

static float tensor_sum(const float *x, const float *w, int extra) {
    double sum = 0;
    for (int k = 0; k < K; k += STEP) {
        double most = fabs(sum), all = 0;
        for (int i = k; i < k + STEP; i++) most = fmax(most, fabs((double)x[i] * (double)w[i]));
        const int last = exponent_of(most) - extra;
        for (int i = k; i < k + STEP; i++) all += cut((double)x[i] * (double)w[i], last);
        all += cut(sum, last);
        sum = cut(all, exponent_of(all));
    }
    return (float)sum;
}

typedef struct {
    double tensor, ordered;
} errors;  // the largest, of tensor cores and of one fp32 sum in order

static errors errors_of(dtype type, bool positive, int extra) {
    static float x[K], w[K], part[PARTS][K];
    static uint16_t h[K];
    errors far = {0, 0};
    rng r = rng_make(1);
    for (int j = 0; j < OUT; j++) {
        for (int k = 0; k < K; k++) x[k] = (float)rng_normal(&r), w[k] = (float)rng_normal(&r);
        for (int k = 0; k < K && positive; k++) x[k] = fabsf(x[k]), w[k] = fabsf(w[k]);
        dtype_narrow(h, type, w, K);
        dtype_widen(w, h, type, K);
        double want = 0, size = 0;
        float ordered = 0, sum = 0;
        for (int k = 0; k < K; k++) {
            want += (double)x[k] * (double)w[k], size += fabs((double)x[k] * (double)w[k]);
            ordered += x[k] * w[k];
        }
        for (int p = 0; p < PARTS; p++) {
            const int shift = type == DT_F16 ? 11 * p : 0;
            for (int k = 0; k < K; k++) x[k] = ldexpf(x[k], shift);
            dtype_narrow(h, type, x, K);
            dtype_widen(part[p], h, type, K);
            for (int k = 0; k < K; k++) x[k] = ldexpf(x[k] - part[p][k], -shift);
            for (int k = 0; k < K; k++) part[p][k] = ldexpf(part[p][k], -shift);
        }
        for (int k = 0; k < K; k++) assert_true(x[k] == 0);  // three parts are all of it
        for (int p = PARTS; p-- > 0;) sum += tensor_sum(part[p], w, extra);
        far.tensor = fmax(far.tensor, fabs((double)sum - want) / size);
        far.ordered = fmax(far.ordered, fabs((double)ordered - want) / size);
    }
    return far;
}

static void between(const char *what, double x, double least, double most) {
    if (!(x >= least && x <= most)) fail_msg("%s: %g, want %g to %g", what, x, least, most);
}

static void the_document_is_right(void **state) {
    (void)state;
    static const int extra[] = {0, 1, 3};
    for (int k = 0; k < 6; k++) {
        const dtype type = k < 3 ? DT_F16 : DT_BF16;
        const errors either = errors_of(type, false, extra[k % 3]), same = errors_of(type, true, extra[k % 3]);
        between("terms of either sign", either.tensor, 5e-8, 1e-6);
        between("terms of one sign", same.tensor, 4e-5, 5e-4);
        between("in order, of either sign", either.ordered, 1e-8, 2e-7);
        between("in order, of one sign", same.ordered, 1e-6, 1e-5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_document_is_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
