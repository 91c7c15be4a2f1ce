// quantise - numbers to blocks of 32 that share a scale, as llama.cpp makes them (quantize_row_q8_0_ref and
// quantize_row_q4_0_ref of ggml-quants.c):
//   Q8_0  d = max|x| / 127          q = round(x / d)                   -127 .. 127
//   Q4_0  d = (x of max|x|) / -8    q = min(floor(x / d + 8.5), 15)    0 .. 15, for x = d (q - 8)
// d is kept in fp16. A number comes back within d / 2 (Q4_0: within d at the end of the range that x of max|x| is not
// at), and what rounding d adds: at most 2^-11 of the number, or 2^-25 |q| where that is more (d < 2^-14). Rounding:
// halves away from zero.
#pragma once
#include "ckpt.h"

// n numbers, whole blocks, of type DT_Q8_0 or DT_Q4_0. A scale beyond fp16 is infinite (gguf_bad_block finds it).
void quantise(void *to, dtype type, const float *from, size_t n);
