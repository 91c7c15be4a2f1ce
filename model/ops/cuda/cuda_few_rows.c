// cuda_few_rows - products of few rows with a weight, as launches (kernels in cuda_few_rows.cu, cuda_few_columns.cu):
// rows of all spans together, so that a weight is read once whatever sequences they are of.
#include "cuda_few_rows.h"
#include "cuda_transformer_attention.h"

span *gpu_spans_of(const span *s, int n, bool few) {
    span *some = xmalloc(((size_t)n + 1) * sizeof *some);
    for (int i = 0; i < n; i++) some[i] = (span){s[i].row, (s[i].n <= FEW) == few ? s[i].n : 0};
    return some;
}

cuda_live gpu_live(const live_units *u, int units) {
    if (!u) return gpu_all_units(units);
    return (cuda_live){u->unit, u->wants, u->n_at, u->n, g->recording && u->n_at ? units : u->n, u->seqs};
}

unsigned gpu_kept_bits(const weight *w) {
    if (!w->narrow) return 0;
    return w->type == DT_F16 ? 1u << 13 : 1u << 16;
}

cuda_map_list gpu_maps(int cols) {
    cuda_map_list a = {.n = 1, .cols = cols, .act = -1};
    return a;
}

cuda_map gpu_map(float *y, const weight *w, const weight *b, int D, cuda_live u) {
    return (cuda_map){.y = y,
                      .w = w->data,
                      .bias = b ? b->data : NULL,
                      .bias_type = b ? (int)b->type : 0,
                      .rows = w->rows,
                      .D = D,
                      .u = u};
}

void gpu_few_rows(float *y, const float *x, const weight *w, unsigned low, const weight *b, bool add, bool relu, int D,
                  cuda_live u, const span *s, int n) {
    cuda_map_list a = gpu_maps(w->cols);
    a.map[0] = gpu_map(y, w, b, D, u);
    a.add = add, a.low = low;
    if (relu) a.act = ACT_RELU;
    cuda_spans spans;
    for (int at = 0; u.most && gpu_spans(&spans, s, n, &at, 1, 1, false);)
        cuda_launch_few_rows(x, (int)w->type, &a, &spans, g->stream);
    LAUNCHED("few_rows");
}

// As many rows at a time as their parts fit the workspace, and their counters.
void gpu_few_rows_t(float *y, const float *x, const weight *wt, unsigned low, const weight *b, int D, cuda_live u,
                    const span *s, int n) {
    const few_columns_args a = {.rows = wt->rows,
                                .cols = wt->cols,
                                .D = D,
                                .low = low,
                                .bias = b ? b->data : NULL,
                                .bias_type = b ? (int)b->type : 0};
    const size_t each = (size_t)CUDA_FEW_PARTS * (size_t)wt->cols * sizeof(float);
    const int tiles = (wt->cols + CUDA_FEW_WIDE - 1) / CUDA_FEW_WIDE, counted = COUNTERS / tiles * 8,
              most = (int)(g->work_bytes / each) < counted ? (int)(g->work_bytes / each) : counted;
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
        if (spans.n)
            cuda_launch_few_columns(y, part, g->counters, x, wt->data, (int)wt->type, &a, u, &spans, g->stream);
    }
    gpu_work_release(mark);
    LAUNCHED("few_rows_t");
}
