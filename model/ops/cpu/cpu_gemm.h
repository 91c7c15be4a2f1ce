// cpu_gemm - matrix products of many rows by kernels of our own, where the processor has AMX: C = A B as tiles of
// GEMM_SIDE rows and columns, of which a kernel makes one from a panel of A and a panel of B. A number of C depends on
// its row of A, its column of B and the length of the sum alone, not on where in a panel they lie. So rows of many
// sequences go into one product, and each weight is prepared once for all of them. OpenBLAS promises no such thing.
//
// AMX multiplies bf16 numbers, of 8 significant bits, exactly, and adds up in fp32. An fp32 number is the sum of three
// such parts, x = x1 + x2 + x3, each the rest rounded to nearest, and
//   x y = x1 y1 + x1 y2 + x2 y1 + x2 y2 + x1 y3 + x3 y1 + terms below 2^-24 |x y|
// so that a product of fp32 matrices is six of bf16 matrices, with the error of fp32 (Henry, Tang, Heinecke 2019,
// "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations"). Where the numbers of a
// side are known to have 8 or 11 bits, since they are stored so, it has one part or two. AMX takes what is below 2^-126
// for 0, parts of numbers too: those below 1e-33 lose bits.
#pragma once
#include "cpu.h"

enum { GEMM_SIDE = 32, GEMM_STEP = 32, GEMM_PARTS = 3 };

// Numbers of a matrix as a product reads them. A line is a row in memory. across: lines lie along the sum, and panels
// along a line; else panels are made of lines, and the sum runs along them.
typedef struct {
    const float *at;
    size_t ld;
    const int *line;  // the lines' numbers; NULL: 0, 1, ...
    bool across;
    int parts;  // 1.. GEMM_PARTS
} gemm_matrix;

typedef struct {
    const char *name;
    // Panels of n <= GEMM_SIDE rows of A or columns of B from `first` on, at k numbers of the sum from `from` on; the
    // rest of a panel is 0. gemm_panel_bytes of room, aligned to 64.
    void (*pack_a)(void *to, const gemm_matrix *a, int first, int n, int from, int k);
    void (*pack_b)(void *to, const gemm_matrix *b, int first, int n, int from, int k);
    // c [rows, GEMM_SIDE], its rows ld apart, = the product of two panels of k numbers, or (add) += that. All GEMM_SIDE
    // columns are written, and rows up to the next multiple of 16.
    void (*tile)(float *c, size_t ld, const void *a, const void *b, int rows, int k, int a_parts, int b_parts,
                 bool add);
    // every thread calls them before and after its first and last tile
    void (*begin)(void);
    void (*end)(void);
} gemm_kernels;

// Whether a product of that many multiply-adds is worth waking other threads for.
static inline bool gemm_shared(double rows, double cols, double k) { return rows * cols * k > 1 << 22; }

static inline size_t gemm_panel_bytes(int k, int parts) {
    return (size_t)(k + GEMM_STEP - 1) / GEMM_STEP * GEMM_STEP * GEMM_SIDE * (size_t)parts * sizeof(uint16_t);
}

// The kernels of this processor; NULL: it has none, or KIT_SIMD in the environment asks for other instructions.
const gemm_kernels *gemm_set(void);
void gemm_use(const gemm_kernels *g);  // gemm_set() gives it from now on (tests); NULL: none
const gemm_kernels *gemm_amx(void);    // NULL: the processor lacks it

// Whether gemm_rows takes a weight, for sums of k numbers. Not where numbers are rounded to 16 bits (narrow): those are
// exact at any size (CUDA.md).
static inline bool gemm_takes(const weight *w, int k) { return k && gemm_set() && !w->narrow; }
// At the spans of at least `least` rows y = x W' + b, or (back) y = x W; add: y += that. A weight that is not turned.
void gemm_rows(float *y, const float *x, const weight *w, const float *b, bool back, bool add, const span *s, int n,
               int least);
// The same with some rows of the weight only, whose numbers are list[0 .. listed), ascending: y = x W' + b, then ReLU
// where asked, at their columns of y; and (back) y += x W + b with the columns of x that they multiply.
void gemm_some_rows(float *y, const float *x, const weight *w, const float *b, bool relu, const int *list, int listed,
                    const span *s, int n, int least);
void gemm_some_back(float *y, const float *x, const weight *w, const float *b, const int *list, int listed,
                    const span *s, int n, int least);

// One side of a product, packed where there are kernels (g not NULL), in scratch memory of the caller's mark: rows of
// A, columns of B, numbers as in gemm_matrix.
typedef struct {
    gemm_matrix x;
    char *panels;
    size_t each;
} gemm_side;
gemm_side gemm_side_a(const gemm_kernels *g, const float *at, int ld, bool across, int rows, int k);
gemm_side gemm_side_b(const gemm_kernels *g, const float *at, int ld, bool across, int cols, int k);
// c (rows, cols) = A B over the first k numbers of the sum, or (add) c += A B. By g, between its begin and end, where
// whole tiles are written; g NULL: by OpenBLAS.
void gemm_product(const gemm_kernels *g, float *c, int ld, const gemm_side *a, const gemm_side *b, int rows, int cols,
                  int k, bool add);
