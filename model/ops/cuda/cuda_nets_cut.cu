// cuda_nets_cut - the k lowest of ranges of scores, of equal ones those in front. The key of the k-th lowest is found
// four bits at a time from the top: how many of those that begin as it does have which next bits. Nothing is sorted,
// nothing is added with atomics.
//   cut_held_k               a block a range, whose keys are in registers: its scores are read once
//   cut_count_k, cut_put_k   a range of any length by many blocks: a launch for four bits, whose counts each block of
//                            the next one adds up, and one that writes
// Equal scores are counted in order only where some of them go and others stay.
#include "cuda_device.h"
#include <math.h>

enum { DIGITS = 16, WORDS = DIGITS / 2, BITS = 4, PASSES = 32 / BITS };
#define OUT 0xffffffffu  // the key of what does not count, which no number has; it is after all others

// Unsigned numbers in the order of the scores; -0 is 0.
__device__ __forceinline__ unsigned key_of(float x) {
    const unsigned bits = __float_as_uint(x == 0 ? 0.0f : x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// How many equal ones are in front of this thread's, and how many the block has.
struct place {
    int before, all;
};
template <int N> __device__ __forceinline__ place place_of(bool equal, int *part) {
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x & 31;
    const unsigned votes = __ballot_sync((unsigned)ALL_LANES, equal);
    __syncthreads();  // part may still be read
    if (lane == 0) part[warp] = __popc(votes);
    __syncthreads();
    place p = {__popc(votes & ((1u << lane) - 1)), 0};
    for (int w = 0; w < N / 32; w++) {
        p.before += w < warp ? part[w] : 0;
        p.all += part[w];
    }
    return p;
}

// ---------------------------------------------------------------- digits
// A thread's counts of up to 255 of each digit, a byte each.
__device__ __forceinline__ void count_digit(unsigned *count, unsigned digit, bool on) {
#pragma unroll
    for (int j = 0; j < DIGITS / 4; j++) count[j] += on && digit >> 2 == (unsigned)j ? 1u << 8 * (digit & 3) : 0;
}

// word: the counts of a block of N threads, below 65,536, of digits 4 j and 4 j + 2 in word 2 j, of 4 j + 1 and 4 j + 3
// in the next. part: of shared memory.
template <int N> __device__ __forceinline__ void block_digits(unsigned *word, const unsigned *count, unsigned *part) {
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x / 32;
    __syncthreads();  // part may still be read
#pragma unroll
    for (int j = 0; j < WORDS; j++) {
        const unsigned sum = warp_sum(count[j / 2] >> 8 * (j % 2) & 0x00ff00ffu);
        if (lane == 0) part[warp * WORDS + j] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < WORDS; j++) word[j] = warp_sum(lane < N / 32 ? part[lane * WORDS + j] : 0u);
}
__device__ __forceinline__ int count_in(const unsigned *word, int d) {
    return (int)(word[d / 4 * 2 + d % 2] >> (d & 2 ? 16 : 0) & 0xffffu);
}

// What is known of the key of the last that goes: its first bits; which of those that begin with them it is, from 1 (0:
// none goes); how many they are.
struct cut_state {
    unsigned top;
    int left, equal;
};
// found(d): how many have the digit d next.
template <class F> __device__ __forceinline__ cut_state next_state(cut_state s, F found) {
    unsigned bits = 0;
    int equal = found(0);
    bool on = true;
#pragma unroll
    for (int d = 0; d < DIGITS - 1; d++) {
        on = on && s.left > found(d);
        if (on) s.left -= found(d), bits = (unsigned)d + 1, equal = found(d + 1);
    }
    return {s.top << BITS | bits, s.left, equal};
}

// Whether a key begins with the bits that are known before a pass.
__device__ __forceinline__ bool begins(unsigned key, unsigned top, int pass) {
    return !pass || key >> (32 - BITS * pass) == top;
}
__device__ __forceinline__ unsigned digit_at(unsigned key, int pass) {
    return key >> (32 - BITS * (pass + 1)) & (DIGITS - 1);
}

// ---------------------------------------------------------------- a block a range
template <int KEYS, int N>
static __global__ void __launch_bounds__(N)
    cut_held_k(uint8_t *__restrict__ keep, int32_t *__restrict__ bad, const float *__restrict__ score,
               const uint8_t *only, const cuda_cuts c) {
    __shared__ unsigned part[N / 32 * WORDS];
    __shared__ int places[N / 32];
    const cut_range r = c.r[blockIdx.x];
    const int n = (int)r.n, t = (int)threadIdx.x;
    unsigned key[KEYS];
    int counted = 0;
    bool wrong = false;
#pragma unroll
    for (int k = 0; k < KEYS; k++) {
        const int i = t + k * N;
        const float x = i < n ? score[r.first + i] : 0;
        const bool counts = i < n && (!only || only[r.first + i]);
        key[k] = counts ? key_of(x) : OUT;
        counted += counts;
        wrong |= !isfinite(x);
    }
    if (wrong) *bad = 1;
    const int count = block_sum<N>(counted, places);
    cut_state s = {0, r.k < count ? (int)r.k : count, 0};
#pragma unroll 1
    for (int pass = 0; pass < PASSES; pass++) {
        unsigned digits[DIGITS / 4] = {0, 0, 0, 0}, word[WORDS];
#pragma unroll
        for (int k = 0; k < KEYS; k++) count_digit(digits, digit_at(key[k], pass), begins(key[k], s.top, pass));
        block_digits<N>(word, digits, part);
        s = next_state(s, [&](int d) { return count_in(word, d); });
    }
    const bool all = s.left >= s.equal;
    int before = 0;
#pragma unroll
    for (int k = 0; k < KEYS; k++) {
        const bool here = key[k] != OUT, equal = here && key[k] == s.top;
        bool goes = all && equal;
        if (!all) {
            const place p = place_of<N>(equal, places);
            goes = equal && before + p.before < s.left;
            before += p.all;
        }
        if (here) keep[r.first + t + k * N] = !(key[k] < s.top || goes);
    }
}

// ---------------------------------------------------------------- many blocks
// found [DIGITS]: what the blocks of the launch before have counted. *front: how many the blocks in front of this one
// have of digit `of`.
__device__ __forceinline__ void add_counts(int *found, int *front, int of, const int *counts, int *part) {
    const int digit = (int)threadIdx.x % DIGITS, group = (int)threadIdx.x / DIGITS;
    int sum = 0;
    for (int b = group; b < (int)gridDim.x; b += THREADS / DIGITS) sum += counts[b * DIGITS + digit];
    __syncthreads();
    part[threadIdx.x] = sum;
    __syncthreads();
#pragma unroll
    for (int d = 0; d < DIGITS; d++) {
        found[d] = 0;
        for (int k = 0; k < THREADS / DIGITS; k++) found[d] += part[k * DIGITS + d];
    }
    if (!front) return;
    *front = 0;
    for (int b = 0; b < (int)blockIdx.x; b++) *front += counts[b * DIGITS + of];
}

// What is known before a pass; the block's first number and the one after its last.
__device__ __forceinline__ cut_state state_before(int pass, const cut_state *states, const int *counts, long k,
                                                  int *part) {
    cut_state s = {0, 0x7fffffff, 0};
    if (!pass) return s;
    int found[DIGITS];
    add_counts(found, nullptr, 0, counts + (size_t)(pass - 1) * gridDim.x * DIGITS, part);
    s = states[pass - 1];
    if (pass == 1) {
        int all = 0;
        for (int d = 0; d < DIGITS; d++) all += found[d];
        s.left = k < all ? (int)k : all;
    }
    return next_state(s, [&](int d) { return found[d]; });
}

static __global__ void __launch_bounds__(THREADS)
    cut_count_k(int *__restrict__ counts, cut_state *__restrict__ states, int32_t *__restrict__ bad,
                const float *__restrict__ score, const uint8_t *__restrict__ only, const cut_range r, int pass) {
    __shared__ int sums[THREADS];
    __shared__ unsigned part[THREADS / 32 * WORDS];
    const cut_state s = state_before(pass, states, counts, r.k, sums);
    const long from = (long)blockIdx.x * CUDA_CUT_EACH, end = from + CUDA_CUT_EACH < r.n ? from + CUDA_CUT_EACH : r.n;
    unsigned digits[DIGITS / 4] = {0, 0, 0, 0}, word[WORDS];
    bool wrong = false;
    for (long i = from + threadIdx.x; i < end; i += THREADS) {
        const float x = score[r.first + i];
        const unsigned key = key_of(x);
        wrong |= !isfinite(x);
        count_digit(digits, digit_at(key, pass), (!only || only[r.first + i]) && begins(key, s.top, pass));
    }
    if (wrong) *bad = 1;
    block_digits<THREADS>(word, digits, part);
    if (threadIdx.x == 0) {
        int *to = counts + ((size_t)pass * gridDim.x + blockIdx.x) * DIGITS;
        if (blockIdx.x == 0) states[pass] = s;
#pragma unroll
        for (int d = 0; d < DIGITS; d++) to[d] = count_in(word, d);
    }
}

static __global__ void __launch_bounds__(THREADS)
    cut_put_k(uint8_t *__restrict__ keep, const int *__restrict__ counts, const cut_state *__restrict__ states,
              const float *__restrict__ score, const uint8_t *only, const cut_range r) {
    __shared__ int sums[THREADS];
    const cut_state s = state_before(PASSES, states, counts, r.k, sums);
    const long from = (long)blockIdx.x * CUDA_CUT_EACH, end = from + CUDA_CUT_EACH < r.n ? from + CUDA_CUT_EACH : r.n;
    const bool all = s.left >= s.equal;
    int before = 0, found[DIGITS];
    if (!all)
        add_counts(found, &before, (int)(s.top & (DIGITS - 1)), counts + (size_t)(PASSES - 1) * gridDim.x * DIGITS,
                   sums);
    for (long at = from; at < end; at += THREADS) {
        const long i = at + threadIdx.x;
        const bool here = i < end && (!only || only[r.first + i]);
        const unsigned key = here ? key_of(score[r.first + i]) : 0;
        const bool equal = here && key == s.top;
        bool goes = all && equal;
        if (!all) {
            const place p = place_of<THREADS>(equal, sums);
            goes = equal && before + p.before < s.left;
            before += p.all;
        }
        if (here) keep[r.first + i] = !(key < s.top || goes);
    }
}

// ---------------------------------------------------------------- launches
template <int KEYS, int N>
static void launch_held(uint8_t *keep, int32_t *bad, const float *score, const uint8_t *only, const cuda_cuts *c,
                        cudaStream_t st) {
    CU_LAUNCH((cut_held_k<KEYS, N>), c->n, N, 0, st, keep, bad, score, only, *c);
}

extern "C" void cuda_launch_cut(uint8_t *keep, int32_t *bad, const float *score, const uint8_t *only,
                                const cuda_cuts *c, cudaStream_t st) {
    long most = 0;
    for (int i = 0; i < c->n; i++) most = c->r[i].n > most ? c->r[i].n : most;
    if (most <= 8 * 128)
        launch_held<8, 128>(keep, bad, score, only, c, st);
    else if (most <= 16 * 512)
        launch_held<16, 512>(keep, bad, score, only, c, st);
    else if (most <= 40 * 512)
        launch_held<40, 512>(keep, bad, score, only, c, st);
    else
        launch_held<CUDA_CUT_HELD / 512, 512>(keep, bad, score, only, c, st);
}

extern "C" size_t cuda_cut_bytes(long n) {
    const size_t blocks = (size_t)((n + CUDA_CUT_EACH - 1) / CUDA_CUT_EACH);
    return PASSES * (sizeof(cut_state) + blocks * DIGITS * sizeof(int));
}

extern "C" void cuda_launch_cut_long(void *scratch, uint8_t *keep, int32_t *bad, const float *score,
                                     const uint8_t *only, const cut_range *r, cudaStream_t st) {
    const int blocks = (int)((r->n + CUDA_CUT_EACH - 1) / CUDA_CUT_EACH);
    cut_state *states = static_cast<cut_state *>(scratch);
    int *counts = reinterpret_cast<int *>(states + PASSES);
    for (int pass = 0; pass < PASSES; pass++)
        CU_LAUNCH(cut_count_k, blocks, THREADS, 0, st, counts, states, bad, score, only, *r, pass);
    CU_LAUNCH(cut_put_k, blocks, THREADS, 0, st, keep, counts, states, score, only, *r);
}
