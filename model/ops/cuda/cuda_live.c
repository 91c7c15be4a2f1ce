// cuda_live - layers of which some units are pruned, as launches (kernels in cuda_live.cu, cuda_few_rows.cu, and drop
// in cuda_transformer_rows.cu).
#include "cuda_few_rows.h"
#include "cuda_transformer_attention.h"
#include <stdlib.h>
#include <math.h>
#include <string.h>

void cuda_keep_above(float *x, const float *by, int32_t *kept, const float *above, int F, const span *s, int n) {
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)s[i].row * (size_t)F;
        if (!isnan(above[i]) && s[i].n)
            cuda_launch_keep_above(x + at, by + at, kept + s[i].row, above[i], s[i].n, F, g->stream);
    }
    LAUNCHED("keep_above");
}

void cuda_list_above(int32_t *list, const float *x, float above, int F) {
    cuda_launch_list_above(list, x, above, F, g->stream);
    LAUNCHED("list_above");
}

// Sequences often share a mask: equal pointers are uploaded once.
void cuda_drop_units(float *x, const float *value, const uint8_t *const *units, const int *from, int U, int D,
                     const span *s, int n) {
    const int most = STAGE_BYTES / 2 / U < CUDA_SPANS ? STAGE_BYTES / 2 / U : CUDA_SPANS;
    uint8_t *bytes = xmalloc((size_t)most * (size_t)U);
    for (int i = 0; i < n;) {
        const uint8_t *seen[CUDA_SPANS];
        cuda_spans spans = {0};
        int distinct = 0;
        for (; i < n && spans.n < CUDA_SPANS; i++) {
            const int rows = s[i].n - from[i];
            if (!units[i] || rows <= 0) continue;
            int k = 0;
            while (k < distinct && seen[k] != units[i]) k++;
            if (k == most) break;
            if (k == distinct) {
                memcpy(bytes + (size_t)k * (size_t)U, units[i], (size_t)U);
                seen[distinct++] = units[i];
            }
            spans.s[spans.n++] = (cuda_span){s[i].row + from[i], rows, spans.blocks, k * U};
            spans.blocks += (int)(((size_t)rows * (size_t)U * (size_t)D + CUDA_CHUNK - 1) / CUDA_CHUNK);
        }
        if (!spans.n) break;
        cuda_launch_drop(x, value, gpu_stage(bytes, (size_t)distinct * (size_t)U), U, D, &spans, g->stream);
        LAUNCHED("drop_units");
    }
    free(bytes);
}

void cuda_live_linear(float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const live_units *u,
                      const span *s, int n) {
    if (w->rows) gpu_few_rows(y, x, w, gpu_kept_bits(w), b, false, relu, D, gpu_live(u, w->rows / D), s, n);
}

void cuda_live_linear_t(float *y, const float *x, const weight *wt, const weight *b, int D, const live_units *u,
                        const span *s, int n) {
    gpu_few_rows_t(y, x, wt, gpu_kept_bits(wt), b, D, gpu_live(u, wt->rows / D), s, n);
}

void cuda_live_attention(float *out, const float *q, const float *k, const float *v, const attn_heads *h,
                         const live_units *u, const attn_seq *s, int n) {
    const cuda_live those = gpu_live(u, h->H);
    if (those.most) gpu_attend(out, q, k, v, *h, those, s, n);
}
