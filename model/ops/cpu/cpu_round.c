// cpu_round - 16-bit activations on the CPU: rows are rounded as a conversion to the type would, to nearest even, and
// stay fp32 numbers, so products go on as ever. Only the significand is rounded. fp16's range does not limit it: the
// GPU scales each operand by a power of two to the same end (CUDA.md).
#include "cpu.h"
#include "simd.h"

enum { ROWS = 32 };

// The largest of the results as a bit pattern without sign: 0x7f800000 and more are not finite. low: the lowest bit
// that is kept.
HOT static uint32_t round_to(uint32_t *to, const uint32_t *from, size_t n, uint32_t low) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t v = from[i], tie = v & low ? 1 : 0, up = (v + (low / 2 - 1) + tie) & ~(low - 1),
                       size = v & 0x7fffffff;
        to[i] = size < 0x7f800000 ? up : v;
        most = size > most ? size : most;
        most = (up & 0x7fffffff) > most ? up & 0x7fffffff : most;
    }
    return most;
}

static uint32_t lowest_bit(dtype type) { return type == DT_F16 ? 1u << 13 : 1u << 16; }

static void check(uint32_t most, const weight *w, const char *operation) {
    if (operation && most >= 0x7f800000)
        die(1, "cpu: %s with %s: a number among the rows is not finite", operation, w->narrow);
}

const float *cpu_rounded(const float *x, int width, const weight *w, const span *s, int n, const char *operation) {
    if (!w->narrow || dtype_in_blocks(w->type) || !width) return x;
    int end = 0;
    for (int i = 0; i < n; i++) end = s[i].n && s[i].row + s[i].n > end ? s[i].row + s[i].n : end;
    float *to = scratch_floats((size_t)end * (size_t)width + 1);
    uint32_t most = 0;
    for (int i = 0; i < n; i++)
#pragma omp parallel for schedule(static) reduction(max : most) if (s[i].n > ROWS)
        for (int t = 0; t < s[i].n; t += ROWS) {
            const size_t at = (size_t)(s[i].row + t) * (size_t)width,
                         rows = (size_t)(s[i].n - t < ROWS ? s[i].n - t : ROWS);
            const uint32_t of =
                round_to((uint32_t *)to + at, (const uint32_t *)x + at, rows * (size_t)width, lowest_bit(w->type));
            most = of > most ? of : most;
        }
    check(most, w, operation);
    return to;
}

const float *cpu_rounded_columns(const float *x, int width, int from, int n, const weight *w, const span *s,
                                 const char *operation) {
    float *to = scratch_floats((size_t)s->n * (size_t)n + 1);
    uint32_t most = 0;
    for (int t = 0; t < s->n; t++) {
        const float *row = x + (size_t)(s->row + t) * (size_t)width + from;
        const uint32_t of =
            round_to((uint32_t *)to + (size_t)t * (size_t)n, (const uint32_t *)row, (size_t)n, lowest_bit(w->type));
        most = of > most ? of : most;
    }
    check(most, w, operation);
    return to;
}
