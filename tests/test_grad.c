// test_grad - gradients and Hessian-vector products of the model: against central differences of a plain
// double-precision OPT (plain_opt.h), and against float64 autograd (tests/golden/make_opt.py, make_llama.py,
// make_gelu.py).
#include "plain_opt.h"
#include <omp.h>

// ---------------------------------------------------------------- what the library says
typedef struct {
    int L, E, A, F, rows;
    float *da, *dz, *du, *dr, *out, *ha, *hz, *tx;  // [L, rows, A, F or E], of all sequences; hz: at the neurons' tap
    int seen;                                       // layers handed over, a bit each
} found;

static void found_make(found *f, const model_config *c, int rows) {
    const size_t n = (size_t)c->L * (size_t)rows, e = n * (size_t)c->E, a = n * (size_t)(c->H * c->D),
                 z = n * (size_t)c->F;
    *f =
        (found){c->L,          c->E,          c->H * c->D,   c->F,          rows,          xcalloc(a, 4), xcalloc(z, 4),
                xcalloc(z, 4), xcalloc(z, 4), xcalloc(e, 4), xcalloc(a, 4), xcalloc(z, 4), xcalloc(e, 4), 0};
}
static void found_free(found *f) {
    free(f->da), free(f->dz), free(f->du), free(f->dr), free(f->out), free(f->ha), free(f->hz), free(f->tx);
}

static void keep_rows(float *to, const float *from, const found *f, int layer, int width) {
    const size_t n = (size_t)f->rows * (size_t)width;
    memcpy(to + (size_t)layer * n, from, n * sizeof *to);
}
static void keep_gradients(void *ctx, model_run *r, int layer) {
    found *f = ctx;
    assert_int_equal(f->seen, (1 << f->L) - (2 << layer));  // from the last layer to the first, each once
    f->seen |= 1 << layer;
    keep_rows(f->da, model_grad_a(r, layer), f, layer, f->A);
    keep_rows(f->dz, model_grad_z(r, layer), f, layer, f->F);
    if (model_grad_u(r, layer)) keep_rows(f->du, model_grad_u(r, layer), f, layer, f->F);
    if (model_grad_r(r, layer)) keep_rows(f->dr, model_grad_r(r, layer), f, layer, f->F);
    keep_rows(f->out, model_grad_out(r, layer), f, layer, f->E);
}
static void keep_hessian(void *ctx, model_run *r, int layer) {
    found *f = ctx;
    f->seen |= 1 << layer;
    keep_rows(f->ha, model_hess_a(r, layer), f, layer, f->A);
    keep_rows(f->hz, model_hess_z(r, layer), f, layer, f->F);
    if (model_tangent_x(r, layer)) keep_rows(f->tx, model_tangent_x(r, layer), f, layer, f->E);
}

// out (F, E) = dz' x over n rows, sums in double
static void outer(float *out, const float *dz, const float *x, int n, int F, int E) {
    for (int j = 0; j < F; j++)
        for (int e = 0; e < E; e++) {
            double sum = 0;
            for (int t = 0; t < n; t++) sum += (double)dz[t * F + j] * (double)x[t * E + e];
            out[j * E + e] = (float)sum;
        }
}

// ---------------------------------------------------------------- tiny models
static const struct {
    const char *name;
    model_config c;
} tiny[] = {
    {"pre-LN",
     {.L = 2,
      .H = 2,
      .E = 8,
      .F = 12,
      .D = 4,
      .P = 8,
      .V = 13,
      .positions = 10,
      .pre_ln = true,
      .final_ln = true,
      .bias = true}},
    {"post-LN, projections", {.L = 2, .H = 2, .E = 8, .F = 11, .D = 4, .P = 6, .V = 13, .positions = 10, .bias = true}},
    {"pre-LN, no biases, no final norm",
     {.L = 2, .H = 2, .E = 8, .F = 12, .D = 4, .P = 8, .V = 13, .positions = 10, .pre_ln = true}}};
enum { TINY = sizeof tiny / sizeof *tiny, TINY_SEQS = 2 };
static const int32_t tiny_tokens[2][10] = {{3, 7, 1, 7, 12, 0, 4, 9}, {5, 5, 11, 2, 8}};
static const model_seq tiny_seqs[2] = {
    {.tokens = tiny_tokens[0], .n = 8, .targets_from = 3, .last_target = SEQ_NO_OUTPUT},
    {.tokens = tiny_tokens[1], .n = 5, .targets_from = 3, .last_target = SEQ_NO_OUTPUT}};

static int targets(const model_seq *s) { return s->n - s->targets_from - (s->last_target < 0); }

// Taps and fc1, first and second order, of every sequence's own mean loss. As published (compat) the direction is (da /
// TE, g1 / FE).
static void tap_derivatives(void **state) {
    const model_config *c = *state;
    const size_t L = (size_t)c->L, E = (size_t)c->E, F = (size_t)c->F;
    random_opt o;
    random_opt_make(&o, c, 21);
    model_run *r = model_run_new(&o.m, 20, TINY_SEQS, RUN_TAPS | RUN_TANGENT);
    found first, joint, published;
    const int rows = tiny_seqs[0].n + tiny_seqs[1].n;
    found_make(&first, c, rows), found_make(&joint, c, rows), found_make(&published, c, rows);
    float scale_a[2], scale_w[2];
    const float zeros[2] = {0};
    for (int i = 0; i < TINY_SEQS; i++)
        scale_a[i] = 1 / (float)(tiny_seqs[i].n * c->E), scale_w[i] = 1 / (float)(c->F * c->E);
    model_forward(r, tiny_seqs, TINY_SEQS);
    model_backward(r, NULL, NULL, NULL, keep_gradients, &first);
    model_hessian(r, NULL, NULL, NULL, NULL, keep_hessian, &joint);
    model_hessian(r, NULL, scale_a, zeros, scale_w, keep_hessian, &published);
    tally seen = {0};
    for (int i = 0; i < TINY_SEQS; i++) {
        plain p;
        plain_make(&p, c, o.t, o.n, &tiny_seqs[i]);
        const size_t n = (size_t)tiny_seqs[i].n, row = (size_t)model_row(r, i);
        const double mean = 1.0 / targets(&tiny_seqs[i]);
        const size_t at_a = p.n_weights, at_z = at_a + L * n * E;
        double *v = xcalloc(p.n, sizeof *v), *u = xcalloc(p.n, sizeof *u), *want = xmalloc(p.n * sizeof *want), lv = 0,
               lu = 0;
        for (size_t k = at_a; k < p.n; k++) v[k] = mean * slope(&p, k);
        float *g1 = xmalloc(F * E * sizeof *g1), *more = xmalloc(F * E * sizeof *more);
        for (size_t l = 0; l < L; l++) {
            const size_t first_a = (l * (size_t)rows + row) * E, first_z = (l * (size_t)rows + row) * F;
            assert_agree_but_kinks("da", first.da + first_a, v + at_a + l * n * E, n * E, 1e-4, &seen);
            assert_agree_but_kinks("dz", first.dz + first_z, v + at_z + l * n * F, n * F, 1e-4, &seen);
            const size_t at_w = (size_t)(p.layer[l].w1 - p.theta);
            for (size_t k = 0; k < F * E; k++) u[at_w + k] = mean * slope(&p, at_w + k);
            outer(g1, first.dz + first_z, model_tap_x(r, (int)l) + row * E, (int)n, (int)F, (int)E);
            assert_agree_but_kinks("fc1 gradient", g1, u + at_w, F * E, 1e-4, &seen);
        }
        for (size_t k = 0; k < p.n; k++) {
            if (k < at_a)
                u[k] /= (double)(F * E);
            else if (k < at_z)
                u[k] = v[k] / (double)(n * E);
            ASSERT(!isnan(u[k]) && !isnan(v[k]));  // seeds with a kink in the way of the direction itself are of no use
            lv += v[k] * v[k], lu += u[k] * u[k];
        }
        for (size_t k = at_a; k < p.n; k++) want[k] = mean * curvature(&p, k, v, sqrt(lv));
        for (size_t l = 0; l < L; l++) {
            assert_agree_but_kinks("H v at a", joint.ha + (l * (size_t)rows + row) * E, want + at_a + l * n * E, n * E,
                                   1e-3, &seen);
            assert_agree_but_kinks("H v at z", joint.hz + (l * (size_t)rows + row) * F, want + at_z + l * n * F, n * F,
                                   1e-3, &seen);
        }
        for (size_t l = 0; l < L; l++) {
            const size_t at_w = (size_t)(p.layer[l].w1 - p.theta);
            for (size_t k = 0; k < n * E; k++) want[k] = mean * curvature(&p, at_a + l * n * E + k, u, sqrt(lu));
            assert_agree_but_kinks("H u at a", published.ha + (l * (size_t)rows + row) * E, want, n * E, 1e-3, &seen);
            for (size_t k = 0; k < F * E; k++) want[k] = mean * curvature(&p, at_w + k, u, sqrt(lu));
            const size_t first_a = (l * (size_t)rows + row) * E, first_z = (l * (size_t)rows + row) * F;
            outer(g1, published.hz + first_z, model_tap_x(r, (int)l) + row * E, (int)n, (int)F, (int)E);
            outer(more, first.dz + first_z, published.tx + first_a, (int)n, (int)F, (int)E);
            for (size_t k = 0; k < F * E; k++) g1[k] += more[k];
            assert_agree_but_kinks("H u at fc1", g1, want, F * E, 1e-3, &seen);
        }
        free(v), free(u), free(want), free(g1), free(more);
        plain_free(&p);
    }
    assert_few_skips(&seen);
    found_free(&first), found_free(&joint), found_free(&published);
    model_run_free(r);
    random_opt_free(&o);
}

// Every parameter, for a weighted sum of two sequences' losses; gradients are added to what is there.
static void weight_gradients(void **state) {
    const model_config *c = *state;
    random_opt o, g;
    random_opt_make(&o, c, 22);
    random_opt_make(&g, c, 23);
    model_seq seqs[2] = {tiny_seqs[0], tiny_seqs[1]};
    seqs[0].targets_from = 0, seqs[0].last_target = 6;  // as in training: every row has a target
    const float scale[2] = {0.3f, 0.125f};
    plain p[2];
    tally seen = {0};
    for (int i = 0; i < 2; i++) plain_make(&p[i], c, o.t, o.n, &seqs[i]);
    float **before = xmalloc((size_t)g.n * sizeof *before);
    for (int i = 0; i < g.n; i++) {
        before[i] = xmalloc(tensor_count(&g.t[i]) * sizeof **before);
        memcpy(before[i], g.t[i].data, tensor_count(&g.t[i]) * sizeof **before);
    }
    model_run *r = model_run_new(&o.m, 20, 2, RUN_TAPS | RUN_WEIGHT_GRADS);
    double logprob[16], sum[2] = {0};
    random_opt other;  // a pass over another batch first: nothing of it may be left in the workspace
    random_opt_make(&other, c, 24);
    const model_seq before_them[2] = {tiny_seqs[1], tiny_seqs[0]};
    model_forward(r, before_them, 2);
    model_backward(r, NULL, NULL, &other.m, NULL, NULL);
    random_opt_free(&other);
    model_forward(r, seqs, 2);
    model_backward(r, scale, logprob, &g.m, NULL, NULL);
    for (int i = 0, k = 0; i < 2; i++) {
        for (int t = 0; t < targets(&seqs[i]); t++) sum[i] -= logprob[k++];
        assert_true(fabs(sum[i] - plain_loss(&p[i])) <= 1e-4);
    }
    for (int i = 0; i < o.n; i++) {
        const size_t n = tensor_count(&o.t[i]);
        float *got = xmalloc(n * sizeof *got);
        double *want = xmalloc(n * sizeof *want);
        for (size_t k = 0; k < n; k++) {
            got[k] = ((const float *)g.t[i].data)[k];
            want[k] = (double)before[i][k];
            for (int s = 0; s < 2; s++) want[k] += (double)scale[s] * slope(&p[s], p[s].at[i] + k);
        }
        assert_agree_but_kinks(o.t[i].name, got, want, n, 1e-4, &seen);
        free(got), free(want), free(before[i]);
    }
    assert_few_skips(&seen);
    for (int i = 0; i < 2; i++) plain_free(&p[i]);
    free(before);
    model_run_free(r);
    random_opt_free(&o), random_opt_free(&g);
}

// ---------------------------------------------------------------- golden models
// Gated, or of another activation than ReLU.
static bool curved(const golden *g) { return g->m.arch.gated || g->m.arch.act != ACT_RELU; }

// published: not of these; nothing is found.
static void golden_found(golden *g, const int *order, int n, found *first, found *joint, found *published, float **x) {
    const model_config *c = &g->m.c;
    int rows = 0;
    model_seq seqs[3];
    float scale_a[3], scale_w[3];
    const float zeros[3] = {0};
    for (int k = 0; k < n; k++) {
        seqs[k] = golden_seq(g, order[k], g->context[order[k]] - 1);
        rows += seqs[k].n;
        scale_a[k] = 1 / (float)(seqs[k].n * c->E), scale_w[k] = 1 / (float)(c->F * c->E);
    }
    found_make(first, c, rows), found_make(joint, c, rows), found_make(published, c, rows);
    model_run *r = model_run_new(&g->m, rows, n, RUN_TAPS | RUN_TANGENT);
    double *logprob = xmalloc((size_t)rows * sizeof *logprob);
    model_forward(r, seqs, n);
    model_backward(r, NULL, logprob, NULL, keep_gradients, first);
    for (int k = 0, at = 0; k < n; k++) {
        double loss = 0;
        for (int t = 0; t < targets(&seqs[k]); t++) loss -= logprob[at++] / targets(&seqs[k]);
        assert_true(fabs(loss - g->loss[order[k]]) <= 1e-5 * g->loss[order[k]]);
    }
    model_hessian(r, NULL, NULL, NULL, NULL, keep_hessian, joint);
    if (!curved(g)) model_hessian(r, NULL, scale_a, zeros, scale_w, keep_hessian, published);
    const size_t layer = (size_t)rows * (size_t)c->E;
    *x = xmalloc((size_t)c->L * layer * sizeof **x);
    for (int l = 0; l < c->L; l++) memcpy(*x + (size_t)l * layer, model_tap_x(r, l), layer * sizeof **x);
    free(logprob);
    model_run_free(r);
}

// The double-precision model above is itself right: its losses are PyTorch's.
static void plain_is_opt(void **state) {
    golden *g = *state;
    for (int i = 0; i < g->N; i++) {
        plain p;
        const model_seq s = golden_seq(g, i, g->context[i] - 1);
        plain_make(&p, &g->m.c, g->m.file.tensors, g->m.file.n_tensors, &s);
        assert_true(fabs(plain_loss(&p) / targets(&s) - g->loss[i]) <= 1e-12 * g->loss[i]);
        plain_free(&p);
    }
}

// What a run found [L, rows, width], and the golden dataset of the same numbers.
typedef struct {
    const char *name;
    const float *got;
    size_t width;
    double tol;
} golden_rows;
static void assert_golden_rows(const golden *g, const golden_rows *list, size_t n) {
    const size_t L = (size_t)g->m.c.L, rows = (size_t)g->rows;
    for (size_t k = 0; k < n; k++) {
        double *want = golden_read(g, list[k].name);
        for (size_t l = 0; l < L; l++)
            for (int i = 0; i < g->N; i++) {
                const size_t at = (l * rows + (size_t)g->offset[i]) * list[k].width;
                assert_agree(list[k].name, list[k].got + at, want + at, (size_t)golden_length(g, i) * list[k].width,
                             list[k].tol);
            }
        free(want);
    }
}

static void golden_gradients(void **state) {
    golden *g = *state;
    const size_t L = (size_t)g->m.c.L, E = (size_t)g->m.c.E, F = (size_t)g->m.c.F, rows = (size_t)g->rows;
    const int all[] = {0, 1, 2};
    found first, joint, published;
    float *x, *g1 = xmalloc(F * E * sizeof *g1), *more = xmalloc(F * E * sizeof *more);
    golden_found(g, all, 3, &first, &joint, &published, &x);
    const golden_rows list[] = {{"da", first.da, E, 1e-4},
                                {"dz", first.dz, F, 1e-4},
                                {"hv_a", joint.ha, E, 1e-3},
                                {"hv_z", joint.hz, F, 1e-3},
                                {"hu_a", published.ha, E, 1e-3}};
    assert_golden_rows(g, list, sizeof list / sizeof *list);
    double *want_g1 = golden_read(g, "g1"), *want_hu = golden_read(g, "hu_w1");
    for (int i = 0; i < g->N; i++)
        for (size_t l = 0; l < L; l++) {
            const size_t a = (l * rows + (size_t)g->offset[i]) * E, z = (l * rows + (size_t)g->offset[i]) * F,
                         w = ((size_t)i * L + l) * F * E;
            const int n = golden_length(g, i);
            outer(g1, first.dz + z, x + a, n, (int)F, (int)E);
            assert_agree("g1", g1, want_g1 + w, F * E, 1e-4);
            outer(g1, published.hz + z, x + a, n, (int)F, (int)E);
            outer(more, first.dz + z, published.tx + a, n, (int)F, (int)E);
            for (size_t k = 0; k < F * E; k++) g1[k] += more[k];
            assert_agree("hu_w1", g1, want_hu + w, F * E, 1e-3);
        }
    free(want_g1), free(want_hu), free(g1), free(more), free(x);
    found_free(&first), found_free(&joint), found_free(&published);
}

// The others, with the same references but for those of the published formulas.
static void golden_curved(void **state) {
    golden *g = *state;
    const size_t A = (size_t)(g->m.c.H * g->m.c.D), F = (size_t)g->m.c.F;
    const int all[] = {0, 1, 2};
    found first, joint, none;
    float *x;
    if (!curved(g)) return;
    golden_found(g, all, 3, &first, &joint, &none, &x);
    const bool gated = g->m.arch.gated;
    const golden_rows list[] = {{"da", first.da, A, 1e-4},
                                {"dz", first.dz, F, 1e-4},
                                {"dr", first.dr, F, 1e-4},
                                {"hv_a", joint.ha, A, 1e-3},
                                {gated ? "hv_r" : "hv_z", joint.hz, F, 1e-3},
                                {"du", first.du, F, 1e-4}};
    assert_golden_rows(g, list, gated ? 6 : 5);
    free(x);
    found_free(&first), found_free(&joint), found_free(&none);
}

// With RUN_RECOMPUTE the bits of gradients and products are those of a run that keeps everything.
static void recomputed(void **state) {
    golden *g = *state;
    found kept[2], again[2];
    const unsigned flags[] = {0, RUN_RECOMPUTE};
    for (int k = 0; k < 2; k++) {
        found *of = k ? again : kept;
        model_seq seqs[3];
        for (int i = 0; i < 3; i++) seqs[i] = golden_seq(g, i, g->context[i] - 1);
        found_make(&of[0], &g->m.c, g->rows), found_make(&of[1], &g->m.c, g->rows);
        model_run *r = model_run_new(&g->m, g->rows, 3, RUN_TAPS | RUN_TANGENT | flags[k]);
        model_forward(r, seqs, 3);
        model_backward(r, NULL, NULL, NULL, keep_gradients, &of[0]);
        model_hessian(r, NULL, NULL, NULL, NULL, keep_hessian, &of[1]);
        model_run_free(r);
    }
    const size_t n = (size_t)(g->m.c.L * g->rows) * sizeof(float);
    for (int k = 0; k < 2; k++) {
        assert_same_bits("da", kept[k].da, again[k].da, n * (size_t)kept->A);
        assert_same_bits("dz", kept[k].dz, again[k].dz, n * (size_t)kept->F);
        assert_same_bits("du", kept[k].du, again[k].du, n * (size_t)kept->F);
        assert_same_bits("dr", kept[k].dr, again[k].dr, n * (size_t)kept->F);
        assert_same_bits("H v at a", kept[k].ha, again[k].ha, n * (size_t)kept->A);
        assert_same_bits("H v at neurons", kept[k].hz, again[k].hz, n * (size_t)kept->F);
        found_free(&kept[k]), found_free(&again[k]);
    }
}

static void assert_same_found(const char *what, const found *whole, int whole_row, const found *part, int part_row,
                              int n) {
    for (int l = 0; l < whole->L; l++) {
        const float *const a[] = {whole->da, whole->ha, whole->out, whole->tx,
                                  whole->dz, whole->hz, whole->du,  whole->dr};
        const float *const b[] = {part->da, part->ha, part->out, part->tx, part->dz, part->hz, part->du, part->dr};
        const int widths[] = {whole->A, whole->A, whole->E, whole->E, whole->F, whole->F, whole->F, whole->F};
        for (int k = 0; k < 8; k++) {
            const size_t width = (size_t)widths[k];
            assert_same_bits(what, a[k] + (size_t)(l * whole->rows + whole_row) * width,
                             b[k] + (size_t)(l * part->rows + part_row) * width, (size_t)n * width * sizeof(float));
        }
    }
}

static void same_bits(void **state) {
    golden *g = *state;
    const int all[] = {0, 1, 2}, before = omp_get_max_threads();
    found whole[3], part[3];
    float *x;
    golden_found(g, all, 3, &whole[0], &whole[1], &whole[2], &x);
    free(x);
    for (int i = 0; i < g->N; i++) {
        golden_found(g, &i, 1, &part[0], &part[1], &part[2], &x);
        free(x);
        for (int k = 0; k < 3; k++) {
            assert_same_found("alone", &whole[k], g->offset[i], &part[k], 0, golden_length(g, i));
            found_free(&part[k]);
        }
    }
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        golden_found(g, all, 3, &part[0], &part[1], &part[2], &x);
        free(x);
        for (int k = 0; k < 3; k++) {
            assert_same_found("other thread count", &whole[k], 0, &part[k], 0, g->rows);
            found_free(&part[k]);
        }
    }
    omp_set_num_threads(before);
    for (int k = 0; k < 3; k++) found_free(&whole[k]);
}

// The gradient of all weights does not depend on the thread count.
static void weight_gradient_bits(void **state) {
    const model_config *c = *state;
    const int before = omp_get_max_threads();
    random_opt o, g[3];
    random_opt_make(&o, c, 31);
    for (int threads = 1; threads <= 3; threads++) {
        random_opt *to = &g[threads - 1];
        random_opt_make(to, c, 32);
        omp_set_num_threads(threads);
        model_run *r = model_run_new(&o.m, 20, 2, RUN_TAPS | RUN_WEIGHT_GRADS);
        model_forward(r, tiny_seqs, 2);
        model_backward(r, NULL, NULL, &to->m, NULL, NULL);
        model_run_free(r);
        for (int i = 0; threads > 1 && i < o.n; i++)
            assert_same_bits(o.t[i].name, to->t[i].data, g[0].t[i].data, tensor_count(&o.t[i]) * sizeof(float));
    }
    omp_set_num_threads(before);
    for (int k = 0; k < 3; k++) random_opt_free(&g[k]);
    random_opt_free(&o);
}

int main(void) {
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } per_tiny[] = {{"derivatives of the taps", tap_derivatives},
                    {"gradients of all weights", weight_gradients},
                    {"bits of weight gradients", weight_gradient_bits}};
    static const golden_test per_model[] = {{"plain OPT is OPT", plain_is_opt, true, false},
                                            {"gradients agree", golden_gradients, false, false},
                                            {"gradients of other FFNs agree", golden_curved, false, true},
                                            {"recomputed", recomputed, false, true},
                                            {"same bits", same_bits, false, true}};
    struct CMUnitTest tests[TINY * 3];
    for (int k = 0; k < TINY * 3; k++)
        tests[k] = (struct CMUnitTest){xasprintf("%s: %s", tiny[k / 3].name, per_tiny[k % 3].name), per_tiny[k % 3].run,
                                       NULL, NULL, (void *)(uintptr_t)&tiny[k / 3].c};
    const int failed = run_on_golden("grad", per_model, sizeof per_model / sizeof *per_model, open_golden, close_golden,
                                     tests, TINY * 3);
    for (int k = 0; k < TINY * 3; k++) free((void *)(uintptr_t)tests[k].name);
    return failed;
}
