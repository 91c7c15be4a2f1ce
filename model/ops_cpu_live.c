// ops_cpu_live - products and attention of few rows, and of the live units of a layer only: weights of the other units are not read.
//
// Few rows: memory-bound, so every weight is read once, in its stored type, for all rows that want it (ops_cpu_vec.h). Threads share rows of
// weights (linear) or blocks of them (transposed: partial sums per block of fixed unit numbers, added in order), so no bit depends on the
// thread count or on the other sequences. Many rows: the live rows of a tile are gathered and multiplied by CBLAS.
#include "ops_cpu.h"
#include "ops_cpu_vec.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum {
    AHEAD = 4,         // rows between the one at work and the one fetched
    CHUNK = 64,        // rows of weights of a work item, at least
    BLOCKS = 32,       // partial sums of a transposed product, at most
    TILE = 384,        // columns of a gathered tile
    MOST_ROWS = 32,    // rows of x that share a pass over a transposed weight
    W_BYTES = 1 << 18, // of weights that stay in the second-level cache while blocks of x pass
    X_BYTES = 1 << 15, // of such a block
    SMALL = 1 << 14    // bytes below which waking threads costs more than it saves
};

// ---------------------------------------------------------------- rows of x, rows of weights
typedef struct { int row, seq; } source;  // a row of x, and the span it belongs to

// The rows of the spans that are few (or of those that are many).
static int list_rows(source *to, const span *s, int n, bool few) {
    int k = 0;
    for (int i = 0; i < n; i++)
        if ((s[i].n < CPU_THIN) == few)
            for (int t = 0; t < s[i].n; t++) to[k++] = (source){s[i].row + t, i};
    return k;
}

static int count_rows(const span *s, int n) {
    int k = 0;
    for (int i = 0; i < n; i++) k += s[i].n;
    return k;
}

static bool has_many(const span *s, int n) {
    for (int i = 0; i < n; i++)
        if (s[i].n >= CPU_THIN) return true;
    return false;
}

static bool wants(const live_units *u, int k, int seq) { return !u || !u->wants || u->wants[(size_t)k * (size_t)u->seqs + (size_t)seq]; }

// Rows of the weight in the order in which they are read: all of them, or those of the live units.
typedef struct { const char *data; size_t bytes; const live_units *u; int D, n; } row_list;
static row_list list_weights(const weight *w, const live_units *u, int D) {
    return (row_list){w->data, (size_t)w->cols * dtype_bytes(w->type), u, D, u ? u->n * D : w->rows};
}
static int weight_row(const row_list *r, int i) { return r->u ? r->u->unit[i / r->D] * r->D + i % r->D : i; }
static const void *row_data(const row_list *r, int row) { return r->data + (size_t)row * r->bytes; }

// What to fetch while row i is at work; end: behind the last row of this thread.
static const void *row_ahead(const row_list *r, int i, int end) {
    if (!r->u || end <= i) return NULL;
    const int to = i + AHEAD < end ? i + AHEAD : end - 1, row = weight_row(r, to);
    return row - weight_row(r, i) == to - i ? NULL : row_data(r, row);
}

// ---------------------------------------------------------------- y = x W' + b
typedef struct { float *y; const float *x; const weight *w; const float *b; bool add, relu; } product;

static float finish(const product *p, float s, float was, int row) {
    s += p->b ? p->b[row] : 0;
    if (p->add) s += was;
    return p->relu && s <= 0 ? 0 : s;  // in this order a NaN passes
}

static void thin_rows(const product *p, const row_list *list, const source *rows, int n, int from, int to, bool fetch) {
    const int in = p->w->cols, out = p->w->rows;
    const vec_kernels *k = vec();
    for (int i = from; i < to; i++) {
        const int row = weight_row(list, i), unit = i / list->D;
        const void *w = row_data(list, row), *next = fetch ? row_ahead(list, i, to) : NULL;
        for (int r = 0; r < n;) {
            const float *x[VEC_ROWS];
            float *y[VEC_ROWS], sum[VEC_ROWS];
            int m = 0;
            for (; r < n && m < VEC_ROWS; r++) {
                if (!wants(list->u, unit, rows[r].seq)) continue;
                x[m] = p->x + (size_t)rows[r].row * (size_t)in;
                y[m++] = p->y + (size_t)rows[r].row * (size_t)out + row;
            }
            if (!m) break;
            k->dot[p->w->type](sum, w, next, x, m, in);
            next = NULL;
            for (int j = 0; j < m; j++) *y[j] = finish(p, sum[j], *y[j], row);
        }
    }
}

static int at_least(int x, int least) { return x < least ? least : x; }

static void thin(const product *p, const live_units *u, int D, const span *s, int n) {
    source *rows = (source *)cpu_scratch(8, 2 * (size_t)count_rows(s, n) + 2);
    const int n_rows = list_rows(rows, s, n, true);
    if (!n_rows) return;
    const row_list list = list_weights(p->w, u, D);
    const int x_rows = at_least(X_BYTES / at_least(p->w->cols * (int)sizeof(float), 1) / VEC_ROWS, 1) * VEC_ROWS;
    const int share = at_least(list.n / (8 * omp_get_max_threads()), CHUNK), held = at_least((int)(W_BYTES / (list.bytes + 1)), 1);
    const int chunk = n_rows <= x_rows || share < held ? share : held, chunks = (list.n + chunk - 1) / chunk;
    vec();
#pragma omp parallel for schedule(dynamic) if ((size_t)list.n * list.bytes > SMALL)
    for (int c = 0; c < chunks; c++)
        for (int r = 0; r < n_rows; r += x_rows)
            thin_rows(p, &list, rows + r, n_rows - r < x_rows ? n_rows - r : x_rows, c * chunk, (c + 1) * chunk < list.n ? (c + 1) * chunk : list.n, !r);
}

void cpu_thin_linear(float *y, const float *x, const weight *w, const float *b, bool add, const span *s, int n) {
    const product p = {y, x, w, b, add, false};
    thin(&p, NULL, 1, s, n);
}

// Many rows: live rows of the weight gathered, product into a tile, spread to the units' columns.
static void gathered_tile(const product *p, const row_list *list, const span *s, int seq, int from, int to) {
    const int in = p->w->cols, out = p->w->rows;
    float *w = cpu_scratch(3, (size_t)TILE * (size_t)in), *z = cpu_scratch(4, (size_t)TILE * (size_t)s->n);
    int kept[TILE], m = 0;
    for (int i = from; i < to; i++) {
        if (!wants(list->u, i / list->D, seq)) continue;
        kept[m] = weight_row(list, i);
        memcpy(w + (size_t)m * (size_t)in, cpu_weight_rows(p->w, kept[m], 1, 2), sizeof *w * (size_t)in);
        m++;
    }
    if (!m || !in) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, s->n, m, in, 1, p->x + (size_t)s->row * (size_t)in, in, w, in, 0, z, m);
    for (int t = 0; t < s->n; t++) {
        float *y = p->y + (size_t)(s->row + t) * (size_t)out;
        for (int j = 0; j < m; j++) y[kept[j]] = finish(p, z[(size_t)t * (size_t)m + (size_t)j], y[kept[j]], kept[j]);
    }
}

void cpu_live_linear(float *y, const float *x, const weight *w, const weight *bias, bool relu, int D, const live_units *u, const span *s, int n) {
    const double start = clock_s();
    const float *b = bias ? cpu_weight_rows(bias, 0, bias->rows, 1) : NULL;
    const product p = {y, x, w, b, false, relu};
    const row_list list = list_weights(w, u, D);
    const int tiles = (list.n + TILE - 1) / TILE;
    ASSERT(w->rows % D == 0);
    thin(&p, u, D, s, n);
#pragma omp parallel for schedule(dynamic) collapse(2) if (has_many(s, n))
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < n; i++)
            if (s[i].n >= CPU_THIN) gathered_tile(&p, &list, &s[i], i, tile * TILE, (tile + 1) * TILE < list.n ? (tile + 1) * TILE : list.n);
    ops_seconds_gemm += clock_s() - start;
}

// ---------------------------------------------------------------- y += x Wt + b
// Units are cut into blocks by their number, which does not depend on who is live. part [rows of x, E] of one block; false: it adds nothing.
static bool sum_block(float *part, const float *x, const weight *w, const row_list *list, const source *rows, int n, int from, int to) {
    const int E = w->cols;
    const vec_kernels *k = vec();
    if (from == to) return false;
    memset(part, 0, sizeof *part * (size_t)n * (size_t)E);
    for (int i = from; i < to; i++) {
        const int row = weight_row(list, i), unit = i / list->D;
        const void *data = row_data(list, row), *next = row_ahead(list, i, to);
        for (int r = 0; r < n; r++) {
            if (!wants(list->u, unit, rows[r].seq)) continue;
            k->sum[w->type](part + (size_t)r * (size_t)E, x[(size_t)rows[r].row * (size_t)w->rows + (size_t)row], data, next, E);
            next = NULL;
        }
    }
    return true;
}

static void thin_transposed(float *y, const float *x, const weight *w, const float *b, int D, const live_units *u, const source *rows, int n) {
    const row_list list = list_weights(w, u, D);
    const int E = w->cols, size = (w->rows / D + BLOCKS - 1) / BLOCKS, blocks = size ? (w->rows / D + size - 1) / size : 0;
    float *part = cpu_scratch(9, (size_t)BLOCKS * (size_t)n * (size_t)E);
    bool used[BLOCKS] = {false};
    int first[BLOCKS + 1] = {0};
    for (int k = 0, block = 0; block <= blocks; block++) {
        while (k < u->n && u->unit[k] < block * size) k++;
        first[block] = k * D;
    }
    vec();
#pragma omp parallel if ((size_t)list.n * list.bytes > SMALL)
    {
#pragma omp for schedule(dynamic)
        for (int block = 0; block < blocks; block++)
            used[block] = sum_block(part + (size_t)block * (size_t)n * (size_t)E, x, w, &list, rows, n, first[block], first[block + 1]);
#pragma omp for schedule(static)
        for (int c = 0; c < E; c += CHUNK)
            for (int r = 0; r < n; r++) {
                float *to = y + (size_t)rows[r].row * (size_t)E;
                float sum[CHUNK];
                const int m = E - c < CHUNK ? E - c : CHUNK;
                for (int e = 0; e < m; e++) sum[e] = b ? b[c + e] : 0;
                for (int block = 0; block < blocks; block++)
                    for (int e = 0; e < m && used[block]; e++) sum[e] += part[((size_t)block * (size_t)n + (size_t)r) * (size_t)E + (size_t)(c + e)];
                for (int e = 0; e < m; e++) to[c + e] += sum[e];
            }
    }
}

// Many rows: tiles of output columns; x and the rows of Wt gathered by pieces of the list.
static void gathered_columns(float *y, const float *x, const weight *w, const float *b, const row_list *list, const span *s, int seq, int c0, int cols) {
    const int E = w->cols;
    float *piece = cpu_scratch(3, (size_t)TILE * (size_t)cols), *xs = cpu_scratch(4, (size_t)TILE * (size_t)s->n);
    float *to = y + (size_t)s->row * (size_t)E + c0;
    for (int t = 0; t < s->n && b; t++)
        for (int e = 0; e < cols; e++) to[(size_t)t * (size_t)E + (size_t)e] += b[c0 + e];
    for (int i = 0; i < list->n;) {
        int kept[TILE], m = 0;
        for (; i < list->n && m < TILE; i++) {
            if (!wants(list->u, i / list->D, seq)) continue;
            kept[m] = weight_row(list, i);
            cpu_widen(piece + (size_t)m * (size_t)cols, (const char *)row_data(list, kept[m]) + (size_t)c0 * dtype_bytes(w->type), w->type, (size_t)cols);
            m++;
        }
        if (!m) break;
        for (int t = 0; t < s->n; t++)
            for (int j = 0; j < m; j++) xs[(size_t)t * (size_t)m + (size_t)j] = x[(size_t)(s->row + t) * (size_t)w->rows + (size_t)kept[j]];
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s->n, cols, m, 1, xs, m, piece, cols, 1, to, E);
    }
}

void cpu_live_linear_t(float *y, const float *x, const weight *w, const weight *bias, int D, const live_units *u, const span *s, int n) {
    const double start = clock_s();
    const int E = w->cols, width = E <= TILE ? E : TILE / 2, tiles = (E + width - 1) / width;
    const float *b = bias ? cpu_weight_rows(bias, 0, bias->rows, 1) : NULL;
    source *rows = (source *)cpu_scratch(8, 2 * (size_t)count_rows(s, n) + 2);
    const int n_rows = list_rows(rows, s, n, true);
    const row_list list = list_weights(w, u, D);
    ASSERT(w->rows % D == 0);
    for (int r = 0; r < n_rows; r += MOST_ROWS) thin_transposed(y, x, w, b, D, u, rows + r, n_rows - r < MOST_ROWS ? n_rows - r : MOST_ROWS);
#pragma omp parallel for schedule(dynamic) collapse(2) if (has_many(s, n))
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < n; i++)
            if (s[i].n >= CPU_THIN) gathered_columns(y, x, w, b, &list, &s[i], i, tile * width, E - tile * width < width ? E - tile * width : width);
    ops_seconds_gemm += clock_s() - start;
}

// ---------------------------------------------------------------- attention of few rows
// K and V rows hold the heads side by side: positions in the outer loop read them in the order of memory.
HOT static void softmax(float *p, int n) { softmax_f(p, n); }

static void few_rows(float *out, const float *q, const float *k, const float *v, int E, int D, const attn_seq *s, const int *head, int heads) {
    const int most = s->past + s->s.n, H = E / D;
    const float c = 1.0f / sqrtf((float)D);
    float *p = cpu_scratch(4, (size_t)heads * (size_t)most);
    const vec_kernels *kernel = vec();
    for (int i = s->from; i < s->s.n; i++) {
        const size_t at = (size_t)(s->s.row + i) * (size_t)E;
        const int n = s->past + i + 1;
        for (int t = 0; t < n; t++) {
            const float *row = t < s->past ? s->past_k + (size_t)t * (size_t)E : k + (size_t)(s->s.row + t - s->past) * (size_t)E;
            for (int h = 0; h < heads; h++) {
                const size_t first = (size_t)(head[h] * D);
                const float *qh = q + at + first;
                float dot;
                if (t < s->past && s->past_has && !s->past_has[(size_t)t * (size_t)H + (size_t)head[h]]) dot = -INFINITY;
                else kernel->dot[DT_F32](&dot, row + first, NULL, &qh, 1, D);
                p[(size_t)h * (size_t)most + (size_t)t] = c * dot;
            }
        }
        for (int h = 0; h < heads; h++) {
            softmax(p + (size_t)h * (size_t)most, n);
            memset(out + at + head[h] * D, 0, sizeof *out * (size_t)D);
        }
        for (int t = 0; t < n; t++) {
            const float *row = t < s->past ? s->past_v + (size_t)t * (size_t)E : v + (size_t)(s->s.row + t - s->past) * (size_t)E;
            for (int h = 0; h < heads; h++) {
                const size_t first = (size_t)(head[h] * D);
                const float share = p[(size_t)h * (size_t)most + (size_t)t];
                if (share != 0) kernel->sum[DT_F32](out + at + first, share, row + first, NULL, D);
            }
        }
    }
}

static void attention(float *out, const float *q, const float *k, const float *v, int E, int D, const live_units *u, const attn_seq *s, int n, bool few_only) {
    const int H = E / D, threads = omp_get_max_threads(), parts = threads < H ? threads : H;
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        if (s[i].from < s[i].s.n) bytes += (size_t)(s[i].past + s[i].s.n) * (size_t)E * 2 * sizeof *q;
    vec();
#pragma omp parallel for schedule(dynamic) collapse(2) if (bytes > SMALL)
    for (int i = 0; i < n; i++)
        for (int part = 0; part < parts; part++) {
            const bool few = s[i].s.n - s[i].from < CPU_THIN;
            if (s[i].from >= s[i].s.n || (few_only && !few)) continue;
            int *mine = (int *)cpu_scratch(5, (size_t)H), m = 0, all = 0;
            for (int j = 0; j < (u ? u->n : H); j++) all += wants(u, j, i);
            for (int j = 0, at = 0; j < (u ? u->n : H); j++) {
                if (!wants(u, j, i)) continue;
                if (at >= all * part / parts && at < all * (part + 1) / parts) mine[m++] = u ? u->unit[j] : j;
                at++;
            }
            if (few || s[i].past_has) few_rows(out, q, k, v, E, D, &s[i], mine, m);
            else for (int j = 0; j < m; j++) cpu_attention_head(out, q, k, v, E, D, &s[i], mine[j]);
        }
}

void cpu_thin_attention(float *out, const float *q, const float *k, const float *v, int E, int D, const attn_seq *s, int n) {
    attention(out, q, k, v, E, D, NULL, s, n, true);
}

void cpu_live_attention(float *out, const float *q, const float *k, const float *v, int E, int D, const live_units *u, const attn_seq *s, int n) {
    const double start = clock_s();
    attention(out, q, k, v, E, D, u, s, n, false);
    ops_seconds_attention += clock_s() - start;
}
