// gguf_blocks - numbers in blocks that share scales, widened (layouts: ggml-common.h, dequantize_row_* of
// ggml-quants.c). Blocks of 32: x = d q, or d q + m; those of 256 ("K") have eight or sixteen scales, themselves in 6
// or 8 bits. Contract in gguf.h.
#include <math.h>
#include <string.h>
#include "gguf.h"

static float half(const uint8_t *p) {
    const unsigned h = (unsigned)p[0] | (unsigned)p[1] << 8, e = h >> 10 & 31, m = h & 1023;
    float x = e ? ldexpf((float)(1024 + m), (int)e - 25) : ldexpf((float)m, -24);
    if (e == 31) x = m ? NAN : INFINITY;
    return h & 0x8000 ? -x : x;
}

static unsigned low(uint8_t b) { return b & 15u; }
static unsigned high(uint8_t b) { return b >> 4; }

static void f32(float *y, const uint8_t *b) { memcpy(y, b, sizeof *y); }
static void f16(float *y, const uint8_t *b) { *y = half(b); }
static void bf16(float *y, const uint8_t *b) {
    const uint32_t u = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 24;
    memcpy(y, &u, sizeof *y);
}

static void q8_0(float *y, const uint8_t *b) {
    const float d = half(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static void q4_0(float *y, const uint8_t *b) {
    const float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((int)low(b[2 + i]) - 8);
        y[i + 16] = d * (float)((int)high(b[2 + i]) - 8);
    }
}

static void q4_1(float *y, const uint8_t *b) {
    const float d = half(b), m = half(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)low(b[4 + i]) + m;
        y[i + 16] = d * (float)high(b[4 + i]) + m;
    }
}

// The fifth bits of 32 numbers.
static unsigned fifth(const uint8_t *b, int i) { return (b[i / 8] >> i % 8 & 1u) << 4; }

static void q5_0(float *y, const uint8_t *b) {
    const float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((int)(low(b[6 + i]) | fifth(b + 2, i)) - 16);
        y[i + 16] = d * (float)((int)(high(b[6 + i]) | fifth(b + 2, i + 16)) - 16);
    }
}

static void q5_1(float *y, const uint8_t *b) {
    const float d = half(b), m = half(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(low(b[8 + i]) | fifth(b + 4, i)) + m;
        y[i + 16] = d * (float)(high(b[8 + i]) | fifth(b + 4, i + 16)) + m;
    }
}

// The j-th of eight 6-bit scales and minima in 12 bytes.
static void scale_min(const uint8_t *q, int j, float *scale, float *min) {
    const unsigned s = j < 4 ? q[j] & 63u : low(q[j + 4]) | (unsigned)(q[j - 4] >> 6) << 4,
                   m = j < 4 ? q[j + 4] & 63u : high(q[j + 4]) | (unsigned)(q[j] >> 6) << 4;
    *scale = (float)s;
    *min = (float)m;
}

// Q4_K and Q5_K: high bits of five in qh, or NULL.
static void q45_k(float *y, const uint8_t *b, const uint8_t *qh, const uint8_t *qs) {
    const float d = half(b), dmin = half(b + 2);
    for (int j = 0; j < 8; j++) {
        float scale, min;
        scale_min(b + 4, j, &scale, &min);
        const float step = d * scale, shift = dmin * min;
        for (int i = 0; i < 32; i++) {
            const uint8_t byte = qs[j / 2 * 32 + i];
            unsigned q = j % 2 ? high(byte) : low(byte);
            if (qh) q |= (qh[i] >> j & 1u) << 4;
            y[32 * j + i] = step * (float)q - shift;
        }
    }
}

static void q4_k(float *y, const uint8_t *b) { q45_k(y, b, NULL, b + 16); }
static void q5_k(float *y, const uint8_t *b) { q45_k(y, b, b + 16, b + 48); }

static void q6_k(float *y, const uint8_t *b) {
    const uint8_t *ql = b, *qh = b + 128, *scales = b + 192;
    const float d = half(b + 208);
    for (int i = 0; i < 256; i++) {
        const int part = i / 128, quarter = i / 32 % 4, l = i % 32;
        const uint8_t byte = ql[64 * part + 32 * (quarter % 2) + l];
        const unsigned bits = qh[32 * part + l] >> 2 * quarter & 3u,
                       q = (quarter < 2 ? low(byte) : high(byte)) | bits << 4;
        y[i] = d * (float)(int8_t)scales[8 * part + 2 * quarter + l / 16] * (float)((int)q - 32);
    }
}

// of: how checkpoints hold it, -1: in fp32.
static const struct {
    int type;
    const char *name;
    int numbers, bytes;
    void (*widen)(float *y, const uint8_t *block);
    int of;
} types[] = {
    {0, "F32", 1, 4, f32, DT_F32},      {1, "F16", 1, 2, f16, DT_F16},      {30, "BF16", 1, 2, bf16, DT_BF16},
    {2, "Q4_0", 32, 18, q4_0, DT_Q4_0}, {3, "Q4_1", 32, 20, q4_1, DT_Q4_1}, {6, "Q5_0", 32, 22, q5_0, -1},
    {7, "Q5_1", 32, 24, q5_1, -1},      {8, "Q8_0", 32, 34, q8_0, DT_Q8_0}, {12, "Q4_K", 256, 144, q4_k, DT_Q4_K},
    {13, "Q5_K", 256, 176, q5_k, -1},   {14, "Q6_K", 256, 210, q6_k, -1}};
enum { N_TYPES = sizeof types / sizeof *types };

static int find(int type) {
    int k = 0;
    while (k < N_TYPES && types[k].type != type) k++;
    return k;
}

int gguf_type_of(dtype t) {
    int k = 0;
    while (types[k].of != (int)t) k++;
    return types[k].type;
}

int gguf_dtype(int type) {
    const int k = find(type);
    ASSERT(k < N_TYPES);
    return types[k].of;
}

bool gguf_type(int type, const char **name, int *numbers, int *bytes) {
    const int k = find(type);
    if (k == N_TYPES) return false;
    *name = types[k].name;
    *numbers = types[k].numbers;
    *bytes = types[k].bytes;
    return true;
}

void gguf_widen(float *to, const uint8_t *from, int type, size_t n) {
    const int k = find(type);
    ASSERT(k < N_TYPES);
    const size_t blocks = n / (size_t)types[k].numbers;
    for (size_t i = 0; i < blocks; i++)
        types[k].widen(to + i * (size_t)types[k].numbers, from + i * (size_t)types[k].bytes);
}

// An fp16 number whose exponent is all ones.
static bool not_finite(const uint8_t *p) { return (p[1] & 0x7c) == 0x7c; }

size_t gguf_bad_block(const uint8_t *from, dtype type, size_t n) {
    const int k = find(gguf_type_of(type));
    const bool two = type == DT_Q4_1 || type == DT_Q4_K;  // a scale and a minimum, side by side
    const size_t blocks = n / (size_t)types[k].numbers, bytes = (size_t)types[k].bytes;
    ASSERT(dtype_in_blocks(type));
    for (size_t i = 0; i < blocks; i++)
        if (not_finite(from + i * bytes) || (two && not_finite(from + i * bytes + 2))) return i;
    return blocks;
}
