// cpu_transformer_rows - embeddings, positions, and element-wise operations on rows.
#include "cpu.h"
#include "simd.h"

void cpu_embed(float *y, const int32_t *tokens, const weight *w, const span *s, int n) {
    for (int i = 0; i < n; i++)
        for (int r = s[i].row; r < s[i].row + s[i].n; r++) {
            const scratch_point mark = scratch_mark();
            memcpy(y + (size_t)r * w->cols, cpu_weight_rows(w, tokens[r], 1), sizeof(float) * (size_t)w->cols);
            scratch_release(mark);
        }
}

void cpu_embed_grad(float *dw, const float *dy, const int32_t *tokens, int cols, const span *s, int n) {
    const int width = 64;  // threads own columns, so rows add up in order
#pragma omp parallel for schedule(static)
    for (int c = 0; c < cols; c += width) {
        const int end = c + width < cols ? c + width : cols;
        for (int i = 0; i < n; i++)
            for (int r = s[i].row; r < s[i].row + s[i].n; r++)
                for (int e = c; e < end; e++) dw[(size_t)tokens[r] * cols + e] += dy[(size_t)r * cols + e];
    }
}

void cpu_add_positions(float *x, const weight *pos, const int32_t *first, const span *s, int n) {
    const int E = pos->cols;
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n; t++) {
            const scratch_point mark = scratch_mark();
            const float *p = cpu_weight_rows(pos, first[i] + t + 2, 1);
            float *y = x + (size_t)(s[i].row + t) * E;
            for (int e = 0; e < E; e++) y[e] += p[e];
            scratch_release(mark);
        }
}

HOT static void rotate_unit(float *x, const float *angle, int half, float sign) {
    for (int i = 0; i < half; i++) {
        const float c = angle[i], s = sign * angle[half + i], a = x[i], b = x[half + i];
        x[i] = a * c - b * s;
        x[half + i] = b * c + a * s;
    }
}
void cpu_rotate(float *x, int D, const weight *table, const int32_t *first, int units, bool back, const span *s,
                int n) {
    const int R = table->cols;
    for (int i = 0; i < n; i++)
#pragma omp parallel for schedule(static) if (s[i].n > CPU_BLOCK_ROWS)
        for (int t = 0; t < s[i].n; t++) {
            const float *angle = (const float *)table->data + (size_t)(first[i] + t) * (size_t)R;
            float *row = x + (size_t)(s[i].row + t) * (size_t)units * (size_t)D;
            for (int u = 0; u < units; u++) rotate_unit(row + (size_t)u * (size_t)D, angle, R / 2, back ? -1 : 1);
        }
}

HOT static void gate_rows(float *y, const float *x, const float *g, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = g[i] <= 0 ? 0 : x[i];  // in this order a NaN passes
}
HOT static void add_rows(float *y, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += scale * x[i];
}
void cpu_gate(float *y, const float *x, const float *g, int F, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) gate_rows(ROW(y, F), ROW(x, F), ROW(g, F), (size_t)COUNT * (size_t)F);
    scratch_release(mark);
}
void cpu_relu(float *y, const float *x, int F, const span *s, int n) { cpu_gate(y, x, x, F, s, n); }
void cpu_append(float *const *to, const float *x, int E, const int32_t *at, const span *s, int n) {
    for (int i = 0; i < n; i++)
        if (to[i] && s[i].n)
            memcpy(to[i] + (size_t)at[i] * (size_t)E, x + (size_t)s[i].row * (size_t)E,
                   sizeof(float) * (size_t)s[i].n * (size_t)E);
}
void cpu_move(float *y, const float *x, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) memcpy(ROW(y, E), ROW(x, E), sizeof(float) * (size_t)COUNT * (size_t)E);
    scratch_release(mark);
}
void cpu_add(float *y, const float *x, float scale, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) add_rows(ROW(y, E), ROW(x, E), scale, (size_t)COUNT * (size_t)E);
    scratch_release(mark);
}
