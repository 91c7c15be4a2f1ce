// cpu - what the files of the CPU's operations share. Each operation is defined in a file of its group (ops.h).
#pragma once
#include "ops.h"
#include "scratch.h"

// The operations: cpu_embed, cpu_linear, ...
#define OP(type, name, args) type cpu_##name args;
#include "ops_all.h"
#undef OP

extern const ops cpu_ops;  // the table of them

// From here on a call of OpenBLAS uses one thread.
void cpu_blas_one_thread(void);

// Rows of a weight in fp32: the stored ones, or widened into scratch memory of the caller's mark.
const float *cpu_weight_rows(const weight *w, int row, int rows);
// Numbers from .. from + n of a row of a matrix that is not turned, in its type, as fp32; both multiples of 32 where it
// is in blocks.
void cpu_widen(float *to, const weight *w, int row, int from, int n);
// A whole vector (bias, gain) likewise; NULL of NULL.
const float *cpu_vector(const weight *w);

// Rows [.., width] as products with w see them: x, or where w is for 16-bit activations a copy of the spans' rows, at
// their places, rounded to w's type, in scratch memory of the caller's mark. `operation`, or NULL: ends the program
// with it and the tensor if one of them is not finite. cpu_rounded_columns: of one span the columns from.., [rows of
// the span, n].
const float *cpu_rounded(const float *x, int width, const weight *w, const span *s, int n, const char *operation);
const float *cpu_rounded_columns(const float *x, int width, int from, int n, const weight *w, const span *s,
                                 const char *operation);

// Whether products x W' take x in 8-bit numbers (cpu_int8.h).
static inline bool cpu_int8(const weight *w) { return w->narrow && dtype_in_blocks(w->type) && !w->turned; }

// The spans cut into blocks of at most `size` rows, in scratch memory of the caller's mark; *count of them.
const span *cpu_blocks(const span *s, int n, int size, int *count);

// Columns of a tile of a product of many rows: an even number of tiles of at most CPU_TILE, as equal as multiples of 32
// (the numbers of a block) allow, so that threads share them evenly. It follows from the size alone, so that the bits
// do not depend on threads.
enum { CPU_TILE = 384 };
static inline int cpu_tile_width(int columns) {
    const int tiles = 2 * (columns / (2 * CPU_TILE) + (columns % (2 * CPU_TILE) > 0));
    return tiles ? ((columns + tiles - 1) / tiles + 31) / 32 * 32 : CPU_TILE;
}

enum { CPU_BLOCK_ROWS = 32 };

// Whether the spans' rows are worth the waking of OpenMP's threads, which sleep while tokens are decoded.
static inline bool cpu_many_rows(const span *s, int n) {
    int rows = 0;
    for (int i = 0; i < n; i++) rows += s[i].n;
    return rows > CPU_BLOCK_ROWS;
}

// A loop over blocks of rows, shared out over threads, in a function that has set a mark. In its body ROW is where the
// block's rows begin in an array of that width, COUNT how many there are.
#define FOR_BLOCKS(s, n)                                                                                               \
    int n_blocks_;                                                                                                     \
    const span *blocks_ = cpu_blocks(s, n, CPU_BLOCK_ROWS, &n_blocks_);                                                \
    _Pragma("omp parallel for schedule(static) if (cpu_many_rows(s, n))") for (int i_ = 0; i_ < n_blocks_; i_++)
#define ROW(p, width) ((p) + (size_t)blocks_[i_].row * (size_t)(width))
#define COUNT         (blocks_[i_].n)
