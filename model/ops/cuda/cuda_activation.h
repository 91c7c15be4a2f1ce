// cuda_activation - the activations of FFNs and their derivatives, for kernels; formulas as in cpu_transformer_gated.c.
#pragma once
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
