// cpu_transformer_attention - the forward pass of attention by units, for attention and live_attention.
#pragma once
#include "cpu.h"

// u: the live heads, NULL: all. few_only: of the sequences with fewer than CPU_THIN queries.
void cpu_attention_units(float *out, const float *q, const float *k, const float *v, const attn_heads *h,
                         const live_units *u, const attn_seq *s, int n, bool few_only);
