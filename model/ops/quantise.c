// quantise - contract and formulas in quantise.h.
#include "quantise.h"
#include <math.h>
#include <string.h>
#include "simd.h"

enum { BLOCK = 32 };

static uint8_t *put_scale(uint8_t *to, float d) {
    const uint16_t h = float_to_half(d);
    memcpy(to, &h, sizeof h);
    return to + sizeof h;
}

// 0 where there is none; fp16 has no such scale either.
static float inverse_of(float d) { return isfinite(1 / d) ? 1 / d : 0; }

static void q8_0(uint8_t *to, const float *x) {
    float most = 0;
    for (int i = 0; i < BLOCK; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    const float d = most / 127, inverse = inverse_of(d);
    to = put_scale(to, d);
    for (int i = 0; i < BLOCK; i++) to[i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
}

static unsigned nibble(float x) {
    const int q = (int)(x + 8.5f);
    return q < 15 ? (unsigned)q : 15;
}

static void q4_0(uint8_t *to, const float *x) {
    float most = 0, end = 0;
    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) > most) {
            most = fabsf(x[i]);
            end = x[i];
        }
    const float d = end / -8, inverse = inverse_of(d);
    to = put_scale(to, d);
    for (int i = 0; i < BLOCK / 2; i++)
        to[i] = (uint8_t)(nibble(x[i] * inverse) | nibble(x[i + BLOCK / 2] * inverse) << 4);
}

void quantise(void *to, dtype type, const float *from, size_t n) {
    const size_t bytes = dtype_size(type, BLOCK);
    uint8_t *block = to;
    ASSERT(type == DT_Q8_0 || type == DT_Q4_0);
    for (size_t i = 0; i < n; i += BLOCK, block += bytes) (type == DT_Q8_0 ? q8_0 : q4_0)(block, from + i);
}
