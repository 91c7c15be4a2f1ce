// cpu_thin - products and attention of few rows, over all units of a layer or over its live units only; and the lists
// of live units that products of many rows go by, too (cpu_live.c).
//
// Few rows: memory-bound, so every weight is read once, in its stored type, for all rows that want it (cpu_vec.h).
// Threads share rows of weights (linear) or blocks of them (transposed: partial sums per block of fixed unit numbers,
// added in order), so no bit depends on the thread count or on the other sequences.
#pragma once
#include "cpu.h"

enum {
    CPU_THIN = 8,        // rows of a sequence: with fewer a product is bound by reading the weight
    CPU_SMALL = 1 << 14  // bytes below which waking threads costs more than it saves
};

static inline bool cpu_has_many(const span *s, int n) {
    for (int i = 0; i < n; i++)
        if (s[i].n >= CPU_THIN) return true;
    return false;
}

// Whether a sequence runs the unit at place k of the list; u NULL: all units, and everybody runs them.
static inline bool cpu_wants(const live_units *u, int k, int seq) {
    return !u || !u->wants || u->wants[(size_t)k * (size_t)u->seqs + (size_t)seq];
}

// Rows of the weight in the order in which they are read: all of them, or those of the live units.
typedef struct {
    const char *data;
    size_t bytes;
    const live_units *u;
    int D, n;
} cpu_row_list;
static inline cpu_row_list cpu_list_rows(const weight *w, const live_units *u, int D) {
    return (cpu_row_list){w->data, dtype_size(w->type, (size_t)w->cols), u, D, u ? u->n * D : w->rows};
}
static inline int cpu_row_number(const cpu_row_list *r, int i) {
    return r->u ? r->u->unit[i / r->D] * r->D + i % r->D : i;
}
static inline const void *cpu_row_data(const cpu_row_list *r, int row) { return r->data + (size_t)row * r->bytes; }

// y = x W' + b, or y += x W' + b; then ReLU.
typedef struct {
    float *y;
    const float *x;
    const weight *w;
    const float *b;
    bool add, relu;
    bool int8;  // rows of x become 8-bit numbers (cpu_int8.h)
} cpu_product;

// The output of row `row` of W: s its dot product, `was` what y holds.
static inline float cpu_finish(const cpu_product *p, float s, float was, int row) {
    s += p->b ? p->b[row] : 0;
    if (p->add) s += was;
    return p->relu && s <= 0 ? 0 : s;  // in this order a NaN passes
}

// The product for the spans of fewer than CPU_THIN rows, at the columns of live units (NULL: all) of D rows of W each.
void cpu_thin_product(const cpu_product *p, const live_units *u, int D, const span *s, int n);
// Several products at once, whose weights have as many columns; those of 8-bit numbers share x.
enum { CPU_PRODUCTS = 3 };
typedef struct {
    const live_units *u;
    int D;
} cpu_units;
void cpu_thin_products(const cpu_product *p, const cpu_units *of, int products, const span *s, int n);
// The same for the other spans, with rows of 8-bit numbers, where the processor has panels (cpu_int8_many.c). Where
// not, x with the rows of those spans rounded to such numbers, in scratch memory of the caller's mark.
bool cpu_int8_has_panels(void);
void cpu_int8_many(const cpu_product *p, const live_units *u, int D, const span *s, int n);
const float *cpu_int8_rounded(const float *x, int cols, const span *s, int n);
// y += x Wt + b for those spans, over the live rows of Wt (w); u NULL: all.
void cpu_thin_transposed(float *y, const float *x, const weight *w, const float *b, int D, const live_units *u,
                         const span *s, int n);
// Attention of one sequence and of some heads, token by token: head [heads] their numbers.
void cpu_thin_heads(float *out, const float *q, const float *k, const float *v, const attn_heads *h, const attn_seq *s,
                    const int *head, int heads);
