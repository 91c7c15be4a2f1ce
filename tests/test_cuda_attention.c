// test_cuda_attention - attention and its gradient through the CUDA table against the formulas in double precision, at
// the head sizes of models, in sequences of several tiles: the products of tensor cores, of numbers in two parts, are
// as good as fp32. A part less, and the error is a hundred times of what is allowed.
#include "opt_fixture.h"
#include "cuda_compare.h"
#include "shim.h"

enum { MOST = 150, SEQS = 2, ARRAYS = 4 };
static const ops *gpu;

// One sequence of T tokens: out, dq, dk and dv of q, k, v and dout, heads of D values.
typedef struct {
    int T, H, K, D;
    const float *q, *k, *v, *dout;
    double *to[ARRAYS];
} one_sequence;

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}
static void add(double *to, double factor, const float *x, int n) {
    for (int i = 0; i < n; i++) to[i] += factor * (double)x[i];
}

// Query i of head h: S = q K' / sqrt(D), P = softmax(S), dS = P (dP - sum P dP).
static void one_query(const one_sequence *s, int h, int i) {
    const int D = s->D, A = s->H * D, W = s->K * D, at = i * A + h * D, kv = h / (s->H / s->K) * D;
    double p[MOST], dp[MOST], top = -INFINITY, sum = 0, mean = 0;
    for (int j = 0; j <= i; j++) {
        p[j] = dot(s->q + at, s->k + j * W + kv, D) / sqrt(D);
        dp[j] = dot(s->dout + at, s->v + j * W + kv, D);
        top = fmax(top, p[j]);
    }
    for (int j = 0; j <= i; j++) sum += p[j] = exp(p[j] - top);
    for (int j = 0; j <= i; j++) mean += (p[j] /= sum) * dp[j];
    for (int j = 0; j <= i; j++) {
        const double ds = p[j] * (dp[j] - mean) / sqrt(D);
        add(s->to[0] + at, p[j], s->v + j * W + kv, D);
        add(s->to[1] + at, ds, s->k + j * W + kv, D);
        add(s->to[2] + j * W + kv, ds, s->q + at, D);
        add(s->to[3] + j * W + kv, p[j], s->dout + at, D);
    }
}

// The root of the mean square of the errors, relative to that of the numbers.
static void check(const char *what, const float *got, const double *want, int n) {
    double error = 0, size = 0;
    for (int i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (!(sqrt(error / size) <= 2e-6)) fail_msg("%s: errors of %.3g", what, sqrt(error / size));
}

static void as_good_as_fp32(void **state) {
    (void)state;
    static const char *const names[ARRAYS] = {"out", "dq", "dk", "dv"};
    static const struct {
        int H, K, D, n[SEQS];
    } cases[] = {{1, 1, 128, {MOST, 17}}, {2, 1, 80, {65, 33}}, {2, 2, 64, {96, 40}}, {2, 1, 18, {70, 64}}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const attn_heads h = {.H = cases[c].H, .K = cases[c].K, .D = cases[c].D};
        const int rows = cases[c].n[0] + cases[c].n[1], A = h.H * h.D, W = h.K * h.D,
                  width[] = {A, W, W, A, A, A, W, W};
        float *x[4 + ARRAYS], *on[4 + ARRAYS];
        double *want[ARRAYS];
        for (int k = 0; k < 4 + ARRAYS; k++) {
            x[k] = random_floats(10 * c + (uint64_t)k, (size_t)(rows * width[k]));
            on[k] = put_guarded(gpu, x[k], (size_t)(rows * width[k]));
        }
        for (int k = 0; k < ARRAYS; k++) want[k] = xcalloc((size_t)(rows * width[4 + k]), sizeof **want);
        attn_seq s[SEQS];
        for (int i = 0, row = 0; i < SEQS; row += cases[c].n[i++]) {
            const int n = cases[c].n[i], a = row * A, w = row * W;
            s[i] = (attn_seq){.s = {row, n}};
            const one_sequence one = {n,        h.H,      h.K,
                                      h.D,      x[0] + a, x[1] + w,
                                      x[2] + w, x[3] + a, {want[0] + a, want[1] + a, want[2] + w, want[3] + w}};
            for (int head = 0; head < h.H; head++)
                for (int t = 0; t < n; t++) one_query(&one, head, t);
        }
        gpu->attention(on[4], on[0], on[1], on[2], &h, s, SEQS);
        gpu->attention_back(on[5], on[6], on[7], on[3], on[0], on[1], on[2], &h, s, SEQS);
        for (int k = 0; k < ARRAYS; k++) {
            char what[60];
            snprintf(what, sizeof what, "%s of heads of %d", names[k], h.D);
            float *got = get_guarded(gpu, on[4 + k], (size_t)(rows * width[4 + k]), what);
            check(what, got, want[k], rows * width[4 + k]);
            free(got), free(want[k]);
        }
        for (int k = 0; k < 4 + ARRAYS; k++) release_guarded(gpu, on[k]), free(x[k]);
    }
}

int main(void) {
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_good_as_fp32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
