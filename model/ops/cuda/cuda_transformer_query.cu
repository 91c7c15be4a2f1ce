// cuda_transformer_query - attention of one query over a long past, as a token of generation has it: its keys are cut
// into CUDA_QUERY_PARTS parts, a block each, whose softmaxes the last block of a head joins in order (Dao et al. 2023,
// Flash-Decoding), so that few heads fill a GPU. Where the cuts are depends on the number of keys alone.
//   part z: m = max of c q.k, s = sum of exp(c q.k - m), o = sum of exp(c q.k - m) v;   out = sum_z e_z o_z / sum_z e_z
//   s_z, e_z = exp(m_z - max of m)
// In a block eight threads share a key, so 16 keys are under way; thread (tx, ty) holds columns 4 tx + 32 k .. + 3 of
// keys ty, ty + 16, ...
#include "cuda_attention_tiles.h"
#include <math.h>

enum { GROUPS = TILE_THREADS / 8, LEAST = GROUPS };  // keys of a part, at least: all are read at once

__device__ __forceinline__ int part_size(int keys) {
    const int each = (keys + CUDA_QUERY_PARTS - 1) / CUDA_QUERY_PARTS;
    return each < LEAST ? (int)LEAST : (each + GROUPS - 1) / GROUPS * GROUPS;
}

// Four neighbouring columns of a row of D; zeros beyond it.
__device__ __forceinline__ void load4(float *to, const float *row, int d, int D) {
    if (D % 4 == 0 && d < D) {  // every row is aligned
        const float4 v = *reinterpret_cast<const float4 *>(row + d);
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) to[e] = d + e < D ? row[d + e] : 0;
    }
}
template <int DP> __device__ __forceinline__ void load_row(float *to, const float *row, int D, int tx) {
#pragma unroll
    for (int k = 0; k < DP / 32; k++) load4(to + 4 * k, row, 4 * tx + 32 * k, D);
}

__device__ __forceinline__ float shrunk(float m, float top) { return m == -INFINITY ? 0 : expf(m - top); }

// out of a head from its parts [parts, D + 2].
__device__ __forceinline__ void join_parts(float *out, const float *part, int parts, int D) {
    const int d = (int)threadIdx.x;
    float top = -INFINITY, sum = 0, o = 0;
    if (d >= D) return;
    for (int z = 0; z < parts; z++) top = fmaxf(top, load_fresh(part + (size_t)z * (D + 2)));
    for (int z = 0; z < parts; z++) {
        const float *one = part + (size_t)z * (D + 2), e = shrunk(load_fresh(one), top);
        sum += e * load_fresh(one + 1);
        o += e * load_fresh(one + 2 + d);
    }
    out[d] = o / sum;
}

template <int DP>
static __global__ void __launch_bounds__(TILE_THREADS)
    query_k(float *__restrict__ out, float *part, unsigned *counter, const float *__restrict__ q,
            const float *__restrict__ k, const float *__restrict__ v, attn_heads h, cuda_live u, const cuda_seqs s) {
    __shared__ float tops[GROUPS], sums[GROUPS], rows[GROUPS][DP];
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, slot = (int)blockIdx.y, W = h.K * h.D, D = h.D;
    const cuda_seq p = s.s[blockIdx.z];
    const int past = past_of(p), keys = past + p.n, size = part_size(keys), begin = (int)blockIdx.x * size,
              end = begin + size < keys ? begin + size : keys;
    if (begin >= keys || idle(u, slot, p.seq)) return;
    const int head = u.unit ? u.unit[slot] : slot;
    const int kv_head = ATTN_KV_HEAD(h, head);
    const size_t column = (size_t)kv_head * D;
    const float c = 1.0f / sqrtf((float)D);
    float qs[DP / 8], o[DP / 8] = {0}, top = -INFINITY, sum = 0;
    load_row<DP>(qs, q + (size_t)(p.row + p.n - 1) * h.H * D + (size_t)head * D, D, tx);
    for (int j = begin; j < end; j += GROUPS) {
        const int key = j + ty;
        const bool there = key < end && (!p.past_has || key >= past || p.past_has[(size_t)key * h.K + kv_head]);
        float ks[DP / 8], vs[DP / 8], dot = 0;
        if (there) {
            load_row<DP>(ks, (key < past ? p.past_k + (size_t)key * W : k + (size_t)(p.row + key - past) * W) + column,
                         D, tx);
            load_row<DP>(vs, (key < past ? p.past_v + (size_t)key * W : v + (size_t)(p.row + key - past) * W) + column,
                         D, tx);
#pragma unroll
            for (int d = 0; d < DP / 8; d++) dot += qs[d] * ks[d];
        }
        dot = row_sum8(dot) * c;
        if (!there) continue;
        const float most = fmaxf(top, dot), shrink = shrunk(top, most), w = expf(dot - most);
        top = most;
        sum = sum * shrink + w;
#pragma unroll
        for (int d = 0; d < DP / 8; d++) o[d] = o[d] * shrink + w * vs[d];
    }
    if (tx == 0) tops[ty] = top, sums[ty] = sum;
#pragma unroll
    for (int i = 0; i < DP / 8; i++) rows[ty][4 * tx + i / 4 * 32 + i % 4] = o[i];
    __syncthreads();
    float all = tops[0], total = 0, mine = 0;
    for (int g = 1; g < GROUPS; g++) all = fmaxf(all, tops[g]);
    const int d = (int)threadIdx.x;
    for (int g = 0; g < GROUPS; g++) {
        total += shrunk(tops[g], all) * sums[g];
        if (d < D) mine += shrunk(tops[g], all) * rows[g][d];
    }
    const size_t place = (size_t)blockIdx.z * u.most + slot;
    float *parts = part + place * CUDA_QUERY_PARTS * (D + 2), *to = parts + (size_t)blockIdx.x * (D + 2);
    if (d == 0) to[0] = all, to[1] = total;
    if (d < D) to[2 + d] = mine;
    const int n_parts = (keys + size - 1) / size;
    if (last_block(counter + place, (unsigned)n_parts))
        join_parts(out + (size_t)(p.row + p.n - 1) * h.H * D + (size_t)head * D, parts, n_parts, D);
}

template <int DP>
static void start(float *out, float *part, unsigned *counter, const float *q, const float *k, const float *v, int keys,
                  attn_heads h, cuda_live u, const cuda_seqs *s, cudaStream_t st) {
    const int parts = (keys + LEAST - 1) / LEAST < CUDA_QUERY_PARTS ? (keys + LEAST - 1) / LEAST : CUDA_QUERY_PARTS;
    CU_LAUNCH((query_k<DP>), dim3((unsigned)parts, (unsigned)u.most, (unsigned)s->n), TILE_THREADS, 0, st, out, part,
              counter, q, k, v, h, u, *s);
}

extern "C" void cuda_launch_query(float *out, float *part, unsigned *counter, const float *q, const float *k,
                                  const float *v, int keys, attn_heads h, cuda_live u, const cuda_seqs *s,
                                  cudaStream_t st) {
    const int D = h.D;
    if (D <= 32)
        start<32>(out, part, counter, q, k, v, keys, h, u, s, st);
    else
        (D <= 64 ? start<64> : start<128>)(out, part, counter, q, k, v, keys, h, u, s, st);
}
