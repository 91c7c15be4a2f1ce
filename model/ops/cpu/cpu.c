// cpu - helpers of the CPU's operations. Contract in cpu.h.
#include "cpu.h"
#include "convert.h"

double ops_seconds_gemm, ops_seconds_attention;

const span *cpu_blocks(const span *s, int n, int size, int *count) {
    int total = 0;
    for (int i = 0; i < n; i++) total += (s[i].n + size - 1) / size;
    span *b = scratch_take((size_t)total * sizeof *b);
    int k = 0;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < s[i].n; r += size) b[k++] = (span){s[i].row + r, s[i].n - r < size ? s[i].n - r : size};
    *count = k;
    return b;
}

const float *cpu_weight_rows(const weight *w, int row, int rows) {
    size_t at = (size_t)row * w->cols, n = (size_t)rows * w->cols;
    if (w->wide) return w->wide + at;
    if (w->type == DT_F32) return (const float *)w->data + at;
    float *out = scratch_floats(n);
    dtype_widen(out, (const char *)w->data + at * dtype_bytes(w->type), w->type, n);
    return out;
}

const float *cpu_vector(const weight *w) { return w ? cpu_weight_rows(w, 0, w->rows) : NULL; }
