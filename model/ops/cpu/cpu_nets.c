// cpu_nets - what nets that predict scores are trained and run with: the AdamW step of a linear map, losses, pooling
// attention, min-max normalisation, the choice of units. Matrix products are single-threaded tiles shared out by
// OpenMP, so the bits do not depend on the thread count; a tile of a weight's gradient is used for its AdamW step while
// it is in the cache and never stored.
#include "cpu.h"
#include "cpu_team.h"
#include "cpu_thin.h"
#include "minmax.h"
#include "simd.h"
#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

enum { TILE = 64, PIECE = 1 << 14 };

// ---------------------------------------------------------------- AdamW
void cpu_linear_step(float *w, float *m, float *v, const adamw *a, size_t bias, const float *dy, const float *x,
                     int out, int in, int rows) {
    int some = 128;
    if (in >= 512) some = in >= 4096 ? 16 : (1 << 16) / in;
    const int tiles = (out + some - 1) / some;
#pragma omp parallel for schedule(dynamic)
    for (int k = 0; k < tiles; k++) {
        const int j0 = k * some, cols = out - j0 < some ? out - j0 : some;
        const size_t at = (size_t)j0 * (size_t)in, bias_at = bias + (size_t)j0;
        const scratch_point mark = scratch_mark();
        float *g = scratch_floats((size_t)some * (size_t)in), *gb = scratch_floats((size_t)some);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, cols, in, rows, 1, dy + j0, out, x, in, 0, g, in);
        adamw_update(a, w + at, g, m + at, v + at, (size_t)cols * (size_t)in);
        for (int j = 0; j < cols && bias; j++) {
            double sum = 0;
            for (int r = 0; r < rows; r++) sum += (double)dy[(size_t)r * (size_t)out + (size_t)(j0 + j)];
            gb[j] = (float)sum;
        }
        if (bias) adamw_update(a, w + bias_at, gb, m + bias_at, v + bias_at, (size_t)cols);
        scratch_release(mark);
    }
}

// ---------------------------------------------------------------- losses
HOT static double mse_piece(float *dy, const float *y, const float *t, float scale, size_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        const double d = (double)(y[i] - t[i]);
        sum += d * d;
    }
    if (dy)
        for (size_t i = 0; i < n; i++) dy[i] = scale * (y[i] - t[i]);
    return sum;
}

static double bce_piece(float *dy, const float *y, const float *t, float scale, double positive, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double z = (double)y[i], w = (double)t[i] * (1 - positive) + positive, e = exp(-fabs(z));
        sum += w * (fmax(z, 0) - z * (double)t[i] + log1p(e));
        if (dy) dy[i] = scale * (float)(w * ((z >= 0 ? 1 : e) / (1 + e) - (double)t[i]));
    }
    return sum;
}

// Pieces add up in order, whatever the thread count.
void cpu_loss(double *mean, float *dy, const float *y, const float *t, loss_kind kind, double positive, size_t n) {
    const size_t pieces = (n + PIECE - 1) / PIECE;
    const float scale = (float)((kind == LOSS_MSE ? 2.0 : 1.0) / (double)n);
    const scratch_point mark = scratch_mark();
    double *part = scratch_take(pieces * sizeof *part), sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < pieces; b++) {
        const size_t at = b * PIECE, some = n - at < PIECE ? n - at : PIECE;
        float *d = dy ? dy + at : NULL;
        part[b] = kind == LOSS_MSE ? mse_piece(d, y + at, t + at, scale, some)
                                   : bce_piece(d, y + at, t + at, scale, positive, some);
    }
    for (size_t b = 0; b < pieces; b++) sum += part[b];
    *mean = sum / (double)n;
    scratch_release(mark);
}

// ---------------------------------------------------------------- pooling attention
// Work items: TILE query rows of one span.
typedef struct {
    int span, row, n;
    size_t part;
} tile;

static int tiles_in(const span *s, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) count += (s[i].n + TILE - 1) / TILE;
    return count;
}

static void list_tiles(tile *t, const span *s, int n) {
    size_t part = 0;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < s[i].n; r += TILE) {
            *t++ = (tile){i, s[i].row + r, s[i].n - r < TILE ? s[i].n - r : TILE, part};
            part += (size_t)s[i].n;
        }
}

// Scaled scores of some queries against all keys of their span.
static void attend(float *score, const float *q, const float *k, int E, const span *s, int row, int rows) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, s->n, E, 1 / sqrtf((float)E),
                q + (size_t)row * (size_t)E, E, k + (size_t)s->row * (size_t)E, E, 0, score, s->n);
}

static float sum_of(const float *count, int n) {
    float sum = 0;
    for (int r = 0; r < n; r++) sum += count[r];
    return sum;
}

// Row by row the log of the sum of exponentials, and what each of T keys gets from all rows together. of: the rows'
// counts, keys: the keys'.
HOT static void softmax_sums(float *lse, float *sum, float *score, const float *of, const float *keys, int rows,
                             int T) {
    memset(sum, 0, (size_t)T * sizeof *sum);
    for (int r = 0; r < rows; r++, score += T) {
        float most = score[0], all = 0;
        for (int j = 1; j < T; j++) most = score[j] > most ? score[j] : most;
        for (int j = 0; j < T; j++) score[j] = keys[j] * exp_f(score[j] - most);
#pragma omp simd reduction(+ : all)
        for (int j = 0; j < T; j++) all += score[j];
        lse[r] = most + logf(all);
        const float share = of[r] / all;
        for (int j = 0; j < T; j++) sum[j] += score[j] * share;
    }
}

void cpu_pool(float *c, float *p, float *lse, const float *x, const float *count, const float *q, const float *k, int E,
              const span *s, int n) {
    const int tiles = tiles_in(s, n);
    size_t floats = 0;
    for (int i = 0; i < n; i++) floats += (size_t)((s[i].n + TILE - 1) / TILE) * (size_t)s[i].n;
    const scratch_point mark = scratch_mark();
    tile *t = scratch_take((size_t)tiles * sizeof *t);
    float *part = scratch_floats(floats);
    list_tiles(t, s, n);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < tiles; i++) {
        const span *of = &s[t[i].span];
        const scratch_point of_tile = scratch_mark();
        float *score = scratch_floats((size_t)TILE * (size_t)of->n);
        attend(score, q, k, E, of, t[i].row, t[i].n);
        softmax_sums(lse + t[i].row, part + t[i].part, score, count + t[i].row, count + of->row, t[i].n, of->n);
        scratch_release(of_tile);
    }
    for (int i = 0; i < n; i++) memset(p + s[i].row, 0, (size_t)s[i].n * sizeof *p);
    for (int i = 0; i < tiles; i++) {
        const span *of = &s[t[i].span];
        const float tokens = sum_of(count + of->row, of->n);
        for (int j = 0; j < of->n; j++) p[of->row + j] += part[t[i].part + (size_t)j] / tokens;
    }
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++)
        cblas_sgemv(CblasRowMajor, CblasTrans, s[i].n, E, 1, x + (size_t)s[i].row * (size_t)E, E, p + s[i].row, 1, 0,
                    c + (size_t)i * (size_t)E, 1);
    scratch_release(mark);
}

// P[t, s] = n_s exp(score - lse); dscore = n_t P (dp - sum P dp) / tokens, through the scale 1 / sqrt(E).
HOT static void softmax_back(float *score, const float *lse, const float *dp, const float *of, const float *keys,
                             float scale, int rows, int T) {
    for (int r = 0; r < rows; r++, score += T) {
        float mean = 0;
        for (int j = 0; j < T; j++) score[j] = keys[j] * exp_f(score[j] - lse[r]);
#pragma omp simd reduction(+ : mean)
        for (int j = 0; j < T; j++) mean += score[j] * dp[j];
        for (int j = 0; j < T; j++) score[j] *= (dp[j] - mean) * scale * of[r];
    }
}

void cpu_pool_back(float *dq, float *dk, float *dp, const float *dc, const float *x, const float *count, const float *q,
                   const float *k, const float *lse, int E, const span *s, int n) {
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)s[i].row * (size_t)E;
        const int T = s[i].n;
        const float scale = 1 / (sqrtf((float)E) * sum_of(count + s[i].row, T));
        const scratch_point mark = scratch_mark();
        float *score = scratch_floats((size_t)TILE * (size_t)T);
        cblas_sgemv(CblasRowMajor, CblasNoTrans, T, E, 1, x + at, E, dc + (size_t)i * (size_t)E, 1, 0, dp + s[i].row,
                    1);
        for (int r = 0; r < T; r += TILE) {
            const int rows = T - r < TILE ? T - r : TILE;
            const size_t from = at + (size_t)r * (size_t)E;
            attend(score, q, k, E, &s[i], s[i].row + r, rows);
            softmax_back(score, lse + s[i].row + r, dp + s[i].row, count + s[i].row + r, count + s[i].row, scale, rows,
                         T);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, E, T, 1, score, T, k + at, E, 0, dq + from, E);
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, T, E, rows, 1, score, T, q + from, E, r ? 1 : 0,
                        dk + at, E);
        }
        scratch_release(mark);
    }
}

// ---------------------------------------------------------------- min-max
void cpu_minmax(float *y, const float *x, int E, const span *s, int n) {
    for (int i = 0; i < n; i++)
        if (s[i].n)
            minmax(y + (size_t)s[i].row * (size_t)E, x + (size_t)s[i].row * (size_t)E, (size_t)s[i].n * (size_t)E);
}

// ---------------------------------------------------------------- the k lowest of ranges (lowest.h)
typedef struct {
    uint8_t *keep;
    const float *score;
    const uint8_t *only;
    const cut_range *c;
    long *bad;  // [n] the first score of each range that is not finite; LONG_MAX: none
    int n;
    atomic_int taken;
} cut_work;

static long cut_one(const cut_work *w, const cut_range *c) {
    const float *score = w->score + c->first;
    const scratch_point mark = scratch_mark();
    double *wide = scratch_take(2 * (size_t)c->n * sizeof *wide);
    long j = 0;
    for (; j < c->n && isfinite(score[j]); j++) wide[j] = (double)score[j];
    const bool finite = j == c->n;
    if (finite)
        cut_lowest(w->keep + c->first, wide, w->only ? w->only + c->first : NULL, &(cut_range){0, c->n, c->k},
                   wide + c->n);
    scratch_release(mark);
    return finite ? LONG_MAX : c->first + j;
}

static void cut_share(void *of, int thread) {
    cut_work *w = of;
    (void)thread;
    for (int i; (i = atomic_fetch_add(&w->taken, 1)) < w->n;) w->bad[i] = cut_one(w, &w->c[i]);
}

// Masks may be made at every token, so the threads are those of decoding.
long cpu_cut(uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c, int n) {
    const scratch_point mark = scratch_mark();
    cut_work w = {keep, score, only, c, scratch_take((size_t)n * sizeof *w.bad), n, 0};
    long numbers = 0, bad = LONG_MAX;
    for (int i = 0; i < n; i++) numbers += c[i].n;
    const int most = (size_t)numbers * sizeof *score > CPU_SMALL ? omp_get_max_threads() : 1;
    cpu_team(most < n ? most : n, cut_share, &w);
    for (int i = 0; i < n; i++) bad = w.bad[i] < bad ? w.bad[i] : bad;
    scratch_release(mark);
    return bad == LONG_MAX ? -1 : bad;
}

void cpu_cut_here(uint8_t *keep, int32_t *bad, const float *score, const uint8_t *only, const cut_range *c, int n) {
    if (cpu_cut(keep, score, only, c, n) >= 0) *bad = 1;
}
