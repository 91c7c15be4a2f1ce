// cuda_transformer_attention - causal attention over packed sequences and its gradient, in tiles of 32 queries and 32
// keys with an online softmax (Dao et al. 2022, FlashAttention): no T x T matrix is stored. The gradient computes the
// probabilities again from each row's largest score and 1 / sum of exp, and takes sum_j P dP = dO . O from the same
// pass, so three kernels make it: those sums per row, then dK and dV a tile of keys at a time, then dQ a tile of
// queries at a time; no atomics, so the same bits at every run.
//   S = c Q K', P = softmax(S), O = P V;  dP = dO V', dS = P (dP - dO . O), dQ = c dS K, dK = c dS' Q, dV = P' dO
#include "cuda_attention_tiles.h"
#include <math.h>

#define FORWARD_FLOATS(dp) (2 * tile_floats<dp>() + MATRIX_FLOATS)
#define DKV_FLOATS(dp)     (4 * tile_floats<dp>() + 2 * MATRIX_FLOATS)
#define DQ_FLOATS(dp)      (4 * tile_floats<dp>() + MATRIX_FLOATS)

// out, or (stat) the row's largest score, 1 / sum of exp, and dout . out.
template <int DP>
static __global__ void __launch_bounds__(TILE_THREADS, 3)
    attention_k(float *__restrict__ out, float *__restrict__ stat, const float *__restrict__ dout,
                const float *__restrict__ q, const float *__restrict__ k, const float *__restrict__ v, int base,
                attn_heads h, cuda_live u, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tq = shared, *tkv = tq + tile_floats<DP>(), *tp = tkv + tile_floats<DP>();
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, A = h.H * h.D, W = h.K * h.D, D = h.D,
              slot = (int)blockIdx.y;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    if (idle(u, slot, p.seq)) return;
    const int head = u.unit ? u.unit[slot] : slot, past = past_of(p), i0 = p.from + ((int)blockIdx.x - p.first) * TILE,
              queries = p.n - i0 < TILE ? p.n - i0 : TILE, keys = past + i0 + queries;
    const int kv_head = ATTN_KV_HEAD(h, head);
    const size_t at = (size_t)p.row * A + (size_t)head * D, past_at = (size_t)kv_head * D,
                 at_kv = (size_t)p.row * W + past_at;
    const float c = 1.0f / sqrtf((float)D);
    load_tile<DP>(tq, q + at + (size_t)i0 * A, queries, A, D);
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, o[2][DP / 8] = {{0}};
    for (int j0 = 0; j0 < keys; j0 += TILE) {
        const int count = keys - j0 < TILE ? keys - j0 : TILE;
        __syncthreads();
        load_keys<DP>(tkv, p.past_k + past_at, k + at_kv, past, j0, count, W, D);
        __syncthreads();
        float w[2][4] = {{0}};
        add_products<DP>(w, tq, tkv, tx, ty);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int visible = past + i0 + 2 * ty + i - j0;  // the last column seen
            float most = top[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int key = j0 + tx + 8 * j;
                const bool there = !p.past_has || key >= past || p.past_has[(size_t)key * h.K + kv_head];
                w[i][j] = there && tx + 8 * j <= visible ? w[i][j] * c : -INFINITY;
                most = fmaxf(most, w[i][j]);
            }
            most = row_max8(most);
            const float shrink = top[i] == -INFINITY ? 0 : expf(top[i] - most);  // a tile may have no key for this head
            top[i] = most;
            float part = 0;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                w[i][j] = w[i][j] == -INFINITY ? 0 : expf(w[i][j] - most);
                part += w[i][j];
            }
            sum[i] = sum[i] * shrink + row_sum8(part);
#pragma unroll
            for (int d = 0; d < DP / 8; d++) o[i][d] *= shrink;
        }
        keep_scores(tp, w, tx, ty);
        __syncthreads();
        load_keys<DP>(tkv, p.past_v + past_at, v + at_kv, past, j0, count, W, D);
        __syncthreads();
        add_rows<DP, false>(o, tp, tkv, tx, ty);
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int d = 0; d < DP / 8; d++) o[i][d] *= 1.0f / sum[i];
    if (out) store_rows<DP>(out + at + (size_t)i0 * A, o, 1, queries, A, D, tx, ty);
    if (!stat) return;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bool there = 2 * ty + i < queries;
        const size_t row = (size_t)(p.row + i0 + 2 * ty + i);
        const float dot = row_dot<DP>(dout + row * A + (size_t)head * D, o[i], there, D, tx);
        if (!there || tx) continue;
        float *to = stat + ((row - base) * h.H + head) * CUDA_STATS;
        to[0] = top[i];
        to[1] = 1.0f / sum[i];
        to[2] = dot;
    }
}

// P and dS of a tile of queries i0.. and keys j0..; rows beyond the sequence and hidden keys are 0.
template <int DP>
__device__ __forceinline__ void tile_gradient(float w[2][4], float ds[2][4], const float *tq, const float *tk,
                                              const float *tv, const float *tdo, const float *stat, int queries,
                                              int row, int i0, int j0, attn_heads h, int head, float c, int tx,
                                              int ty) {
    add_products<DP>(w, tq, tk, tx, ty);
    add_products<DP>(ds, tdo, tv, tx, ty);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bool there = 2 * ty + i < queries;
        const float *st = stat + ((size_t)(row + (there ? 2 * ty + i : 0)) * h.H + head) * CUDA_STATS;
        const float top = st[0], inv = st[1], dot = st[2];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            w[i][j] = there && j0 + tx + 8 * j <= i0 + 2 * ty + i ? expf(w[i][j] * c - top) * inv : 0;
            ds[i][j] = w[i][j] * (ds[i][j] - dot);
        }
    }
}

// Tiles of keys of a KV head, whose query heads add up in order; s.from: the first query of a sequence.
template <int DP>
static __global__ void __launch_bounds__(TILE_THREADS, 3)
    attention_dkv_k(float *__restrict__ dk, float *__restrict__ dv, const float *__restrict__ stat,
                    const float *__restrict__ dout, const float *__restrict__ q, const float *__restrict__ k,
                    const float *__restrict__ v, int base, attn_heads h, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tk = shared, *tv = tk + tile_floats<DP>(), *tq = tv + tile_floats<DP>(), *tdo = tq + tile_floats<DP>(),
          *tp = tdo + tile_floats<DP>(), *tds = tp + MATRIX_FLOATS;
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, A = h.H * h.D, W = h.K * h.D, D = h.D,
              kv_head = (int)blockIdx.y;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int j0 = ((int)blockIdx.x - p.first) * TILE, count = p.n - j0 < TILE ? p.n - j0 : TILE;
    const size_t at_kv = (size_t)p.row * W + (size_t)kv_head * D;
    const float c = 1.0f / sqrtf((float)D);
    load_tile<DP>(tk, k + at_kv + (size_t)j0 * W, count, W, D);
    load_tile<DP>(tv, v + at_kv + (size_t)j0 * W, count, W, D);
    float gk[2][DP / 8] = {{0}}, gv[2][DP / 8] = {{0}};
    for (int head = 0; head < h.H; head++) {
        if (ATTN_KV_HEAD(h, head) != kv_head) continue;
        const size_t at = (size_t)p.row * A + (size_t)head * D;
        for (int i0 = p.from + (j0 > p.from ? (j0 - p.from) / TILE * TILE : 0); i0 < p.n; i0 += TILE) {
            const int queries = p.n - i0 < TILE ? p.n - i0 : TILE;
            __syncthreads();
            load_tile<DP>(tq, q + at + (size_t)i0 * A, queries, A, D);
            load_tile<DP>(tdo, dout + at + (size_t)i0 * A, queries, A, D);
            __syncthreads();
            float w[2][4] = {{0}}, ds[2][4] = {{0}};
            tile_gradient<DP>(w, ds, tq, tk, tv, tdo, stat, queries, p.row + i0 - base, i0, j0, h, head, c, tx, ty);
            keep_scores(tp, w, tx, ty);
            keep_scores(tds, ds, tx, ty);
            __syncthreads();
            add_rows<DP, true>(gv, tp, tdo, tx, ty);
            add_rows<DP, true>(gk, tds, tq, tx, ty);
        }
    }
    store_rows<DP>(dk + at_kv + (size_t)j0 * W, gk, c, count, W, D, tx, ty);
    store_rows<DP>(dv + at_kv + (size_t)j0 * W, gv, 1, count, W, D, tx, ty);
}

template <int DP>
static __global__ void __launch_bounds__(TILE_THREADS, 3)
    attention_dq_k(float *__restrict__ dq, const float *__restrict__ stat, const float *__restrict__ dout,
                   const float *__restrict__ q, const float *__restrict__ k, const float *__restrict__ v, int base,
                   attn_heads h, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tq = shared, *tdo = tq + tile_floats<DP>(), *tk = tdo + tile_floats<DP>(), *tv = tk + tile_floats<DP>(),
          *tds = tv + tile_floats<DP>();
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, A = h.H * h.D, W = h.K * h.D, D = h.D,
              head = (int)blockIdx.y;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int i0 = p.from + ((int)blockIdx.x - p.first) * TILE, queries = p.n - i0 < TILE ? p.n - i0 : TILE,
              keys = i0 + queries;
    const size_t at = (size_t)p.row * A + (size_t)head * D,
                 at_kv = (size_t)p.row * W + (size_t)ATTN_KV_HEAD(h, head) * D;
    const float c = 1.0f / sqrtf((float)D);
    load_tile<DP>(tq, q + at + (size_t)i0 * A, queries, A, D);
    load_tile<DP>(tdo, dout + at + (size_t)i0 * A, queries, A, D);
    float g[2][DP / 8] = {{0}};
    for (int j0 = 0; j0 < keys; j0 += TILE) {
        const int count = keys - j0 < TILE ? keys - j0 : TILE;
        __syncthreads();
        load_tile<DP>(tk, k + at_kv + (size_t)j0 * W, count, W, D);
        load_tile<DP>(tv, v + at_kv + (size_t)j0 * W, count, W, D);
        __syncthreads();
        float w[2][4] = {{0}}, ds[2][4] = {{0}};
        tile_gradient<DP>(w, ds, tq, tk, tv, tdo, stat, queries, p.row + i0 - base, i0, j0, h, head, c, tx, ty);
        keep_scores(tds, ds, tx, ty);
        __syncthreads();
        add_rows<DP, false>(g, tds, tk, tx, ty);
    }
    store_rows<DP>(dq + at + (size_t)i0 * A, g, c, queries, A, D, tx, ty);
}

extern "C" void cuda_launch_attention(float *out, float *stat, const float *dout, const float *q, const float *k,
                                      const float *v, int base, attn_heads h, cuda_live u, const cuda_seqs *s,
                                      cudaStream_t st) {
    ATTENTION_LAUNCH(attention_k, FORWARD_FLOATS, h.D, s->tiles, u.most, st, out, stat, dout, q, k, v, base, h, u, *s);
}
extern "C" void cuda_launch_attention_dkv(float *dk, float *dv, const float *stat, const float *dout, const float *q,
                                          const float *k, const float *v, int base, attn_heads h, const cuda_seqs *keys,
                                          cudaStream_t st) {
    ATTENTION_LAUNCH(attention_dkv_k, DKV_FLOATS, h.D, keys->tiles, h.K, st, dk, dv, stat, dout, q, k, v, base, h,
                     *keys);
}
extern "C" void cuda_launch_attention_dq(float *dq, const float *stat, const float *dout, const float *q,
                                         const float *k, const float *v, int base, attn_heads h, const cuda_seqs *s,
                                         cudaStream_t st) {
    ATTENTION_LAUNCH(attention_dq_k, DQ_FLOATS, h.D, s->tiles, h.H, st, dq, stat, dout, q, k, v, base, h, *s);
}
