// cuda_live - layers of which some units are pruned, as launches (kernels in cuda_live.cu, cuda_live_rows.cu,
// cuda_few_rows.cu, and drop in cuda_transformer_rows.cu).
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

void cuda_list_live(int32_t *list, uint8_t *wants, const uint8_t *const *keep, int seqs, int U, const attn_heads *heads,
                    const list_stack *stack) {
    cuda_bytes bytes = {.layers = 1};
    _Static_assert((int)LIST_SEQS == (int)CUDA_LISTED, "the lists of a launch are those of an operation");
    ASSERT(seqs <= LIST_SEQS);
    for (int i = 0; i < seqs; i++) bytes.of[i] = keep[i];
    if (stack) bytes.layers = stack->n, bytes.list = stack->list, bytes.wants = stack->wants, bytes.keep = stack->keep;
    cuda_launch_list_live(list, wants, &bytes, seqs, U, heads ? *heads : (attn_heads){0}, g->stream);
    LAUNCHED("list_live");
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

// ---------------------------------------------------------------- products of many rows
// The live rows of a weight are copied together, once for all spans, and multiplied as a weight of that many rows. A
// tile of them at a time: half of the room for these is theirs, half for columns of x or y. Which tiles there are
// depends on the list and the weight alone, so that the bits of a span do not depend on others.
typedef struct {
    weight tile;
    cuda_live_part part;
    float *columns;
    int most;  // rows of a span at a time
} gathering;

static gathering gathering_of(const weight *w, int D, const cuda_live *u) {
    const size_t half = g->work_bytes / GATHER_SHARE / 2;
    gathering to = {.tile = *w, .part = {u->unit, D, 0, 0}, .columns = (float *)(void *)(g->gathered + half)};
    const size_t rows = half / ((size_t)w->cols * dtype_bytes(w->type)), all = (size_t)u->n * (size_t)D;
    ASSERT(rows >= 64 && !u->wants);
    to.part.count = (int)(rows < all ? rows / 64 * 64 : all);
    to.tile.data = g->gathered;
    to.tile.wide = NULL;
    to.most = to.part.count ? (int)(half / sizeof(float) / (size_t)to.part.count) : 0;
    return to;
}

// The next tile, from `first` on.
static void gather(gathering *to, const weight *w, const cuda_live *u, int first) {
    const int left = u->n * to->part.D - first;
    to->part.first = first;
    to->part.count = left < to->part.count ? left : to->part.count;
    to->tile.rows = to->part.count;
    cuda_launch_take_rows(g->gathered, w->data, (size_t)w->cols * dtype_bytes(w->type), &to->part, g->stream);
}

static void many_rows(float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const cuda_live *u,
                      const span *s, int n) {
    gathering to = gathering_of(w, D, u);
    for (int first = 0; first < u->n * D; first += to.part.count) {
        gather(&to, w, u, first);
        for (int i = 0; i < n; i++)
            for (int t = 0, rows; t < s[i].n; t += rows) {
                rows = s[i].n - t < to.most ? s[i].n - t : to.most;
                const size_t row = (size_t)(s[i].row + t);
                cuda_linear(to.columns, x + row * (size_t)w->cols, &to.tile, NULL, false, &(span){0, rows}, 1);
                cuda_launch_put_columns(y + row * (size_t)w->rows, w->rows, to.columns, b ? b->data : NULL,
                                        b ? (int)b->type : 0, relu, rows, &to.part, g->stream);
            }
    }
    LAUNCHED("live_linear");
}

static void many_rows_t(float *y, const float *x, const weight *wt, const weight *b, int D, const cuda_live *u,
                        const span *s, int n) {
    const weight none = {NULL, DT_F32, wt->cols, 0, NULL, NULL, false};
    gathering to = gathering_of(wt, D, u);
    if (b) cuda_linear(y, y, &none, b, true, s, n);
    for (int first = 0; first < u->n * D; first += to.part.count) {
        gather(&to, wt, u, first);
        for (int i = 0; i < n; i++)
            for (int t = 0, rows; t < s[i].n; t += rows) {
                rows = s[i].n - t < to.most ? s[i].n - t : to.most;
                const size_t row = (size_t)(s[i].row + t);
                cuda_launch_take_columns(to.columns, x + row * (size_t)wt->rows, wt->rows, rows, &to.part, g->stream);
                cuda_linear_back(y + row * (size_t)wt->cols, to.columns, &to.tile, true, &(span){0, rows}, 1);
            }
    }
    LAUNCHED("live_linear_t");
}

// Spans of many rows that all run the list's units go that way.
static bool have_many(const cuda_live *u, const span *s, int n) {
    bool many = false;
    for (int i = 0; i < n; i++) many |= s[i].n > FEW;
    return many && !u->wants;
}

void cuda_live_linear(float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const live_units *u,
                      const span *s, int n) {
    if (!w->rows) return;
    const cuda_live those = gpu_live(u, w->rows / D);
    const bool many = have_many(&those, s, n) && w->cols;
    span *few = gpu_spans_of(s, n, true), *more = gpu_spans_of(s, n, false);
    gpu_few_rows(y, x, w, gpu_kept_bits(w), b, false, relu, D, those, many ? few : s, n);
    if (many) many_rows(y, x, w, b, relu, D, &those, more, n);
    free(few);
    free(more);
}

void cuda_live_linear_t(float *y, const float *x, const weight *wt, const weight *b, int D, const live_units *u,
                        const span *s, int n) {
    const cuda_live those = gpu_live(u, wt->rows / D);
    const bool many = have_many(&those, s, n) && wt->cols;
    span *few = gpu_spans_of(s, n, true), *more = gpu_spans_of(s, n, false);
    gpu_few_rows_t(y, x, wt, gpu_kept_bits(wt), b, D, those, many ? few : s, n);
    if (many) many_rows_t(y, x, wt, b, D, &those, more, n);
    free(few);
    free(more);
}

void cuda_live_attention(float *out, const float *q, const float *k, const float *v, const attn_heads *h,
                         const live_units *u, const attn_seq *s, int n) {
    const cuda_live those = gpu_live(u, h->H);
    if (those.most) gpu_attend(out, q, k, v, *h, those, s, n);
}
