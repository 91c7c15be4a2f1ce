// test_criteria - every registered criterion: properties, formulas against plain double loops, closed forms. The formulas are written
// here from the definitions (determinants by elimination, eigenvalues by GSL on the full matrices), without the code under test.
#include "registry.h"
#include "sums.h"
#include <gsl/gsl_eigen.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

// ---------------------------------------------------------------- one layer of random taps
typedef struct { int T, context, H, D, F; } shape;
static const shape shapes[] = {
    {2, 1, 1, 1, 1}, {2, 1, 2, 3, 5}, {5, 3, 3, 1, 7}, {33, 20, 3, 11, 77}, {70, 50, 2, 16, 150}, {300, 280, 2, 5, 40}, {64, 63, 2, 71, 20}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    shape s;
    int E;
    float *a, *da, *a_hv, *a_hu, *od;  // [T, E]
    float *z, *dz, *z_hv, *z_hu;       // [T, F]
    float *x, *xcorr, *xmax;           // [T, E], [T, T], [T]
    float *w, *dw, *hu_w;              // [F, E]
    double *wsums;                     // [F, WSUMS]
    double *removal;                   // [F]
} taps;

static float *normals(rng *r, int n, int m, double scale) {
    float *p = xmalloc((size_t)n * (size_t)m * sizeof *p);
    for (int i = 0; i < n * m; i++) p[i] = (float)(scale * rng_normal(r));
    return p;
}

static double correlation(const float *p, const float *q, int d) {
    double mp = 0, mq = 0, pp = 0, qq = 0, pq = 0;
    for (int i = 0; i < d; i++) mp += p[i], mq += q[i];
    mp /= d, mq /= d;
    for (int i = 0; i < d; i++) {
        pp += (p[i] - mp) * (p[i] - mp);
        qq += (q[i] - mq) * (q[i] - mq);
        pq += (p[i] - mp) * (q[i] - mq);
    }
    return pq / sqrt(pp * qq);
}

static bool row_counts(const float *p, int d) {
    double mean = 0, most = 0, off = 0;
    for (int i = 0; i < d; i++) mean += p[i] / (double)d, most = fmax(most, fabs(p[i]));
    for (int i = 0; i < d; i++) off = fmax(off, fabs(p[i] - mean));
    return most > 1e-30 && off > 1e-6 * most;
}

// What the driver sums over rows of the weight and its gradients.
static void sum_weights(double *sums, const float *w, const float *dw, const float *hu_w, int rows, int E) {
    for (int i = 0; i < rows * WSUMS; i++) sums[i] = 0;
    for (int i = 0; i < rows * E; i++) {
        double *to = sums + i / E * WSUMS;
        const double we = w[i], g = dw[i], h = hu_w[i];
        to[WSUM_SIZE] += fabs(we * g);
        to[WSUM_SQUARE] += g * g;
        to[WSUM_SIGNED] += we * g;
        to[WSUM_TANGENT] += we * h;
    }
}

static taps taps_make(shape s, uint64_t seed) {
    rng r = rng_make(seed);
    int T = s.T, E = s.H * s.D, F = s.F;
    taps p = {.s = s, .E = E, .a = normals(&r, T, E, 1), .da = normals(&r, T, E, 1e-3), .a_hv = normals(&r, T, E, 1e-4),
              .a_hu = normals(&r, T, E, 1e-6), .od = normals(&r, T, E, 1e-3), .z = normals(&r, T, F, 1), .dz = normals(&r, T, F, 1e-3),
              .z_hv = normals(&r, T, F, 1e-4), .z_hu = normals(&r, T, F, 1e-6), .x = normals(&r, T, E, 1), .xcorr = normals(&r, T, T, 0),
              .xmax = normals(&r, T, 1, 0), .w = normals(&r, F, E, 0.1), .dw = normals(&r, F, E, 1e-3), .hu_w = normals(&r, F, E, 1e-3),
              .removal = xcalloc((size_t)(F + E), sizeof(double)), .wsums = xcalloc((size_t)F * WSUMS, sizeof(double))};
    sum_weights(p.wsums, p.w, p.dw, p.hu_w, F, E);
    for (int i = 0; i < T * F; i++)
        if (p.z[i] <= 0.3f * (float)(i % F % 7)) p.dz[i] = p.z[i] <= 0 ? 0 : p.dz[i] * (float)(i % 2);
    for (int u = 0; u < F + E; u++) p.removal[u] = rng_normal(&r);
    for (int e = 0; e < E; e++) p.da[(T - 1) * E + e] = 0;  // the last token predicts nothing
    for (int j = 0; j < F; j++) p.dz[(T - 1) * F + j] = 0;
    for (int t = 2 * T / 3; t < T - 1; t++)  // late tokens resemble each other, so that it matters which rows jacov takes
        for (int e = 0; e < E; e++) p.da[t * E + e] = p.da[t * E + e] / 4 + 1e-3f * (float)(e % s.D % 3);
    if (T > 10) {
        for (int e = 0; e < E; e++) {
            p.da[3 * E + e] = 0.25f;  // constant rows, one of them nearly
            p.da[8 * E + e] = e % s.D ? 0.25f : 0.2500001f;
            p.x[4 * E + e] = -0.5f;
            p.x[6 * E + e] = 0;
            p.a[7 * E + e] = 0;       // a sign that is neither
        }
        for (int t = 0; t < T; t++) p.dz[t * F] = 0;  // a dead neuron, and one that is active once
        p.z[5 * F + F - 1] = 1;
        for (int t = 0; t < T; t++) p.dz[t * F + F - 1] = t == 5 ? 1e-3f : 0;
    }
    for (int t = 0; t < T; t++) {
        bool ok = row_counts(p.x + t * E, E);
        for (int e = 0; e < E && ok; e++) p.xmax[t] = fmaxf(p.xmax[t], fabsf(p.x[t * E + e]));
        for (int q = 0; q < T; q++)
            p.xcorr[t * T + q] = ok && row_counts(p.x + q * E, E) ? (float)correlation(p.x + t * E, p.x + q * E, E) : 0;
    }
    return p;
}

static void taps_free(taps *p) {
    float *all[] = {p->a, p->da, p->a_hv, p->a_hu, p->od, p->z, p->dz, p->z_hv, p->z_hu, p->x, p->xcorr, p->xmax, p->w, p->dw, p->hu_w};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(p->removal);
    free(p->wsums);
}

// ---------------------------------------------------------------- running a criterion on tiles
enum { HEADS, NEURONS };
static const char *const kinds[] = {"heads", "neurons"};

// A copy of the tile's columns with ld floats between tokens, `shift` floats from alignment, NaN everywhere else.
static float *cut(const float *from, int T, int stride, int first, int n, int ld, int shift, float **block) {
    size_t size = (size_t)(T * ld + shift);
    float *p = *block = xmalloc(size * sizeof *p);
    for (size_t i = 0; i < size; i++) p[i] = NAN;
    for (int t = 0; t < T; t++) memcpy(p + shift + t * ld, from + t * stride + first, (size_t)n * sizeof *p);
    return p + shift;
}

// The sums that a criterion declares, of one tile, by the CPU's operations as the driver takes them; NaN in the columns that it did not declare.
static void take_sums(double *sums, unsigned needs, int kind, const crit_in *in, const float *act, const float *grad, const float *hv, const float *hu, const float *out,
                      const float *xcorr, const float *xmax) {
    const sum_taps of = {{act, grad, needs & CRIT_AFTER_HV ? hv : hu, out, in->ld, in->E, in->D}, kind == NEURONS ? xcorr : NULL, xmax};
    const span s = {0, in->T};
    for (int i = 0; i < in->U * USUMS; i++) sums[i] = NAN;
    sums_take(ops_cpu(), sums, needs, &of, 0, in->U, &s, 1);
}

// Scores of all units of a kind, in tiles of `width` neurons; arrays that were not declared are NULL. False: it wrote beside out.
static bool run(float *out, crit_fn *f, unsigned needs, int kind, const taps *p, int width, int pad, int shift, uint64_t key) {
    int T = p->s.T, E = p->E, D = kind == HEADS ? p->s.D : 1, all = kind == HEADS ? p->s.H : p->s.F, columns = all * D;
    const float *act = kind == HEADS ? p->a : p->z, *grad = kind == HEADS ? p->da : p->dz;
    const float *hv = kind == HEADS ? p->a_hv : p->z_hv, *hu = kind == HEADS ? p->a_hu : p->z_hu;
    bool inside = true;
    for (int u = 0; u < all; u += width) {
        int U = all - u < width ? all - u : width, ld = U * D + pad;
        float *block[4] = {NULL};
        crit_in in = {.T = T, .context = p->s.context, .U = U, .D = D, .E = E, .ld = ld, .layer = 1, .layers = 3, .unit = u, .seed = 5, .key = key};
        const float *tile[] = {cut(act, T, columns, u * D, U * D, ld, shift, &block[0]), cut(grad, T, columns, u * D, U * D, ld, shift, &block[1]),
                               cut(hv, T, columns, u * D, U * D, ld, shift, &block[2]), cut(hu, T, columns, u * D, U * D, ld, shift, &block[3])};
        double sums[CRIT_TILE * USUMS];
        take_sums(sums, needs, kind, &in, tile[0], tile[1], tile[2], tile[3], p->od + u * D, p->xcorr, p->xmax);
        if (CRIT_COLUMNS(needs)) in.sums = sums;
        if (needs & CRIT_ACT) in.act = tile[0];
        if (needs & CRIT_GRAD) in.grad = tile[1];
        if (needs & CRIT_HESS) in.hv = tile[2];
        if (needs & CRIT_HESS_COMPAT) in.hu = tile[3];
        if (needs & CRIT_REMOVAL) in.removal = p->removal + u;
        if (kind == HEADS) {
            if (needs & CRIT_OUT_GRAD) in.out_grad = p->od;
        } else {
            in.x = p->x;
            if (needs & CRIT_WEIGHT) in.w = p->w + (size_t)u * (size_t)E;
            if (needs & CRIT_WSUMS) in.wsums = p->wsums + u * WSUMS;
            if (needs & CRIT_WGRAD) in.dw = p->dw + (size_t)u * (size_t)E;
            if (needs & CRIT_HESS_COMPAT && needs & CRIT_WGRAD) in.hu_w = p->hu_w + (size_t)u * (size_t)E;
            if (needs & CRIT_XCORR) in.xcorr = p->xcorr, in.xmax = p->xmax;
        }
        float guarded[CRIT_TILE + 2];
        for (int i = 0; i < CRIT_TILE + 2; i++) guarded[i] = 12345;
        f(guarded + 1, &in);
        inside = inside && guarded[0] == 12345 && guarded[U + 1] == 12345;
        memcpy(out + u, guarded + 1, (size_t)U * sizeof *out);
        for (int i = 0; i < 4; i++) free(block[i]);
    }
    return inside;
}

static const char *broken_promise_here(crit_fn *f, unsigned needs, int kind) {
    for (int i = 0; i < SHAPES; i++) {
        taps p = taps_make(shapes[i], (uint64_t)(100 + i));
        int n = kind == HEADS ? p.s.H : p.s.F, tile = kind == HEADS ? 1 : CRIT_TILE;
        size_t bytes = (size_t)n * sizeof(float);
        float *one = xmalloc(bytes), *two = xmalloc(bytes);
        const char *bad = NULL;
        if (!run(one, f, needs, kind, &p, tile, 0, 0, 9)) bad = "writes beside its scores";
        for (int u = 0; u < n; u++)
            if (!bad && !isfinite(one[u])) bad = "is not finite";
        run(two, f, needs, kind, &p, tile, 0, 0, 9);
        if (!bad && memcmp(one, two, bytes)) bad = "differs between two runs";
        for (int shift = 0; shift < 4 && !bad; shift++) {
            run(two, f, needs, kind, &p, tile, 5 + 8 * shift, shift, 9);
            if (memcmp(one, two, bytes)) bad = "depends on where the tile lies";
        }
        for (int width = 1; width < 50 && !bad && kind == NEURONS; width = 3 * width + 1) {
            run(two, f, needs, kind, &p, width, 2, 1, 9);
            if (memcmp(one, two, bytes)) bad = "depends on the other units of its tile";
        }
        free(one);
        free(two);
        taps_free(&p);
        if (bad) return bad;
    }
    return NULL;
}

// What every criterion promises; NULL or the promise that is broken. First in a child, which may crash.
static const char *broken_promise(crit_fn *f, unsigned needs, int kind) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);  // not the handler of the test framework
        signal(SIGBUS, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        broken_promise_here(f, needs, kind);
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) fail_msg("cannot run a child process");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return "crashes: it may read what it did not declare";
    return broken_promise_here(f, needs, kind);
}

static void each_function(void (*visit)(const criterion *c, const char *mode, int kind, crit_fn *f, unsigned needs)) {
    for (int i = 0; crit_all[i]; i++)
        for (int m = 0; m < 2; m++) {
            const crit_mode *c = m ? &crit_all[i]->compat : &crit_all[i]->sound;
            if (c->heads) visit(crit_all[i], m ? "compat" : "sound", HEADS, c->heads, c->needs_heads);
            if (c->neurons) visit(crit_all[i], m ? "compat" : "sound", NEURONS, c->neurons, c->needs_neurons);
        }
}

static void check_promises(const criterion *c, const char *mode, int kind, crit_fn *f, unsigned needs) {
    const char *bad = broken_promise(f, needs, kind);
    if (bad) fail_msg("%s %s %s %s", c->name, mode, kinds[kind], bad);
}

static void test_promises(void **state) {
    (void)state;
    each_function(check_promises);
}

static void test_registry(void **state) {
    (void)state;
    static const char *const names[] = {"epenas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "plainact", "random", "removal", "snip"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const criterion *c = crit_find(names[i]);
        if (!c) fail_msg("%s is not registered", names[i]);
        assert_int_equal(c->by_name_only, strcmp(names[i], "removal") == 0);
    }
    assert_null(crit_find("none"));
    for (int i = 0; crit_all[i]; i++) {
        const criterion *c = crit_all[i];
        assert_true(c->name && c->about && c->sound.heads_doc && c->sound.neurons_doc && c->compat.heads_doc);
        assert_true(c->sound.task || (c->sound.heads && c->sound.neurons));
    }
}

// ---------------------------------------------------------------- the promises can be broken
static void mean_over_tile(float *out, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++)
        for (int u = 0; u < in->U; u++) sum += in->act[t * in->ld + u];
    for (int u = 0; u < in->U; u++) out[u] = (float)(sum / in->U);
}
static void not_a_number(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = logf(-1 - fabsf(in->act[u]));
}
static void ignores_ld(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = in->act[(in->T - 1) * in->U * in->D + u];
}
static void remembers(float *out, const crit_in *in) {
    static int calls;
    for (int u = 0; u < in->U; u++) out[u] = (float)++calls;
}
static void undeclared(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = in->grad[u];
}
static void undeclared_sum(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)crit_sum(in, u, USUM_GRAD);
}

static void writes_outside(float *out, const crit_in *in) {
    for (int u = 0; u <= in->U; u++) out[u] = 1;
}

static void test_faults_are_found(void **state) {
    (void)state;
    assert_non_null(broken_promise(mean_over_tile, CRIT_ACT, NEURONS));
    crit_fn *bad[] = {not_a_number, ignores_ld, remembers, writes_outside};
    for (int i = 0; i < 4; i++)
        for (int kind = HEADS; kind <= NEURONS; kind++) assert_non_null(broken_promise(bad[i], CRIT_ACT, kind));
    assert_non_null(broken_promise(undeclared, CRIT_ACT, NEURONS));
    for (int kind = HEADS; kind <= NEURONS; kind++) {
        assert_non_null(broken_promise(undeclared_sum, CRIT_SUM(USUM_ACT), kind));
        assert_null(broken_promise(undeclared_sum, CRIT_SUM(USUM_GRAD), kind));
    }
}

// ---------------------------------------------------------------- the formulas, in plain double loops
// Unit u of a kind: value i at token t is a[(t*columns) + u*D + i].
typedef struct { const taps *p; int u, T, D, columns; const float *a, *g, *hv, *hu; } unit;

static unit unit_of(const taps *p, int kind, int u) {
    bool h = kind == HEADS;
    return (unit){p, u, p->s.T, h ? p->s.D : 1, h ? p->E : p->s.F, h ? p->a : p->z, h ? p->da : p->dz, h ? p->a_hv : p->z_hv, h ? p->a_hu : p->z_hu};
}
#define AT(field) ((double)x->field[t * x->columns + x->u * x->D + i])
#define OVER_T for (int t = 0; t < x->T; t++)
#define OVER_I for (int i = 0; i < x->D; i++)
#define OVER_E for (int e = 0; e < x->p->E; e++)
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
static double ref_removal(const unit *x) { return x->p->removal[x->u]; }

static const struct { const char *name, *mode; double (*ref[2])(const unit *); } refs[] = {
    {"plainact", "sound", {ref_plainact_h, ref_plainact_n}}, {"plainact", "compat", {ref_plainact_h, ref_plainact_n}},
    {"l2_norm", "sound", {ref_l2_norm, ref_l2_norm_n}},      {"l2_norm", "compat", {ref_l2_norm, ref_l2_norm}},
    {"grad_norm", "sound", {ref_grad_norm_h, ref_grad_norm_n}}, {"grad_norm", "compat", {ref_grad_norm_h, ref_grad_norm_n}},
    {"fisher", "sound", {ref_fisher, ref_fisher}},           {"fisher", "compat", {ref_fisher_compat, ref_fisher_compat}},
    {"snip", "sound", {ref_snip, ref_snip}},                 {"snip", "compat", {ref_snip_compat_h, ref_snip_compat_n}},
    {"grasp", "sound", {ref_grasp, ref_grasp}},              {"grasp", "compat", {ref_grasp_compat_h, ref_grasp_compat_n}},
    {"nwot", "sound", {ref_nwot, ref_nwot}},                 {"nwot", "compat", {ref_nwot_compat_h, ref_nwot_compat_n}},
    {"jacov", "sound", {ref_jacov_h, ref_jacov_n}},
    {"removal", "sound", {ref_removal, ref_removal}},        {"removal", "compat", {ref_removal, ref_removal}},
};

// Agreement as the specification has it: relative to the value or to the root mean square of the layer, whichever is larger.
static void check_close(const char *what, const float *got, const double *want, int n) {
    double rms = 0;
    for (int u = 0; u < n; u++) rms += want[u] * want[u] / n;
    rms = sqrt(rms);
    for (int u = 0; u < n; u++)
        if (!(fabs(got[u] - want[u]) <= 2e-4 * fmax(fabs(want[u]), rms)))
            fail_msg("%s: unit %d is %.9g, the formula says %.9g", what, u, (double)got[u], want[u]);
}

static void check_formula(const criterion *c, const char *mode, int kind, crit_fn *f, unsigned needs) {
    size_t k = 0, known = sizeof refs / sizeof *refs;
    while (k < known && (strcmp(refs[k].name, c->name) != 0 || strcmp(refs[k].mode, mode) != 0)) k++;
    if (k == known) return;  // random, and criteria of other people
    for (int i = 0; i < SHAPES; i++) {
        taps p = taps_make(shapes[i], (uint64_t)(200 + i));
        int n = kind == HEADS ? p.s.H : p.s.F;
        float *got = xmalloc((size_t)n * sizeof *got);
        double *want = xmalloc((size_t)n * sizeof *want);
        run(got, f, needs, kind, &p, kind == HEADS ? 1 : CRIT_TILE, 3, 1, 9);
        for (int u = 0; u < n; u++) {
            unit x = unit_of(&p, kind, u);
            want[u] = refs[k].ref[kind](&x);
        }
        char what[100];
        snprintf(what, sizeof what, "%s %s %s, shape %d", c->name, mode, kinds[kind], i);
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
static double score(const char *name, int kind, bool compat, crit_in in) {
    const criterion *c = crit_find(name);
    assert_non_null(c);
    const crit_mode *m = compat ? &c->compat : &c->sound;
    float out[CRIT_TILE];
    double sums[USUMS];
    take_sums(sums, kind == HEADS ? m->needs_heads : m->needs_neurons, kind, &in, in.act, in.grad, in.hv, in.hu, in.out_grad, in.xcorr, in.xmax);
    in.sums = sums;
    (kind == HEADS ? m->heads : m->neurons)(out, &in);
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
    check_value(score("nwot", HEADS, false, in), log(1 + T));  // K/d = 1 1'
    check_value(score("nwot", HEADS, true, in), 0);
    for (int i = 0; i < 10 * D; i++) a[i] = -1;                // two opposite patterns: two blocks of ones
    check_value(score("nwot", HEADS, false, in), log(1 + 10) + log(1 + 27));
    check_value(score("nwot", HEADS, true, in), log(10 * D));
    in.D = in.ld = 1;
    check_value(score("nwot", NEURONS, false, in), log(1 + T));
    check_value(score("nwot", NEURONS, true, in), 0);
    for (int t = 0; t < T; t++) a[t] = t < 10 ? 0 : 2;
    check_value(score("nwot", NEURONS, false, in), log(1 + 10) + log(1 + 27));
    check_value(score("nwot", NEURONS, true, in), log(10.0 / T));
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
    check_value(score("jacov", HEADS, false, in), none);
    for (int i = 0; i < D; i++) g[5 * D + i] = 7;  // constant: still nothing
    check_value(score("jacov", HEADS, false, in), none);
    g[5 * D] = 1;
    check_value(score("jacov", HEADS, false, in), -1);
    for (int r = 0; r < D - 1; r++)  // Walsh functions: centred and orthogonal
        for (int i = 0; i < D; i++) g[(2 * r + 5) * D + i] = (float)(r + 1) * (__builtin_popcount((unsigned)((r + 1) & i)) % 2 ? -1 : 1);
    check_value(score("jacov", HEADS, false, in), -1);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++) g[t * D + i] = (float)((t + 1) * (i * i + t));
    check_value(score("jacov", HEADS, false, in), equal_rows(200));

    in.D = in.ld = 1;
    for (int t = 0; t < T; t++) {
        xmax[t] = 1;
        g[t] = 0;
        for (int s = 0; s < T; s++) xcorr[t * T + s] = 1;
    }
    check_value(score("jacov", NEURONS, false, in), none);
    g[9] = -3;
    check_value(score("jacov", NEURONS, false, in), -1);
    for (int t = 0; t < 20; t++) g[t] = 1;
    check_value(score("jacov", NEURONS, false, in), equal_rows(20));
    xmax[3] = xmax[4] = 0;  // two constant rows of x
    check_value(score("jacov", NEURONS, false, in), equal_rows(18));
    for (int t = 0; t < T; t++) g[t] = 2;
    check_value(score("jacov", NEURONS, false, in), equal_rows(32));
    for (int t = 0; t < T; t++)
        for (int s = 0; s < T; s++) xcorr[t * T + s] = s == t;
    check_value(score("jacov", NEURONS, false, in), -1);
}

static void test_closed_first_order(void **state) {
    (void)state;
    enum { T = 4, D = 3 };
    float a[T * D] = {3, 1, 2, 5, -4, 6, 7, 8, 9, 1, 1, 1}, g[T * D] = {0}, hv[T * D];
    crit_in in = {.T = T, .U = 1, .D = D, .E = D, .ld = D, .act = a, .grad = g, .hv = hv, .hu = hv};
    g[1 * D + 1] = 0.5f;  // planted: one value of one token
    check_value(score("snip", HEADS, false, in), 2);
    check_value(score("plainact", HEADS, false, in), 2);
    check_value(score("fisher", HEADS, false, in), 0.5 * 4 / T);
    check_value(score("fisher", HEADS, true, in), 4.0 / T);
    check_value(score("grad_norm", HEADS, false, in), 0.5);
    g[3 * D] = 2;         // another token takes it back
    check_value(score("snip", HEADS, false, in), 0);
    check_value(score("plainact", HEADS, false, in), 4);
    g[3 * D + 1] = -2;    // within one token
    check_value(score("plainact", HEADS, false, in), 2);
    check_value(score("fisher", HEADS, false, in), 0.5 * 4 / T);
    check_value(score("fisher", HEADS, true, in), 12.0 / T);
    double square = 0;
    for (int i = 0; i < T * D; i++) {
        square += (double)a[i] * a[i];
        hv[i] = 3 * a[i];
    }
    check_value(score("grasp", HEADS, false, in), 3 * square);  // importance +theta * Hg
    check_value(score("grasp", HEADS, true, in), -3 * square / T);
    check_value(score("l2_norm", HEADS, false, in), sqrt(square));
    float z[T] = {3, -12, 4, 0};
    crit_in n = {.T = T, .U = 1, .D = 1, .E = D, .ld = 1, .act = z, .grad = z, .w = a, .dw = a + D, .hu_w = a + 2 * D};
    double sums[WSUMS];
    sum_weights(sums, n.w, n.dw, n.hu_w, 1, D);
    n.wsums = sums;
    check_value(score("l2_norm", NEURONS, false, n), 5);
    check_value(score("l2_norm", NEURONS, true, n), 13);
    check_value(score("plainact", NEURONS, false, n), 15 + 4 + 12);
    check_value(score("grad_norm", NEURONS, false, n), sqrt(25 + 16 + 36));
    check_value(score("grasp", NEURONS, true, n), -(2 * (15 - 4 + 12) + 21 + 8 + 18) / 3.0);
    check_value(score("snip", NEURONS, true, n), 19);
}

static void test_random(void **state) {
    (void)state;
    enum { N = 4096 };
    float one[N], two[CRIT_TILE];
    const crit_mode *m = &crit_find("random")->sound;
    double mean = 0, square = 0;
    for (int u = 0; u < N; u += CRIT_TILE) {
        crit_in in = {.U = CRIT_TILE, .layer = 2, .unit = u, .seed = 1, .key = 2};
        m->neurons(one + u, &in);
    }
    for (int u = 0; u < N; u++) {
        assert_true(one[u] >= 0 && one[u] < 1);
        mean += one[u] / (double)N;
        square += (double)one[u] * one[u] / N;
    }
    assert_true(fabs(mean - 0.5) < 0.02 && fabs(square - 1.0 / 3) < 0.02);  // over four standard errors
    crit_in other[] = {{.layer = 3, .seed = 1, .key = 2}, {.layer = 2, .seed = 3, .key = 2}, {.layer = 2, .seed = 1, .key = 3}, {.layer = 2, .seed = 1, .key = 2}};
    for (int i = 0; i < 4; i++) {
        other[i].U = i == 3 ? 1 : CRIT_TILE;
        (i == 3 ? m->heads : m->neurons)(two, &other[i]);  // the last: the same place among the heads
        assert_true(two[0] != one[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registry),     cmocka_unit_test(test_promises),    cmocka_unit_test(test_faults_are_found), cmocka_unit_test(test_formulas),
        cmocka_unit_test(test_closed_nwot),  cmocka_unit_test(test_closed_jacov), cmocka_unit_test(test_closed_first_order), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
