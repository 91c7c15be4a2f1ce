// cuda_transformer_attention - the forward pass of attention by units, for attention and live_attention.
#pragma once
#include "cuda_host.h"

static inline cuda_live gpu_all_units(int units) { return (cuda_live){.n = units, .most = units}; }
void gpu_attend(float *out, const float *q, const float *k, const float *v, attn_heads h, cuda_live u,
                const attn_seq *s, int n);
