// cuda_nets_cut - the k lowest of ranges of scores, of equal ones those in front: a block per range. The key of the
// k-th lowest is found two bits at a time from the top: how many of those that begin as it does have which next bits.
// Nothing is sorted, nothing is added with atomics; equal scores are counted in order.
#include "cuda_device.h"
#include <math.h>

enum { CUT_THREADS = 512, CUT_WARPS = CUT_THREADS / 32 };

// Unsigned numbers in the order of the scores; -0 is 0.
__device__ __forceinline__ unsigned key_of(float x) {
    const unsigned bits = __float_as_uint(x == 0 ? 0.0f : x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// How many equal ones are in front of this thread's, and how many the block has.
struct place {
    int before, all;
};
__device__ __forceinline__ place place_of(bool equal, int *part) {
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x & 31;
    const unsigned votes = __ballot_sync((unsigned)ALL_LANES, equal);
    __syncthreads();  // part may still be read
    if (lane == 0) part[warp] = __popc(votes);
    __syncthreads();
    place p = {__popc(votes & ((1u << lane) - 1)), 0};
    for (int w = 0; w < CUT_WARPS; w++) {
        p.before += w < warp ? part[w] : 0;
        p.all += part[w];
    }
    return p;
}

// keep, only: of place `base` on. bad: first place of a score that is NaN or infinite, or -1.
static __global__ void __launch_bounds__(CUT_THREADS)
    cut_k(long *__restrict__ bad, uint8_t *__restrict__ keep, const float *__restrict__ score,
          const uint8_t *__restrict__ only, const cut_range *__restrict__ ranges, long base) {
    __shared__ int part[CUT_WARPS];
    __shared__ unsigned long long wide[CUT_WARPS];
    const cut_range r = ranges[blockIdx.x];
    const int n = (int)r.n;
    const float *x = score + r.first;
    keep += r.first - base;
    if (only) only += r.first - base;
    int count = 0, wrong = 0;
    for (int i = (int)threadIdx.x; i < n; i += CUT_THREADS) {
        count += !only || only[i];
        wrong += !isfinite(x[i]);
    }
    count = block_sum<CUT_THREADS>(count, part);
    wrong = block_sum<CUT_THREADS>(wrong, part);
    if (threadIdx.x == 0) {
        int i = wrong ? 0 : n;
        while (i < n && isfinite(x[i])) i++;
        bad[blockIdx.x] = i < n ? r.first + i : -1;
    }
    // left: which of those that begin with the bits `top` is the last to go, from 1; in the end, how many of its equals
    // go with it
    unsigned top = 0;
    int left = r.k < count ? (int)r.k : count;
    for (int shift = 30; shift >= 0; shift -= 2) {
        unsigned long long first_two = 0;  // how many have the bits 00, and in the upper half 01
        int third = 0;
        for (int i = (int)threadIdx.x; i < n; i += CUT_THREADS) {
            const unsigned key = key_of(x[i]), digit = key >> shift & 3u;
            if ((only && !only[i]) || (shift < 30 && key >> (shift + 2) != top)) continue;
            first_two += digit == 0;
            first_two += digit == 1 ? 1ull << 32 : 0;
            third += digit == 2;
        }
        first_two = block_sum<CUT_THREADS>(first_two, wide);
        third = block_sum<CUT_THREADS>(third, part);
        const int found[3] = {(int)(first_two & 0xffffffffu), (int)(first_two >> 32), third};
        unsigned bits = 0;
        while (bits < 3 && left > found[bits]) left -= found[bits++];
        top = top << 2 | bits;
    }
    int before = 0;
    for (int from = 0; from < n; from += CUT_THREADS) {
        const int i = from + (int)threadIdx.x;
        const bool in = i < n && (!only || only[i]);
        const unsigned key = in ? key_of(x[i]) : 0;
        const bool equal = in && key == top;
        const place p = place_of(equal, part);
        if (in) keep[i] = !(key < top || (equal && before + p.before < left));
        before += p.all;
    }
}

extern "C" void cuda_launch_cut(long *bad, uint8_t *keep, const float *score, const uint8_t *only,
                                const cut_range *ranges, long base, int n, cudaStream_t st) {
    CU_LAUNCH(cut_k, n, CUT_THREADS, 0, st, bad, keep, score, only, ranges, base);
}
