// test_formulas - the formulas of the criteria against plain double loops and closed forms, written here from the
// definitions (determinants by elimination, eigenvalues by GSL on the full matrices), without the code under test.
#include "criteria_taps.h"
#include <gsl/gsl_eigen.h>

// ---------------------------------------------------------------- the formulas, in plain double loops
// Unit u of a kind: value i at token t is a[(t*columns) + u*D + i].
typedef struct {
    const taps *p;
    int u, T, D, columns;
    const float *a, *g, *hv, *hu;
} unit;

static unit unit_of(const taps *p, unit_kind kind, int u) {
    bool h = kind == UNIT_HEADS;
    return (unit){p,
                  u,
                  p->s.T,
                  h ? p->s.D : 1,
                  h ? p->E : p->s.F,
                  h ? p->a : p->z,
                  h ? p->da : p->dz,
                  h ? p->a_hv : p->z_hv,
                  h ? p->a_hu : p->z_hu};
}
#define AT(field)  ((double)x->field[t * x->columns + x->u * x->D + i])
#define OVER_T     for (int t = 0; t < x->T; t++)
#define OVER_I     for (int i = 0; i < x->D; i++)
#define OVER_E     for (int e = 0; e < x->p->E; e++)
#define ROW(field) ((double)x->p->field[x->u * x->p->E + e])

static double ref_plainact_h(const unit *x) {
    double s = 0;
    OVER_T {
        double v = 0;
        OVER_I v += AT(a) * AT(g);
        s += fabs(v);
    }
    return s;
}
static double ref_plainact_n(const unit *x) {
    double s = 0;
    OVER_E s += fabs(ROW(w) * ROW(dw));
    return s;
}
static double ref_l2_norm(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(a) * AT(a);
    return sqrt(s);
}
static double ref_l2_norm_n(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(a) > 0 ? AT(a) * AT(a) : 0;
    return sqrt(s);
}
static double ref_grad_norm_h(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(g) * AT(g);
    return sqrt(s);
}
static double ref_grad_norm_n(const unit *x) {
    double s = 0;
    OVER_E s += ROW(dw) * ROW(dw);
    return sqrt(s);
}
static double ref_fisher(const unit *x) {
    double s = 0;
    OVER_T {
        double v = 0;
        OVER_I v += AT(a) * AT(g);
        s += v * v;
    }
    return 0.5 * s / x->T;
}
static double ref_fisher_compat(const unit *x) {
    double s = 0;
    OVER_I {
        double mean = 0;
        OVER_T mean += pow(AT(a) * AT(g), 2) / x->T;
        s += mean;
    }
    return s;
}
static double ref_snip(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(a) * AT(g);
    return fabs(s);
}
static double ref_snip_compat_h(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += fabs((double)x->p->od[t * x->p->E + x->u * x->D + i]);
    return s;
}
static double ref_snip_compat_n(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += fabs(AT(g));
    return s;
}
static double ref_grasp(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(a) * AT(hv);
    return s;
}
static double ref_grasp_compat_h(const unit *x) {
    double s = 0;
    OVER_I {
        double mean = 0;
        OVER_T mean += AT(a) * AT(hu) / x->T;
        s -= mean;
    }
    return s;
}
static double ref_grasp_compat_n(const unit *x) {
    double s = 0;
    OVER_E s -= ROW(w) * (2 * ROW(dw) + ROW(hu_w)) / x->p->E;
    return s;
}

// ln |det m|, [n, n], by elimination with row exchange
static double log_det(double *m, int n) {
    double s = 0;
    for (int k = 0; k < n; k++) {
        int best = k;
        for (int i = k; i < n; i++)
            if (fabs(m[i * n + k]) > fabs(m[best * n + k])) best = i;
        for (int j = 0; j < n; j++) {
            double v = m[k * n + j];
            m[k * n + j] = m[best * n + j];
            m[best * n + j] = v;
        }
        s += log(fabs(m[k * n + k]));
        for (int i = k + 1; i < n; i++) {
            double v = m[i * n + k] / m[k * n + k];
            for (int j = k; j < n; j++) m[i * n + j] -= v * m[k * n + j];
        }
    }
    return s;
}

static double ref_nwot(const unit *x) {  // ln det(I + (C C' + (1-C)(1-C)')/d): with d = 1 the neurons' closed form
    int T = x->T;
    double *m = xcalloc((size_t)(T * T), sizeof *m);
    OVER_T for (int s = 0; s < T; s++) {
        double k = 0;
        OVER_I k += (AT(a) > 0) == (x->a[s * x->columns + x->u * x->D + i] > 0);
        m[t * T + s] = (s == t) + k / x->D;
    }
    double v = log_det(m, T);
    free(m);
    return v;
}
static double ref_nwot_compat_h(const unit *x) {
    int n = 0;
    OVER_T OVER_I n += AT(a) <= 0;
    return n ? log(n) : 0;
}
static double ref_nwot_compat_n(const unit *x) {
    double n = 0;
    OVER_T OVER_I n += AT(a) <= 0;
    return n > 0 ? log(n / x->T) : 0;
}

// The whole of jacov from its rows [m, d].
static double jacov_of(const float *row, int m, int d, int most) {
    int n = 0, used;
    const float **keep = xmalloc((size_t)(m + 1) * sizeof *keep);
    for (int r = 0; r < m; r++)
        if (row_counts(row + r * d, d)) keep[n++] = row + r * d;
    used = n < most ? n : most;
    double sum = 0;
    if (used) {
        gsl_matrix *c = gsl_matrix_alloc((size_t)used, (size_t)used);
        gsl_vector *l = gsl_vector_alloc((size_t)used);
        gsl_eigen_symm_workspace *work = gsl_eigen_symm_alloc((size_t)used);
        for (int i = 0; i < used; i++)
            for (int j = 0; j < used; j++) {
                int p = n > most ? i * n / most : i, q = n > most ? j * n / most : j;
                gsl_matrix_set(c, (size_t)i, (size_t)j, correlation(keep[p], keep[q], d));
            }
        gsl_eigen_symm(c, l, work);
        for (int i = 0; i < used; i++) {
            double mu = 0.9 * fmax(gsl_vector_get(l, (size_t)i), 0) + 0.1;
            sum += log(mu) + 1 / mu;
        }
        gsl_eigen_symm_free(work);
        gsl_vector_free(l);
        gsl_matrix_free(c);
    }
    free(keep);
    return used ? -sum / used : -(log(0.1) + 10);
}
static double ref_jacov_h(const unit *x) {
    float *row = xmalloc((size_t)(x->T * x->D) * sizeof *row);
    OVER_T OVER_I row[t * x->D + i] = (float)AT(g);
    double v = jacov_of(row, x->T, x->D, 200);
    free(row);
    return v;
}
static double ref_jacov_n(const unit *x) {
    int E = x->p->E;
    float *row = xmalloc((size_t)(x->T * E) * sizeof *row);
    OVER_T OVER_I OVER_E row[t * E + e] = (float)AT(g) * x->p->x[t * E + e];
    double v = jacov_of(row, x->T, E, 32);
    free(row);
    return v;
}
static double ref_wanda_h(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(a) * AT(a) * x->p->squares[UNIT_HEADS][x->u * x->D + i];
    return sqrt(s);
}
static double ref_wanda_n(const unit *x) {
    double s = 0;
    OVER_T OVER_I s += AT(a) > 0 ? AT(a) * AT(a) : 0;
    return sqrt(s * x->p->squares[UNIT_NEURONS][x->u]);
}
static double ref_removal(const unit *x) { return x->p->removal[x->u]; }

static const struct {
    const char *name, *mode;
    double (*ref[2])(const unit *);
} refs[] = {
    {"plainact", "sound", {ref_plainact_h, ref_plainact_n}},
    {"plainact", "compat", {ref_plainact_h, ref_plainact_n}},
    {"l2_norm", "sound", {ref_l2_norm, ref_l2_norm_n}},
    {"l2_norm", "compat", {ref_l2_norm, ref_l2_norm}},
    {"grad_norm", "sound", {ref_grad_norm_h, ref_grad_norm_n}},
    {"grad_norm", "compat", {ref_grad_norm_h, ref_grad_norm_n}},
    {"fisher", "sound", {ref_fisher, ref_fisher}},
    {"fisher", "compat", {ref_fisher_compat, ref_fisher_compat}},
    {"snip", "sound", {ref_snip, ref_snip}},
    {"snip", "compat", {ref_snip_compat_h, ref_snip_compat_n}},
    {"grasp", "sound", {ref_grasp, ref_grasp}},
    {"grasp", "compat", {ref_grasp_compat_h, ref_grasp_compat_n}},
    {"nwot", "sound", {ref_nwot, ref_nwot}},
    {"nwot", "compat", {ref_nwot_compat_h, ref_nwot_compat_n}},
    {"jacov", "sound", {ref_jacov_h, ref_jacov_n}},
    {"removal", "sound", {ref_removal, ref_removal}},
    {"removal", "compat", {ref_removal, ref_removal}},
    {"wanda", "sound", {ref_wanda_h, ref_wanda_n}},
    {"wanda", "compat", {ref_wanda_h, ref_wanda_n}},
};

// Agreement as the specification has it: relative to the value or to the root mean square of the layer, whichever is
// larger.
static void check_close(const char *what, const float *got, const double *want, int n) {
    double rms = 0;
    for (int u = 0; u < n; u++) rms += want[u] * want[u] / n;
    rms = sqrt(rms);
    for (int u = 0; u < n; u++)
        if (!(fabs(got[u] - want[u]) <= 2e-4 * fmax(fabs(want[u]), rms)))
            fail_msg("%s: unit %d is %.9g, the formula says %.9g", what, u, (double)got[u], want[u]);
}

static void check_formula(const criterion *c, const char *mode, unit_kind kind, crit_fn *f, unsigned needs) {
    size_t k = 0, known = sizeof refs / sizeof *refs;
    while (k < known && (strcmp(refs[k].name, c->name) != 0 || strcmp(refs[k].mode, mode) != 0)) k++;
    if (k == known) return;  // random, and criteria of other people
    for (int i = 0; i < SHAPES; i++) {
        taps p = taps_make(shapes[i], (uint64_t)(200 + i));
        int n = kind == UNIT_HEADS ? p.s.H : p.s.F;
        float *got = xmalloc((size_t)n * sizeof *got);
        double *want = xmalloc((size_t)n * sizeof *want);
        run(got, f, needs, kind, &p, kind == UNIT_HEADS ? 1 : CRIT_TILE, 3, 1, 9);
        for (int u = 0; u < n; u++) {
            unit x = unit_of(&p, kind, u);
            want[u] = refs[k].ref[kind](&x);
        }
        char what[100];
        snprintf(what, sizeof what, "%s %s %s, shape %d", c->name, mode, unit_names[kind], i);
        check_close(what, got, want, n);
        free(got);
        free(want);
        taps_free(&p);
    }
}

static void test_formulas(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof refs / sizeof *refs; k++) assert_non_null(crit_find(refs[k].name));
    each_function(check_formula);
}

// ---------------------------------------------------------------- closed forms
static double score(const char *name, unit_kind kind, mode_kind mode, crit_in in) {
    const criterion *c = crit_find(name);
    assert_non_null(c);
    const crit_mode *m = crit_mode_of(c, mode);
    float out[CRIT_TILE];
    double sums[USUMS];
    take_sums(sums, kind == UNIT_HEADS ? m->needs_heads : m->needs_neurons, kind, &in, in.act, in.grad, in.hv, in.hu,
              in.out_grad, in.xcorr, in.xmax);
    in.sums = sums;
    (kind == UNIT_HEADS ? m->heads : m->neurons)(out, &in);
    return out[0];
}

static void check_value(double got, double want) {
    if (!(fabs(got - want) <= 1e-5 * fmax(1, fabs(want)))) fail_msg("got %.9g, want %.9g", got, want);
}

static void test_closed_nwot(void **state) {
    (void)state;
    enum { T = 37, D = 6 };
    float a[T * D];
    crit_in in = {.T = T, .U = 1, .D = D, .ld = D, .act = a};
    for (int i = 0; i < T * D; i++) a[i] = 1 + (float)i;
    check_value(score("nwot", UNIT_HEADS, MODE_SOUND, in), log(1 + T));  // K/d = 1 1'
    check_value(score("nwot", UNIT_HEADS, MODE_COMPAT, in), 0);
    for (int i = 0; i < 10 * D; i++) a[i] = -1;  // two opposite patterns: two blocks of ones
    check_value(score("nwot", UNIT_HEADS, MODE_SOUND, in), log(1 + 10) + log(1 + 27));
    check_value(score("nwot", UNIT_HEADS, MODE_COMPAT, in), log(10 * D));
    in.D = in.ld = 1;
    check_value(score("nwot", UNIT_NEURONS, MODE_SOUND, in), log(1 + T));
    check_value(score("nwot", UNIT_NEURONS, MODE_COMPAT, in), 0);
    for (int t = 0; t < T; t++) a[t] = t < 10 ? 0 : 2;
    check_value(score("nwot", UNIT_NEURONS, MODE_SOUND, in), log(1 + 10) + log(1 + 27));
    check_value(score("nwot", UNIT_NEURONS, MODE_COMPAT, in), log(10.0 / T));
}

// n equal rows: one eigenvalue n, the others 0.
static double equal_rows(int n) {
    double mu = 0.9 * n + 0.1;
    return -(log(mu) + 1 / mu + (n - 1) * (log(0.1) + 10)) / n;
}

static void test_closed_jacov(void **state) {
    (void)state;
    enum { T = 250, D = 8 };
    float g[T * D] = {0}, xcorr[T * T], xmax[T];
    crit_in in = {.T = T, .U = 1, .D = D, .ld = D, .grad = g, .xcorr = xcorr, .xmax = xmax};
    const double none = -(log(0.1) + 10);
    check_value(score("jacov", UNIT_HEADS, MODE_SOUND, in), none);
    for (int i = 0; i < D; i++) g[5 * D + i] = 7;  // constant: still nothing
    check_value(score("jacov", UNIT_HEADS, MODE_SOUND, in), none);
    g[5 * D] = 1;
    check_value(score("jacov", UNIT_HEADS, MODE_SOUND, in), -1);
    for (int r = 0; r < D - 1; r++)  // Walsh functions: centred and orthogonal
        for (int i = 0; i < D; i++)
            g[(2 * r + 5) * D + i] = (float)(r + 1) * (__builtin_popcount((unsigned)((r + 1) & i)) % 2 ? -1 : 1);
    check_value(score("jacov", UNIT_HEADS, MODE_SOUND, in), -1);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++) g[t * D + i] = (float)((t + 1) * (i * i + t));
    check_value(score("jacov", UNIT_HEADS, MODE_SOUND, in), equal_rows(200));

    in.D = in.ld = 1;
    for (int t = 0; t < T; t++) {
        xmax[t] = 1;
        g[t] = 0;
        for (int s = 0; s < T; s++) xcorr[t * T + s] = 1;
    }
    check_value(score("jacov", UNIT_NEURONS, MODE_SOUND, in), none);
    g[9] = -3;
    check_value(score("jacov", UNIT_NEURONS, MODE_SOUND, in), -1);
    for (int t = 0; t < 20; t++) g[t] = 1;
    check_value(score("jacov", UNIT_NEURONS, MODE_SOUND, in), equal_rows(20));
    xmax[3] = xmax[4] = 0;  // two constant rows of x
    check_value(score("jacov", UNIT_NEURONS, MODE_SOUND, in), equal_rows(18));
    for (int t = 0; t < T; t++) g[t] = 2;
    check_value(score("jacov", UNIT_NEURONS, MODE_SOUND, in), equal_rows(32));
    for (int t = 0; t < T; t++)
        for (int s = 0; s < T; s++) xcorr[t * T + s] = s == t;
    check_value(score("jacov", UNIT_NEURONS, MODE_SOUND, in), -1);
}

static void test_closed_first_order(void **state) {
    (void)state;
    enum { T = 4, D = 3 };
    float a[T * D] = {3, 1, 2, 5, -4, 6, 7, 8, 9, 1, 1, 1}, g[T * D] = {0}, hv[T * D];
    crit_in in = {.T = T, .U = 1, .D = D, .E = D, .ld = D, .act = a, .grad = g, .hv = hv, .hu = hv};
    g[1 * D + 1] = 0.5f;  // planted: one value of one token
    check_value(score("snip", UNIT_HEADS, MODE_SOUND, in), 2);
    check_value(score("plainact", UNIT_HEADS, MODE_SOUND, in), 2);
    check_value(score("fisher", UNIT_HEADS, MODE_SOUND, in), 0.5 * 4 / T);
    check_value(score("fisher", UNIT_HEADS, MODE_COMPAT, in), 4.0 / T);
    check_value(score("grad_norm", UNIT_HEADS, MODE_SOUND, in), 0.5);
    g[3 * D] = 2;  // another token takes it back
    check_value(score("snip", UNIT_HEADS, MODE_SOUND, in), 0);
    check_value(score("plainact", UNIT_HEADS, MODE_SOUND, in), 4);
    g[3 * D + 1] = -2;  // within one token
    check_value(score("plainact", UNIT_HEADS, MODE_SOUND, in), 2);
    check_value(score("fisher", UNIT_HEADS, MODE_SOUND, in), 0.5 * 4 / T);
    check_value(score("fisher", UNIT_HEADS, MODE_COMPAT, in), 12.0 / T);
    double square = 0;
    for (int i = 0; i < T * D; i++) {
        square += (double)a[i] * a[i];
        hv[i] = 3 * a[i];
    }
    check_value(score("grasp", UNIT_HEADS, MODE_SOUND, in), 3 * square);  // importance +theta * Hg
    check_value(score("grasp", UNIT_HEADS, MODE_COMPAT, in), -3 * square / T);
    check_value(score("l2_norm", UNIT_HEADS, MODE_SOUND, in), sqrt(square));
    float z[T] = {3, -12, 4, 0};
    crit_in n = {.T = T, .U = 1, .D = 1, .E = D, .ld = 1, .act = z, .grad = z, .w = a, .dw = a + D, .hu_w = a + 2 * D};
    double sums[WSUMS];
    sum_weights(sums, n.w, n.dw, n.hu_w, 1, D);
    n.wsums = sums;
    check_value(score("l2_norm", UNIT_NEURONS, MODE_SOUND, n), 5);
    check_value(score("l2_norm", UNIT_NEURONS, MODE_COMPAT, n), 13);
    check_value(score("plainact", UNIT_NEURONS, MODE_SOUND, n), 15 + 4 + 12);
    check_value(score("grad_norm", UNIT_NEURONS, MODE_SOUND, n), sqrt(25 + 16 + 36));
    check_value(score("grasp", UNIT_NEURONS, MODE_COMPAT, n), -(2 * (15 - 4 + 12) + 21 + 8 + 18) / 3.0);
    check_value(score("snip", UNIT_NEURONS, MODE_COMPAT, n), 19);
}

// Where the columns of the matrix have norm 1 wanda is the size of the output, and it grows with the norms.
static void test_closed_wanda(void **state) {
    (void)state;
    enum { T = 4, D = 2 };
    float a[T * D] = {3, 0, 0, -4, 0, 0, 12, 0}, z[T] = {3, -12, 4, 0}, out[1];
    double moments[2 * D], squares[D] = {1, 1};
    const span all = {0, T};
    crit_in in = {.T = T, .U = 1, .D = D, .moments = moments, .squares = squares};
    ops_cpu()->column_moments(moments, a, D, false, 0, D, &all, 1);
    crit_find("wanda")->sound.heads(out, &in);
    check_value((double)out[0], 13);
    squares[1] = 0.25;
    crit_find("wanda")->sound.heads(out, &in);
    check_value((double)out[0], sqrt(9 + 144 + 4));
    ops_cpu()->column_moments(moments, z, 1, true, 0, 1, &all, 1);
    squares[0] = 9;
    in.D = 1;
    crit_find("wanda")->sound.neurons(out, &in);
    check_value((double)out[0], 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formulas), cmocka_unit_test(test_closed_nwot),
                                       cmocka_unit_test(test_closed_jacov), cmocka_unit_test(test_closed_first_order),
                                       cmocka_unit_test(test_closed_wanda)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
