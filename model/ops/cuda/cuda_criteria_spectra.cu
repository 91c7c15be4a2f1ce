// cuda_criteria_spectra - sums over the eigenvalues of small matrices of each unit, by Cholesky factors: ln det(I +
// K/D) of a head's signs, ln det and trace of the inverse of M = 0.9 C + 0.1 I for the correlations C of its gradient's
// rows, the same of the neurons' (32 rows, a warp each) from the correlations of fc1's input; and that input's rows
// centred and scaled. Formulas and orders as in cpu_criteria_spectra.c.
#include "cuda_device.h"
#include <math.h>

enum { GROUPS = THREADS / 32 };

__device__ __forceinline__ int warp_of() { return (int)threadIdx.x >> 5; }
__device__ __forceinline__ int lane_of() { return (int)threadIdx.x & 31; }
// The lower triangle of a matrix, packed; j <= i.
__device__ __forceinline__ int at(int i, int j) { return i * (i + 1) / 2 + j; }
#define EACH_ENTRY(i, j, n)                                                                                            \
    for (int i = warp_of(); i < (n); i += GROUPS)                                                                      \
        for (int j = lane_of(); j <= i; j += 32)

// Position of the r-th set bit (from 0) of words that are `step` apart.
__device__ __forceinline__ int nth_bit(const unsigned *word, int step, int r) {
    int w = 0;
    for (int count; (count = __popc(word[w * step])) <= r; w++) r -= count;
    unsigned bits = word[w * step];
    for (; r > 0; r--) bits &= bits - 1;
    return 32 * w + __popc(~bits & (bits - 1));  // the zeros below its lowest one
}

// ---------------------------------------------------------------- a matrix of a block
// m = L L'; m becomes L, and thread 0 gets ln det m.
__device__ double cholesky(double *m, int n) {
    double log_det = 0;
    for (int k = 0; k < n; k++) {
        __syncthreads();
        const double pivot = m[at(k, k)], scale = 1 / sqrt(pivot);
        if (threadIdx.x == 0) log_det += log(pivot);
        __syncthreads();
        for (int i = k + (int)threadIdx.x; i < n; i += THREADS) m[at(i, k)] *= scale;
        __syncthreads();
        for (int i = k + 1 + warp_of(); i < n; i += GROUPS)
            for (int j = k + 1 + lane_of(); j <= i; j += 32) m[at(i, j)] -= m[at(i, k)] * m[at(j, k)];
    }
    __syncthreads();
    return log_det;
}

// Trace of (L L')^-1, the squares of L^-1 added up; m becomes that, row by row: a thread per column.
__device__ double inverse_trace(double *m, int n, double *part) {
    double trace = 0;
    for (int i = 0; i < n; i++) {
        const int c = (int)threadIdx.x;
        const double diagonal = 1 / m[at(i, i)];
        double v = 0;
        if (c < i)
            for (int k = c; k < i; k++) v -= m[at(i, k)] * m[at(k, c)];
        v = c < i ? v * diagonal : diagonal;
        __syncthreads();
        if (c <= i) {
            m[at(i, c)] = v;
            trace += v * v;
        }
        __syncthreads();
    }
    return block_sum(trace, part);
}

// ---------------------------------------------------------------- signs
// Determinants from T tokens' D signs, by whichever matrix is smaller: [D + 1], of values and a constant, or [T], of
// tokens.
static __global__ void __launch_bounds__(THREADS) sign_dets_k(double *__restrict__ sums, const float *__restrict__ act,
                                                              int ld, int D, int from, int units, const cuda_spans s) {
    CU_DYN_SHARED(double, m);
    const cuda_span p = s.s[blockIdx.y];
    const int T = p.n, by_value = D + 1 < T, items = by_value ? D : T, n = by_value ? D + 1 : T,
              across = by_value ? T : D, words = (across + 31) / 32;
    unsigned *bit = reinterpret_cast<unsigned *>(m + at(n, 0));  // [words, items]
    const float *a = act + (size_t)p.row * ld + (size_t)(from + (int)blockIdx.x) * D;
    for (int k = (int)threadIdx.x; k < words * items; k += THREADS) {
        const int w = k / items, item = k % items;
        unsigned b = 0;
        for (int q = 32 * w; q < across && q < 32 * w + 32; q++)
            b |= (unsigned)(a[by_value ? (size_t)q * ld + item : (size_t)item * ld + q] > 0) << q % 32;
        bit[k] = b;
    }
    __syncthreads();
    EACH_ENTRY(i, j, items) {
        int differ = 0;
        for (int w = 0; w < words; w++) differ += __popc(bit[w * items + i] ^ bit[w * items + j]);
        m[at(i, j)] = (i == j) + (by_value ? (T - 2.0 * differ) / (2.0 * D) : (D - differ) / (double)D);
    }
    for (int i = (int)threadIdx.x; by_value && i <= D; i += THREADS) {
        int ones = 0;
        for (int w = 0; i < D && w < words; w++) ones += __popc(bit[w * items + i]);
        m[at(D, i)] = i < D ? (2.0 * ones - T) / (2 * sqrt((double)D)) : 1 + T / 2.0;
    }
    const double log_det = cholesky(m, n);
    if (threadIdx.x == 0) sums[((size_t)p.extra * units + blockIdx.x) * USUMS + USUM_SIGNS] = log_det;
}

// ---------------------------------------------------------------- heads
// as integers in the order of |v|, NaN on top
__device__ __forceinline__ unsigned magnitude(float v) { return __float_as_uint(v) & 0x7fffffffu; }
__device__ __forceinline__ float as_float(unsigned bits) { return __int_as_float((int)bits); }
__device__ __forceinline__ unsigned warp_most(unsigned v) {
    for (int o = 16; o > 0; o >>= 1) {
        const unsigned other = __shfl_xor_sync((unsigned)ALL_LANES, v, o);
        v = other > v ? other : v;
    }
    return v;
}

__device__ __forceinline__ double warp_mean(const float *row, int D) {
    double sum = 0;
    for (int i = lane_of(); i < D; i += 32) sum += (double)row[i];
    return warp_sum(sum) / D;
}

// Neither zero nor constant; a row with NaN counts, so that it shows in the score.
__device__ __forceinline__ bool warp_defined(const float *row, int D) {
    const float centre = (float)warp_mean(row, D);
    unsigned most = 0, off = 0;
    for (int i = lane_of(); i < D; i += 32) {
        const unsigned v = magnitude(row[i]), d = magnitude(row[i] - centre);
        most = v > most ? v : most;
        off = d > off ? d : off;
    }
    most = warp_most(most);
    off = warp_most(off);
    return !(as_float(most) <= 1e-30f) && !(as_float(off) <= 1e-6f * as_float(most));
}

struct kept_row {
    int token;
    double mean, scale;
};
__device__ __forceinline__ double scaled(const float *x, const kept_row &k) { return ((double)*x - k.mean) * k.scale; }

static __global__ void __launch_bounds__(THREADS)
    head_spectra_k(double *__restrict__ sums, const float *__restrict__ grad, int ld, int D, int from, int units,
                   const cuda_spans s) {
    CU_DYN_SHARED(double, m);
    __shared__ kept_row keep[HEAD_ROWS];
    __shared__ double part[GROUPS];
    const cuda_span p = s.s[blockIdx.y];
    const int T = p.n, words = (T + 31) / 32, widest = D < HEAD_ROWS ? D : HEAD_ROWS;
    unsigned *bit = reinterpret_cast<unsigned *>(m + at(widest, 0));  // [words]: which rows count
    const float *x = grad + (size_t)p.row * ld + (size_t)(from + (int)blockIdx.x) * D;
    for (int w = warp_of(); w < words; w += GROUPS) {
        unsigned b = 0;
        for (int t = 32 * w; t < T && t < 32 * w + 32; t++)
            b |= (unsigned)warp_defined(x + (size_t)t * ld, D) << t % 32;
        if (lane_of() == 0) bit[w] = b;
    }
    __syncthreads();
    int count = 0;
    for (int w = 0; w < words; w++) count += __popc(bit[w]);
    const int n = count < HEAD_ROWS ? count : HEAD_ROWS, side = n < D ? n : D;
    for (int r = warp_of(); r < n; r += GROUPS) {
        const int t = nth_bit(bit, 1, (int)((long long)r * count / n));
        const float *row = x + (size_t)t * ld;
        const double mean = warp_mean(row, D);
        double square = 0;
        for (int i = lane_of(); i < D; i += 32) square += ((double)row[i] - mean) * ((double)row[i] - mean);
        square = warp_sum(square);
        if (lane_of() == 0) keep[r] = {t, mean, 1 / sqrt(square)};
    }
    __syncthreads();
    // Y Y' or Y' Y of the scaled rows Y [n, D]: their eigenvalues differ by zeros only
    EACH_ENTRY(i, j, side) {
        double sum = 0;
        if (n < D)
            for (int d = 0; d < D; d++)
                sum += scaled(x + (size_t)keep[i].token * ld + d, keep[i]) *
                       scaled(x + (size_t)keep[j].token * ld + d, keep[j]);
        else
            for (int r = 0; r < n; r++)
                sum += scaled(x + (size_t)keep[r].token * ld + i, keep[r]) *
                       scaled(x + (size_t)keep[r].token * ld + j, keep[r]);
        m[at(i, j)] = 0.9 * sum + (i == j) * 0.1;
    }
    const double log_det = cholesky(m, side), trace = inverse_trace(m, side, part);
    if (threadIdx.x == 0) {
        double *to = sums + ((size_t)p.extra * units + blockIdx.x) * USUMS;
        to[USUM_ROWS] = n;
        to[USUM_LOG_DET] = log_det + (n - side) * log(0.1);
        to[USUM_TRACE] = trace + (n - side) * 10.0;
    }
}

// ---------------------------------------------------------------- neurons
struct neuron_room {
    float l[NEURON_ROWS][NEURON_ROWS + 1], column[NEURON_ROWS], d[NEURON_ROWS];
};  // of a warp

// 0.9 C of n picked tokens (this lane's is row `lane`) below the diagonal; lanes n.. hold rows of the identity.
__device__ void pick_rows(neuron_room *w, const float *corr, int T, int token, int n) {
    const int lane = lane_of();
    for (int j = 0; j < NEURON_ROWS; j++) {
        const int other = __shfl_sync((unsigned)ALL_LANES, token, j);
        w->l[lane][j] = j < lane && lane < n ? 0.9f * corr[(size_t)token * T + other] : 0;
    }
}

// M as L D L' with L's diagonal 1.
__device__ void factor(neuron_room *w) {
    const int lane = lane_of();
    float pivot = 1;
    __syncwarp();
    for (int j = 0; j < NEURON_ROWS; j++) {
        const float below = lane > j ? w->l[lane][j] : 0;
        w->column[lane] = below;
        if (lane == j) w->d[j] = pivot;
        __syncwarp();
        const float l = below * (1.0f / w->d[j]);
        for (int k = j + 1; k < lane; k++) w->l[lane][k] -= l * w->column[k];
        if (lane > j) {
            w->l[lane][j] = l;
            pivot -= l * below;
        }
        __syncwarp();
    }
}

// This lane's column of L^-1 gives its part of the trace of the inverse.
__device__ float column_of_inverse(const neuron_room *w) {
    const int lane = lane_of();
    float v[NEURON_ROWS], trace = 0;
#pragma unroll
    for (int i = 0; i < NEURON_ROWS; i++) {
        float sum = i == lane;
#pragma unroll
        for (int k = 0; k < i; k++) sum -= w->l[i][k] * v[k];
        v[i] = sum;  // 0 above the diagonal
        trace += sum * sum * (1.0f / w->d[i]);
    }
    return trace;
}

// The sums of a neuron whose 0.9 C the warp has picked.
__device__ void put_spectrum(double *to, neuron_room *w, int n) {
    factor(w);
    const double trace = warp_sum(lane_of() < n ? (double)column_of_inverse(w) : 0);
    float det = 1;
    for (int i = 0; i < NEURON_ROWS; i++) det *= w->d[i];  // between 0.1^32 and 1
    if (lane_of() == 0) {
        to[USUM_ROWS] = n;
        to[USUM_LOG_DET] = log((double)det);
        to[USUM_TRACE] = trace;
    }
    __syncwarp();
}

// At most NEURON_ROWS of the tokens whose bits are set in a column of [words, 32], evenly spread: how many, and this
// lane's.
__device__ int pick_tokens(const unsigned *bit, int words, int *token) {
    const int lane = lane_of();
    int count = 0;
    for (int k = 0; k < words; k++) count += __popc(bit[k * 32]);
    const int n = count < NEURON_ROWS ? count : NEURON_ROWS;
    *token = lane < n ? nth_bit(bit, 32, (int)((long long)lane * count / n)) : 0;
    return n;
}

// 32 neurons a block, of one span. A token is active where its row dz x is not zero; which rows of corr(x) a neuron has
// is all that counts.
static __global__ void __launch_bounds__(THREADS, 1)
    neuron_spectra_k(double *__restrict__ sums, const float *__restrict__ dz, const float *__restrict__ corr,
                     const float *__restrict__ most, int F, int from, int units, int T) {
    CU_DYN_SHARED(neuron_room, room);
    const int lane = lane_of(), words = (T + 31) / 32;
    unsigned *bit = reinterpret_cast<unsigned *>(room + GROUPS);  // [words, 32]
    const int mine = (int)blockIdx.x * 32 + lane;
    for (int w = warp_of(); w < words; w += GROUPS) {
        unsigned b = 0;
        for (int t = 32 * w; mine < units && t < T && t < 32 * w + 32; t++)
            b |= (unsigned)(fabsf(dz[(size_t)t * F + from + mine]) * most[t] > 1e-30f) << t % 32;
        bit[w * 32 + lane] = b;
    }
    __syncthreads();
    neuron_room *w = room + warp_of();
    for (int q = warp_of(); q < 32; q += GROUPS) {
        const int u = (int)blockIdx.x * 32 + q;
        if (u >= units) break;
        int token;
        const int n = pick_tokens(bit + q, words, &token);
        pick_rows(w, corr, T, token, n);
        put_spectrum(sums + (size_t)u * USUMS, w, n);
    }
}

// ---------------------------------------------------------------- gated neurons
// Rows (dg x, du x), as in gated_rows.h.
__device__ __forceinline__ bool gated_defined(float dg, float du, const float *stat) {
    const float g = fmaxf(fabsf(dg), fabsf(du)), least = stat[ROW_LEAST], most = stat[ROW_MOST],
                size = fmaxf(fabsf(least), fabsf(most)), mean = 0.5f * (dg + du) * stat[ROW_MEAN];
    const float away = fmaxf(fmaxf(fabsf(dg * least - mean), fabsf(dg * most - mean)),
                             fmaxf(fabsf(du * least - mean), fabsf(du * most - mean)));
    return !(g * size <= 1e-30f) && !(away <= 1e-6f * g * size);
}

// 0.9 C of the picked rows, from those of corr(x).
__device__ void pick_gated(neuron_room *w, const float *corr, int T, int token, int n, float dg, float du,
                           const float *stat, int E) {
    const int lane = lane_of();
    const double s = (double)stat[ROW_SPREAD], m = sqrt(E / 2.0) * (double)stat[ROW_MEAN] * ((double)dg - (double)du),
                 x = (double)dg * s, y = (double)du * s, scale = 1 / sqrt(x * x + y * y + m * m);
    const float a = (float)(x * scale), b = (float)(y * scale), c = (float)(m * scale);
    for (int j = 0; j < NEURON_ROWS; j++) {
        const int other = __shfl_sync((unsigned)ALL_LANES, token, j);
        const float aj = __shfl_sync((unsigned)ALL_LANES, a, j), bj = __shfl_sync((unsigned)ALL_LANES, b, j),
                    cj = __shfl_sync((unsigned)ALL_LANES, c, j);
        w->l[lane][j] =
            j < lane && lane < n ? 0.9f * ((a * aj + b * bj) * corr[(size_t)token * T + other] + c * cj) : 0;
    }
}

static __global__ void __launch_bounds__(THREADS, 1)
    gated_spectra_k(double *__restrict__ sums, const float *__restrict__ dg, const float *__restrict__ du,
                    const float *__restrict__ corr, const float *__restrict__ stat, int E, int F, int from, int units,
                    int T) {
    CU_DYN_SHARED(neuron_room, room);
    const int lane = lane_of(), words = (T + 31) / 32;
    unsigned *bit = reinterpret_cast<unsigned *>(room + GROUPS);  // [words, 32]
    const int mine = (int)blockIdx.x * 32 + lane;
    for (int w = warp_of(); w < words; w += GROUPS) {
        unsigned b = 0;
        for (int t = 32 * w; mine < units && t < T && t < 32 * w + 32; t++) {
            const size_t i = (size_t)t * F + from + mine;
            b |= (unsigned)gated_defined(dg[i], du[i], stat + (size_t)t * ROW_STATS) << t % 32;
        }
        bit[w * 32 + lane] = b;
    }
    __syncthreads();
    neuron_room *w = room + warp_of();
    for (int q = warp_of(); q < 32; q += GROUPS) {
        const int u = (int)blockIdx.x * 32 + q;
        if (u >= units) break;
        int token;
        const int n = pick_tokens(bit + q, words, &token);
        const size_t i = (size_t)token * F + from + u;
        pick_gated(w, corr, T, token, n, dg[i], du[i], stat + (size_t)token * ROW_STATS, E);
        put_spectrum(sums + (size_t)u * USUMS, w, n);
    }
}

static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    row_stats_k(float *__restrict__ stat, const float *__restrict__ x, int E, const cuda_spans s) {
    const cuda_span p = s.s[find_span(s, (int)blockIdx.x)];
    const int t = ((int)blockIdx.x - p.first) * CUDA_WARPS + warp_of();
    if (t >= p.n) return;
    const float *row = x + (size_t)(p.row + t) * E;
    const double mean = warp_mean(row, E);
    double square = 0;
    float least = row[0], most = row[0];
    for (int e = lane_of(); e < E; e += 32) {
        square += ((double)row[e] - mean) * ((double)row[e] - mean);
        least = fminf(least, row[e]);
        most = fmaxf(most, row[e]);
    }
    square = warp_sum(square);
    for (int o = 16; o > 0; o >>= 1) {
        least = fminf(least, __shfl_xor_sync((unsigned)ALL_LANES, least, o));
        most = fmaxf(most, __shfl_xor_sync((unsigned)ALL_LANES, most, o));
    }
    if (lane_of()) return;
    float *to = stat + (size_t)(p.row + t) * ROW_STATS;
    to[ROW_MEAN] = (float)mean;
    to[ROW_SPREAD] = (float)sqrt(square);
    to[ROW_LEAST] = least;
    to[ROW_MOST] = most;
}

// ---------------------------------------------------------------- rows of fc1's input
static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    centre_rows_k(float *__restrict__ y, float *__restrict__ most, const float *__restrict__ x, int E,
                  const cuda_spans s) {
    const cuda_span p = s.s[find_span(s, (int)blockIdx.x)];
    const int t = ((int)blockIdx.x - p.first) * CUDA_WARPS + warp_of();
    if (t >= p.n) return;
    const float *row = x + (size_t)(p.row + t) * E;
    const double mean = warp_mean(row, E);
    double square = 0;
    float top = 0, away = 0;
    for (int e = lane_of(); e < E; e += 32) {
        const double d = (double)row[e] - mean;
        square += d * d;
        top = fmaxf(top, fabsf(row[e]));
        away = fmaxf(away, (float)fabs(d));
    }
    square = warp_sum(square);
    top = as_float(warp_most(magnitude(top)));
    away = as_float(warp_most(magnitude(away)));
    const double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int e = lane_of(); e < E; e += 32) y[(size_t)(p.row + t) * E + e] = (float)(((double)row[e] - mean) * scale);
    if (lane_of() == 0) most[p.row + t] = top < 1e-30f || away <= 1e-6f * top ? 0 : top;
}

// ---------------------------------------------------------------- launches
// An error is left for cudaGetLastError.
template <class K, class... A> static void start(K *kernel, dim3 grid, size_t bytes, cudaStream_t st, A... args) {
    if (bytes > 32 * 1024 &&
        cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)bytes) != cudaSuccess)
        return;
    CU_LAUNCH(kernel, grid, dim3(THREADS), bytes, st, args...);
}
static size_t triangle(int n) { return (size_t)n * (n + 1) / 2 * sizeof(double); }
static size_t words(int bits) { return (size_t)((bits + 31) / 32); }

extern "C" void cuda_launch_sign_dets(double *sums, const float *act, int ld, int D, int from, int units, int most_rows,
                                      const cuda_spans *s, cudaStream_t st) {
    const int n = D + 1 < most_rows ? D + 1 : most_rows;
    const size_t by_value = words(most_rows) * D, by_token = words(D) * n;
    start(sign_dets_k, dim3(units, s->n), triangle(n) + (by_value > by_token ? by_value : by_token) * sizeof(unsigned),
          st, sums, act, ld, D, from, units, *s);
}
extern "C" void cuda_launch_head_spectra(double *sums, const float *grad, int ld, int D, int from, int units,
                                         int most_rows, const cuda_spans *s, cudaStream_t st) {
    start(head_spectra_k, dim3(units, s->n),
          triangle(D < HEAD_ROWS ? D : HEAD_ROWS) + words(most_rows) * sizeof(unsigned), st, sums, grad, ld, D, from,
          units, *s);
}
extern "C" void cuda_launch_neuron_spectra(double *sums, const float *dz, const float *corr, const float *most, int F,
                                           int from, int units, int rows, cudaStream_t st) {
    start(neuron_spectra_k, dim3((units + 31) / 32), GROUPS * sizeof(neuron_room) + words(rows) * 32 * sizeof(unsigned),
          st, sums, dz, corr, most, F, from, units, rows);
}
extern "C" void cuda_launch_gated_spectra(double *sums, const float *dg, const float *du, const float *corr,
                                          const float *stat, int E, int F, int from, int units, int rows,
                                          cudaStream_t st) {
    start(gated_spectra_k, dim3((units + 31) / 32), GROUPS * sizeof(neuron_room) + words(rows) * 32 * sizeof(unsigned),
          st, sums, dg, du, corr, stat, E, F, from, units, rows);
}
extern "C" void cuda_launch_row_stats(float *stat, const float *x, int E, const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(row_stats_k, s->blocks, 32 * CUDA_WARPS, 0, st, stat, x, E, *s);
}
extern "C" void cuda_launch_centre_rows(float *y, float *most, const float *x, int E, const cuda_spans *s,
                                        cudaStream_t st) {
    CU_LAUNCH(centre_rows_k, s->blocks, 32 * CUDA_WARPS, 0, st, y, most, x, E, *s);
}
