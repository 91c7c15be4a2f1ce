// cuda_transformer_attention - causal attention over packed sequences and its gradient, in tiles of 64 rows, which a
// block keeps, and 32 with an online softmax (Dao et al. 2022, FlashAttention): no T x T matrix is stored. Products are
// of tensor cores, with the accuracy of fp32 (cuda_attention_mma.h). The gradient computes the probabilities again from
// each row's largest score and 1 / sum of exp, and takes sum_j P dP = dO . O from the same pass, so three kernels make
// it: those sums per row, then dK and dV a tile of keys at a time, then dQ a tile of queries at a time; no atomics, so
// the same bits at every run.
//   S = c Q K', P = softmax(S), O = P V;  dP = dO V', dS = P (dP - dO . O), dQ = c dS K, dK = c dS' Q, dV = P' dO
#include "cuda_attention_mma.h"
#include <math.h>

#define FORWARD_FLOATS(dp) mma_floats<dp>(MMA_ROWS + 2 * MMA_COLS)
#define BACK_FLOATS(dp)    mma_floats<dp>(2 * MMA_ROWS + 2 * MMA_COLS)

// One step of the online softmax: w [16, MMA_COLS] holds products and becomes exp(c w - largest), 0 where hidden;
// largest and sum of the lane's two rows, by which o shrinks.
template <int DP, class F>
__device__ __forceinline__ void softmax_step(float w[COL_TILES][4], float o[DP / 8][4], float top[2], float sum[2],
                                             float c, F hidden) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = top[half];
#pragma unroll
        for (int j = 0; j < COL_TILES; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &v = w[j][2 * half + e];
                v = hidden(half, j, e) ? -INFINITY : v * c;
                most = fmaxf(most, v);
            }
        most = row_max4(most);
        const float shrink = top[half] == -INFINITY ? 0 : expf(top[half] - most);  // a tile may have no key for a head
        float part = 0;
        top[half] = most;
#pragma unroll
        for (int j = 0; j < COL_TILES; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &v = w[j][2 * half + e];
                v = v == -INFINITY ? 0 : expf(v - most);
                part += v;
            }
        sum[half] = sum[half] * shrink + row_sum4(part);
#pragma unroll
        for (int n = 0; n < DP / 8; n++) o[n][2 * half] *= shrink, o[n][2 * half + 1] *= shrink;
    }
}

// Of the next `left` keys those up to the last one that a warp's rows see; none where it has no rows.
__device__ __forceinline__ int columns_seen(bool has_rows, int last, int left) {
    if (!has_rows) return 0;
    return last + 1 < left ? last + 1 : left;
}

// out, or (stat) the row's largest score, 1 / sum of exp, and dout . out. Keys of the next tile come while values are
// multiplied, values while scores are.
template <int DP>
static __global__ void __launch_bounds__(MMA_THREADS, DP > 64 ? 2 : 3)
    attention_k(float *__restrict__ out, float *__restrict__ stat, const float *__restrict__ dout,
                const float *__restrict__ q, const float *__restrict__ k, const float *__restrict__ v, int base,
                attn_heads h, cuda_live u, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tq = shared, *tk = tq + mma_floats<DP>(MMA_ROWS), *tv = tk + mma_floats<DP>(MMA_COLS);
    const mma_lane l = lane_of_mma();
    const int A = h.H * h.D, W = h.K * h.D, D = h.D, slot = (int)blockIdx.y, mine = (int)threadIdx.x / 32 * 16;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    if (idle(u, slot, p.seq)) return;
    const int head = u.unit ? u.unit[slot] : slot, past = past_of(p),
              i0 = p.from + ((int)blockIdx.x - p.first) * MMA_ROWS, queries = p.n - i0 < MMA_ROWS ? p.n - i0 : MMA_ROWS,
              keys = past + i0 + queries, kv_head = ATTN_KV_HEAD(h, head);
    const size_t at = (size_t)p.row * A + (size_t)head * D, past_at = (size_t)kv_head * D,
                 at_kv = (size_t)p.row * W + past_at;
    const float c = 1.0f / sqrtf((float)D), *past_k = past ? p.past_k + past_at : k + at_kv,
                *past_v = past ? p.past_v + past_at : v + at_kv;
    const auto take_keys = [&](float *tile, const float *old, const float *rows, int j0) {
        if (j0 < keys)
            copy_rows<DP, MMA_COLS>(tile, old, rows, past, j0, keys - j0 < MMA_COLS ? keys - j0 : MMA_COLS, W, D);
        copies_end();
    };
    copy_rows<DP, MMA_ROWS>(tq, q + at + (size_t)i0 * A, queries, A, D);
    take_keys(tk, past_k, k + at_kv, 0);
    take_keys(tv, past_v, v + at_kv, 0);
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, o[DP / 8][4] = {{0}};
    for (int j0 = 0; j0 < keys; j0 += MMA_COLS) {
        const int last = past + i0 + mine + 15 - j0;  // column that a row of this warp sees
        const mma_part part = {0, columns_seen(mine < queries, last, keys - j0), D};
        float w[COL_TILES][4] = {{0}};
        copies_done<1>();
        __syncthreads();
        mma_scores<DP>(w, tq + mine * (DP + 4), tk, part, l);
        __syncthreads();
        take_keys(tk, past_k, k + at_kv, j0 + MMA_COLS);
        const auto hidden = [&](int half, int j, int e) {
            const int key = j0 + 8 * j + 2 * l.t + e;
            return key > past + i0 + mine + l.row + 8 * half ||
                   (p.past_has && key < past && !p.past_has[(size_t)key * h.K + kv_head]);
        };
        if (part.end > 0) softmax_step<DP>(w, o, top, sum, c, hidden);
        copies_done<1>();
        __syncthreads();
        mma_rows<DP>(o, w, tv, part, l);
        __syncthreads();
        take_keys(tv, past_v, v + at_kv, j0 + MMA_COLS);
    }
#pragma unroll
    for (int n = 0; n < DP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) o[n][i] *= 1.0f / sum[i / 2];
    if (out) mma_store<DP>(out + at + (size_t)i0 * A, o, 1, mine, queries, A, D, l);
    if (!stat) return;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = mine + l.row + 8 * half;
        const size_t row = (size_t)(p.row + i0 + r);
        const float dot = mma_row_dot<DP>(dout + row * A + (size_t)head * D, o, half, r < queries, D, l);
        if (r >= queries || l.t) continue;
        float *to = stat + ((row - base) * h.H + head) * CUDA_STATS;
        to[0] = top[half];
        to[1] = 1.0f / sum[half];
        to[2] = dot;
    }
}

// P and dS from q . k and dout . v, in place, 0 where hidden.
__device__ __forceinline__ void gradient_at(float &w, float &ds, const float *stat, bool seen, float c) {
    w = seen ? expf(w * c - stat[0]) * stat[1] : 0;
    ds = w * (ds - stat[2]);
}

// A tile of queries of one of the heads that read a KV head.
struct query_tile {
    int head, i0;
};

// The block's keys are rows of the products: P' and dS', which then multiply dout and q. dout of the next tile comes
// while dK is made, its queries while dP is.
template <int DP>
static __global__ void __launch_bounds__(MMA_THREADS, 2)
    attention_dkv_k(float *__restrict__ dk, float *__restrict__ dv, const float *__restrict__ stat,
                    const float *__restrict__ dout, const float *__restrict__ q, const float *__restrict__ k,
                    const float *__restrict__ v, int base, attn_heads h, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tk = shared, *tv = tk + mma_floats<DP>(MMA_ROWS), *tq = tv + mma_floats<DP>(MMA_ROWS),
          *tdo = tq + mma_floats<DP>(MMA_COLS);
    const mma_lane l = lane_of_mma();
    const int A = h.H * h.D, W = h.K * h.D, D = h.D, kv_head = (int)blockIdx.y, mine = (int)threadIdx.x / 32 * 16;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int j0 = ((int)blockIdx.x - p.first) * MMA_ROWS, count = p.n - j0 < MMA_ROWS ? p.n - j0 : MMA_ROWS,
              first = p.from + (j0 > p.from ? (j0 - p.from) / MMA_COLS * MMA_COLS : 0);
    const size_t at_kv = (size_t)p.row * W + (size_t)kv_head * D;
    const float c = 1.0f / sqrtf((float)D);
    const auto next_head = [&](query_tile t) {
        t.i0 = first;
        while (t.head < h.H && ATTN_KV_HEAD(h, t.head) != kv_head) t.head++;
        return t;
    };
    const auto next = [&](query_tile t) {
        t.i0 += MMA_COLS;
        return t.i0 < p.n ? t : next_head({t.head + 1, 0});
    };
    const auto take = [&](float *tile, const float *rows, query_tile t) {
        if (t.head < h.H)
            copy_rows<DP, MMA_COLS>(tile, rows + (size_t)(p.row + t.i0) * A + (size_t)t.head * D,
                                    p.n - t.i0 < MMA_COLS ? p.n - t.i0 : MMA_COLS, A, D);
        copies_end();
    };
    copy_rows<DP, MMA_ROWS>(tk, k + at_kv + (size_t)j0 * W, count, W, D);
    copy_rows<DP, MMA_ROWS>(tv, v + at_kv + (size_t)j0 * W, count, W, D);
    float gk[DP / 8][4] = {{0}}, gv[DP / 8][4] = {{0}};
    query_tile t = next_head({0, 0});
    if (first >= p.n) t.head = h.H;
    take(tdo, dout, t);
    take(tq, q, t);
    while (t.head < h.H) {
        const query_tile then = next(t);
        const mma_part part = {j0 + mine - t.i0, mine < count ? p.n - t.i0 : 0,
                               D};  // queries that see a key of the warp
        float w[COL_TILES][4] = {{0}}, ds[COL_TILES][4] = {{0}};
        copies_done<1>();
        __syncthreads();
        mma_scores<DP>(ds, tv + mine * (DP + 4), tdo, part, l);
        copies_done<0>();
        __syncthreads();
        mma_scores<DP>(w, tk + mine * (DP + 4), tq, part, l);
#pragma unroll
        for (int j = 0; j < COL_TILES; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int i = t.i0 + 8 * j + 2 * l.t + e, row = p.row + (i < p.n ? i : t.i0) - base;
                const float *st = stat + ((size_t)row * h.H + t.head) * CUDA_STATS;
#pragma unroll
                for (int half = 0; half < 2; half++)
                    gradient_at(w[j][2 * half + e], ds[j][2 * half + e], st,
                                i < p.n && j0 + mine + l.row + 8 * half <= i, c);
            }
        mma_rows<DP>(gv, w, tdo, part, l);
        __syncthreads();
        take(tdo, dout, then);
        mma_rows<DP>(gk, ds, tq, part, l);
        __syncthreads();
        take(tq, q, then);
        t = then;
    }
    mma_store<DP>(dk + at_kv + (size_t)j0 * W, gk, c, mine, count, W, D, l);
    mma_store<DP>(dv + at_kv + (size_t)j0 * W, gv, 1, mine, count, W, D, l);
}

// Values of the next tile come while scores and dQ are made, its keys while dP is.
template <int DP>
static __global__ void __launch_bounds__(MMA_THREADS, 2)
    attention_dq_k(float *__restrict__ dq, const float *__restrict__ stat, const float *__restrict__ dout,
                   const float *__restrict__ q, const float *__restrict__ k, const float *__restrict__ v, int base,
                   attn_heads h, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tq = shared, *tdo = tq + mma_floats<DP>(MMA_ROWS), *tk = tdo + mma_floats<DP>(MMA_ROWS),
          *tv = tk + mma_floats<DP>(MMA_COLS);
    const mma_lane l = lane_of_mma();
    const int A = h.H * h.D, W = h.K * h.D, D = h.D, head = (int)blockIdx.y, mine = (int)threadIdx.x / 32 * 16;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int i0 = p.from + ((int)blockIdx.x - p.first) * MMA_ROWS, queries = p.n - i0 < MMA_ROWS ? p.n - i0 : MMA_ROWS,
              keys = i0 + queries;
    const size_t at = (size_t)(p.row + i0) * A + (size_t)head * D,
                 at_kv = (size_t)p.row * W + (size_t)ATTN_KV_HEAD(h, head) * D;
    const float c = 1.0f / sqrtf((float)D);
    const auto take = [&](float *tile, const float *rows, int j0) {
        if (j0 < keys)
            copy_rows<DP, MMA_COLS>(tile, rows + at_kv + (size_t)j0 * W, keys - j0 < MMA_COLS ? keys - j0 : MMA_COLS, W,
                                    D);
        copies_end();
    };
    copy_rows<DP, MMA_ROWS>(tq, q + at, queries, A, D);
    copy_rows<DP, MMA_ROWS>(tdo, dout + at, queries, A, D);
    take(tv, v, 0);
    take(tk, k, 0);
    float g[DP / 8][4] = {{0}}, st[2][3];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = mine + l.row + 8 * half, row = p.row + i0 + (r < queries ? r : 0) - base;
#pragma unroll
        for (int n = 0; n < 3; n++) st[half][n] = stat[((size_t)row * h.H + head) * CUDA_STATS + n];
    }
    for (int j0 = 0; j0 < keys; j0 += MMA_COLS) {
        const int last = i0 + mine + 15 - j0;
        const mma_part part = {0, columns_seen(mine < queries, last, keys - j0), D};
        float w[COL_TILES][4] = {{0}}, ds[COL_TILES][4] = {{0}};
        copies_done<1>();
        __syncthreads();
        mma_scores<DP>(ds, tdo + mine * (DP + 4), tv, part, l);
        __syncthreads();
        take(tv, v, j0 + MMA_COLS);
        copies_done<1>();
        __syncthreads();
        mma_scores<DP>(w, tq + mine * (DP + 4), tk, part, l);
#pragma unroll
        for (int j = 0; j < COL_TILES; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int r = mine + l.row + i / 2 * 8;
                gradient_at(w[j][i], ds[j][i], st[i / 2], r < queries && j0 + 8 * j + 2 * l.t + i % 2 <= i0 + r, c);
            }
        mma_rows<DP>(g, ds, tk, part, l);
        __syncthreads();
        take(tk, k, j0 + MMA_COLS);
    }
    mma_store<DP>(dq + at, g, c, mine, queries, A, D, l);
}

extern "C" void cuda_launch_attention(float *out, float *stat, const float *dout, const float *q, const float *k,
                                      const float *v, int base, attn_heads h, cuda_live u, const cuda_seqs *s,
                                      cudaStream_t st) {
    ATTENTION_LAUNCH(attention_k, FORWARD_FLOATS, h.D, s->tiles, u.most, st, out, stat, dout, q, k, v, base, h, u, *s);
}
extern "C" void cuda_launch_attention_dkv(float *dk, float *dv, const float *stat, const float *dout, const float *q,
                                          const float *k, const float *v, int base, attn_heads h, const cuda_seqs *keys,
                                          cudaStream_t st) {
    ATTENTION_LAUNCH(attention_dkv_k, BACK_FLOATS, h.D, keys->tiles, h.K, st, dk, dv, stat, dout, q, k, v, base, h,
                     *keys);
}
extern "C" void cuda_launch_attention_dq(float *dq, const float *stat, const float *dout, const float *q,
                                         const float *k, const float *v, int base, attn_heads h, const cuda_seqs *s,
                                         cudaStream_t st) {
    ATTENTION_LAUNCH(attention_dq_k, BACK_FLOATS, h.D, s->tiles, h.H, st, dq, stat, dout, q, k, v, base, h, *s);
}
