// cpu_gemm - products of many rows, by panels. Contract in cpu_gemm.h. Rows of A are packed by all threads, then each
// thread takes a panel of columns of B at a time, packs it and multiplies it with all those rows. A sum is cut into
// pieces of at most DEPTH numbers, whose sums are added up one after the other. Of A, ROWS rows and as many pieces as
// A_BYTES hold stay in the second-level cache, and so does a panel of B, while the weight's numbers of the thread's
// next panel are fetched from memory.
#include "cpu_gemm.h"
#include "simd.h"
#include <cblas.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { ROWS = 512, DEPTH = 384, A_BYTES = 1 << 20 };

// ---------------------------------------------------------------- choice
static _Atomic(const gemm_kernels *) chosen;
static atomic_bool is_chosen;

void gemm_use(const gemm_kernels *g) {
    atomic_store(&chosen, g);
    atomic_store(&is_chosen, true);
}

const gemm_kernels *gemm_set(void) {
    if (!atomic_load(&is_chosen)) {
        const char *asked = getenv("KIT_SIMD");
        gemm_use(asked && *asked ? NULL : gemm_amx());
    }
    return atomic_load(&chosen);
}

// ---------------------------------------------------------------- sides of a product
static int panels(int n) { return (n + GEMM_SIDE - 1) / GEMM_SIDE; }

static gemm_side side(const gemm_kernels *g, bool a, const float *at, int ld, bool across, int lanes, int k) {
    gemm_side s = {.x = {at, (size_t)ld, NULL, across, GEMM_PARTS}, .each = gemm_panel_bytes(k, GEMM_PARTS)};
    if (!g) return s;
    s.panels = scratch_take((size_t)panels(lanes) * s.each);
    for (int i = 0; i < lanes; i += GEMM_SIDE)
        (a ? g->pack_a : g->pack_b)(s.panels + (size_t)(i / GEMM_SIDE) * s.each, &s.x, i,
                                    lanes - i < GEMM_SIDE ? lanes - i : GEMM_SIDE, 0, k);
    return s;
}
gemm_side gemm_side_a(const gemm_kernels *g, const float *at, int ld, bool across, int rows, int k) {
    return side(g, true, at, ld, across, rows, k);
}
gemm_side gemm_side_b(const gemm_kernels *g, const float *at, int ld, bool across, int cols, int k) {
    return side(g, false, at, ld, across, cols, k);
}

void gemm_product(const gemm_kernels *g, float *c, int ld, const gemm_side *a, const gemm_side *b, int rows, int cols,
                  int k, bool add) {
    if (!g && rows && cols)
        cblas_sgemm(CblasRowMajor, a->x.across ? CblasTrans : CblasNoTrans, b->x.across ? CblasNoTrans : CblasTrans,
                    rows, cols, k, 1, a->x.at, (int)a->x.ld, b->x.at, (int)b->x.ld, add ? 1 : 0, c, ld);
    for (int i = 0; g && i < rows; i += GEMM_SIDE)
        for (int j = 0; j < cols; j += GEMM_SIDE)
            g->tile(c + (size_t)i * (size_t)ld + j, (size_t)ld, a->panels + (size_t)(i / GEMM_SIDE) * a->each,
                    b->panels + (size_t)(j / GEMM_SIDE) * b->each, rows - i, k, GEMM_PARTS, GEMM_PARTS, add);
}

// ---------------------------------------------------------------- rows and a weight
typedef struct {
    float *y;
    gemm_matrix x;
    const weight *w;
    const float *b;  // NULL: none
    bool back, add, relu;
    int out, sum;     // columns of y, and of x, that take part
    const int *line;  // the weight's rows that do; NULL: all
    int ld;           // numbers of a row of y
    const int *row;   // the rows' numbers
    int rows;
} product;

// Of a sum: the numbers of a piece, and the pieces that rows of A are packed for at a time.
typedef struct {
    int depth, pieces, held;
} cuts;

// Some rows at some pieces of the sum; packed: [pieces, panels of rows], of the team.
typedef struct {
    int r0, rows, k0, k, depth;
    size_t each;
    char *packed;
} block;

// Numbers that rounding has left of each number.
static int parts_of_type(dtype type) {
    if (type == DT_BF16) return 1;
    return type == DT_F16 ? 2 : GEMM_PARTS;
}

static const float *whole_of(const weight *w) { return w->type == DT_F32 ? w->data : w->wide; }

// The weight as B: n columns from j on, k numbers of the sum from `from` on, as they lie in memory.
static gemm_matrix columns_of(const product *p, int j, int from) {
    gemm_matrix b = {whole_of(p->w), (size_t)p->w->cols, NULL, p->back, parts_of_type(p->w->type)};
    const int first = p->back ? from : j;
    b.at += p->back ? j : from;
    if (p->line)
        b.line = p->line + first;
    else
        b.at += (size_t)first * b.ld;
    return b;
}
// The same, widened.
static gemm_matrix widened_columns(const product *p, int j, int n, int from, int k, float *wide) {
    const gemm_matrix b = {wide, (size_t)(p->back ? n : k), NULL, p->back, parts_of_type(p->w->type)};
    for (int i = 0; i < (p->back ? k : n); i++) {
        const int line = p->back ? from + i : j + i;
        cpu_widen(wide + (size_t)i * b.ld, p->w, p->line ? p->line[line] : line, p->back ? j : from, (int)b.ld);
    }
    return b;
}

// Rows of y at columns j.. that lie side by side, of the tile c; first: it is the beginning of the sum.
HOT static void put_tile(const product *p, const int *row, int rows, int j, int cols, const float *c, bool first) {
    const float *b = p->b && first ? p->b + j : NULL;
    for (int t = 0; t < rows; t++, c += GEMM_SIDE) {
        float *y = p->y + (size_t)row[t] * (size_t)p->ld + j;
        if (first && !p->add && !b)
            for (int i = 0; i < cols; i++) y[i] = c[i];
        else if (first && !p->add)
            for (int i = 0; i < cols; i++) y[i] = c[i] + b[i];
        else if (b)
            for (int i = 0; i < cols; i++) y[i] += c[i] + b[i];
        else
            for (int i = 0; i < cols; i++) y[i] += c[i];
    }
}

// The same at the columns of a list; last: the sum is whole. In steps, which the compiler makes vectors of.
HOT static void spread_tile(const product *p, const int *row, int rows, const int *column, int cols, const float *c,
                            bool first, bool last) {
    float b[GEMM_SIDE] = {0}, sum[GEMM_SIDE] = {0};
    for (int i = 0; i < cols && p->b; i++) b[i] = p->b[column[i]];
    for (int t = 0; t < rows; t++, c += GEMM_SIDE) {
        float *y = p->y + (size_t)row[t] * (size_t)p->ld;
        for (int i = 0; i < cols && !first; i++) sum[i] = y[column[i]];
        for (int i = 0; i < GEMM_SIDE; i++) sum[i] = c[i] + (first ? b[i] : sum[i]);
        for (int i = 0; i < GEMM_SIDE && p->relu && last; i++) sum[i] = sum[i] <= 0 ? 0 : sum[i];  // a NaN passes
        for (int i = 0; i < cols; i++) y[column[i]] = sum[i];
    }
}

// Memory of a thread.
typedef struct {
    float *c;      // a tile
    void *packed;  // of B
    float *wide;   // of the weight
} own_memory;

static cuts cuts_of(const product *p, int panels_of_rows) {
    const int most = (p->sum + DEPTH - 1) / DEPTH,
              depth = ((p->sum + most - 1) / most + GEMM_STEP - 1) / GEMM_STEP * GEMM_STEP,
              pieces = (p->sum + depth - 1) / depth,
              fit = (int)(A_BYTES / ((size_t)panels_of_rows * gemm_panel_bytes(depth, p->x.parts))),
              some = fit < pieces ? fit : pieces;
    return (cuts){depth, pieces, some > 1 ? some : 1};
}

// Lines of memory of the weight that the next panel reads, a share of them with each tile: a panel is packed from
// memory faster than it comes.
static void fetch_share(const gemm_matrix *b, int cols, int k, int share, int shares) {
    const int lines = b->across ? k : cols, wide = ((b->across ? cols : k) + 15) / 16, all = lines * wide,
              from = (int)((long)all * share / shares), to = (int)((long)all * (share + 1) / shares);
    for (int i = from; i < to; i++)
        __builtin_prefetch(b->at + (size_t)(b->line ? b->line[i / wide] : i / wide) * b->ld + i % wide * 16, 0, 2);
    __asm__ volatile("");  // GCC takes a function that only prefetches to do nothing
}

// Rows of y that a tile will be put to.
static void fetch_rows(const product *p, const int *row, int rows, int j) {
    for (int t = 0; t < rows; t++) {
        const float *y = p->y + (size_t)row[t] * (size_t)p->ld + j;
        __builtin_prefetch(y, 1, 3);
        __builtin_prefetch(y + GEMM_SIDE / 2, 1, 3);
    }
}

static int columns_from(const product *p, int j) { return p->out - j < GEMM_SIDE ? p->out - j : GEMM_SIDE; }

// Columns j.. of y; next: where the thread's next panel begins, none from p->out on.
static void multiply_panel(const gemm_kernels *g, const product *p, const block *a, int j, int next,
                           const own_memory *own) {
    const int cols = columns_from(p, j), count = panels(a->rows), shares = (a->k + a->depth - 1) / a->depth * count;
    const bool in_place = whole_of(p->w), fetch = in_place && next < p->out, listed = p->line && !p->back;
    for (int at = 0, share = 0; at < a->k; at += a->depth) {
        const int k0 = a->k0 + at, k = a->k - at < a->depth ? a->k - at : a->depth;
        const bool first = k0 == 0, last = k0 + k == p->sum;
        const gemm_matrix b = in_place ? columns_of(p, j, k0) : widened_columns(p, j, cols, k0, k, own->wide);
        g->pack_b(own->packed, &b, 0, cols, 0, k);
        for (int i = 0; i < count; i++, share++) {
            const int r = i * GEMM_SIDE, n = a->rows - r < GEMM_SIDE ? a->rows - r : GEMM_SIDE;
            const int *row = p->row + a->r0 + r;
            if (fetch) {
                const gemm_matrix to_come = columns_of(p, next, a->k0);
                fetch_share(&to_come, columns_from(p, next), a->k, share, shares);
            }
            if (!listed) fetch_rows(p, row, n, j);
            g->tile(own->c, GEMM_SIDE, a->packed + (size_t)share * a->each, own->packed, n, k, p->x.parts, b.parts,
                    false);
            if (listed)
                spread_tile(p, row, n, p->line + j, cols, own->c, first, last);
            else
                put_tile(p, row, n, j, cols, own->c, first);
        }
    }
}

// Within a team of threads. taken: panels of columns that threads have begun, 0 at first.
static void multiply_block(const gemm_kernels *g, const product *p, const block *a, atomic_int *taken,
                           const own_memory *own) {
    const int count = panels(a->rows), pieces = (a->k + a->depth - 1) / a->depth;
#pragma omp for schedule(static)
    for (int i = 0; i < pieces * count; i++) {
        const int r = i % count * GEMM_SIDE, at = i / count * a->depth;
        g->pack_a(a->packed + (size_t)i * a->each, &p->x, a->r0 + r, a->rows - r < GEMM_SIDE ? a->rows - r : GEMM_SIDE,
                  a->k0 + at, a->k - at < a->depth ? a->k - at : a->depth);
    }
    for (int j = atomic_fetch_add(taken, 1) * GEMM_SIDE, next; j < p->out; j = next) {
        next = atomic_fetch_add(taken, 1) * GEMM_SIDE;
        multiply_panel(g, p, a, j, next, own);
    }
#pragma omp barrier
}

static void multiply(const gemm_kernels *g, const product *p) {
    if (!p->rows) return;  // all spans are of few rows
    const int most = p->rows < ROWS ? p->rows : ROWS;
    const cuts cut = cuts_of(p, panels(most));
    const int span_k = cut.held * cut.depth, deep = (p->sum + span_k - 1) / span_k,
              blocks = (p->rows + ROWS - 1) / ROWS * deep;
    const size_t each = gemm_panel_bytes(cut.depth, p->x.parts);
    const scratch_point mark = scratch_mark();
    char *packed = scratch_take((size_t)cut.held * (size_t)panels(most) * each);
    atomic_int *taken = scratch_take((size_t)blocks * sizeof *taken);
    for (int i = 0; i < blocks; i++) atomic_init(&taken[i], 0);
#pragma omp parallel if (gemm_shared(p->rows, p->out, p->sum))
    {
        const scratch_point of_thread = scratch_mark();
        const own_memory own = {scratch_floats(GEMM_SIDE * GEMM_SIDE),
                                scratch_take(gemm_panel_bytes(cut.depth, GEMM_PARTS)),
                                scratch_floats((size_t)cut.depth * GEMM_SIDE)};
        g->begin();
        for (int i = 0; i < blocks; i++) {
            const int r0 = i / deep * ROWS, k0 = i % deep * span_k;
            const block a = {r0,        p->rows - r0 < ROWS ? p->rows - r0 : ROWS,
                             k0,        p->sum - k0 < span_k ? p->sum - k0 : span_k,
                             cut.depth, each,
                             packed};
            multiply_block(g, p, &a, &taken[i], &own);
        }
        g->end();
        scratch_release(of_thread);
    }
    scratch_release(mark);
}

// The numbers of the rows of the spans of at least `least` rows, in scratch memory of the caller's mark.
static const int *rows_of(int *rows, const span *s, int n, int least) {
    *rows = 0;
    for (int i = 0; i < n; i++) *rows += s[i].n >= least ? s[i].n : 0;
    int *row = scratch_take((size_t)*rows * sizeof *row), at = 0;
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n && s[i].n >= least; t++) row[at++] = s[i].row + t;
    return row;
}

void gemm_rows(float *y, const float *x, const weight *w, const float *b, bool back, bool add, const span *s, int n,
               int least) {
    const scratch_point mark = scratch_mark();
    product p = {.y = y, .w = w, .b = b, .back = back, .add = add};
    p.row = rows_of(&p.rows, s, n, least);
    p.ld = p.out = back ? w->cols : w->rows;
    p.sum = back ? w->rows : w->cols;
    p.x = (gemm_matrix){x, (size_t)p.sum, p.row, false, GEMM_PARTS};
    ASSERT(p.sum > 0);
    multiply(gemm_set(), &p);
    scratch_release(mark);
}

void gemm_some_rows(float *y, const float *x, const weight *w, const float *b, bool relu, const int *list, int listed,
                    const span *s, int n, int least) {
    const scratch_point mark = scratch_mark();
    product p = {.y = y, .w = w, .b = b, .relu = relu, .out = listed, .sum = w->cols, .line = list, .ld = w->rows};
    p.row = rows_of(&p.rows, s, n, least);
    p.x = (gemm_matrix){x, (size_t)p.sum, p.row, false, GEMM_PARTS};
    ASSERT(p.sum > 0);
    multiply(gemm_set(), &p);
    scratch_release(mark);
}

void gemm_some_back(float *y, const float *x, const weight *w, const float *b, const int *list, int listed,
                    const span *s, int n, int least) {
    const scratch_point mark = scratch_mark();
    product p = {.y = y, .w = w, .b = b, .back = true, .add = true, .out = w->cols, .sum = listed, .line = list};
    p.row = rows_of(&p.rows, s, n, least);
    p.ld = p.out;
    float *some = scratch_floats((size_t)p.rows * (size_t)listed);
#pragma omp parallel for schedule(static) if (gemm_shared(p.rows, p.out, p.sum))
    for (int r = 0; r < p.rows; r++)
        for (int i = 0; i < listed; i++)
            some[(size_t)r * (size_t)listed + (size_t)i] = x[(size_t)p.row[r] * (size_t)w->rows + (size_t)list[i]];
    p.x = (gemm_matrix){some, (size_t)listed, NULL, false, GEMM_PARTS};
    ASSERT(p.sum > 0);
    multiply(gemm_set(), &p);
    scratch_release(mark);
}
