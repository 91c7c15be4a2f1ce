// cuda_transformer_gated - the activation of a gated FFN, r = f(g) u, or of another (u NULL: 1), its gradient and
// tangents; formulas as in cpu_transformer_gated.c.
#include "cuda_device.h"
#include <math.h>

struct curve {
    float f, d, dd;  // f(g), f'(g), f''(g)
};

__device__ __forceinline__ curve relu_at(float g) { return {g <= 0 ? 0 : g, g <= 0 ? 0.0f : 1.0f, 0}; }

__device__ __forceinline__ curve silu_at(float g) {
    const float e = expf(-fabsf(g)), large = 1.0f / (1.0f + e), s = g < 0 ? e * large : large;
    const float slope = e * large * large;
    return {g * s, s + g * slope, slope * (2.0f + g * (1.0f - 2.0f * s))};
}

__device__ __forceinline__ curve gelu_at(float g) {
    const float p = 0.5f * erfcf(-g * 0.70710678f), density = 0.39894228f * expf(-0.5f * g * g);
    return {g * p, p + g * density, density * (2.0f - g * g)};
}

__device__ __forceinline__ curve gelu_tanh_at(float g) {
    const float k = 0.79788456f, t = tanhf(k * (g + 0.044715f * g * g * g)), in = k * (1.0f + 0.134145f * g * g),
                slope = (1.0f - t * t) * in, bend = (1.0f - t * t) * k * 0.26829f * g - 2.0f * t * slope * in;
    return {0.5f * g * (1.0f + t), 0.5f * (1.0f + t) + 0.5f * g * slope, slope + 0.5f * g * bend};
}

// act: ACT_RELU, ACT_SILU, ACT_GELU, ACT_GELU_TANH of ckpt.h.
__device__ __forceinline__ curve curve_at(int act, float g) {
    if (act == 0) return relu_at(g);
    if (act == 1) return silu_at(g);
    return act == 2 ? gelu_at(g) : gelu_tanh_at(g);
}

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
