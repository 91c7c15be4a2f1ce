// cuda_transformer_rows - kernels bound by memory: embeddings, element-wise operations, dropped units, bias,
// copies, splits into bf16, column sums.
#include "cuda_device.h"

// Elements i0.. of the block's span: `at` is the first's index in the array, `count` their number in the block.
struct chunk {
    size_t at;
    int count, row, column, begin, extra;
};  // begin: the span's first row
__device__ __forceinline__ chunk chunk_of(const cuda_spans &s, int width) {
    const cuda_span p = s.s[find_span(s, (int)blockIdx.x)];
    const size_t from = (size_t)((int)blockIdx.x - p.first) * CUDA_CHUNK, left = (size_t)p.n * width - from;
    return {(size_t)p.row * width + from,
            left < CUDA_CHUNK ? (int)left : (int)CUDA_CHUNK,
            p.row + (int)(from / width),
            (int)(from % width),
            p.row,
            p.extra};
}
// Row and column of element i of a chunk.
__device__ __forceinline__ int row_of(const chunk &c, int i, int width) { return c.row + (c.column + i) / width; }
__device__ __forceinline__ int column_of(const chunk &c, int i, int width) { return (c.column + i) % width; }

static __global__ void __launch_bounds__(THREADS)
    embed_k(float *__restrict__ y, const int32_t *__restrict__ tokens, const void *__restrict__ w, int type, int cols,
            const cuda_spans s) {
    const chunk c = chunk_of(s, cols);
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS) {
        const int id = tokens[row_of(c, i, cols)];
        y[c.at + i] = widen(w, type, (size_t)(id < 0 ? 0 : id) * cols + column_of(c, i, cols));
    }
}

// first: the position of a span's first row; OPT's table has two rows before that of position 0.
static __global__ void __launch_bounds__(THREADS)
    positions_k(float *__restrict__ x, const void *__restrict__ pos, int type, int cols,
                const int32_t *__restrict__ first, const cuda_spans s) {
    const chunk c = chunk_of(s, cols);
    const int offset = first[c.extra] + 2 - c.begin;
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS)
        x[c.at + i] += widen(pos, type, (size_t)(row_of(c, i, cols) + offset) * cols + column_of(c, i, cols));
}

// Numbers i and i + D/2 of each unit of D: a thread that holds the first writes both; a chunk may end between them.
static __global__ void __launch_bounds__(THREADS)
    rotate_k(float *__restrict__ x, const float *__restrict__ table, const int32_t *__restrict__ first, int width,
             int D, int R, float sign, const cuda_spans s) {
    const chunk c = chunk_of(s, width);
    const int offset = first[c.extra] - c.begin, half = R / 2;
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS) {
        const int d = column_of(c, i, width) % D;
        if (d >= half) continue;
        const float *angle = table + (size_t)(row_of(c, i, width) + offset) * R + d;
        float *one = x + c.at + i, a = one[0], b = one[half];
        const float cosine = angle[0], sine = sign * angle[half];
        one[0] = a * cosine - b * sine;
        one[half] = b * cosine + a * sine;
    }
}

static __global__ void __launch_bounds__(THREADS)
    append_k(const cuda_targets to, const float *__restrict__ x, int width, const int32_t *__restrict__ at,
             const cuda_spans s) {
    const chunk c = chunk_of(s, width);
    float *rows = to.to[find_span(s, (int)blockIdx.x)] + (size_t)at[c.extra] * width + (c.at - (size_t)c.begin * width);
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS) rows[i] = x[c.at + i];
}

// One thread owns a column, so rows add up in order.
static __global__ void __launch_bounds__(THREADS) embed_grad_k(float *__restrict__ dw, const float *__restrict__ dy,
                                                               const int32_t *__restrict__ tokens, int cols, int rows) {
    const int e = (int)(blockIdx.x * THREADS + threadIdx.x);
    for (int r = 0; e < cols && r < rows; r++) dw[(size_t)tokens[r] * cols + e] += dy[(size_t)r * cols + e];
}

// y and x, y and gate may be the same array.
static __global__ void __launch_bounds__(THREADS)
    gate_k(float *y, const float *x, const float *gate, int width, const cuda_spans s) {
    const chunk c = chunk_of(s, width);
    // in this order a NaN passes
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS) y[c.at + i] = gate[c.at + i] <= 0 ? 0 : x[c.at + i];
}

static __global__ void __launch_bounds__(THREADS)
    add_k(float *y, const float *x, float scale, int width, const cuda_spans s) {
    const chunk c = chunk_of(s, width);
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS) y[c.at + i] += scale * x[c.at + i];
}

static __global__ void __launch_bounds__(THREADS)
    bias_k(float *__restrict__ y, const void *__restrict__ b, int type, int add, int width, const cuda_spans s) {
    const chunk c = chunk_of(s, width);
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS)
        y[c.at + i] = widen(b, type, (size_t)column_of(c, i, width)) + (add ? y[c.at + i] : 0);
}

static __global__ void __launch_bounds__(THREADS)
    drop_k(float *__restrict__ x, const float *__restrict__ value, const uint8_t *__restrict__ units, int D, int width,
           const cuda_spans s) {
    const chunk c = chunk_of(s, width);
    for (int i = (int)threadIdx.x; i < c.count; i += THREADS)
        if (!units[c.extra + column_of(c, i, width) / D]) x[c.at + i] = value ? value[column_of(c, i, width)] : 0;
}

static __global__ void __launch_bounds__(THREADS)
    copy_rows_k(float *__restrict__ to, int ld, const float *__restrict__ from, int ld_from, int rows, int cols,
                int add) {
    const size_t n = (size_t)rows * cols, at = (size_t)blockIdx.x * CUDA_CHUNK,
                 end = at + CUDA_CHUNK < n ? at + CUDA_CHUNK : n;
    for (size_t i = at + threadIdx.x; i < end; i += THREADS) {
        float *one = to + i / cols * ld + i % cols;
        const float v = from[i / cols * ld_from + i % cols];
        *one = add ? *one + v : v;
    }
}

static __global__ void __launch_bounds__(THREADS)
    column_sums_k(float *__restrict__ to, const float *__restrict__ x, int rows, int cols) {
    const int j = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (j >= cols) return;
    double sum = 0;
    for (int r = 0; r < rows; r++) sum += (double)x[(size_t)r * cols + j];
    to[j] += (float)sum;
}

extern "C" void cuda_launch_embed(float *y, const int32_t *tokens, const void *w, int type, int cols,
                                  const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(embed_k, s->blocks, THREADS, 0, st, y, tokens, w, type, cols, *s);
}
extern "C" void cuda_launch_embed_grad(float *dw, const float *dy, const int32_t *tokens, int cols, int first, int rows,
                                       cudaStream_t st) {
    CU_LAUNCH(embed_grad_k, (cols + THREADS - 1) / THREADS, THREADS, 0, st, dw, dy + (size_t)first * cols,
              tokens + first, cols, rows);
}
extern "C" void cuda_launch_positions(float *x, const void *pos, int type, int cols, const int32_t *first,
                                      const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(positions_k, s->blocks, THREADS, 0, st, x, pos, type, cols, first, *s);
}
extern "C" void cuda_launch_rotate(float *x, const float *table, const int32_t *first, int width, int D, int R,
                                   float sign, const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(rotate_k, s->blocks, THREADS, 0, st, x, table, first, width, D, R, sign, *s);
}
extern "C" void cuda_launch_append(const cuda_targets *to, const float *x, int width, const int32_t *at,
                                   const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(append_k, s->blocks, THREADS, 0, st, *to, x, width, at, *s);
}
extern "C" void cuda_launch_gate(float *y, const float *x, const float *gate, int width, const cuda_spans *s,
                                 cudaStream_t st) {
    CU_LAUNCH(gate_k, s->blocks, THREADS, 0, st, y, x, gate, width, *s);
}
extern "C" void cuda_launch_add(float *y, const float *x, float scale, int width, const cuda_spans *s,
                                cudaStream_t st) {
    CU_LAUNCH(add_k, s->blocks, THREADS, 0, st, y, x, scale, width, *s);
}
extern "C" void cuda_launch_bias(float *y, const void *b, int type, int add, int width, const cuda_spans *s,
                                 cudaStream_t st) {
    CU_LAUNCH(bias_k, s->blocks, THREADS, 0, st, y, b, type, add, width, *s);
}
extern "C" void cuda_launch_drop(float *x, const float *value, const uint8_t *units, int U, int D, const cuda_spans *s,
                                 cudaStream_t st) {
    CU_LAUNCH(drop_k, s->blocks, THREADS, 0, st, x, value, units, D, U * D, *s);
}
extern "C" void cuda_launch_copy_rows(float *to, int ld, const float *from, int ld_from, int rows, int cols, int add,
                                      cudaStream_t st) {
    const size_t n = (size_t)rows * cols;
    CU_LAUNCH(copy_rows_k, (unsigned)((n + CUDA_CHUNK - 1) / CUDA_CHUNK), THREADS, 0, st, to, ld, from, ld_from, rows,
              cols, add);
}
extern "C" void cuda_launch_column_sums(float *to, const float *x, int first, int rows, int cols, cudaStream_t st) {
    CU_LAUNCH(column_sums_k, (cols + THREADS - 1) / THREADS, THREADS, 0, st, to, x + (size_t)first * cols, rows, cols);
}
