// cuda_transformer_rows - embeddings, positions, and element-wise operations on rows, as launches (kernels in
// cuda_transformer_rows.cu).
#include "cuda_host.h"

void cuda_embed(float *y, const int32_t *tokens, const weight *w, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(w->cols) cuda_launch_embed(y, tokens, w->data, w->type, w->cols, &spans, g->stream);
    LAUNCHED("embed");
}

void cuda_embed_grad(float *dw, const float *dy, const int32_t *tokens, int cols, const span *s, int n) {
    int rows = 0;
    for (int i = 0; i < n; i++) rows = s[i].row + s[i].n > rows ? s[i].row + s[i].n : rows;
    const int32_t *on_device = gpu_stage(tokens, (size_t)rows * sizeof *tokens);
    for (int i = 0; i < n; i++)
        if (s[i].n) cuda_launch_embed_grad(dw, dy, on_device, cols, s[i].row, s[i].n, g->stream);
    LAUNCHED("embed_grad");
}

void cuda_add_positions(float *x, const weight *pos, const int32_t *first, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, pos->cols, CUDA_CHUNK, false);)
        cuda_launch_positions(x, pos->data, pos->type, pos->cols, first, &spans, g->stream);
    LAUNCHED("add_positions");
}

void cuda_rotate(float *x, int D, const weight *table, const int32_t *first, int units, bool back, const span *s,
                 int n) {
    const int width = units * D;
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, width, CUDA_CHUNK, false);)
        cuda_launch_rotate(x, gpu_vector(table), first, width, D, table->cols, back ? -1 : 1, &spans, g->stream);
    LAUNCHED("rotate");
}

void cuda_append(float *const *to, const float *x, int E, const int32_t *at, const span *s, int n) {
    for (int i = 0; i < n;) {
        cuda_targets targets;
        cuda_spans spans = {0};
        for (; i < n && spans.n < CUDA_SPANS; i++) {
            if (!to[i] || !s[i].n) continue;
            targets.to[spans.n] = to[i];
            spans.s[spans.n++] = (cuda_span){s[i].row, s[i].n, spans.blocks, i};
            spans.blocks += (int)(((size_t)s[i].n * (size_t)E + CUDA_CHUNK - 1) / CUDA_CHUNK);
        }
        if (spans.n) cuda_launch_append(&targets, x, E, at, &spans, g->stream);
    }
    LAUNCHED("append");
}

void cuda_gate(float *y, const float *x, const float *gate, int F, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(F) cuda_launch_gate(y, x, gate, F, &spans, g->stream);
    LAUNCHED("gate");
}
void cuda_relu(float *y, const float *x, int F, const span *s, int n) { cuda_gate(y, x, x, F, s, n); }
void cuda_move(float *y, const float *x, int E, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, E, CUDA_CHUNK, true);)
        for (int i = 0; i < spans.n; i++) {
            const size_t from = (size_t)spans.s[i].row * (size_t)E;
            cuda_copy(y + from, x + from, (size_t)spans.s[i].n * (size_t)E * sizeof *y);
        }
}
void cuda_add(float *y, const float *x, float scale, int E, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(E) cuda_launch_add(y, x, scale, E, &spans, g->stream);
    LAUNCHED("add");
}
