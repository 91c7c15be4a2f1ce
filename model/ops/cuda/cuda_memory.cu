// cuda_memory - kernels on whole blocks of memory: random numbers into a type, transposes through tiles in shared
// memory, a sum that reads everything.
#include "cuda_device.h"

__device__ __forceinline__ void store(void *to, int type, size_t i, float v) {  // type: dtype of ckpt.h
    if (type == 0)
        static_cast<float *>(to)[i] = v;
    else if (type == 1)
        static_cast<__half *>(to)[i] = __float2half(v);
    else
        static_cast<__nv_bfloat16 *>(to)[i] = __float2bfloat16(v);
}

static __global__ void __launch_bounds__(THREADS)
    random_k(void *__restrict__ to, int type, const float *__restrict__ uniform, float bound, size_t n) {
    const size_t at = (size_t)blockIdx.x * CUDA_CHUNK, end = at + CUDA_CHUNK < n ? at + CUDA_CHUNK : n;
    for (size_t i = at + threadIdx.x; i < end; i += THREADS) store(to, type, i, (2 * uniform[i] - 1) * bound);
}

// Tiles of SIDE x SIDE: rows are read and written side by side; one number more a row, so that a column has every bank
// once.
enum { SIDE = 32, HEIGHT = THREADS / SIDE };
template <class T>
static __global__ void __launch_bounds__(THREADS)
    transpose_k(T *__restrict__ to, const T *__restrict__ from, int rows, int cols) {
    __shared__ T tile[SIDE][SIDE + 1];
    const int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE, tiles = (cols + SIDE - 1) / SIDE;
    const int row = (int)blockIdx.x / tiles * SIDE, col = (int)blockIdx.x % tiles * SIDE;
    for (int k = y; k < SIDE; k += HEIGHT)
        if (row + k < rows && col + x < cols) tile[k][x] = from[(size_t)(row + k) * cols + col + x];
    __syncthreads();
    for (int k = y; k < SIDE; k += HEIGHT)
        if (col + k < cols && row + x < rows) to[(size_t)(col + k) * rows + row + x] = tile[x][k];
}

// Integers: an atomic sum of them has the same bits in any order.
static __global__ void __launch_bounds__(THREADS)
    read_k(unsigned long long *sum, const ulonglong2 *__restrict__ p, size_t n) {
    __shared__ unsigned long long part[THREADS / 32];
    unsigned long long mine = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (size_t)gridDim.x * THREADS) {
        const ulonglong2 two = p[i];
        mine += two.x + two.y;
    }
    mine = block_sum(mine, part);
    if (threadIdx.x == 0) atomicAdd(sum, mine);
}

extern "C" void cuda_launch_random(void *to, int type, const float *uniform, float bound, size_t n, cudaStream_t st) {
    CU_LAUNCH(random_k, (unsigned)((n + CUDA_CHUNK - 1) / CUDA_CHUNK), THREADS, 0, st, to, type, uniform, bound, n);
}
extern "C" void cuda_launch_transpose(void *to, const void *from, int bytes, int rows, int cols, cudaStream_t st) {
    const unsigned tiles = (unsigned)((rows + SIDE - 1) / SIDE) * (unsigned)((cols + SIDE - 1) / SIDE);
    if (bytes == 4)
        CU_LAUNCH((transpose_k<uint32_t>), tiles, THREADS, 0, st, static_cast<uint32_t *>(to),
                  static_cast<const uint32_t *>(from), rows, cols);
    else
        CU_LAUNCH((transpose_k<uint16_t>), tiles, THREADS, 0, st, static_cast<uint16_t *>(to),
                  static_cast<const uint16_t *>(from), rows, cols);
}
extern "C" void cuda_launch_read(unsigned long long *sum, const void *p, size_t bytes, int processors,
                                 cudaStream_t st) {
    enum { RESIDENT = 2048 / THREADS };  // blocks that a multiprocessor holds
    CU_LAUNCH(read_k, (unsigned)processors * RESIDENT, THREADS, 0, st, sum, static_cast<const ulonglong2 *>(p),
              bytes / sizeof(ulonglong2));
}
