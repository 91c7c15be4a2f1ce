// cpu_vec_q4k - where a block's scales and numbers are, for the vector kernels (layouts: gguf_blocks.c).
#pragma once
#include "simd.h"

static inline __attribute__((always_inline)) float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

// Of Q4_K the eight scales and minima of a block of 256, of 6 bits each in 12 bytes, as bytes; before them stand the
// fp16 numbers d and dmin.
typedef struct {
    uint64_t scale, min;
} k_bits;
static inline __attribute__((always_inline)) k_bits k_bits_at(const uint8_t *block) {
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
    uint32_t w[3];
    memcpy(w, block + 4, sizeof w);
    const uint32_t scale = (w[2] & four) | (w[0] >> 6 & two) << 4, min = (w[2] >> 4 & four) | (w[1] >> 6 & two) << 4;
    return (k_bits){(w[0] & six) | (uint64_t)scale << 32, (w[1] & six) | (uint64_t)min << 32};
}
static inline __attribute__((always_inline)) uint32_t k_head(const uint8_t *block) {
    uint32_t head;
    memcpy(&head, block, sizeof head);
    return head;
}

// x = step q - less.
typedef struct {
    float step[8], less[8];
} k_scales;
static inline __attribute__((always_inline)) void k_scales_at(k_scales *to, const uint8_t *row, int block) {
    const uint8_t *p = row + 144 * block;
    const float d = half_at(p), dmin = half_at(p + 2);
    const k_bits b = k_bits_at(p);
    for (int j = 0; j < 8; j++) {
        to->step[j] = d * (float)(b.scale >> 8 * j & 255);
        to->less[j] = dmin * (float)(b.min >> 8 * j & 255);
    }
}

// Where the bytes of its b-th 32 numbers are; of the odd ones the upper half counts.
static inline __attribute__((always_inline)) const uint8_t *k_bytes(const uint8_t *row, int b) {
    return row + 144 * (b / 8) + 16 + b % 8 / 2 * 32;
}
