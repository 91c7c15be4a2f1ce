// cpu - helpers of the CPU's operations. Contract in cpu.h.
#include "cpu.h"
#include "convert.h"
#include "cpu_vec.h"

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

void cpu_widen(float *to, const weight *w, int row, int from, int n) {
    const char *data = (const char *)w->data + (size_t)row * dtype_size(w->type, (size_t)w->cols);
    ASSERT(!w->turned);
    if (dtype_in_blocks(w->type))
        vec()->widen[w->type](to, data, (size_t)from, (size_t)n);
    else
        dtype_widen(to, data + (size_t)from * dtype_bytes(w->type), w->type, (size_t)n);
}

const float *cpu_weight_rows(const weight *w, int row, int rows) {
    size_t at = (size_t)row * w->cols, n = (size_t)rows * w->cols;
    if (w->wide) return w->wide + at;
    if (w->type == DT_F32) return (const float *)w->data + at;
    float *out = scratch_floats(n);
    if (!dtype_in_blocks(w->type)) dtype_widen(out, (const char *)w->data + at * dtype_bytes(w->type), w->type, n);
    for (int r = 0; r < rows && dtype_in_blocks(w->type); r++)
        cpu_widen(out + (size_t)r * (size_t)w->cols, w, row + r, 0, w->cols);
    return out;
}

const float *cpu_vector(const weight *w) { return w ? cpu_weight_rows(w, 0, w->rows) : NULL; }
