// cpu_live - layers of which some units are pruned: what a unit leaves behind is cleared, or live units only are
// computed and the weights of the others are not read. Few rows: cpu_thin.h. Many rows: by kernels of our own, where
// they take the weight (cpu_gemm.h); else the live rows of a tile are gathered and multiplied by CBLAS.
#include "cpu.h"
#include "cpu_gemm.h"
#include "cpu_thin.h"
#include "cpu_transformer_attention.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>

void cpu_drop_units(float *x, const float *value, const uint8_t *const *units, const int *from, int U, int D,
                    const span *s, int n) {
#pragma omp parallel for schedule(dynamic) if (n > 1 && cpu_many_rows(s, n))
    for (int i = 0; i < n; i++) {
        if (!units[i]) continue;
        for (int t = from[i]; t < s[i].n; t++) {
            float *row = x + (size_t)(s[i].row + t) * U * D;
            for (int u = 0; u < U; u++) {
                if (units[i][u]) continue;
                if (value)
                    memcpy(row + (size_t)u * D, value + (size_t)u * D, sizeof(float) * (size_t)D);
                else
                    memset(row + (size_t)u * D, 0, sizeof(float) * (size_t)D);
            }
        }
    }
}

void cpu_keep_above(float *x, const float *by, int32_t *kept, const float *above, int F, const span *s, int n) {
    for (int i = 0; i < n; i++) {
        if (isnan(above[i])) continue;
#pragma omp parallel for schedule(static) if (s[i].n > 1)
        for (int t = 0; t < s[i].n; t++) {
            float *row = x + (size_t)(s[i].row + t) * (size_t)F;
            const float *value = by + (size_t)(s[i].row + t) * (size_t)F;
            int32_t count = 0;
            for (int j = 0; j < F; j++) {
                const bool over = fabsf(value[j]) > above[i];
                count += over;
                row[j] = over ? row[j] : 0;
            }
            kept[s[i].row + t] += count;
        }
    }
}

void cpu_list_above(int32_t *list, const float *x, float above, int F) {
    int32_t n = 0;
    for (int j = 0; j < F; j++)
        if (fabsf(x[j]) > above) list[1 + n++] = j;
    list[0] = n;
}

static bool runs(const uint8_t *keep, int unit, const attn_heads *heads) {
    if (!keep || !heads) return keep && keep[unit];
    for (int h = 0; h < heads->H; h++)
        if (keep[h] && ATTN_KV_HEAD(*heads, h) == unit) return true;
    return false;
}

static void list_layer(int32_t *list, uint8_t *wants, const uint8_t *const *keep, size_t at, int seqs, int U,
                       const attn_heads *heads) {
    int n = 0;
    for (int k = 0; k < U; k++) {
        bool any = false;
        for (int i = 0; i < seqs; i++) {
            const bool one = keep[i] && runs(keep[i] + at, k, heads);
            if (wants) wants[(size_t)n * (size_t)seqs + (size_t)i] = one;
            any |= one;
        }
        if (any) list[1 + n++] = k;
    }
    list[0] = n;
}

void cpu_list_live(int32_t *list, uint8_t *wants, const uint8_t *const *keep, int seqs, int U, const attn_heads *heads,
                   const list_stack *stack) {
    const list_stack all = stack ? *stack : (list_stack){.n = 1};
    for (size_t l = 0; l < (size_t)all.n; l++)
        list_layer(list + l * all.list, wants ? wants + l * all.wants : NULL, keep, l * all.keep, seqs, U, heads);
}

// ---------------------------------------------------------------- y = x W' + b
// Many rows: the rows of the weight that a sequence wants, in scratch memory of the caller's mark. OpenBLAS takes them
// in tiles that follow from their number alone, as it may add up in another order where a product has another size.
typedef struct {
    int *row, n, width;  // the rows' numbers; rows of a tile
} own_rows;
static own_rows own_rows_of(const cpu_row_list *list, int seq) {
    own_rows own = {.row = scratch_take((size_t)list->n * sizeof *own.row)};
    for (int i = 0; i < list->n; i++)
        if (cpu_wants(list->u, i / list->D, seq)) own.row[own.n++] = cpu_row_number(list, i);
    own.width = cpu_tile_width(own.n);
    return own;
}

// They are gathered, multiplied into a tile and spread to the units' columns.
static void gathered_tile(const cpu_product *p, const own_rows *own, const span *s, int from) {
    const int in = p->w->cols, out = p->w->rows, m = own->n - from < own->width ? own->n - from : own->width;
    if (m <= 0) return;
    const int *kept = own->row + from;
    const scratch_point mark = scratch_mark();
    float *w = scratch_floats((size_t)m * (size_t)in), *z = scratch_floats((size_t)m * (size_t)s->n);
    for (int i = 0; i < m; i++) {
        const scratch_point of_row = scratch_mark();
        memcpy(w + (size_t)i * (size_t)in, cpu_weight_rows(p->w, kept[i], 1), sizeof *w * (size_t)in);
        scratch_release(of_row);
    }
    const bool any = in > 0;
    if (any)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, s->n, m, in, 1, p->x + (size_t)s->row * (size_t)in, in, w,
                    in, 0, z, m);
    for (int t = 0; t < s->n && any; t++) {
        float *y = p->y + (size_t)(s->row + t) * (size_t)out;
        for (int j = 0; j < m; j++)
            y[kept[j]] = cpu_finish(p, z[(size_t)t * (size_t)m + (size_t)j], y[kept[j]], kept[j]);
    }
    scratch_release(mark);
}

// By our own kernels: sequences that want the same rows in one product.
static void live_many(const cpu_product *p, const cpu_row_list *list, const span *s, int n) {
    const bool same = !list->u->wants;
    for (int i = 0; i < n; i += same ? n : 1) {
        const scratch_point mark = scratch_mark();
        const own_rows own = own_rows_of(list, i);
        const span *of = same ? s : s + i;
        if (own.n && cpu_has_many(of, same ? n : 1))
            gemm_some_rows(p->y, p->x, p->w, p->b, p->relu, own.row, own.n, of, same ? n : 1, CPU_THIN);
        scratch_release(mark);
    }
}

// Tiles of gathered rows, one sequence each.
static void live_tiles(const cpu_product *p, const cpu_row_list *list, const span *s, int n) {
    own_rows *own = scratch_take(sizeof *own * (size_t)n);
    int tiles = 0;
    for (int i = 0; i < n; i++) {
        own[i] = s[i].n >= CPU_THIN ? own_rows_of(list, i) : (own_rows){.width = CPU_TILE};
        const int of = (own[i].n + own[i].width - 1) / own[i].width;
        tiles = of > tiles ? of : tiles;
    }
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < n; i++) gathered_tile(p, &own[i], &s[i], tile * own[i].width);
}

void cpu_live_linear(float *y, const float *x, const weight *w, const weight *bias, bool relu, int D,
                     const live_units *u, const span *s, int n) {
    const double start = clock_s();
    const scratch_point mark = scratch_mark();
    const float *b = cpu_vector(bias);
    cpu_product p = {y, cpu_rounded(x, w->cols, w, s, n, NULL), w, b, false, relu, cpu_int8(w)};
    const cpu_row_list list = cpu_list_rows(w, u, D);
    ASSERT(w->rows % D == 0);
    cpu_thin_product(&p, u, D, s, n);
    const bool many = cpu_has_many(s, n), panels = p.int8 && cpu_int8_has_panels();
    if (panels) cpu_int8_many(&p, u, D, s, n);
    if (p.int8 && many && !panels) p.x = cpu_int8_rounded(x, w->cols, s, n);
    if (many && !panels && gemm_takes(w, w->cols))
        live_many(&p, &list, s, n);
    else if (many && !panels)
        live_tiles(&p, &list, s, n);
    scratch_release(mark);
    ops_seconds_gemm += clock_s() - start;
}

// ---------------------------------------------------------------- y += x Wt + b
// Many rows: tiles of output columns; x and the rows of Wt gathered by pieces of the list.
static void gathered_columns(float *y, const float *x, const weight *w, const float *b, const cpu_row_list *list,
                             const span *s, int seq, int c0, int cols) {
    const int E = w->cols;
    const scratch_point mark = scratch_mark();
    float *piece = scratch_floats((size_t)CPU_TILE * (size_t)cols),
          *xs = scratch_floats((size_t)CPU_TILE * (size_t)s->n);
    float *to = y + (size_t)s->row * (size_t)E + c0;
    for (int t = 0; t < s->n && b; t++)
        for (int e = 0; e < cols; e++) to[(size_t)t * (size_t)E + (size_t)e] += b[c0 + e];
    for (int i = 0; i < list->n;) {
        int kept[CPU_TILE], m = 0;
        for (; i < list->n && m < CPU_TILE; i++) {
            if (!cpu_wants(list->u, i / list->D, seq)) continue;
            kept[m] = cpu_row_number(list, i);
            cpu_widen(piece + (size_t)m * (size_t)cols, w, kept[m], c0, cols);
            m++;
        }
        if (!m) break;
        for (int t = 0; t < s->n; t++)
            for (int j = 0; j < m; j++)
                xs[(size_t)t * (size_t)m + (size_t)j] = x[(size_t)(s->row + t) * (size_t)w->rows + (size_t)kept[j]];
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s->n, cols, m, 1, xs, m, piece, cols, 1, to, E);
    }
    scratch_release(mark);
}

// y += b at the spans of many rows; b may be NULL.
static void add_bias(float *y, const float *b, int E, const span *s, int n) {
    for (int i = 0; i < n && b; i++)
        for (int t = s[i].row; t < s[i].row + s[i].n && s[i].n >= CPU_THIN; t++)
            for (int e = 0; e < E; e++) y[(size_t)t * (size_t)E + (size_t)e] += b[e];
}

// The spans of many rows, by our own kernels: each with the rows that it wants, those of the same rows in one product.
static void live_back_many(float *y, const float *x, const weight *w, const float *b, const cpu_row_list *list,
                           const span *s, int n) {
    const bool same = !list->u->wants;
    for (int i = 0; i < n; i += same ? n : 1) {
        const scratch_point mark = scratch_mark();
        const own_rows own = own_rows_of(list, i);
        const span *of = same ? s : s + i;
        if (cpu_has_many(of, same ? n : 1)) {
            if (own.n)
                gemm_some_back(y, x, w, b, own.row, own.n, of, same ? n : 1, CPU_THIN);
            else
                add_bias(y, b, w->cols, of, same ? n : 1);
        }
        scratch_release(mark);
    }
}

void cpu_live_linear_t(float *y, const float *x, const weight *w, const weight *bias, int D, const live_units *u,
                       const span *s, int n) {
    const double start = clock_s();
    const int E = w->cols, width = cpu_tile_width(E), tiles = (E + width - 1) / width;
    const scratch_point mark = scratch_mark();
    const float *b = cpu_vector(bias);
    const cpu_row_list list = cpu_list_rows(w, u, D);
    x = cpu_rounded(x, w->rows, w, s, n, NULL);
    ASSERT(w->rows % D == 0);
    cpu_thin_transposed(y, x, w, b, D, u, s, n);
    if (cpu_has_many(s, n) && gemm_takes(w, 1))
        live_back_many(y, x, w, b, &list, s, n);
    else if (cpu_has_many(s, n))
#pragma omp parallel for schedule(dynamic) collapse(2)
        for (int tile = 0; tile < tiles; tile++)
            for (int i = 0; i < n; i++)
                if (s[i].n >= CPU_THIN)
                    gathered_columns(y, x, w, b, &list, &s[i], i, tile * width,
                                     E - tile * width < width ? E - tile * width : width);
    scratch_release(mark);
    ops_seconds_gemm += clock_s() - start;
}

// ---------------------------------------------------------------- attention
void cpu_live_attention(float *out, const float *q, const float *k, const float *v, const attn_heads *h,
                        const live_units *u, const attn_seq *s, int n) {
    const double start = clock_s();
    cpu_attention_units(out, q, k, v, h, u, s, n, false);
    ops_seconds_attention += clock_s() - start;
}
