// test_task_stage - epenas and compat jacov, the scores of a whole task: the rows they choose, and the scores against
// plain double loops over the definitions (full correlation matrices, eigenvalues by GSL).
#include "base.h"
#include "registry.h"
#include "task_stage.h"
#include <gsl/gsl_eigen.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const task_stage *stage(const char *name, mode_kind mode) {
    const criterion *c = crit_find(name);
    assert_non_null(c);
    const task_stage *s = crit_mode_of(c, mode)->task;
    assert_non_null(s);
    return s;
}

// ---------------------------------------------------------------- tasks of random tokens
typedef struct {
    task_tokens t;
    int32_t **token;
    int *length, *context;
} task;

static task task_make(int n, int longest, int answer, int vocab, uint64_t seed) {
    rng r = rng_make(seed);
    task k = {.token = xmalloc((size_t)n * sizeof *k.token),
              .length = xmalloc((size_t)n * sizeof(int)),
              .context = xmalloc((size_t)n * sizeof(int))};
    for (int e = 0; e < n; e++) {
        k.context[e] = 1 + (int)rng_below(&r, (uint64_t)longest);
        k.length[e] = k.context[e] + 1 + (int)rng_below(&r, (uint64_t)answer);
        k.token[e] = xmalloc((size_t)k.length[e] * sizeof **k.token);
        for (int p = 0; p < k.length[e]; p++) {  // the smaller, the more frequent
            double u = rng_uniform(&r);
            k.token[e][p] = (int32_t)(u * u * vocab);
        }
    }
    k.t = (task_tokens){n, (const int32_t *const *)k.token, k.length, k.context};
    return k;
}

static void task_free(task *k) {
    for (int e = 0; e < k->t.n; e++) free(k->token[e]);
    free(k->token);
    free(k->length);
    free(k->context);
}

// ---------------------------------------------------------------- one layer's rows, with zero, constant and inactive
// ones among them
enum { H = 3, D = 7, E = H * D, F = 90 };
typedef struct {
    float *da, *x;
    uint8_t *active;
} rows;

static rows rows_make(int n, uint64_t seed) {
    rng r = rng_make(seed);
    rows q = {xmalloc((size_t)(n * E) * sizeof(float)), xmalloc((size_t)(n * E) * sizeof(float)),
              xmalloc((size_t)(n * F))};
    for (int i = 0; i < n * E; i++) q.da[i] = (float)(1e-3 * rng_normal(&r)), q.x[i] = (float)rng_normal(&r);
    for (int i = 0; i < n * F; i++) q.active[i] = rng_uniform(&r) < 0.01 * (i % F + 1);
    for (int i = 0; i < n; i++) {
        if (i % 11 == 3)
            for (int e = 0; e < D; e++) q.da[i * E + e] = 0;  // head 0: zero
        if (i % 13 == 5)
            for (int e = D; e < 2 * D; e++) q.da[i * E + e] = 0.125f;  // head 1: constant
        if (i % 17 == 2) {
            for (int e = 0; e < E; e++) q.x[i * E + e] = 0;
            memset(q.active + i * F, 0, F);
        }
    }
    return q;
}

static void rows_free(rows *q) {
    free(q->da);
    free(q->x);
    free(q->active);
}

static bool row_counts(const float *p, int d) {
    double mean = 0, most = 0, off = 0;
    for (int i = 0; i < d; i++) mean += p[i] / (double)d, most = fmax(most, fabs(p[i]));
    for (int i = 0; i < d; i++) off = fmax(off, fabs(p[i] - mean));
    return most > 1e-30 && off > 1e-6 * most;
}

static double correlation(const float *p, const float *q, int d) {
    double mp = 0, mq = 0, pp = 0, qq = 0, pq = 0;
    for (int i = 0; i < d; i++) mp += p[i] / (double)d, mq += q[i] / (double)d;
    for (int i = 0; i < d; i++) {
        pp += (p[i] - mp) * (p[i] - mp);
        qq += (q[i] - mq) * (q[i] - mq);
        pq += (p[i] - mp) * (q[i] - mq);
    }
    return pq / sqrt(pp * qq);
}

static void check_close(const char *what, const float *got, const double *want, int n, double tolerance) {
    double rms = 0;
    for (int u = 0; u < n; u++) rms += want[u] * want[u] / n;
    rms = sqrt(rms);
    for (int u = 0; u < n; u++)
        if (!(fabs(got[u] - want[u]) <= tolerance * fmax(fabs(want[u]), rms)))
            fail_msg("%s: unit %d is %.9g, the formula says %.9g", what, u, (double)got[u], want[u]);
}

// ---------------------------------------------------------------- epenas
// Number of continuation tokens of a task that are `token`.
static int count_token(const task *k, int token) {
    int n = 0;
    for (int e = 0; e < k->t.n; e++)
        for (int p = k->context[e]; p < k->length[e]; p++) n += k->token[e][p] == token;
    return n;
}

static void check_classes(const task *k, const task_row *row, int n, int vocab, int most_classes, int most_rows) {
    int at = 0, group = 0, last_count = 1 << 30, last_token = -1, taken = 0, all = 0;
    for (int v = 0; v < vocab; v++) all += count_token(k, v) >= 5;
    for (; at < n; group++) {
        int token = k->token[row[at].example][row[at].position + 1], count = count_token(k, token), seen = 0;
        assert_true(count >= 5);
        assert_true(count < last_count || (count == last_count && token > last_token));  // by size, then by token
        last_count = count, last_token = token;
        for (int e = 0; e < k->t.n; e++)
            for (int p = k->context[e]; p < k->length[e]; p++) {
                if (k->token[e][p] != token || seen == most_rows) continue;
                assert_true(at < n);
                assert_int_equal(row[at].group, group);
                assert_int_equal(row[at].example, e);
                assert_int_equal(row[at].position, p - 1);
                seen++;
                at++;
            }
        assert_int_equal(seen, count < most_rows ? count : most_rows);
        taken++;
    }
    assert_int_equal(taken, all < most_classes ? all : most_classes);
}

// The definition for one unit: rows [n, d] of which keep says whether they count; s_c a mean over pairs (sound) or a
// sum over the matrix.
static double epenas_of(const task_row *row, const float *v, int stride, int n, int d, const bool *keep,
                        mode_kind mode) {
    const bool compat = mode == MODE_COMPAT;
    double s[300], sum = 0;
    int classes = 0;
    for (int c = 0; c <= row[n - 1].group; c++) {
        double total = 0;
        int k = 0;
        for (int i = 0; i < n; i++) {
            if (row[i].group != c || !keep[i]) continue;
            k++;
            for (int j = 0; j < n; j++) {
                if (row[j].group != c || !keep[j] || (!compat && j >= i)) continue;
                total += log(fabs(correlation(v + i * stride, v + j * stride, d)) + 1e-5);
            }
        }
        if (k >= 2) s[classes++] = compat ? total : total / (k * (k - 1) / 2.0);
    }
    for (int a = 0; a < classes; a++)
        for (int b = 0; b < classes; b++) sum += fabs(s[a] - s[b]);
    if (compat) return sum;
    return classes > 1 ? sum / (classes * (classes - 1.0)) : 0;
}

static void check_epenas(const task *k, int vocab, mode_kind mode, uint64_t seed) {
    const bool compat = mode == MODE_COMPAT;
    const task_stage *s = stage("epenas", mode);
    const char *why = NULL;
    int n = 0;
    task_row *row = s->select(&k->t, 1, &n, &why);
    assert_non_null(row);
    check_classes(k, row, n, vocab, compat ? 1 << 30 : 64, compat ? 1 << 30 : 64);
    rows q = rows_make(n, seed);
    task_layer in = {.n = n,
                     .E = E,
                     .H = H,
                     .D = D,
                     .F = F,
                     .layer = 1,
                     .layers = 3,
                     .row = row,
                     .da = q.da,
                     .x = q.x,
                     .active = q.active,
                     .A = E};
    float got[F];
    double want[F];
    bool *keep = xmalloc((size_t)n * sizeof *keep);
    s->heads(got, &in, 1);
    for (int h = 0; h < H; h++) {
        for (int i = 0; i < n; i++) keep[i] = row_counts(q.da + i * E + h * D, D);
        want[h] = epenas_of(row, q.da + h * D, E, n, D, keep, mode);
    }
    check_close(compat ? "epenas compat heads" : "epenas heads", got, want, H, 2e-4);
    assert_true((s->neurons == NULL) == compat);
    if (s->neurons) {
        s->neurons(got, &in, 1);
        for (int j = 0; j < F; j++) {
            for (int i = 0; i < n; i++) keep[i] = q.active[i * F + j] && row_counts(q.x + i * E, E);
            want[j] = epenas_of(row, q.x, E, n, E, keep, false);
        }
        check_close("epenas neurons", got, want, F, 2e-4);
    }
    free(keep);
    rows_free(&q);
    free(row);
}

// Gated neurons, by rows of 2 E numbers as they are; some are zero, some neurons have no gradient of the gate, some
// rows equal halves.
static void test_epenas_gated(void **state) {
    (void)state;
    task k = task_make(120, 20, 16, 200, 4);
    const task_stage *s = stage("epenas", MODE_SOUND);
    const char *why = NULL;
    int n = 0;
    task_row *row = s->select(&k.t, 1, &n, &why);
    assert_non_null(row);
    rows q = rows_make(n, 9);
    rng r = rng_make(10);
    float *dg = xmalloc((size_t)(n * F) * sizeof *dg), *du = xmalloc((size_t)(n * F) * sizeof *du);
    for (int i = 0; i < n * F; i++) {
        dg[i] = i % F == 2 || i % 19 == 4 ? 0 : (float)(1e-3 * rng_normal(&r));
        du[i] = i % 19 == 4 ? 0 : (float)(1e-3 * rng_normal(&r));
        if (i % 23 == 7) du[i] = dg[i];
    }
    const task_layer in = {.n = n,
                           .E = E,
                           .H = H,
                           .D = D,
                           .F = F,
                           .layers = 1,
                           .row = row,
                           .da = q.da,
                           .x = q.x,
                           .A = E,
                           .dg = dg,
                           .du = du};
    float got[F], *v = xmalloc((size_t)(n * 2 * E) * sizeof *v);
    double want[F];
    bool *keep = xmalloc((size_t)n * sizeof *keep);
    s->neurons(got, &in, 1);
    for (int j = 0; j < F; j++) {
        for (int i = 0; i < n; i++) {
            for (int e = 0; e < E; e++) {
                v[i * 2 * E + e] = dg[i * F + j] * q.x[i * E + e];
                v[(i * 2 + 1) * E + e] = du[i * F + j] * q.x[i * E + e];
            }
            keep[i] = row_counts(v + i * 2 * E, 2 * E);
        }
        want[j] = epenas_of(row, v, 2 * E, n, 2 * E, keep, MODE_SOUND);
    }
    check_close("epenas gated neurons", got, want, F, 2e-4);
    free(keep), free(v), free(dg), free(du), free(row);
    rows_free(&q);
    task_free(&k);
}

static void test_epenas(void **state) {
    (void)state;
    // many: over 64 classes; one over 64 rows
    task few = task_make(40, 20, 6, 30, 3), many = task_make(120, 20, 16, 200, 4);
    for (mode_kind mode = MODE_SOUND; mode < MODES; mode++) {
        check_epenas(&few, 30, mode, 7);
        check_epenas(&many, 200, mode, 8);
    }
    assert_true(count_token(&many, 0) > 64);
    task_free(&few);
    task_free(&many);
}

static void test_epenas_needs_two_classes(void **state) {
    (void)state;
    task one = task_make(30, 10, 3, 1, 5);
    for (mode_kind mode = MODE_SOUND; mode < MODES; mode++) {
        const char *why = NULL;
        int n = -1;
        assert_null(stage("epenas", mode)->select(&one.t, 1, &n, &why));
        assert_int_equal(n, 0);
        assert_non_null(why);
    }
    task_free(&one);
}

// Two classes; rows of the first all parallel (|corr| = 1), rows of the second pairwise uncorrelated: |ln(1 + 1e-5) -
// ln 1e-5|.
static void test_epenas_closed(void **state) {
    (void)state;
    enum { N = 6, d = 8 };
    task_row row[N] = {{.group = 0}, {.group = 0}, {.group = 0}, {.group = 1}, {.group = 1}, {.group = 1}};
    float v[N * d];
    uint8_t active[N * 2] = {1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0};
    for (int i = 0; i < d; i++)
        for (int r = 0; r < N; r++)
            v[r * d + i] = r < 3 ? (float)((r - 5) * i) : (float)(__builtin_popcount((unsigned)((r - 2) & i)) % 2);
    task_layer in = {
        .n = N, .E = d, .H = 1, .D = d, .F = 2, .layers = 1, .row = row, .da = v, .x = v, .active = active, .A = d};
    float out[2];
    double want = log(1 + 1e-5) - log(1e-5);
    stage("epenas", MODE_SOUND)->heads(out, &in, 1);
    assert_true(fabs(out[0] - want) < 1e-5);
    stage("epenas", MODE_SOUND)->neurons(out, &in, 1);
    assert_true(fabs(out[0] - want) < 1e-5 && fabs(out[1] - want) < 1e-5);
    stage("epenas", MODE_COMPAT)->heads(out, &in, 1);
    // ordered pairs of classes; six off-diagonal places each, equal diagonals
    assert_true(fabs(out[0] - 2 * 6 * want) < 1e-3);
    memset(active + 6, 0, 6);  // the second class is silent
    stage("epenas", MODE_SOUND)->neurons(out, &in, 1);
    assert_true(out[0] == 0 && out[1] == 0);
}

// ---------------------------------------------------------------- jacov, compat
static bool same_rows(const task_row *a, const task_row *b, int n) {
    for (int i = 0; i < n; i++)
        if (a[i].example != b[i].example || a[i].position != b[i].position) return false;
    return true;
}

static void check_draws(const task *k, int expect_inner, int expect_last) {
    const task_stage *s = stage("jacov", MODE_COMPAT);
    const char *why = NULL;
    int n = 0, m = 0, size[2][10] = {{0}};
    task_row *row = s->select(&k->t, 4, &n, &why), *again = s->select(&k->t, 4, &m, &why);
    assert_true(n == m && same_rows(row, again, n));
    for (int i = 0; i < n; i++) {
        const task_row *r = &row[i];
        assert_true(r->kind == 0 || r->kind == 1);
        assert_in_range(r->group, 0, 9);
        assert_in_range(r->example, 0, k->t.n - 1);
        assert_true(r->position >= (r->kind ? k->context[r->example] - 1 : 0) &&
                    r->position <= k->length[r->example] - 2);
        size[r->kind][r->group]++;
        for (int j = 0; j < i; j++)  // without replacement
            assert_false(row[j].kind == r->kind && row[j].group == r->group && row[j].example == r->example &&
                         row[j].position == r->position);
    }
    for (int g = 0; g < 10; g++) {
        const int inner = g ? 0 : expect_inner, last = g ? 0 : expect_last;
        assert_int_equal(size[0][g], expect_inner > 200 ? 200 : inner);
        assert_int_equal(size[1][g], expect_last > 200 ? 200 : last);
    }
    free(again);
    again = s->select(&k->t, 5, &m, &why);
    assert_int_equal(m, n);
    assert_true(same_rows(row, again, n) == (expect_inner <= 200 && expect_last <= 200));
    free(again);
    free(row);
}

static double jacov_of(const task_row *row, const float *v, int stride, int n, int d, int kind) {
    double mean = 0;
    int draws = 0;
    for (int g = 0; g < 10; g++) {
        const float *keep[200];
        int k = 0;
        for (int i = 0; i < n; i++)
            if (row[i].kind == kind && row[i].group == g && row_counts(v + i * stride, d)) keep[k++] = v + i * stride;
        if (k == 0) continue;
        gsl_matrix *c = gsl_matrix_alloc((size_t)k, (size_t)k);
        gsl_vector *l = gsl_vector_alloc((size_t)k);
        gsl_eigen_symm_workspace *work = gsl_eigen_symm_alloc((size_t)k);
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++) gsl_matrix_set(c, (size_t)i, (size_t)j, correlation(keep[i], keep[j], d));
        gsl_eigen_symm(c, l, work);
        for (int i = 0; i < k; i++) {
            double mu = fabs(gsl_vector_get(l, (size_t)i)) + 1e-5;
            mean -= log(mu) + 1 / mu;
        }
        draws++;
        gsl_eigen_symm_free(work);
        gsl_vector_free(l);
        gsl_matrix_free(c);
    }
    return draws ? mean / draws : 0;
}

static void test_jacov_compat(void **state) {
    (void)state;
    task many = task_make(30, 40, 20, 50, 6), few = task_make(4, 6, 4, 50, 7);
    const task *both[] = {&many, &few};
    for (int b = 0; b < 2; b++) {
        const task *k = both[b];
        int inner = 0, last = 0, n = 0;
        for (int e = 0; e < k->t.n; e++) {
            inner += k->length[e] - 1;
            last += k->length[e] - k->context[e];
        }
        assert_true((inner > 200) == (b == 0) && (last > 200) == (b == 0));
        check_draws(k, inner, last);
        const task_stage *s = stage("jacov", MODE_COMPAT);
        const char *why = NULL;
        task_row *row = s->select(&k->t, 4, &n, &why);
        rows q = rows_make(n, 11);
        assert_null(s->neurons);
        for (int layer = 0; layer < 3; layer++) {
            task_layer in = {.n = n,
                             .E = E,
                             .H = H,
                             .D = D,
                             .F = F,
                             .layer = layer,
                             .layers = 3,
                             .row = row,
                             .da = q.da,
                             .x = q.x,
                             .active = q.active,
                             .A = E};
            float got[H];
            double want[H];
            s->heads(got, &in, 4);
            for (int h = 0; h < H; h++) want[h] = jacov_of(row, q.da + h * D, E, n, D, layer == 2);
            check_close("jacov compat heads", got, want, H, 2e-4);
        }
        rows_free(&q);
        free(row);
    }
    task_free(&many);
    task_free(&few);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epenas),
        cmocka_unit_test(test_epenas_gated),
        cmocka_unit_test(test_epenas_needs_two_classes),
        cmocka_unit_test(test_epenas_closed),
        cmocka_unit_test(test_jacov_compat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
