// cpu_gemm - products of many rows, by panels. Contract in cpu_gemm.h. Rows of A are packed by all threads, then each
// thread takes a panel of columns of B at a time. Of A, ROWS rows and some DEPTH numbers of the sum at a time, which
// stay in the second-level cache; of B, SLICE numbers of the sum, which stay in the first while all those rows pass.
#include "cpu_gemm.h"
#include "simd.h"
#include <cblas.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { ROWS = 512, DEPTH = 384, SLICE = 128 };

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
    bool back, add;
    int out, sum;    // columns of y, and of x
    const int *row;  // the rows' numbers
    int rows;
} product;

// Numbers that rounding has left of each number.
static int parts_of_type(dtype type) {
    if (type == DT_BF16) return 1;
    return type == DT_F16 ? 2 : GEMM_PARTS;
}

// The weight as B: columns j.. at k numbers of the sum, from `from` on, which in `wide` begin at 0.
static gemm_matrix columns_of(const product *p, int j, int n, int from, int k, float *wide) {
    const weight *w = p->w;
    const float *whole = w->type == DT_F32 ? w->data : w->wide;
    gemm_matrix b = {whole, (size_t)w->cols, NULL, p->back, parts_of_type(w->type)};
    if (whole) {
        b.at += p->back ? (size_t)from * b.ld + (size_t)j : (size_t)j * b.ld + (size_t)from;
        return b;
    }
    b.at = wide;
    b.ld = (size_t)(p->back ? n : k);
    for (int i = 0; i < (p->back ? k : n); i++)
        cpu_widen(wide + (size_t)i * b.ld, w, p->back ? from + i : j + i, p->back ? j : from, (int)b.ld);
    return b;
}

// Rows of y at columns j.., of the tile c; `first`: it is the beginning of the sum.
HOT static void put_tile(const product *p, const int *row, int rows, int j, int cols, const float *c, bool first) {
    const float *b = p->b && first ? p->b + j : NULL;
    for (int t = 0; t < rows; t++, c += GEMM_SIDE) {
        float *y = p->y + (size_t)row[t] * (size_t)p->out + j;
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

// Memory of a thread.
typedef struct {
    float *c;      // [panels of rows, GEMM_SIDE, GEMM_SIDE]
    void *packed;  // of B
    float *wide;   // of the weight
} own_memory;

// n in pieces of at most `most`, as equal as steps allow.
static int piece_of(int n, int most) {
    const int pieces = (n + most - 1) / most;
    return ((n + pieces - 1) / pieces + GEMM_STEP - 1) / GEMM_STEP * GEMM_STEP;
}

// What will be packed after b: the next numbers of the sum; the first of them of the panel that this thread probably
// comes to next.
static gemm_matrix columns_further(const product *p, int slice, const gemm_matrix *b) {
    gemm_matrix next = *b;
    next.at += p->back ? (size_t)slice * b->ld : (size_t)slice;
    return next;
}
static gemm_matrix columns_after(const product *p, int j, int k0, const gemm_matrix *b) {
    const int to = j + omp_get_num_threads() * GEMM_SIDE, there = to + GEMM_SIDE <= p->out ? to : j;
    const float *whole = p->w->type == DT_F32 ? p->w->data : p->w->wide;
    gemm_matrix next = *b;
    if (whole) next.at = whole + (p->back ? (size_t)k0 * b->ld + (size_t)there : (size_t)there * b->ld + (size_t)k0);
    return next;
}

// Lines of memory of the weight that the next slice reads, a share of them with each tile: a panel is packed from
// memory faster than it comes.
static void fetch_share(const gemm_matrix *b, int cols, int k, int share, int shares) {
    const int lines = b->across ? k : cols, wide = ((b->across ? cols : k) + 15) / 16;
    for (int i = lines * wide * share / shares; i < lines * wide * (share + 1) / shares; i++)
        __builtin_prefetch(b->at + (size_t)(i / wide) * b->ld + i % wide * 16, 0, 2);
}

// Rows of y that a tile will be put to.
static void fetch_rows(const product *p, const int *row, int rows, int j) {
    for (int t = 0; t < rows; t++) {
        const float *y = p->y + (size_t)row[t] * (size_t)p->out + j;
        __builtin_prefetch(y, 1, 3);
        __builtin_prefetch(y + GEMM_SIDE / 2, 1, 3);
    }
}

static void multiply_panel(const gemm_kernels *g, const product *p, int r0, int rows, int k0, int k, int j,
                           const char *packed, const own_memory *own) {
    const int cols = p->out - j < GEMM_SIDE ? p->out - j : GEMM_SIDE, count = panels(rows), slice = piece_of(k, SLICE);
    const size_t each = gemm_panel_bytes(k, p->x.parts);
    for (int at = 0; at < k; at += slice) {
        const int some = k - at < slice ? k - at : slice;
        const bool last = at + slice >= k;
        const gemm_matrix b = columns_of(p, j, cols, k0 + at, some, own->wide);
        g->pack_b(own->packed, &b, 0, cols, 0, some);
        const gemm_matrix next = last ? columns_after(p, j, k0, &b) : columns_further(p, slice, &b);
        for (int i = 0; i < count; i++) {
            const int r = i * GEMM_SIDE, n = rows - r < GEMM_SIDE ? rows - r : GEMM_SIDE;
            const int *row = p->row + r0 + r;
            float *c = own->c + r * GEMM_SIDE;
            if (last) fetch_rows(p, row, n, j);
            if (b.at != own->wide) fetch_share(&next, cols, slice, i, count);
            g->tile(c, GEMM_SIDE, packed + (size_t)i * each + gemm_panel_bytes(at, p->x.parts), own->packed, n, some,
                    p->x.parts, b.parts, at > 0);
            if (last) put_tile(p, row, n, j, cols, c, k0 == 0);
        }
    }
}

// Within a team of threads: `rows` rows from r0 on, at k numbers of the sum from k0 on. packed: rows, of the team.
static void multiply_block(const gemm_kernels *g, const product *p, int r0, int rows, int k0, int k, char *packed,
                           const own_memory *own) {
    const size_t each = gemm_panel_bytes(k, p->x.parts);
#pragma omp for schedule(static)
    for (int i = 0; i < panels(rows); i++) {
        const int at = i * GEMM_SIDE, n = rows - at < GEMM_SIDE ? rows - at : GEMM_SIDE;
        g->pack_a(packed + (size_t)i * each, &p->x, r0 + at, n, k0, k);
    }
#pragma omp for schedule(dynamic)
    for (int panel = 0; panel < panels(p->out); panel++)
        multiply_panel(g, p, r0, rows, k0, k, panel * GEMM_SIDE, packed, own);
}

static void multiply(const gemm_kernels *g, const product *p) {
    const int depth = piece_of(p->sum, DEPTH);
    const scratch_point mark = scratch_mark();
    const size_t side = (size_t)panels(p->rows < ROWS ? p->rows : ROWS);
    char *packed = scratch_take(side * gemm_panel_bytes(depth, p->x.parts));
#pragma omp parallel if (gemm_shared(p->rows, p->out, p->sum))
    {
        const scratch_point of_thread = scratch_mark();
        const own_memory own = {scratch_floats(side * GEMM_SIDE * GEMM_SIDE),
                                scratch_take(gemm_panel_bytes(SLICE, GEMM_PARTS)), scratch_floats(SLICE * GEMM_SIDE)};
        g->begin();
        for (int r0 = 0; r0 < p->rows; r0 += ROWS)
            for (int k0 = 0; k0 < p->sum; k0 += depth)
                multiply_block(g, p, r0, p->rows - r0 < ROWS ? p->rows - r0 : ROWS, k0,
                               p->sum - k0 < depth ? p->sum - k0 : depth, packed, &own);
        g->end();
        scratch_release(of_thread);
    }
    scratch_release(mark);
}

void gemm_rows(float *y, const float *x, const weight *w, const float *b, bool back, bool add, const span *s, int n,
               int least) {
    const scratch_point mark = scratch_mark();
    int rows = 0;
    for (int i = 0; i < n; i++) rows += s[i].n >= least ? s[i].n : 0;
    int *row = scratch_take((size_t)rows * sizeof *row), at = 0;
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n && s[i].n >= least; t++) row[at++] = s[i].row + t;
    const int out = back ? w->cols : w->rows, sum = back ? w->rows : w->cols;
    const product p = {y, {x, (size_t)sum, row, false, GEMM_PARTS}, w, b, back, add, out, sum, row, rows};
    ASSERT(sum > 0);
    multiply(gemm_set(), &p);
    scratch_release(mark);
}
