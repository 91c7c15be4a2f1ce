// crit_epenas - how differently the gradients of different classes are correlated within themselves.
// One score per task. Rows da[t] of a head, dz[t]*x[t] of a neuron, at the positions that predict a continuation token;
// the class of a row is that token. Classes of 5 rows or more, the 64 with most rows (ties: smaller token id), the
// first 64 rows of each; zero and constant rows left out. s_c = mean over pairs of rows of ln(|corr| + 1e-5), classes
// with under 2 rows left skipped;
//   score = mean over pairs of classes of |s_c - s_c'|, 0 under two classes.
// Lopes et al. 2021, "EPE-NAS: efficient performance estimation without training for neural architecture search".
// Compat (heads): all classes of 5 rows or more, all their rows; s_c = sum over the whole matrix of ln(|corr| + 1e-5);
// score = sum over all ordered pairs of classes.
#include "corr.h"
#include "criterion.h"
#include "gated_rows.h"
#include "simd.h"
#include "task_stage.h"
#include <limits.h>
#include <math.h>
#include <stdlib.h>

enum { LEAST_ROWS = 5, MOST_CLASSES = 64, MOST_ROWS = 64 };

// ---------------------------------------------------------------- rows
typedef struct {
    int32_t token;
    int example, position;
} place;
typedef struct {
    int32_t token;
    int from, n;
} class_run;

static int by_token(const void *a, const void *b) {
    const place *p = a, *q = b;
    if (p->token != q->token) return p->token < q->token ? -1 : 1;
    if (p->example != q->example) return p->example < q->example ? -1 : 1;
    return (p->position > q->position) - (p->position < q->position);
}

static int by_size(const void *a, const void *b) {
    const class_run *p = a, *q = b;
    if (p->n != q->n) return p->n > q->n ? -1 : 1;
    return (p->token > q->token) - (p->token < q->token);
}

// Rows come out class by class, in example order within a class: the scores below rely on it.
static task_row *select_classes(const task_tokens *t, int *n, const char **why, int most_classes, int most_rows) {
    place *all = NULL;
    class_run *run = NULL;
    task_row *out = NULL;
    int count = 0, room = 0, runs = 0, run_room = 0, out_room = 0;
    for (int e = 0; e < t->n; e++)
        for (int p = t->context[e]; p < t->length[e]; p++)
            VEC_PUSH(all, count, room, ((place){t->tokens[e][p], e, p - 1}));
    if (count) qsort(all, (size_t)count, sizeof *all, by_token);
    for (int i = 0, j; i < count; i = j) {
        for (j = i; j < count && all[j].token == all[i].token;) j++;
        if (j - i >= LEAST_ROWS) VEC_PUSH(run, runs, run_room, ((class_run){all[i].token, i, j - i}));
    }
    if (runs) qsort(run, (size_t)runs, sizeof *run, by_size);
    *n = 0;
    if (runs < 2) *why = "epenas: fewer than two continuation tokens occur five times or more";
    for (int c = 0; runs >= 2 && c < runs && c < most_classes; c++)
        for (int i = 0; i < run[c].n && i < most_rows; i++) {
            const place *p = &all[run[c].from + i];
            VEC_PUSH(out, *n, out_room, ((task_row){.example = p->example, .position = p->position, .group = c}));
        }
    free(run);
    free(all);
    return out;
}

static task_row *select_sound(const task_tokens *t, uint64_t seed, int *n, const char **why) {
    (void)seed;
    return select_classes(t, n, why, MOST_CLASSES, MOST_ROWS);
}

static task_row *select_compat(const task_tokens *t, uint64_t seed, int *n, const char **why) {
    (void)seed;
    return select_classes(t, n, why, INT_MAX, INT_MAX);
}

// First row after the class that starts at row `from`.
static int class_end(const task_layer *in, int from) {
    int to = from;
    while (to < in->n && in->row[to].group == in->row[from].group) to++;
    return to;
}

static int largest_class(const task_layer *in) {
    int most = 0;
    for (int from = 0, to; from < in->n; from = to) {
        to = class_end(in, from);
        if (to - from > most) most = to - from;
    }
    return most;
}

// ---------------------------------------------------------------- scores
// Sum over pairs c < c' of |s_c - s_c'|.
static double spread(const double *s, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) sum += fabs(s[i] - s[j]);
    return sum;
}

static double mean_spread(const double *s, int n) { return n > 1 ? spread(s, n) / (0.5 * n * (n - 1)) : 0; }

static void score_heads(float *out, const task_layer *in, mode_kind mode) {
    const bool compat = mode == MODE_COMPAT;
    const int D = in->D;
    double *y = xmalloc((size_t)largest_class(in) * (size_t)D * sizeof *y);
    double *s = xmalloc((size_t)in->n * sizeof *s);  // per class
    for (int h = 0; h < in->H; h++) {
        int classes = 0;
        for (int from = 0, to; from < in->n; from = to) {
            to = class_end(in, from);
            int k = 0;
            double sum = 0;
            for (int r = from; r < to; r++)
                k += corr_row(y + (size_t)k * D, in->da + (size_t)r * in->A + (size_t)h * D, D);
            if (k < 2) continue;
            for (int i = 0; i < k; i++)
                for (int j = 0; j < i; j++) sum += log(fabs(corr_dot(y + (size_t)i * D, y + (size_t)j * D, D)) + 1e-5);
            s[classes++] = compat ? 2 * sum + k * log1p(1e-5) : sum / (0.5 * k * (k - 1));
        }
        out[h] = (float)(compat ? 2 * spread(s, classes) : mean_spread(s, classes));
    }
    free(s);
    free(y);
}

static void heads(float *out, const task_layer *in, uint64_t seed) {
    (void)seed;
    score_heads(out, in, MODE_SOUND);
}

static void heads_compat(float *out, const task_layer *in, uint64_t seed) {
    (void)seed;
    score_heads(out, in, MODE_COMPAT);
}

// |corr| of two rows dz[t]*x[t] is that of their x, so a class needs one matrix M = ln(|corr(x)| + 1e-5) for all
// neurons, and a neuron with active rows A (0/1) has the pair sum A' M A over i < j.
enum { BLOCK = 64 };

// m [MOST_ROWS, MOST_ROWS]: M of k rows; ok [k]: the row has a correlation.
static void class_matrix(float (*m)[MOST_ROWS], bool *ok, const float *x, int k, int E, double *y) {
    for (int i = 0; i < k; i++) ok[i] = corr_row(y + (size_t)i * E, x + (size_t)i * E, E);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < i && ok[i]; j++)
            if (ok[j]) m[i][j] = (float)log(fabs(corr_dot(y + (size_t)i * E, y + (size_t)j * E, E)) + 1e-5);
}

// s [n]: mean of M over the pairs of active rows of n <= BLOCK neurons; pairs [n]: how many pairs. active [k, F].
HOT static void class_means(double *s, double *pairs, float (*m)[MOST_ROWS], const bool *ok, const uint8_t *active,
                            int k, int F, int n) {
    float a[MOST_ROWS][BLOCK] = {{0}};
    double sum[BLOCK] = {0}, count[BLOCK] = {0};
    for (int i = 0; i < k; i++) {
        if (!ok[i]) continue;
        float row[BLOCK] = {0};
        for (int u = 0; u < n; u++) a[i][u] = active[(size_t)i * F + u];
        for (int j = 0; j < i; j++) {
            if (!ok[j]) continue;
            float v = m[i][j];
#pragma omp simd
            for (int u = 0; u < BLOCK; u++) row[u] += v * a[j][u];
        }
#pragma omp simd
        for (int u = 0; u < BLOCK; u++) {
            sum[u] += (double)row[u] * a[i][u];
            count[u] += a[i][u];
        }
    }
    for (int u = 0; u < n; u++) {
        pairs[u] = 0.5 * count[u] * (count[u] - 1);
        s[u] = pairs[u] > 0 ? sum[u] / pairs[u] : 0;
    }
}

// ---------------------------------------------------------------- gated neurons
// Their rows are (dg[t] x[t], du[t] x[t]), whose correlations differ from neuron to neuron: those of x and three
// numbers of each row make them (gated_rows.h). The sum of logarithms of many pairs is the logarithm of a product.
enum { FACTORS = 40 };  // of at least 1e-5 each: their product is a double

static void correlations(float (*c)[MOST_ROWS], const float *x, int k, int E, double *y) {
    for (int i = 0; i < k; i++) corr_row(y + (size_t)i * E, x + (size_t)i * E, E);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < i; j++) c[i][j] = (float)corr_dot(y + (size_t)i * E, y + (size_t)j * E, E);
}

// As class_means, of n <= BLOCK neurons from `first` on, whose rows begin at `from`; c: correlations of x.
HOT static void gated_means(double *s, double *pairs, float (*c)[MOST_ROWS], const float (*stat)[ROW_STATS],
                            const task_layer *in, int from, int k, int first, int n) {
    float a[MOST_ROWS][BLOCK] = {{0}}, b[MOST_ROWS][BLOCK] = {{0}}, m[MOST_ROWS][BLOCK] = {{0}},
          there[MOST_ROWS][BLOCK] = {{0}};
    double sum[BLOCK] = {0}, count[BLOCK] = {0};
    for (int i = 0; i < k; i++)
        for (int u = 0; u < n; u++) {
            const size_t at = (size_t)(from + i) * (size_t)in->F + (size_t)(first + u);
            if (!gated_row_defined(in->dg[at], in->du[at], stat[i])) continue;
            const gated_row row = gated_row_of(in->dg[at], in->du[at], stat[i], in->E);
            a[i][u] = row.a, b[i][u] = row.b, m[i][u] = row.c, there[i][u] = 1;
            count[u]++;
        }
    for (int i = 0; i < k; i++)
        for (int j = 0; j < i; j += FACTORS) {
            const int end = i - j < FACTORS ? i : j + FACTORS;
            double product[BLOCK];
            for (int u = 0; u < BLOCK; u++) product[u] = 1;
            for (int q = j; q < end; q++)
#pragma omp simd
                for (int u = 0; u < BLOCK; u++) {
                    const float corr = (a[i][u] * a[q][u] + b[i][u] * b[q][u]) * c[i][q] + m[i][u] * m[q][u],
                                both = there[i][u] * there[q][u];
                    product[u] *= (double)(both * (fabsf(corr) + 1e-5f) + (1 - both));
                }
            for (int u = 0; u < n; u++) sum[u] += log(product[u]);
        }
    for (int u = 0; u < n; u++) {
        pairs[u] = 0.5 * count[u] * (count[u] - 1);
        s[u] = pairs[u] > 0 ? sum[u] / pairs[u] : 0;
    }
}

// ---------------------------------------------------------------- neurons
static void neurons(float *out, const task_layer *in, uint64_t seed) {
    (void)seed;
    const size_t F = (size_t)in->F;
    int classes = 0;
    double *y = xmalloc((size_t)MOST_ROWS * (size_t)in->E * sizeof *y);
    double *s = xmalloc(2 * MOST_CLASSES * F * sizeof *s), *pairs = s + MOST_CLASSES * F;  // [classes, F] each
    for (int from = 0, to; from < in->n; from = to, classes++) {
        float m[MOST_ROWS][MOST_ROWS], stat[MOST_ROWS][ROW_STATS];
        bool ok[MOST_ROWS];
        to = class_end(in, from);
        ASSERT(to - from <= MOST_ROWS && classes < MOST_CLASSES);
        const float *x = in->x + (size_t)from * (size_t)in->E;
        if (in->active)
            class_matrix(m, ok, x, to - from, in->E, y);
        else
            correlations(m, x, to - from, in->E, y);
        for (int i = 0; !in->active && i < to - from; i++) row_stats_of(stat[i], x + (size_t)i * (size_t)in->E, in->E);
        for (size_t u = 0; u < F; u += BLOCK) {
            const size_t at = (size_t)classes * F + u;
            const int n = (int)(F - u < BLOCK ? F - u : BLOCK);
            if (in->active)
                class_means(s + at, pairs + at, m, ok, in->active + (size_t)from * F + u, to - from, in->F, n);
            else
                gated_means(s + at, pairs + at, m, (const float(*)[ROW_STATS])stat, in, from, to - from, (int)u, n);
        }
    }
    for (size_t u = 0; u < F; u++) {
        double own[MOST_CLASSES];
        int n = 0;
        for (int c = 0; c < classes; c++)
            if (pairs[(size_t)c * F + u] > 0) own[n++] = s[(size_t)c * F + u];
        out[u] = (float)mean_spread(own, n);
    }
    free(s);
    free(y);
}

#define HEADS_DOC   "mean over classes c < c' of |s_c - s_c'|, s_c = mean of i < j of ln(|corr_ij| + 1e-5), rows da[t]"
#define NEURONS_DOC "the same, rows dz[t]*x[t]; gated (dg[t]*x[t], du[t]*x[t])"
#define COMPAT_DOC  "sum over classes c, c' of |s_c - s_c'|, s_c = sum over i, j of ln(|corr_ij| + 1e-5), rows da[t]"
static const task_stage sound = {select_sound, heads, neurons, HEADS_DOC, NEURONS_DOC};
static const task_stage compat = {select_compat, heads_compat, NULL, COMPAT_DOC, NULL};

const criterion crit_epenas = {.name = "epenas",
                               .about = "gradient correlation within classes of target tokens, per task (Lopes 2021)",
                               .unit = {{"1"}},
                               .zeros_only = true,
                               .sound = {NULL, NULL, 0, 0, HEADS_DOC, NEURONS_DOC, &sound},
                               .compat = {NULL, NULL, 0, 0, COMPAT_DOC, NULL, &compat}};
