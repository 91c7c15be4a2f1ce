// cuda_live - lists of who runs, of masks' bytes or of what the values of a layer's neurons say: those under a
// threshold set to zero, those above it listed. Products over live units are in cuda_few_rows.cu.
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

// Whether a sequence runs a unit, by its bytes from `at` on; see ops_live.h.
__device__ __forceinline__ bool runs(const uint8_t *keep, size_t at, int unit, const attn_heads &heads) {
    if (!keep || !heads.H) return keep && keep[at + unit];
    for (int h = 0; h < heads.H; h++)
        if (keep[at + h] && ATTN_KV_HEAD(heads, h) == unit) return true;
    return false;
}

// A block of N threads a layer, EACH units a thread at a time, whose places are sums over the lanes and warps in front.
template <int N>
static __global__ void __launch_bounds__(N, 1)  // else ptxas spills for 64 warps on a processor, which there are not
    list_live_k(int32_t *list, uint8_t *wants, const cuda_bytes keep, int seqs, int U, const attn_heads heads) {
    enum { EACH = 4 };
    __shared__ int part[N / 32];
    const size_t at = blockIdx.x * keep.keep;
    list += blockIdx.x * keep.list;
    if (wants) wants += blockIdx.x * keep.wants;
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    int base = 0;
    for (int from = 0; from < U; from += EACH * N) {
        const int first = from + EACH * (int)threadIdx.x;
        unsigned live = 0;
        for (int i = 0; i < seqs; i++)
            for (int k = 0; k < EACH; k++)
                if (first + k < U && runs(keep.of[i], at, first + k, heads)) live |= 1u << k;
        int sum = __popc(live);
        for (int o = 1; o < 32; o *= 2) {
            const int other = __shfl_up_sync((unsigned)ALL_LANES, sum, o);
            if (lane >= o) sum += other;
        }
        __syncthreads();  // part may still be read
        if (lane == 31) part[warp] = sum;
        __syncthreads();
        int place = base + sum - __popc(live);
        for (int w = 0; w < N / 32; w++) {
            if (w < warp) place += part[w];
            base += part[w];
        }
        for (int k = 0; k < EACH; k++) {
            if (!(live >> k & 1)) continue;
            list[1 + place] = first + k;
            for (int i = 0; wants && i < seqs; i++)
                wants[(size_t)place * seqs + i] = runs(keep.of[i], at, first + k, heads);
            place++;
        }
    }
    if (threadIdx.x == 0) list[0] = base;
}

extern "C" void cuda_launch_list_live(int32_t *list, uint8_t *wants, const cuda_bytes *keep, int seqs, int U,
                                      attn_heads heads, cudaStream_t st) {
    const unsigned layers = (unsigned)keep->layers;
    if (U <= 512)
        CU_LAUNCH((list_live_k<128>), layers, 128, 0, st, list, wants, *keep, seqs, U, heads);
    else
        CU_LAUNCH((list_live_k<1024>), layers, 1024, 0, st, list, wants, *keep, seqs, U, heads);
}
