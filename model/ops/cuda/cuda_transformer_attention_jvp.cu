// cuda_transformer_attention_jvp - the tangent of causal attention and of its gradient, by the tiles of
// cuda_transformer_attention.cu. With c = 1/sqrt(D):
//   tS = c (tQ K' + Q tK'), mu = sum P tS, tP = P (tS - mu), tO = tP V + P tV
//   dS = P (dP - m), m = dO . O;  tdS = tP (dP - m) + P (tdP - tm), tdP = tdO V' + dO tV', tm = dO . tO + tdO . O
//   tdQ = c (tdS K + dS tK), tdK = c (tdS' Q + dS' tQ), tdV = tP' dO + P' tdO
#include "cuda_attention_tiles.h"
#include <math.h>

#define TANGENT_FLOATS(dp) (4 * tile_floats<dp>() + 2 * MATRIX_FLOATS)
#define TDKV_FLOATS(dp)    (8 * tile_floats<dp>() + 4 * MATRIX_FLOATS)
#define TDQ_FLOATS(dp)     (8 * tile_floats<dp>() + 2 * MATRIX_FLOATS)
// Where a block cannot have so much, keys, values and their tangents take turns in one tile, in the same order of sums.
// Three tiles of scores fit in that one when it is not in use.
#define TDKV_LEAN_FLOATS(dp) (5 * tile_floats<dp>() + MATRIX_FLOATS)
#define TDQ_LEAN_FLOATS(dp)  (5 * tile_floats<dp>() + 2 * MATRIX_FLOATS)

// tout, or (stat) largest score, 1 / sum of exp, m, mu, tm of each row. The online softmax carries sum P V, sum P (tS V
// + tV) and sum P tS.
template <int DP>
static __global__ void __launch_bounds__(TILE_THREADS, 2)
    attention_jvp_k(float *__restrict__ tout, float *__restrict__ stat, const cuda_tangents x, int base, attn_heads h,
                    const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    float *tq = shared, *ttq = tq + tile_floats<DP>(), *tk = ttq + tile_floats<DP>(), *ttk = tk + tile_floats<DP>(),
          *tp = ttk + tile_floats<DP>(), *tpt = tp + MATRIX_FLOATS;
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, A = h.H * h.D, W = h.K * h.D, D = h.D,
              head = (int)blockIdx.y;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int i0 = p.from + ((int)blockIdx.x - p.first) * TILE, queries = p.n - i0 < TILE ? p.n - i0 : TILE,
              keys = i0 + queries;
    const size_t ati = (size_t)(p.row + i0) * A + (size_t)head * D,
                 at_kv = (size_t)p.row * W + (size_t)ATTN_KV_HEAD(h, head) * D;
    const float c = 1.0f / sqrtf((float)D);
    load_tile<DP>(tq, x.q + ati, queries, A, D);
    load_tile<DP>(ttq, x.tq + ati, queries, A, D);
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, mu[2] = {0, 0}, o[2][DP / 8] = {{0}}, to[2][DP / 8] = {{0}};
    for (int j0 = 0; j0 < keys; j0 += TILE) {
        const int count = keys - j0 < TILE ? keys - j0 : TILE;
        __syncthreads();
        load_tile<DP>(tk, x.k + at_kv + (size_t)j0 * W, count, W, D);
        load_tile<DP>(ttk, x.tk + at_kv + (size_t)j0 * W, count, W, D);
        __syncthreads();
        float w[2][4] = {{0}}, tw[2][4] = {{0}};
        add_products<DP>(w, tq, tk, tx, ty);
        add_products<DP>(tw, ttq, tk, tx, ty);
        add_products<DP>(tw, tq, ttk, tx, ty);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int visible = i0 + 2 * ty + i - j0;
            float most = top[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                w[i][j] = tx + 8 * j <= visible ? w[i][j] * c : -INFINITY;
                most = fmaxf(most, w[i][j]);
            }
            most = row_max8(most);
            const float shrink = expf(top[i] - most);
            top[i] = most;
            float part = 0, tpart = 0;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                w[i][j] = expf(w[i][j] - most);
                tw[i][j] *= c * w[i][j];
                part += w[i][j];
                tpart += tw[i][j];
            }
            sum[i] = sum[i] * shrink + row_sum8(part);
            mu[i] = mu[i] * shrink + row_sum8(tpart);
#pragma unroll
            for (int d = 0; d < DP / 8; d++) {
                o[i][d] *= shrink;
                to[i][d] *= shrink;
            }
        }
        keep_scores(tp, w, tx, ty);
        keep_scores(tpt, tw, tx, ty);
        __syncthreads();
        load_tile<DP>(tk, x.v + at_kv + (size_t)j0 * W, count, W, D);
        load_tile<DP>(ttk, x.tv + at_kv + (size_t)j0 * W, count, W, D);
        __syncthreads();
        add_rows<DP, false>(o, tp, tk, tx, ty);
        add_rows<DP, false>(to, tpt, tk, tx, ty);
        add_rows<DP, false>(to, tp, ttk, tx, ty);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float inv = 1.0f / sum[i];
        mu[i] *= inv;
#pragma unroll
        for (int d = 0; d < DP / 8; d++) {
            o[i][d] *= inv;
            to[i][d] = to[i][d] * inv - mu[i] * o[i][d];
        }
    }
    if (tout) store_rows<DP>(tout + ati, to, 1, queries, A, D, tx, ty);
    if (!stat) return;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bool there = 2 * ty + i < queries;
        const size_t row = (size_t)(p.row + i0 + 2 * ty + i), a = row * A + (size_t)head * D;
        const float m = row_dot<DP>(x.dout + a, o[i], there, D, tx);
        const float tm = row_dot<DP>(x.dout + a, to[i], there, D, tx) + row_dot<DP>(x.tdout + a, o[i], there, D, tx);
        if (!there || tx) continue;
        float *to_stat = stat + ((row - base) * h.H + head) * CUDA_STATS;
        to_stat[0] = top[i];
        to_stat[1] = 1.0f / sum[i];
        to_stat[2] = m;
        to_stat[3] = mu[i];
        to_stat[4] = tm;
    }
}

struct tangent_tiles {
    float *q, *tq, *k, *tk, *v, *tv, *dout, *tdout;
};
template <int DP, bool LEAN> __device__ __forceinline__ tangent_tiles tangent_tiles_of(float *shared) {
    const int n = tile_floats<DP>(), next = LEAN ? 0 : n;
    float *keys = shared + 4 * n;
    return {shared, shared + n, keys, keys + next, keys + 2 * next, keys + 3 * next, shared + 2 * n, shared + 3 * n};
}
template <int DP>
__device__ __forceinline__ void load_query_side(const tangent_tiles &t, const cuda_tangents &x, size_t at, int count,
                                                int E, int D) {
    load_tile<DP>(t.q, x.q + at, count, E, D);
    load_tile<DP>(t.tq, x.tq + at, count, E, D);
    load_tile<DP>(t.dout, x.dout + at, count, E, D);
    load_tile<DP>(t.tdout, x.tdout + at, count, E, D);
}
template <int DP>
__device__ __forceinline__ void load_key_side(const tangent_tiles &t, const cuda_tangents &x, size_t at, int count,
                                              int E, int D) {
    load_tile<DP>(t.k, x.k + at, count, E, D);
    load_tile<DP>(t.tk, x.tk + at, count, E, D);
    load_tile<DP>(t.v, x.v + at, count, E, D);
    load_tile<DP>(t.tv, x.tv + at, count, E, D);
}

// A tile of the one that keys, values and tangents take turns in, for all threads.
template <int DP> __device__ __forceinline__ void take_turn(float *tile, const float *rows, int count, int E, int D) {
    __syncthreads();
    load_tile<DP>(tile, rows, count, E, D);
    __syncthreads();
}

// w, tw, ds, tds: q k', tq k' + q tk', dout v', tdout v' + dout tv'. keys: `count` rows from `at` on, of distance E.
template <int DP, bool LEAN>
__device__ __forceinline__ void tangent_products(float w[2][4], float tw[2][4], float ds[2][4], float tds[2][4],
                                                 const tangent_tiles &t, const cuda_tangents &x, size_t at, int count,
                                                 int E, int D, int tx, int ty) {
    if (LEAN) take_turn<DP>(t.k, x.k + at, count, E, D);
    add_products<DP>(w, t.q, t.k, tx, ty);
    add_products<DP>(tw, t.tq, t.k, tx, ty);
    if (LEAN) take_turn<DP>(t.tk, x.tk + at, count, E, D);
    add_products<DP>(tw, t.q, t.tk, tx, ty);
    if (LEAN) take_turn<DP>(t.v, x.v + at, count, E, D);
    add_products<DP>(ds, t.dout, t.v, tx, ty);
    add_products<DP>(tds, t.tdout, t.v, tx, ty);
    if (LEAN) take_turn<DP>(t.tv, x.tv + at, count, E, D);
    add_products<DP>(tds, t.dout, t.tv, tx, ty);
    if (LEAN) __syncthreads();  // the tile is free
}

// P, tP, dS, tdS of a tile of queries i0.. and keys j0.. from those products, in place.
__device__ __forceinline__ void tile_tangent(float w[2][4], float tw[2][4], float ds[2][4], float tds[2][4],
                                             const float *stat, int queries, int row, int i0, int j0, attn_heads h,
                                             int head, float c, int tx, int ty) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bool there = 2 * ty + i < queries;
        const float *st = stat + ((size_t)(row + (there ? 2 * ty + i : 0)) * h.H + head) * CUDA_STATS;
        const float top = st[0], inv = st[1], m = st[2], mu = st[3], tm = st[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float p = there && j0 + tx + 8 * j <= i0 + 2 * ty + i ? expf(w[i][j] * c - top) * inv : 0,
                        tp = p * (tw[i][j] * c - mu);
            const float d = ds[i][j] - m, td = tds[i][j] - tm;
            w[i][j] = p;
            tw[i][j] = tp;
            ds[i][j] = p * d;
            tds[i][j] = tp * d + p * td;
        }
    }
}

template <int DP, bool LEAN = false>
static __global__ void __launch_bounds__(TILE_THREADS, 2)
    attention_tdkv_k(float *__restrict__ tdk, float *__restrict__ tdv, const float *__restrict__ stat,
                     const cuda_tangents x, int base, attn_heads h, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    const tangent_tiles t = tangent_tiles_of<DP, LEAN>(shared);
    float *ttds = shared + (LEAN ? 5 : 8) * tile_floats<DP>(), *tp = LEAN ? t.k : ttds + MATRIX_FLOATS,
          *ttp = tp + MATRIX_FLOATS, *tds = ttp + MATRIX_FLOATS;
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, A = h.H * h.D, W = h.K * h.D, D = h.D,
              kv_head = (int)blockIdx.y;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int j0 = ((int)blockIdx.x - p.first) * TILE, count = p.n - j0 < TILE ? p.n - j0 : TILE;
    const size_t atj = (size_t)(p.row + j0) * W + (size_t)kv_head * D;
    const float c = 1.0f / sqrtf((float)D);
    if (!LEAN) load_key_side<DP>(t, x, atj, count, W, D);
    float gk[2][DP / 8] = {{0}}, gv[2][DP / 8] = {{0}};
    for (int head = 0; head < h.H; head++) {
        if (ATTN_KV_HEAD(h, head) != kv_head) continue;
        const size_t at = (size_t)p.row * A + (size_t)head * D;
        for (int i0 = p.from + (j0 > p.from ? (j0 - p.from) / TILE * TILE : 0); i0 < p.n; i0 += TILE) {
            const int queries = p.n - i0 < TILE ? p.n - i0 : TILE;
            __syncthreads();
            load_query_side<DP>(t, x, at + (size_t)i0 * A, queries, A, D);
            __syncthreads();
            float w[2][4] = {{0}}, tw[2][4] = {{0}}, ds[2][4] = {{0}}, td[2][4] = {{0}};
            tangent_products<DP, LEAN>(w, tw, ds, td, t, x, atj, count, W, D, tx, ty);
            tile_tangent(w, tw, ds, td, stat, queries, p.row + i0 - base, i0, j0, h, head, c, tx, ty);
            keep_scores(tp, w, tx, ty);
            keep_scores(ttp, tw, tx, ty);
            keep_scores(tds, ds, tx, ty);
            keep_scores(ttds, td, tx, ty);
            __syncthreads();
            add_rows<DP, true>(gv, ttp, t.dout, tx, ty);
            add_rows<DP, true>(gv, tp, t.tdout, tx, ty);
            add_rows<DP, true>(gk, ttds, t.q, tx, ty);
            add_rows<DP, true>(gk, tds, t.tq, tx, ty);
        }
    }
    store_rows<DP>(tdk + atj, gk, c, count, W, D, tx, ty);
    store_rows<DP>(tdv + atj, gv, 1, count, W, D, tx, ty);
}

template <int DP, bool LEAN = false>
static __global__ void __launch_bounds__(TILE_THREADS, 2)
    attention_tdq_k(float *__restrict__ tdq, const float *__restrict__ stat, const cuda_tangents x, int base,
                    attn_heads h, const cuda_seqs s) {
    CU_DYN_SHARED(float, shared);
    const tangent_tiles t = tangent_tiles_of<DP, LEAN>(shared);
    float *tds = shared + (LEAN ? 5 : 8) * tile_floats<DP>(), *ttds = tds + MATRIX_FLOATS;
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8, A = h.H * h.D, W = h.K * h.D, D = h.D,
              head = (int)blockIdx.y;
    const cuda_seq p = s.s[find_span(s, (int)blockIdx.x)];
    const int i0 = p.from + ((int)blockIdx.x - p.first) * TILE, queries = p.n - i0 < TILE ? p.n - i0 : TILE,
              keys = i0 + queries;
    const size_t ati = (size_t)(p.row + i0) * A + (size_t)head * D,
                 at_kv = (size_t)p.row * W + (size_t)ATTN_KV_HEAD(h, head) * D;
    const float c = 1.0f / sqrtf((float)D);
    load_query_side<DP>(t, x, ati, queries, A, D);
    float g[2][DP / 8] = {{0}};
    for (int j0 = 0; j0 < keys; j0 += TILE) {
        const int count = keys - j0 < TILE ? keys - j0 : TILE;
        const size_t atj = at_kv + (size_t)j0 * W;
        __syncthreads();
        if (!LEAN) load_key_side<DP>(t, x, atj, count, W, D);
        __syncthreads();
        float w[2][4] = {{0}}, tw[2][4] = {{0}}, ds[2][4] = {{0}}, td[2][4] = {{0}};
        tangent_products<DP, LEAN>(w, tw, ds, td, t, x, atj, count, W, D, tx, ty);
        tile_tangent(w, tw, ds, td, stat, queries, p.row + i0 - base, i0, j0, h, head, c, tx, ty);
        keep_scores(tds, ds, tx, ty);
        keep_scores(ttds, td, tx, ty);
        if (LEAN) load_tile<DP>(t.k, x.k + atj, count, W, D);
        __syncthreads();
        add_rows<DP, false>(g, ttds, t.k, tx, ty);
        if (LEAN) take_turn<DP>(t.tk, x.tk + atj, count, W, D);
        add_rows<DP, false>(g, tds, t.tk, tx, ty);
    }
    store_rows<DP>(tdq + ati, g, c, queries, A, D, tx, ty);
}

extern "C" void cuda_launch_attention_jvp(float *tout, float *stat, const cuda_tangents *x, int base, attn_heads h,
                                          const cuda_seqs *s, cudaStream_t st) {
    ATTENTION_LAUNCH(attention_jvp_k, TANGENT_FLOATS, h.D, s->tiles, h.H, st, tout, stat, *x, base, h, *s);
}
extern "C" void cuda_launch_attention_tdkv(float *tdk, float *tdv, const float *stat, const cuda_tangents *x, int base,
                                           attn_heads h, const cuda_seqs *keys, cudaStream_t st) {
    if (h.D > 64 && !attention_fits(TDKV_FLOATS(128)))
        attention_start(attention_tdkv_k<128, true>, TDKV_LEAN_FLOATS(128), keys->tiles, h.K, st, tdk, tdv, stat, *x,
                        base, h, *keys);
    else
        ATTENTION_LAUNCH(attention_tdkv_k, TDKV_FLOATS, h.D, keys->tiles, h.K, st, tdk, tdv, stat, *x, base, h, *keys);
}
extern "C" void cuda_launch_attention_tdq(float *tdq, const float *stat, const cuda_tangents *x, int base, attn_heads h,
                                          const cuda_seqs *s, cudaStream_t st) {
    if (h.D > 64 && !attention_fits(TDQ_FLOATS(128)))
        attention_start(attention_tdq_k<128, true>, TDQ_LEAN_FLOATS(128), s->tiles, h.H, st, tdq, stat, *x, base, h,
                        *s);
    else
        ATTENTION_LAUNCH(attention_tdq_k, TDQ_FLOATS, h.D, s->tiles, h.H, st, tdq, stat, *x, base, h, *s);
}
