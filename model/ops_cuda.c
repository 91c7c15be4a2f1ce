// ops_cuda - the CUDA table of operations (ops.h): spans into launches, cuBLAS calls. Memory and streams are in ops_cuda_memory.c, the kernels in
// cuda_*.cu. Built as a library of its own (device.c).
//
// The same bits whatever else is in the batch: a matrix product is one cuBLAS call per span, so its shape, and with it cuBLAS's choice of
// kernel, depends on that span alone; no kernel adds with atomics. No product is less than fp32 (no TF32, nothing is rounded to 16 bits) unless 16-bit
// activations were asked for (ops_cuda_round.c): 16-bit weights meet rows that are split exactly into 16-bit parts, or are widened, exactly.
#include "ops_cuda.h"
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- spans
bool gpu_spans(cuda_spans *out, const span *s, int n, int *at, int width, int each, bool merge) {
    out->n = out->blocks = 0;
    for (; *at < n && out->n < CUDA_SPANS; ++*at) {
        cuda_span one = {s[*at].row, s[*at].n, out->blocks, *at};
        while (merge && *at + 1 < n && (s[*at + 1].row == one.row + one.n || !s[*at + 1].n)) one.n += s[++*at].n;
        if (!one.n) continue;
        out->blocks += (int)(((size_t)one.n * (size_t)width + (size_t)each - 1) / (size_t)each);
        out->s[out->n++] = one;
    }
    return out->n > 0;
}

#define EACH_CHUNK(width) for (int at_ = 0; gpu_spans(&spans, s, n, &at_, width, CUDA_CHUNK, true);)
#define EACH_ROWS for (int at_ = 0; gpu_spans(&spans, s, n, &at_, 1, CUDA_WARPS, true);)

// ---------------------------------------------------------------- embeddings
static void cuda_embed(float *y, const int32_t *tokens, const weight *w, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(w->cols) cuda_launch_embed(y, tokens, w->data, w->type, w->cols, &spans, g->stream);
    LAUNCHED("embed");
}

static void cuda_embed_grad(float *dw, const float *dy, const int32_t *tokens, int cols, const span *s, int n) {
    int rows = 0;
    for (int i = 0; i < n; i++) rows = s[i].row + s[i].n > rows ? s[i].row + s[i].n : rows;
    const int32_t *on_device = gpu_stage(tokens, (size_t)rows * sizeof *tokens);
    for (int i = 0; i < n; i++)
        if (s[i].n) cuda_launch_embed_grad(dw, dy, on_device, cols, s[i].row, s[i].n, g->stream);
    LAUNCHED("embed_grad");
}

static void cuda_add_positions(float *x, const weight *pos, const int32_t *first, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, pos->cols, CUDA_CHUNK, false);) cuda_launch_positions(x, pos->data, pos->type, pos->cols, first, &spans, g->stream);
    LAUNCHED("add_positions");
}

static void cuda_append(float *const *to, const float *x, int E, const int32_t *at, const span *s, int n) {
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

// ---------------------------------------------------------------- linear maps
static const float *vector(const weight *w) {
    ASSERT(w->type == DT_F32);  // opt_load_on widens them
    return w->data;
}

static void zero_rows(float *y, int width, const span *s, int n) {
    for (int i = 0; i < n; i++) cuda_zero(y + (size_t)s[i].row * (size_t)width, (size_t)s[i].n * (size_t)width * sizeof *y);
}

// y = x W', or (back) y = x W; or added to y.
typedef struct { float *y; const float *x; const weight *w; bool back, add; } product;
static int in_width(const product *p) { return p->back ? p->w->rows : p->w->cols; }
static int out_width(const product *p) { return p->back ? p->w->cols : p->w->rows; }

// With `some` rows of W, of this type at `tile`; x: their operand, rows of distance ld; y: their result. cuBLAS counts by columns, so a row-major
// matrix is its transpose there: y' = W x' for y = x W'.
static void multiply(const product *p, float *y, const void *x, int ld, const void *tile, cudaDataType_t type, int some, int rows, float beta) {
    const int in = p->back ? some : p->w->cols, out = p->back ? p->w->cols : some;
    const float one = 1;
    BLAS(cublasGemmEx(g->blas, p->back ? CUBLAS_OP_N : CUBLAS_OP_T, CUBLAS_OP_N, out, rows, in, &one, tile, type, p->w->cols, x, type, ld, &beta, y, CUDA_R_32F, out_width(p),
                      CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

// Rows of a weight that fit into `bytes` with `each` bytes a number.
static int tile_rows(const weight *w, size_t bytes, size_t each) {
    const size_t rows = bytes / each / (size_t)w->cols;
    ASSERT(rows > 0);
    return rows < (size_t)w->rows ? (int)rows : w->rows;
}
static const float *operand(const product *p, int row, int j) { return p->x + (size_t)row * (size_t)in_width(p) + (p->back ? j : 0); }
static float *result(const product *p, int row, int j) { return p->y + (size_t)row * (size_t)out_width(p) + (p->back ? 0 : j); }
static float beta_of(const product *p, int j) { return p->add || (p->back && j) ? 1 : 0; }

// fp32 throughout; 16-bit weights are widened a tile at a time. Of the spans with from .. to rows.
static void multiply_wide(const product *p, const span *s, int n, int from, int to) {
    const weight *w = p->w;
    const int step = w->type == DT_F32 ? w->rows : tile_rows(w, WORK_BYTES, sizeof(float));
    for (int j = 0, some; j < w->rows; j += some) {
        const float *tile = NULL;
        const size_t at = (size_t)j * (size_t)w->cols;
        some = w->rows - j < step ? w->rows - j : step;
        for (int i = 0; i < n; i++) {
            if (s[i].n < from || s[i].n > to) continue;
            if (!tile && w->type == DT_F32) tile = (const float *)w->data + at;
            else if (!tile) {
                cuda_launch_widen(g->work, (const uint16_t *)w->data + at, w->type, (size_t)some * (size_t)w->cols, g->stream);
                LAUNCHED("widen");
                tile = g->work;
            }
            multiply(p, result(p, s[i].row, j), operand(p, s[i].row, j), in_width(p), tile, CUDA_R_32F, some, s[i].n, beta_of(p, j));
        }
    }
}

// By tensor cores: x as three bf16 numbers that add up to it, fp16 weights as two, so a product in fp32 is three products of 16-bit operands with sums in
// fp32, or five (the least times the least is below fp32's last digit); the small ones first.
static void multiply_split(const product *p, const span *s, int n, int from) {
    const weight *w = p->w;
    const bool half = w->type == DT_F16;
    const size_t row_bytes = WORK_BYTES / 2, tile_bytes = WORK_BYTES - row_bytes;
    const int step = half ? tile_rows(w, tile_bytes, CUDA_HALF_PARTS * sizeof(uint16_t)) : w->rows;
    uint16_t *pieces = (uint16_t *)g->work, *tile = (uint16_t *)((char *)g->work + row_bytes);
    static const struct { int row, weight; } term[] = {{2, 0}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
    for (int j = 0, some; j < w->rows; j += some) {
        bool made = false;
        some = w->rows - j < step ? w->rows - j : step;
        const size_t at = (size_t)j * (size_t)w->cols, count = (size_t)some * (size_t)w->cols;
        const int width = p->back ? some : w->cols, most = (int)(row_bytes / (CUDA_ROW_PARTS * sizeof(uint16_t)) / (size_t)width);
        ASSERT(most > 0);
        for (int i = 0; i < n; i++) {
            for (int t = 0, rows; s[i].n >= from && t < s[i].n; t += rows) {
                rows = s[i].n - t < most ? s[i].n - t : most;
                if (half && !made) cuda_launch_split_half(tile, (const uint16_t *)w->data + at, count, g->stream);
                made = true;
                cuda_launch_split_rows(pieces, operand(p, s[i].row + t, j), rows, width, in_width(p), g->stream);
                LAUNCHED("split");
                float beta = beta_of(p, j);
                for (size_t k = 0; k < sizeof term / sizeof *term; k++) {
                    if (term[k].weight && !half) continue;
                    const uint16_t *with = half ? tile + (size_t)term[k].weight * count : (const uint16_t *)w->data + at;
                    multiply(p, result(p, s[i].row + t, j), pieces + (size_t)term[k].row * (size_t)rows * (size_t)width, width, with, CUDA_R_16BF, some, rows, beta);
                    beta = 1;
                }
            }
        }
    }
}

// The way is chosen by a span's own rows. Products of few rows are bound by reading the weights, which fp16 ones take least of when widened.
static void multiply_spans(const product *p, const span *s, int n) {
    enum { FEW = 16 };
    if (p->w->narrow) {
        gpu_multiply_rounded(p->y, p->x, p->w, p->back, p->add, s, n, p->back ? "linear_back" : "linear");
        return;
    }
    const int split_from = p->w->type == DT_F32 ? INT_MAX : p->w->type == DT_F16 ? FEW + 1 : 1;
    multiply_wide(p, s, n, 1, split_from - 1);
    if (split_from < INT_MAX) multiply_split(p, s, n, split_from);
}

static void cuda_linear(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s, int n) {
    const int out = w->rows, in = w->cols;
    cuda_spans spans;
    if (bias && out) {
        EACH_CHUNK(out) cuda_launch_bias(y, bias->data, bias->type, add, out, &spans, g->stream);
        LAUNCHED("bias");
    }
    if (!in && !add && !bias) zero_rows(y, out, s, n);
    if (in && out) multiply_spans(&(product){y, x, w, false, add || bias}, s, n);
}

static void cuda_linear_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    if (!w->rows && !add) zero_rows(dx, w->cols, s, n);
    if (w->rows && w->cols) multiply_spans(&(product){dx, dy, w, true, add}, s, n);
}

static void cuda_linear_grad(float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n) {
    const float one = 1;
    for (int i = 0, next; i < n; i = next) {
        int rows = s[i].n;  // neighbouring spans make one product
        for (next = i + 1; next < n && s[next].row == s[i].row + rows; next++) rows += s[next].n;
        if (!rows || !out) continue;
        const float *dys = dy + (size_t)s[i].row * (size_t)out, *xs = x + (size_t)s[i].row * (size_t)in;
        if (in) BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, in, out, rows, &one, xs, in, dys, out, &one, dw, in));
        if (db) cuda_launch_column_sums(db, dy, s[i].row, rows, out, g->stream);
    }
    LAUNCHED("linear_grad");
}

// dz' x of a span, or with a tangent of one of them in its place, [1].
typedef struct { const weight *w; const float *dz[2], *x[2]; const span *s; } gradient;

// to [n, E] = rows from.. of it, or added to what is there.
static void add_gradient(const gradient *of, gpu_gradient *rounded, float *to, int tdz, int tx, int from, int n, bool add) {
    const int E = of->w->cols, F = of->w->rows;
    const float one = 1, beta = add ? 1 : 0, *x = of->x[tx] + (size_t)of->s->row * (size_t)E, *dz = of->dz[tdz] + (size_t)of->s->row * (size_t)F + from;
    if (rounded->w) gpu_gradient_add(rounded, to, tdz, tx, from, n, add);
    else BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, E, n, of->s->n, &one, x, E, dz, F, &beta, to, E));
}

static void cuda_weight_sums(double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w, int from, int rows, const span *s) {
    const int E = w->cols;
    if (!rows || !E) return;
    double *on_device = (double *)g->work;
    const size_t sum_floats = (size_t)rows * WSUMS * sizeof(double) / sizeof(float), floats = (WORK_BYTES - (w->narrow ? ROUND_BYTES : 0)) / sizeof(float);
    ASSERT(sum_floats < floats / 2);
    const gradient of = {w, {dz, tdz}, {x, tx}, s};
    gpu_gradient rounded = {.columns = INT_MAX};
    if (w->narrow && s->n) gpu_gradient_begin(&rounded, w, of.dz, of.x, s);
    int step = (int)((floats - sum_floats) / 2 / (size_t)E);
    if (step > rounded.columns) step = rounded.columns;
    float *grad = g->work + sum_floats, *tangent = grad + (size_t)step * (size_t)E;
    ASSERT(step > 0);
    for (int j = 0, n; j < rows; j += n) {
        n = rows - j < step ? rows - j : step;
        add_gradient(&of, &rounded, grad, 0, 0, from + j, n, false);
        if (tdz) {
            add_gradient(&of, &rounded, tangent, 1, 0, from + j, n, false);
            add_gradient(&of, &rounded, tangent, 0, 1, from + j, n, true);
        }
        const char *rows_of_w = (const char *)w->data + (size_t)(from + j) * (size_t)E * dtype_bytes(w->type);
        cuda_launch_weight_sums(on_device + (size_t)j * WSUMS, rows_of_w, w->type, grad, tdz ? tangent : NULL, n, E, g->stream);
        LAUNCHED("weight_sums");
    }
    cuda_get(sums, on_device, (size_t)rows * WSUMS * sizeof *sums);
}

// ---------------------------------------------------------------- layer norm
static void cuda_norm(float *y, const float *x, const weight *gain, const weight *b, int E, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm(y, x, vector(gain), vector(b), E, &spans, g->stream);
    LAUNCHED("norm");
}
static void cuda_norm_back(float *dx, const float *dy, const float *x, const weight *gain, int E, bool add, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm_back(dx, dy, x, vector(gain), E, add, &spans, g->stream);
    LAUNCHED("norm_back");
}
static void cuda_norm_jvp(float *ty, const float *x, const float *tx, const weight *gain, int E, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm_jvp(ty, x, tx, vector(gain), E, &spans, g->stream);
    LAUNCHED("norm_jvp");
}
static void cuda_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx, const weight *gain, int E, bool add, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm_back_jvp(tdx, dy, tdy, x, tx, vector(gain), E, add, &spans, g->stream);
    LAUNCHED("norm_back_jvp");
}
static void cuda_norm_grad(float *dg, float *db, const float *dy, const float *x, int E, const span *s, int n) {
    const int most = WORK_BYTES / (2 * (int)sizeof(float));
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n; t += most) cuda_launch_norm_grad(dg, db, g->work, dy, x, E, s[i].row + t, s[i].n - t < most ? s[i].n - t : most, g->stream);
    LAUNCHED("norm_grad");
}

// ---------------------------------------------------------------- element-wise
static void cuda_gate(float *y, const float *x, const float *gate, int F, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(F) cuda_launch_gate(y, x, gate, F, &spans, g->stream);
    LAUNCHED("gate");
}
static void cuda_relu(float *y, const float *x, int F, const span *s, int n) { cuda_gate(y, x, x, F, s, n); }
static void cuda_move(float *y, const float *x, int E, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, E, CUDA_CHUNK, true);)
        for (int i = 0; i < spans.n; i++) {
            const size_t from = (size_t)spans.s[i].row * (size_t)E;
            cuda_copy(y + from, x + from, (size_t)spans.s[i].n * (size_t)E * sizeof *y);
        }
}
static void cuda_add(float *y, const float *x, float scale, int E, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(E) cuda_launch_add(y, x, scale, E, &spans, g->stream);
    LAUNCHED("add");
}

// Sequences often share a mask: equal pointers are uploaded once.
static void cuda_drop_units(float *x, const uint8_t *const *units, const int *from, int U, int D, const span *s, int n) {
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
        cuda_launch_drop(x, gpu_stage(bytes, (size_t)distinct * (size_t)U), U, D, &spans, g->stream);
        LAUNCHED("drop_units");
    }
    free(bytes);
}

// ---------------------------------------------------------------- attention
// Sequences from *at on, as many as a launch takes, and as row sums of them fit the workspace, by tiles of their queries from.. or of all their keys; or only
// those of several queries, or of one. *base: the first row.
typedef enum { BY_QUERY, BY_KEY, OF_SEVERAL, OF_ONE } seq_choice;
static bool next_seqs(cuda_seqs *out, const attn_seq *s, int n, int *at, seq_choice choice, int H, int *base) {
    const size_t query_floats = (size_t)H * CUDA_QUERY_PARTS * 130;  // of cuda_launch_query, at most
    const int most = choice == OF_ONE && WORK_BYTES / sizeof(float) / query_floats < CUDA_SEQS ? (int)(WORK_BYTES / sizeof(float) / query_floats) : CUDA_SEQS;
    out->n = out->tiles = 0;
    for (; *at < n && out->n < most; ++*at) {
        const attn_seq *q = &s[*at];
        if (out->n == 0) *base = q->s.row;
        if (choice <= BY_KEY && H && out->n && (size_t)(q->s.row + q->s.n - *base) * (size_t)H * CUDA_STATS * sizeof(float) > WORK_BYTES) break;
        const int rows = choice == BY_KEY ? q->s.n : q->s.n - q->from;
        if (rows <= 0 || (choice == OF_SEVERAL && rows == 1) || (choice == OF_ONE && rows != 1)) continue;
        out->s[out->n++] = (cuda_seq){q->past_k, q->past_v, q->past_has, q->past_at, q->s.row, q->s.n, q->from, q->past, out->tiles, *at};
        out->tiles += (rows + CUDA_TILE - 1) / CUDA_TILE;
    }
    return out->n > 0;
}

static void check_heads(int E, int H) {
    if (E / H > 128) die(1, "%s: heads of %d values; the CUDA kernels take up to 128", g->name, E / H);
}

static cuda_live all_of(int units) { return (cuda_live){.n = units, .most = units}; }

static void attend(float *out, const float *q, const float *k, const float *v, cuda_heads h, cuda_live u, const attn_seq *s, int n) {
    check_heads(h.E, h.H);
    cuda_seqs seqs;
    int base;
    for (int at = 0; next_seqs(&seqs, s, n, &at, OF_SEVERAL, 0, &base);) cuda_launch_attention(out, NULL, NULL, q, k, v, 0, h, u, &seqs, g->stream);
    int keys = 1;
    for (int i = 0; i < n; i++) {
        const int most = s[i].s.n + (s[i].past_at ? s[i].past_most : s[i].past);
        keys = most > keys ? most : keys;
    }
    for (int at = 0; next_seqs(&seqs, s, n, &at, OF_ONE, h.H, &base);) cuda_launch_query(out, g->work, q, k, v, keys, h, u, &seqs, g->stream);
    LAUNCHED("attention");
}

static void cuda_attention(float *out, const float *q, const float *k, const float *v, int E, int H, const attn_seq *s, int n) {
    attend(out, q, k, v, (cuda_heads){E, H}, all_of(H), s, n);
}

// Rows of dq before `from` have no gradient.
static void clear_before(float *dq, int E, const attn_seq *s, int n) {
    for (int i = 0; i < n; i++)
        if (s[i].from > 0) cuda_zero(dq + (size_t)s[i].s.row * (size_t)E, (size_t)s[i].from * (size_t)E * sizeof *dq);
}

// The sequences of one pass over the row sums, by keys.
static void by_keys(cuda_seqs *keys, const attn_seq *s, int from, int to) {
    int at = from, base;
    next_seqs(keys, s, to, &at, BY_KEY, 0, &base);
}

static void cuda_attention_back(float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k, const float *v, int E, int H, const attn_seq *s, int n) {
    check_heads(E, H);
    const cuda_heads h = {E, H};
    clear_before(dq, E, s, n);
    cuda_seqs seqs, keys;
    for (int at = 0, from, base; from = at, next_seqs(&seqs, s, n, &at, BY_KEY, H, &base);) {
        by_keys(&keys, s, from, at);
        int again = from;
        if (next_seqs(&seqs, s, at, &again, BY_QUERY, 0, &(int){0})) cuda_launch_attention(NULL, g->work, dout, q, k, v, base, h, all_of(H), &seqs, g->stream);
        cuda_launch_attention_dkv(dk, dv, g->work, dout, q, k, v, base, h, &keys, g->stream);
        if (seqs.n) cuda_launch_attention_dq(dq, g->work, dout, q, k, v, base, h, &seqs, g->stream);
    }
    LAUNCHED("attention_back");
}

static void cuda_attention_jvp(float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk, const float *tv, int E, int H, const attn_seq *s, int n) {
    check_heads(E, H);
    const cuda_tangents x = {q, k, v, tq, tk, tv, NULL, NULL};
    cuda_seqs seqs;
    for (int at = 0, base; next_seqs(&seqs, s, n, &at, BY_QUERY, 0, &base);) cuda_launch_attention_jvp(tout, NULL, &x, 0, (cuda_heads){E, H}, &seqs, g->stream);
    LAUNCHED("attention_jvp");
}

static void cuda_attention_back_jvp(float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q, const float *k, const float *v, const float *tq,
                                    const float *tk, const float *tv, int E, int H, const attn_seq *s, int n) {
    check_heads(E, H);
    const cuda_heads h = {E, H};
    const cuda_tangents x = {q, k, v, tq, tk, tv, dout, tdout};
    clear_before(tdq, E, s, n);
    cuda_seqs seqs, keys;
    for (int at = 0, from, base; from = at, next_seqs(&seqs, s, n, &at, BY_KEY, H, &base);) {
        by_keys(&keys, s, from, at);
        int again = from;
        if (next_seqs(&seqs, s, at, &again, BY_QUERY, 0, &(int){0})) cuda_launch_attention_jvp(NULL, g->work, &x, base, h, &seqs, g->stream);
        cuda_launch_attention_tdkv(tdk, tdv, g->work, &x, base, h, &keys, g->stream);
        if (seqs.n) cuda_launch_attention_tdq(tdq, g->work, &x, base, h, &seqs, g->stream);
    }
    LAUNCHED("attention_back_jvp");
}

// ---------------------------------------------------------------- live units
// Of `units` in all. A recording covers them all, because a replay may find more of them live; blocks beyond the count end at once.
static cuda_live live(const live_units *u, int units) {
    return u ? (cuda_live){u->unit, u->wants, u->n_at, u->n, g->recording && u->n_at ? units : u->n, u->seqs} : all_of(units);
}

// Of x, where a weight is for 16-bit activations: the lowest bit that stays; 0: all do.
static unsigned kept_bits(const weight *w) { return !w->narrow ? 0 : w->type == DT_F16 ? 1u << 13 : 1u << 16; }

static void cuda_live_linear(float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const live_units *u, const span *s, int n) {
    const cuda_live those = live(u, w->rows / D);
    cuda_spans spans;
    for (int at = 0; those.most && gpu_spans(&spans, s, n, &at, 1, CUDA_LIVE_ROWS, false);)
        cuda_launch_live_linear(y, x, w->data, w->type, kept_bits(w), b ? vector(b) : NULL, relu, w->rows, w->cols, D, those, &spans, g->stream);
    LAUNCHED("live_linear");
}

// As many rows at a time as their partial sums fit the workspace.
static void cuda_live_linear_t(float *y, const float *x, const weight *wt, const weight *b, int D, const live_units *u, const span *s, int n) {
    const size_t each = (size_t)CUDA_LIVE_PARTS * CUDA_LIVE_ROWS * (size_t)wt->cols * sizeof(float);
    const int most = (int)(WORK_BYTES / each);
    ASSERT(most > 0);
    for (int i = 0, t = 0; i < n;) {
        cuda_spans spans = {0};
        while (i < n && spans.n < CUDA_SPANS && spans.blocks < most) {
            const int left = s[i].n - t, room = (most - spans.blocks) * CUDA_LIVE_ROWS, take = left < room ? left : room;
            if (take > 0) spans.s[spans.n++] = (cuda_span){s[i].row + t, take, spans.blocks, i};
            spans.blocks += (take + CUDA_LIVE_ROWS - 1) / CUDA_LIVE_ROWS;
            t += take;
            if (take == left) i++, t = 0;
        }
        if (spans.n) cuda_launch_live_linear_t(y, g->work, x, wt->data, wt->type, kept_bits(wt), b ? vector(b) : NULL, wt->rows, wt->cols, D, live(u, wt->rows / D), &spans, g->stream);
    }
    LAUNCHED("live_linear_t");
}

static void cuda_live_attention(float *out, const float *q, const float *k, const float *v, int E, int D, const live_units *u, const attn_seq *s, int n) {
    const cuda_live those = live(u, E / D);
    if (those.most) attend(out, q, k, v, (cuda_heads){E, E / D}, those, s, n);
}

// ---------------------------------------------------------------- cross-entropy
static void cuda_logprob(double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab, int rows) {
    double *on_device = (double *)g->work;
    int32_t *tops = (int32_t *)(on_device + rows);
    ASSERT((size_t)rows * (sizeof *on_device + sizeof *tops) <= WORK_BYTES);
    cuda_launch_logprob(on_device, top ? tops : NULL, logits, gpu_stage(target, (size_t)rows * sizeof *target), V, vocab, rows, g->stream);
    LAUNCHED("logprob");
    if (top) cuda_get(top, tops, (size_t)rows * sizeof *top);
    cuda_get(logprob, on_device, (size_t)rows * sizeof *logprob);
}

static void cuda_likeliest(int32_t *token, int32_t *at, const float *logits, int V, int rows) {
    cuda_launch_likeliest(token, at, logits, V, rows, g->stream);
    LAUNCHED("likeliest");
}

static void cuda_xent_back(float *logits, const int32_t *target, const float *scale, int V, int rows) {
    const int32_t *targets = gpu_stage(target, (size_t)rows * sizeof *target);
    cuda_launch_xent_back(logits, targets, gpu_stage(scale, (size_t)rows * sizeof *scale), V, rows, g->stream);
    LAUNCHED("xent_back");
}

static void cuda_xent_back_jvp(float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V, int rows) {
    const int32_t *targets = gpu_stage(target, (size_t)rows * sizeof *target);
    cuda_launch_xent_back_jvp(tlogits, dlogits, targets, gpu_stage(scale, (size_t)rows * sizeof *scale), V, rows, g->stream);
    LAUNCHED("xent_back_jvp");
}

// ---------------------------------------------------------------- the table
static const ops table = {
#define X(type, name, args) .name = cuda_##name,
    OPS(X)
#undef X
};

__attribute__((visibility("default"))) ops_cuda_fn ops_cuda;
const ops *ops_cuda(const int *index, int n, char *why, size_t room) {
    static ops opened;
    if (!opened.parts) opened = table;
    return gpu_open(index, n, &opened, why, room) ? NULL : &opened;
}
