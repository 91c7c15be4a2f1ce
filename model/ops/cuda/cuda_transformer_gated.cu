// cuda_transformer_gated - the activation of a gated FFN, r = f(g) u, or of another (u NULL: 1), its gradient and
// tangents; formulas as in cpu_transformer_gated.c.
#include "cuda_activation.h"

static __global__ void __launch_bounds__(THREADS)
    gated_k(const cuda_gated_arrays x, int what, int act, int width, const cuda_spans s) {
    const cuda_span p = s.s[find_span(s, (int)blockIdx.x)];
    const size_t from = (size_t)((int)blockIdx.x - p.first) * CUDA_CHUNK, left = (size_t)p.n * width - from;
    const int count = left < CUDA_CHUNK ? (int)left : (int)CUDA_CHUNK;
    for (int k = (int)threadIdx.x; k < count; k += THREADS) {
        const size_t i = (size_t)p.row * width + from + k;
        const curve c = curve_at(act, x.g[i]);
        const float u = x.u ? x.u[i] : 1.0f;
        if (what == CUDA_GATED)
            x.r[i] = c.f * u;
        else if (what == CUDA_GATED_BACK) {
            const float dr = x.dr[i];
            x.dg[i] = dr * u * c.d;
            if (x.u) x.du[i] = dr * c.f;
        } else if (what == CUDA_GATED_JVP)
            x.tr[i] = c.d * u * x.tg[i] + (x.u ? c.f * x.tu[i] : 0.0f);
        else {
            const float dr = x.dr[i], tdr = x.tdr[i], tg = x.tg[i];
            x.tdg[i] = c.d * (tdr * u + (x.u ? dr * x.tu[i] : 0.0f)) + dr * u * c.dd * tg;
            if (x.u) x.tdu[i] = tdr * c.f + dr * c.d * tg;
        }
    }
}

extern "C" void cuda_launch_gated(const cuda_gated_arrays *x, cuda_gated_what what, int act, int width,
                                  const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(gated_k, s->blocks, THREADS, 0, st, *x, (int)what, act, width, *s);
}
