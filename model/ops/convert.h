// convert - numbers between fp32 and the types that weights are stored in; n of types in blocks are whole blocks.
#pragma once
#include "ckpt.h"

void dtype_widen(float *to, const void *from, dtype type, size_t n);  // exact
// To nearest, ties to even; beyond fp16's range infinity. DT_Q8_0, DT_Q4_0: quantise.h.
void dtype_narrow(void *to, dtype type, const float *from, size_t n);
