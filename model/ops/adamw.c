// adamw - see adamw.h.
#include "adamw.h"
#include "simd.h"
#include <math.h>

// A moment below this counts as 0: where no gradient comes (a unit whose ReLU stays shut) it would decay to the
// subnormal numbers, which are slow, and stay there. The step that it loses is below rate * 1e-22.
static const float LEAST = 1e-30f;

adamw adamw_step(double lr, double decay, double beta1, double beta2, double scale, long step) {
    return (adamw){.rate = (float)lr,
                   .shrink = (float)(lr * decay),
                   .b1 = (float)beta1,
                   .b2 = (float)beta2,
                   .c1 = (float)(1 - pow(beta1, (double)step)),
                   .c2 = (float)(1 - pow(beta2, (double)step)),
                   .eps = 1e-8f,
                   .scale = (float)scale};
}

HOT void adamw_update(const adamw *a, float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
                      size_t n) {
    const adamw k = *a;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * k.scale;
        const float mi = k.b1 * m[i] + (1 - k.b1) * gi;
        m[i] = fabsf(mi) < LEAST ? 0 : mi;
        v[i] = k.b2 * v[i] + (1 - k.b2) * gi * gi;
        w[i] -= k.shrink * w[i] + k.rate * (m[i] / k.c1) / (sqrtf(v[i] / k.c2) + k.eps);
    }
}

void adamw_update_plain(const adamw *a, float *w, const float *g, float *m, float *v, size_t n) {
    adamw k = *a;
    k.shrink = 0;
    adamw_update(&k, w, g, m, v, n);
}

double cosine(double lr, long t, long total) {
    return lr * 0.5 * (1 + cos(3.14159265358979323846 * (double)t / (double)total));
}
