// cpu_transformer_xent - log-probabilities, the likeliest token, and the cross-entropy's gradient and its tangent.
#include "cpu.h"
#include "simd.h"
#include <math.h>

// For a row: the largest logit, and the log of the sum of exp(x - top). The terms of the largest, each 1, are counted
// apart: in an fp32 sum with them the others lose their digits, and those are all that the gradient of a well predicted
// target is made of.
typedef struct {
    float top;
    double log_sum;
} row_sum;

HOT static row_sum log_sum_exp(const float *x, int n) {
    const float top = largest_f(x, n);
    double sum = 0;
    for (int i = 0; i < n; i += 256) {  // short fp32 sums, gathered in double
        float part = 0, ones = 0;
        const int end = i + 256 < n ? i + 256 : n;
#pragma omp simd reduction(+ : part, ones)
        for (int j = i; j < end; j++) {
            const float e = exp_f(x[j] - top);
            part += x[j] == top ? 0 : e;
            ones += x[j] == top ? 1 : 0;
        }
        sum += (double)part + (double)ones;
    }
    return (row_sum){top, log(sum)};
}

void cpu_logprob(double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab,
                 int rows) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
        const float *x = logits + (size_t)r * V;
        const row_sum s = log_sum_exp(x, vocab);
        logprob[r] = target[r] < vocab ? (double)x[target[r]] - (double)s.top - s.log_sum : -INFINITY;
        if (!top) continue;
        int best = 0;
        while (best < vocab - 1 && !(x[best] >= s.top)) best++;
        top[r] = best;
    }
}

HOT static int32_t likeliest(const float *x, int n) {
    float top = -INFINITY;
    int bad = 0, best = 0;
    for (int i = 0; i < n; i++) {
        bad |= !(fabsf(x[i]) < INFINITY);
        top = x[i] > top ? x[i] : top;
    }
    while (!bad && x[best] < top) best++;
    return bad ? -1 : best;
}

void cpu_likeliest(int32_t *token, int32_t *at, const float *logits, int V, int rows) {
    for (int r = 0; r < rows; r++) {
        token[r] = likeliest(logits + (size_t)r * V, V);
        if (at) at[r]++;
    }
}

HOT static void softmax_scaled(float *x, int n, row_sum s, float scale) {
    const float log_sum = (float)s.log_sum;
    for (int i = 0; i < n; i++) x[i] = exp_f(x[i] - s.top - log_sum) * scale;
}

void cpu_xent_back(float *logits, const int32_t *target, const float *scale, int V, int rows) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
        float *x = logits + (size_t)r * V;
        const row_sum s = log_sum_exp(x, V);
        // p - 1 of the target cancels when p is near 1: expm1 keeps its digits
        const float d = (float)expm1((double)x[target[r]] - (double)s.top - s.log_sum) * scale[r];
        softmax_scaled(x, V, s, scale[r]);
        x[target[r]] = d;
    }
}

// dlogits = scale (p - [target]); tangent: scale p (t - sum p t).
HOT static void xent_back_jvp_row(float *t, const float *d, int target, float scale, int V) {
    const float inv = 1.0f / scale;
    double mean = 0;
    for (int i = 0; i < V; i++) mean += (double)((i == target ? d[i] * inv + 1 : d[i] * inv) * t[i]);
    const float m = (float)mean;
    for (int i = 0; i < V; i++) t[i] = (i == target ? d[i] + scale : d[i]) * (t[i] - m);
}
void cpu_xent_back_jvp(float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V,
                       int rows) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++)
        xent_back_jvp_row(tlogits + (size_t)r * V, dlogits + (size_t)r * V, target[r], scale[r], V);
}
