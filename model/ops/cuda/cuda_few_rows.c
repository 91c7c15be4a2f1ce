// cuda_few_rows - products of few rows with a weight, as launches (kernels in cuda_few_rows.cu): rows of all spans
// together, so that a weight is read once whatever sequences they are of.
#include "cuda_few_rows.h"

static few_rows_args args_of(const weight *w, unsigned low, const weight *b, bool add, bool relu, int D) {
    return (few_rows_args){.rows = w->rows,
                           .cols = w->cols,
                           .D = D,
                           .relu = relu,
                           .add = add,
                           .low = low,
                           .bias = b ? b->data : NULL,
                           .bias_type = b ? (int)b->type : 0};
}

void gpu_few_rows(float *y, const float *x, const weight *w, unsigned low, const weight *b, bool add, bool relu, int D,
                  cuda_live u, const span *s, int n) {
    const few_rows_args a = args_of(w, low, b, add, relu, D);
    cuda_spans spans;
    for (int at = 0; u.most && gpu_spans(&spans, s, n, &at, 1, 1, false);)
        cuda_launch_few_rows(y, NULL, x, w->data, (int)w->type, &a, u, &spans, g->stream);
    LAUNCHED("few_rows");
}

// As many rows at a time as their parts fit the workspace.
void gpu_few_rows_t(float *y, const float *x, const weight *wt, unsigned low, const weight *b, int D, cuda_live u,
                    const span *s, int n) {
    const few_rows_args a = args_of(wt, low, b, true, false, D);
    const size_t each = (size_t)CUDA_FEW_PARTS * (size_t)wt->cols * sizeof(float);
    const int most = (int)(WORK_BYTES / each);
    ASSERT(most > 0);
    const gpu_work_point mark = gpu_work_mark();
    float *part = gpu_work((size_t)most * each);
    for (int i = 0, t = 0; i < n;) {
        cuda_spans spans = {0};
        while (i < n && spans.n < CUDA_SPANS && spans.blocks < most) {
            const int left = s[i].n - t, room = most - spans.blocks, take = left < room ? left : room;
            if (take > 0) spans.s[spans.n++] = (cuda_span){s[i].row + t, take, spans.blocks, i};
            spans.blocks += take;
            t += take;
            if (take == left) i++, t = 0;
        }
        if (spans.n) cuda_launch_few_rows(y, part, x, wt->data, (int)wt->type, &a, u, &spans, g->stream);
    }
    gpu_work_release(mark);
    LAUNCHED("few_rows_t");
}
