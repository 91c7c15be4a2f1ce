// cuda_live - what the values of a layer's neurons say about who runs: those under a threshold set to zero, those above
// it listed. Products over live units are in cuda_few_rows.cu.
#include "cuda_device.h"

static __global__ void __launch_bounds__(THREADS)
    keep_above_k(float *x, const float *by, int32_t *__restrict__ kept, float above, int F) {  // by may be x
    __shared__ int part[THREADS / 32];
    float *row = x + (size_t)blockIdx.x * F;
    const float *value = by + (size_t)blockIdx.x * F;
    int count = 0;
    for (int j = (int)threadIdx.x; j < F; j += THREADS) {
        const bool over = fabsf(value[j]) > above;
        count += over;
        if (!over) row[j] = 0;
    }
    count = block_sum(count, part);
    if (threadIdx.x == 0) kept[blockIdx.x] += count;
}

extern "C" void cuda_launch_keep_above(float *x, const float *by, int32_t *kept, float above, int rows, int F,
                                       cudaStream_t st) {
    CU_LAUNCH(keep_above_k, rows, THREADS, 0, st, x, by, kept, above, F);
}

// One block: of THREADS numbers at a time those that are above find their places by votes.
static __global__ void __launch_bounds__(THREADS)
    list_above_k(int32_t *__restrict__ list, const float *__restrict__ x, float above, int F) {
    __shared__ int part[THREADS / 32];
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    int base = 0;
    for (int from = 0; from < F; from += THREADS) {
        const int j = from + (int)threadIdx.x;
        const bool over = j < F && fabsf(x[j]) > above;
        const unsigned votes = __ballot_sync((unsigned)ALL_LANES, over);
        __syncthreads();  // part may still be read
        if (lane == 0) part[warp] = __popc(votes);
        __syncthreads();
        int place = base + __popc(votes & ((1u << lane) - 1));
        for (int w = 0; w < THREADS / 32; w++) {
            if (w < warp) place += part[w];
            base += part[w];
        }
        if (over) list[1 + place] = j;
    }
    if (threadIdx.x == 0) list[0] = base;
}

extern "C" void cuda_launch_list_above(int32_t *list, const float *x, float above, int F, cudaStream_t st) {
    CU_LAUNCH(list_above_k, 1, THREADS, 0, st, list, x, above, F);
}
