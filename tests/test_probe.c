// test_probe - losses, features and scores of examples against float64 PyTorch (tests/golden/make_opt.py), the rows
// kept for task-level criteria, and that nothing but the example itself has a say in its numbers.
//
// Agreement is per layer: |difference| <= tol * max(|value|, rms of the layer). Where the reference's gap of two units
// exceeds the two tolerances, their order follows from it.
#include "convert.h"
#include "opt_fixture.h"
#include <omp.h>
#include "probe.h"

enum { MAX_EXAMPLES = 8 };
static const char *const score_groups[2] = {"scores", "scores_compat"}, *const feature_groups[2] = {"features",
                                                                                                    "features_compat"};

// ---------------------------------------------------------------- examples and results
typedef struct {
    golden g;
    probe_example ex[MAX_EXAMPLES];
    int n;
    int32_t *long_tokens;
} fixture;

static int open_fixture(void **state) {
    static fixture f;
    golden_open(&f.g, *state);
    for (int i = 0; i < f.g.N; i++)
        f.ex[i] = (probe_example){.tokens = f.g.tokens + f.g.offset[i],
                                  .n = golden_length(&f.g, i),
                                  .context = f.g.context[i],
                                  .key = (uint64_t)i};
    f.n = f.g.N;
    f.long_tokens = NULL;
    if (golden_has(&f.g, "long")) {
        size_t n;
        f.long_tokens = golden_ints(&f.g, "long/tokens", &n);
        int32_t *context = golden_ints(&f.g, "long/context", NULL);
        f.ex[f.n++] = (probe_example){.tokens = f.long_tokens, .n = (int)n, .context = *context, .key = 3};
        free(context);
    }
    *state = &f;
    return 0;
}

static int close_fixture(void **state) {
    fixture *f = *state;
    free(f->long_tokens);
    golden_close(&f->g);
    return 0;
}

// Room for everything that a plan yields for one example; floats counts it.
typedef struct {
    probe_result r;
    float *block;
    size_t floats;
} result;

static void result_make(result *to, const model *m, const probe_plan *plan) {
    const size_t L = (size_t)m->c.L, E = (size_t)m->c.E, A = (size_t)(m->c.H * m->c.D), most = A > E ? A : E,
                 units[2] = {L * (size_t)m->c.H, L * (size_t)m->c.F};
    to->floats = 2 * FEAT_KINDS * L * most + 2 * (size_t)plan->n_crit * (units[0] + units[1]);
    float *at = to->block = xcalloc(to->floats, sizeof *at);
    to->r = (probe_result){0};
    for (int mode = 0; mode < 2; mode++) {
        if (!plan->mode[mode]) continue;
        for (int k = 0; k < FEAT_KINDS; k++, at += L * most) to->r.features[mode][k] = at;
        to->r.heads[mode] = xcalloc((size_t)plan->n_crit, sizeof(float *));
        to->r.neurons[mode] = xcalloc((size_t)plan->n_crit, sizeof(float *));
        for (int c = 0; c < plan->n_crit; c++) {
            const crit_mode *which = crit_mode_of(plan->crit[c], mode);
            if (which->heads) to->r.heads[mode][c] = at, at += units[0];
            if (which->neurons) to->r.neurons[mode][c] = at, at += units[1];
        }
    }
}

static void result_free(result *r) {
    for (int mode = 0; mode < 2; mode++) free(r->r.heads[mode]), free(r->r.neurons[mode]);
    free(r->block);
}

// Scores the examples named in `order` as one batch; out[k] belongs to order[k].
static void run(const fixture *f, const probe_plan *plan, const int *order, int n, result *out, probe_row *rows,
                int n_rows) {
    probe_example ex[MAX_EXAMPLES];
    probe_result r[MAX_EXAMPLES];
    int tokens = 0;
    for (int k = 0; k < n; k++) {
        ex[k] = f->ex[order[k]];
        tokens += ex[k].n;
        result_make(&out[k], &f->g.m, plan);
        r[k] = out[k].r;
    }
    probe *p = probe_new(&f->g.m, plan, tokens);
    if (probe_run(p, ex, n, r, rows, n_rows) != 0) fail_msg("%s", err_get());
    for (int k = 0; k < n; k++) out[k].r.loss = r[k].loss;
    probe_free(p);
}

// ---------------------------------------------------------------- against the reference
static void assert_layers(const char *what, const float *got, const double *want, size_t L, size_t n, double tol) {
    for (size_t l = 0; l < L; l++) {
        char label[160];
        snprintf(label, sizeof label, "%s, layer %d", what, (int)l);
        assert_agree(label, got + l * n, want + l * n, n, tol);
    }
}

static void everything_agrees(void **state) {
    fixture *f = *state;
    golden *g = &f->g;
    const model_config *m = &g->m.c;
    const size_t L = (size_t)m->L, H = (size_t)m->H, F = (size_t)m->F,
                 width[FEAT_KINDS] = {[FEAT_HEAD_OUTPUT] = (size_t)(m->H * m->D),
                                      [FEAT_RESIDUAL] = (size_t)m->E,
                                      [FEAT_RESIDUAL_MID] = (size_t)m->E};
    const bool both = model_check_mode(m, MODE_COMPAT) == 0;
    probe_plan plan = {.mode = {true, both}, .seed = 1};
    plan.crit = crit_select("plainact,l2_norm,grad_norm,fisher,snip,grasp,nwot,jacov,removal", &plan.n_crit);
    if (!plan.crit) fail_msg("%s", err_get());
    const int all[] = {0, 1, 2, 3};
    result out[MAX_EXAMPLES];
    run(f, &plan, all, f->n, out, NULL, 0);
    for (int i = 0; i < f->n; i++) {
        const bool lengthy = i >= g->N;
        const char *where = lengthy ? "long/" : "";
        const size_t row = lengthy ? 0 : (size_t)i;
        double *loss = golden_read(g, lengthy ? "long/loss" : "loss");
        assert_true(fabs(out[i].r.loss - loss[row]) <= 1e-5 * loss[row]);
        free(loss);
        for (int mode = 0; mode < 1 + both; mode++) {
            char path[120];
            for (int k = 0; k < FEAT_KINDS; k++) {
                snprintf(path, sizeof path, "%s%s/%s", where, feature_groups[mode], feat_names[k]);
                double *want = golden_read(g, path);
                assert_layers(path, out[i].r.features[mode][k], want + row * L * width[k], L, width[k], 1e-4);
                free(want);
            }
            for (int c = 0; c < plan.n_crit; c++)
                for (int kind = 0; kind < 2; kind++) {
                    snprintf(path, sizeof path, "%s%s/%s/%s", where, score_groups[mode], plan.crit[c]->name,
                             kind ? "neurons" : "heads");
                    const float *got = kind ? out[i].r.neurons[mode][c] : out[i].r.heads[mode][c];
                    char group[120];
                    snprintf(group, sizeof group, "%s%s/%s", where, score_groups[mode], plan.crit[c]->name);
                    // compat jacov: per task only; compat removal: the same; removal of the long one
                    if (!golden_has(g, group)) continue;
                    if (!got) fail_msg("%s: no score", path);
                    const size_t units = kind ? F : H;
                    double *want = golden_read(g, path);
                    assert_layers(path, got, want + row * L * units, L, units,
                                  strcmp(plan.crit[c]->name, "grasp") == 0 ? 2e-3 : 2e-4);
                    free(want);
                }
        }
        result_free(&out[i]);
    }
    free(plan.crit);
}

// ---------------------------------------------------------------- same bits
static void assert_same_result(const char *what, const result *a, const result *b) {
    assert_int_equal(a->floats, b->floats);
    assert_same_bits(what, a->block, b->block, a->floats * sizeof *a->block);
    assert_same_bits(what, &a->r.loss, &b->r.loss, sizeof a->r.loss);
}

static void batch_and_threads_do_not_matter(void **state) {
    fixture *f = *state;
    probe_plan plan = {.mode = {true, model_check_mode(&f->g.m.c, MODE_COMPAT) == 0}, .seed = 1};
    plan.crit = crit_select("all", &plan.n_crit);
    const int all[] = {0, 1, 2, 3}, turned[] = {2, 0, 1, 3}, before = omp_get_max_threads();
    result base[MAX_EXAMPLES], other[MAX_EXAMPLES];
    run(f, &plan, all, f->n, base, NULL, 0);
    for (size_t i = 0; i < base[0].floats; i++) assert_true(isfinite(base[0].block[i]));
    run(f, &plan, turned, f->n, other, NULL, 0);
    for (int k = 0; k < f->n; k++)
        assert_same_result("another order", &base[turned[k]], &other[k]), result_free(&other[k]);
    for (int i = 0; i < f->n; i++) {
        run(f, &plan, &i, 1, other, NULL, 0);
        assert_same_result("alone", &base[i], &other[0]);
        result_free(&other[0]);
    }
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        run(f, &plan, all, f->n, other, NULL, 0);
        for (int i = 0; i < f->n; i++)
            assert_same_result("other thread count", &base[i], &other[i]), result_free(&other[i]);
    }
    omp_set_num_threads(before);
    for (int i = 0; i < f->n; i++) result_free(&base[i]);
    free(plan.crit);
}

// Activations that are computed again: the same bits of everything, rows for task-level criteria too, in less memory.
static void recomputing_does_not_matter(void **state) {
    fixture *f = *state;
    const model_config *c = &f->g.m.c;
    const size_t L = (size_t)c->L, E = (size_t)c->E, A = (size_t)(c->H * c->D), F = (size_t)c->F;
    static const char *const criteria[] = {"plainact,snip,nwot", "all,removal", "l2_norm,wanda,random"};
    for (int k = 0; k < 3; k++) {  // without tangents, with them, and the forward pass alone, which has no rows
        const int n_rows = k == 2 ? 0 : 2;
        probe_plan plan = {.mode = {true, model_check_mode(c, MODE_COMPAT) == 0}, .seed = 1};
        plan.crit = crit_select(criteria[k], &plan.n_crit);
        const int all[] = {0, 1, 2, 3};
        result kept[MAX_EXAMPLES], again[MAX_EXAMPLES];
        probe_row rows[2][2];
        for (int i = 0; i < 4; i++)
            rows[i / 2][i % 2] = (probe_row){.example = i % 2,
                                             .position = 3,
                                             .da = xcalloc(L * A, sizeof(float)),
                                             .x = xcalloc(L * E, sizeof(float)),
                                             .active = xcalloc(L * F, 1),
                                             .dg = xcalloc(L * F, sizeof(float)),
                                             .du = xcalloc(L * F, sizeof(float))};
        const size_t bytes = probe_bytes(&f->g.m, &plan, f->g.rows);
        run(f, &plan, all, f->g.N, kept, rows[0], n_rows);
        plan.recompute = true;
        run(f, &plan, all, f->g.N, again, rows[1], n_rows);
        assert_true(probe_bytes(&f->g.m, &plan, f->g.rows) < bytes);
        for (int i = 0; i < f->g.N; i++) {
            assert_same_result("recomputed", &kept[i], &again[i]);
            result_free(&kept[i]), result_free(&again[i]);
        }
        for (int i = 0; i < 2; i++) {
            assert_same_bits("da", rows[0][i].da, rows[1][i].da, L * A * sizeof(float));
            assert_same_bits("dg", rows[0][i].dg, rows[1][i].dg, L * F * sizeof(float));
            assert_same_bits("du", rows[0][i].du, rows[1][i].du, L * F * sizeof(float));
            assert_same_bits("x", rows[0][i].x, rows[1][i].x, L * E * sizeof(float));
            assert_same_bits("active", rows[0][i].active, rows[1][i].active, L * F);
        }
        for (int i = 0; i < 4; i++) {
            const probe_row *r = &rows[i / 2][i % 2];
            free(r->da), free(r->x), free(r->active), free(r->dg), free(r->du);
        }
        free(plan.crit);
    }
}

// One criterion asked for alone, in one mode, gives the bits that it gives among all.
static void other_criteria_do_not_matter(void **state) {
    fixture *f = *state;
    const int L = f->g.m.c.L, all[] = {0, 1, 2, 3};
    const size_t units[2] = {(size_t)(L * f->g.m.c.H), (size_t)(L * f->g.m.c.F)};
    probe_plan plan = {.mode = {true, model_check_mode(&f->g.m.c, MODE_COMPAT) == 0}, .seed = 1};
    plan.crit = crit_select("all,wanda", &plan.n_crit);
    result base[MAX_EXAMPLES], one[MAX_EXAMPLES];
    run(f, &plan, all, f->g.N, base, NULL, 0);
    for (int c = 0; c < plan.n_crit; c++)
        for (int mode = 0; mode < 1 + plan.mode[MODE_COMPAT]; mode++) {
            const probe_plan single = {.crit = &plan.crit[c], .n_crit = 1, .mode = {!mode, mode}, .seed = 1};
            run(f, &single, all, f->g.N, one, NULL, 0);
            for (int i = 0; i < f->g.N; i++) {
                assert_same_bits("loss", &base[i].r.loss, &one[i].r.loss, sizeof base[i].r.loss);
                for (int kind = 0; kind < 2; kind++) {
                    const float *a = kind ? base[i].r.neurons[mode][c] : base[i].r.heads[mode][c],
                                *b = kind ? one[i].r.neurons[mode][0] : one[i].r.heads[mode][0];
                    if (a) assert_same_bits(plan.crit[c]->name, a, b, units[kind] * sizeof *a);
                }
                result_free(&one[i]);
            }
        }
    for (int i = 0; i < f->g.N; i++) result_free(&base[i]);
    free(plan.crit);
}

// ---------------------------------------------------------------- the seam to the criteria
// A criterion of our own sees what it declares, nothing that would have to be computed for it besides, and what it sees
// is right.
static void see_correlation(float *out, const crit_in *in) {
    assert_non_null(in->xcorr), assert_non_null(in->xmax), assert_non_null(in->x), assert_non_null(in->act);
    assert_true(in->D == 1 && in->U >= 1 && in->ld >= in->U && in->layer < in->layers && in->context < in->T);
    for (int s = 0; s < in->T; s++) {
        float top = 0;
        for (int e = 0; e < in->E; e++) top = fmaxf(top, fabsf(in->x[s * in->E + e]));
        assert_true(in->xmax[s] == top);
        for (int t = 0; t < in->T; t++) {
            double m[2] = {0}, dot = 0, square[2] = {0};
            for (int e = 0; e < in->E; e++)
                m[0] += (double)in->x[s * in->E + e] / in->E, m[1] += (double)in->x[t * in->E + e] / in->E;
            for (int e = 0; e < in->E; e++) {
                const double a = (double)in->x[s * in->E + e] - m[0], b = (double)in->x[t * in->E + e] - m[1];
                dot += a * b, square[0] += a * a, square[1] += b * b;
            }
            assert_true(fabs((double)in->xcorr[s * in->T + t] - dot / sqrt(square[0] * square[1])) <= 1e-5);
        }
    }
    for (int u = 0; u < in->U; u++) out[u] = (float)(in->layer * 1000 + in->unit + u);
}
static void see_activations(float *out, const crit_in *in) {
    assert_non_null(in->act);
    // whatever costs something to make
    assert_true(!in->hv && !in->hu && !in->w && !in->dw && !in->hu_w && !in->xcorr && !in->removal);
    for (int u = 0; u < in->U; u++) out[u] = (float)(in->layer * 1000 + in->unit + u);
}

static void criteria_get_what_they_declare(void **state) {
    fixture *f = *state;
    const criterion spy = {.name = "spy",
                           .sound = {.heads = see_activations,
                                     .neurons = see_correlation,
                                     .needs_heads = CRIT_ACT,
                                     .needs_neurons = CRIT_ACT | CRIT_XCORR}};
    const criterion *list[] = {&spy};
    const probe_plan plan = {.crit = list, .n_crit = 1, .mode = {true}};
    const int one = 0;
    result out;
    run(f, &plan, &one, 1, &out, NULL, 0);
    for (int l = 0; l < f->g.m.c.L; l++) {  // every unit was handed over, and its score put in its place
        for (int h = 0; h < f->g.m.c.H; h++)
            assert_true(out.r.heads[0][0][l * f->g.m.c.H + h] == (float)(l * 1000 + h));
        for (int j = 0; j < f->g.m.c.F; j++)
            assert_true(out.r.neurons[0][0][l * f->g.m.c.F + j] == (float)(l * 1000 + j));
    }
    result_free(&out);
}

// The taps, weights and tangents that a criterion can read, against the sums over them: grasp and snip, made from the
// arrays.
static double array_product(const float *a, const float *b, int D) {
    double s = 0;
    for (int i = 0; i < D; i++) s += (double)a[i] * (double)b[i];
    return s;
}
static void grasp_by_taps(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        double s = 0;
        for (int t = 0; t < in->T; t++)
            s += array_product(in->act + t * in->ld + u * in->D, in->hv + t * in->ld + u * in->D, in->D);
        out[u] = (float)s;
    }
}
static void compat_grasp_by_taps(float *out, const crit_in *in) {
    double s = 0;
    for (int t = 0; t < in->T; t++) s -= array_product(in->act + t * in->ld, in->hu + t * in->ld, in->D) / in->T;
    out[0] = (float)s;
}
static void compat_grasp_by_weights(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        double s = 0;
        for (int e = u * in->E; e < (u + 1) * in->E; e++)
            s -= (double)in->w[e] * (2 * (double)in->dw[e] + (double)in->hu_w[e]) / in->E;
        out[u] = (float)s;
    }
}
static void snip_by_taps(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        double s = 0;
        for (int t = 0; t < in->T; t++)
            s += array_product(in->act + t * in->ld + u * in->D, in->grad + t * in->ld + u * in->D, in->D);
        out[u] = (float)fabs(s);
    }
}
static void compat_snip_by_taps(float *out, const crit_in *in) {
    double s = 0;
    for (int t = 0; t < in->T; t++)
        for (int i = 0; i < in->D; i++) s += fabs((double)in->out_grad[t * in->E + in->unit * in->D + i]);
    out[0] = (float)s;
}

static void taps_say_what_sums_say(void **state) {
    fixture *f = *state;
    enum { TAPS = CRIT_ACT | CRIT_GRAD, COMPAT_WEIGHTS = CRIT_WEIGHT | CRIT_WGRAD | CRIT_HESS_COMPAT };
    const criterion grasp = {
        .name = "grasp by taps",
        .sound = {grasp_by_taps, grasp_by_taps, CRIT_ACT | CRIT_HESS, CRIT_ACT | CRIT_HESS, "", "", NULL},
        .compat = {compat_grasp_by_taps, compat_grasp_by_weights, CRIT_ACT | CRIT_HESS_COMPAT, COMPAT_WEIGHTS, "", "",
                   NULL}};
    const criterion snip = {.name = "snip by taps",
                            .sound = {snip_by_taps, snip_by_taps, TAPS, TAPS, "", "", NULL},
                            .compat = {.heads = compat_snip_by_taps, .needs_heads = CRIT_OUT_GRAD}};
    const criterion *list[] = {&grasp, &snip, crit_find("grasp"), crit_find("snip")};
    const probe_plan plan = {.crit = list, .n_crit = 4, .mode = {true, true}, .seed = 1};
    const int all[] = {0, 1, 2};
    result out[3];
    run(f, &plan, all, f->g.N, out, NULL, 0);
    for (int i = 0; i < f->g.N; i++) {
        for (int k = 0; k < 2; k++)
            for (int mode = 0; mode < 2; mode++)
                for (int kind = 0; kind < 2; kind++) {
                    float **scores = kind ? out[i].r.neurons[mode] : out[i].r.heads[mode];
                    const size_t L = (size_t)f->g.m.c.L, units = (size_t)(kind ? f->g.m.c.F : f->g.m.c.H);
                    double *want = xmalloc(L * units * sizeof *want);
                    for (size_t u = 0; scores[k] && u < L * units; u++) want[u] = (double)scores[k + 2][u];
                    if (scores[k]) assert_layers(list[k]->name, scores[k], want, L, units, 2e-5);
                    free(want);
                }
        result_free(&out[i]);
    }
}

// A row against one of the reference's, within the root mean square of n of its rows from `first` on.
static void agree_row(const float *got, const double *want, size_t row, size_t first, size_t n, size_t width) {
    double square = 0;
    for (size_t i = 0; i < n * width; i++)
        square += want[first * width + i] * want[first * width + i] / (double)(n * width);
    for (size_t e = 0; e < width; e++) {
        const double a = want[row * width + e];
        assert_true(fabs(got[e] - a) <= 1e-4 * fmax(fabs(a), sqrt(square)));
    }
}

static void rows_agree(void **state) {
    fixture *f = *state;
    golden *g = &f->g;
    const size_t L = (size_t)g->m.c.L, E = (size_t)g->m.c.E, A = (size_t)(g->m.c.H * g->m.c.D), F = (size_t)g->m.c.F,
                 rows = (size_t)g->rows;
    const bool gated = g->m.arch.gated;
    double *da = golden_read(g, "da"), *dz = golden_read(g, "dz"), *x = golden_read(g, "x"),
           *du = gated ? golden_read(g, "du") : NULL;
    // in any order, one of them twice
    static const int at[][2] = {{2, 4}, {0, 7}, {0, 12}, {1, 7}, {2, 0}, {0, 0}, {2, 4}};
    enum { ROWS = sizeof at / sizeof *at };
    probe_row want[ROWS];
    for (int k = 0; k < ROWS; k++)
        want[k] = (probe_row){.example = at[k][0],
                              .position = at[k][1],
                              .da = xcalloc(L * A, sizeof(float)),
                              .x = xcalloc(L * E, sizeof(float)),
                              .active = xcalloc(L * F, 1),
                              .dg = xcalloc(L * F, sizeof(float)),
                              .du = xcalloc(L * F, sizeof(float))};
    probe_plan plan = {.mode = {true}, .seed = 1};
    plan.crit = crit_select("l2_norm", &plan.n_crit);
    const int all[] = {0, 1, 2};
    result out[3];
    run(f, &plan, all, 3, out, want, ROWS);
    for (int k = 0; k < ROWS; k++) {
        for (size_t l = 0; l < L; l++) {
            const size_t row = l * rows + (size_t)(g->offset[at[k][0]] + at[k][1]);
            // of this sequence's layer: a row alone may be small
            const size_t first = l * rows + (size_t)g->offset[at[k][0]], n = (size_t)golden_length(g, at[k][0]);
            agree_row(want[k].da + l * A, da, row, first, n, A);
            agree_row(want[k].x + l * E, x, row, first, n, E);
            if (gated) {
                agree_row(want[k].dg + l * F, dz, row, first, n, F);
                agree_row(want[k].du + l * F, du, row, first, n, F);
            }
            for (size_t j = 0; j < F && !gated; j++) assert_int_equal(want[k].active[l * F + j], dz[row * F + j] != 0);
        }
        free(want[k].dg), free(want[k].du);
        free(want[k].da), free(want[k].x), free(want[k].active);
    }
    for (int i = 0; i < 3; i++) result_free(&out[i]);
    free(da), free(dz), free(du), free(x), free(plan.crit);
}

// wanda in plain double from PyTorch's taps and the checkpoint's own matrices.
static double squared_column(const weight *w, int column) {
    double sum = 0;
    for (int r = 0; r < w->rows; r++) {
        float v;
        const size_t at = (size_t)r * (size_t)w->cols + (size_t)column;
        dtype_widen(&v, (const char *)w->data + at * dtype_bytes(w->type), w->type, 1);
        sum += (double)v * (double)v;
    }
    return sum;
}

static void wanda_agrees(void **state) {
    fixture *f = *state;
    golden *g = &f->g;
    const model_config *c = &g->m.c;
    const size_t L = (size_t)c->L, F = (size_t)c->F, H = (size_t)c->H, D = (size_t)c->D, A = H * D,
                 rows = (size_t)g->rows;
    const bool kept = golden_has(g, "r");  // else it is ReLU of z
    double *a = golden_read(g, "a"), *r = golden_read(g, kept ? "r" : "z");
    probe_plan plan = {.mode = {true}, .seed = 1};
    plan.crit = crit_select("wanda", &plan.n_crit);
    const int all[] = {0, 1, 2, 3};
    result out[MAX_EXAMPLES];
    run(f, &plan, all, g->N, out, NULL, 0);
    for (int i = 0; i < g->N; i++) {
        double *heads = xcalloc(L * H, sizeof *heads), *neurons = xcalloc(L * F, sizeof *neurons);
        for (size_t l = 0; l < L; l++) {
            const size_t first = l * rows + (size_t)g->offset[i], T = (size_t)golden_length(g, i);
            for (size_t e = 0; e < A; e++) {
                const double square = squared_column(&g->m.stored[l].wo, (int)e);
                for (size_t t = 0; t < T; t++) heads[l * H + e / D] += pow(a[(first + t) * A + e], 2) * square;
            }
            for (size_t j = 0; j < F; j++) {
                const double square = squared_column(&g->m.stored[l].w2, (int)j);
                for (size_t t = 0; t < T; t++) {
                    const double put = r[(first + t) * F + j];
                    neurons[l * F + j] += kept || put > 0 ? put * put * square : 0;
                }
            }
        }
        for (size_t u = 0; u < L * H; u++) heads[u] = sqrt(heads[u]);
        for (size_t u = 0; u < L * F; u++) neurons[u] = sqrt(neurons[u]);
        assert_layers("wanda, heads", out[i].r.heads[0][0], heads, L, H, 1e-5);
        assert_layers("wanda, neurons", out[i].r.neurons[0][0], neurons, L, F, 1e-5);
        free(heads), free(neurons);
        result_free(&out[i]);
    }
    free(a), free(r), free(plan.crit);
}

// ---------------------------------------------------------------- not a number
static void give_nan(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = in->layer == 1 && in->unit + u == 1 ? NAN : 0;
}

static void nan_scores_are_named(void **state) {
    fixture *f = *state;
    const criterion *list[1];
    const criterion heads = {.name = "faulty_heads", .sound = {.heads = give_nan, .needs_heads = CRIT_ACT}};
    const criterion neurons = {.name = "faulty_neurons", .sound = {.neurons = give_nan, .needs_neurons = CRIT_ACT}};
    for (int k = 0; k < 2; k++) {
        list[0] = k ? &neurons : &heads;
        const probe_plan plan = {.crit = list, .n_crit = 1, .mode = {true}};
        result out;
        result_make(&out, &f->g.m, &plan);
        probe *p = probe_new(&f->g.m, &plan, f->ex[0].n);
        assert_int_equal(probe_run(p, f->ex, 1, &out.r, NULL, 0), -1);
        if (!strstr(err_get(), list[0]->name) || !strstr(err_get(), "layer 1"))
            fail_msg("criterion and layer are not named: %s", err_get());
        probe_free(p);
        result_free(&out);
    }
}

// A NaN or an infinity in any weight of any kind ends in an error, not in a score.
static void nan_weights_are_named(void **state) {
    (void)state;
    const model_config c = {.L = 2,
                            .H = 2,
                            .E = 8,
                            .F = 12,
                            .D = 4,
                            .P = 6,
                            .V = 13,
                            .positions = 10,
                            .pre_ln = true,
                            .final_ln = true,
                            .bias = true};
    static const int32_t tokens[] = {3, 7, 1, 7, 12, 0, 4};
    const probe_example ex = {.tokens = tokens, .n = 7, .context = 4};
    probe_plan plan = {.mode = {true, true}, .seed = 1};
    plan.crit = crit_select("all", &plan.n_crit);
    random_opt o;
    random_opt_make(&o, &c, 41);
    result out;
    result_make(&out, &o.m, &plan);
    probe *p = probe_new(&o.m, &plan, 7);
    assert_int_equal(probe_run(p, &ex, 1, &out.r, NULL, 0), 0);
    for (int i = 0; i < o.n; i++)
        for (int k = 0; k < 2; k++) {
            // the position that every sequence has
            float *w = (float *)o.t[i].data + (strstr(o.t[i].name, "positions") ? 2 * c.E : 0);
            const float was = *w;
            *w = k ? INFINITY : NAN;
            if (probe_run(p, &ex, 1, &out.r, NULL, 0) != -1)
                fail_msg("%s in %s went unnoticed", k ? "infinity" : "NaN", o.t[i].name);
            assert_true(*err_get() && !strchr(err_get(), '\n'));
            *w = was;
        }
    assert_int_equal(probe_run(p, &ex, 1, &out.r, NULL, 0), 0);
    probe_free(p);
    result_free(&out);
    random_opt_free(&o);
    free(plan.crit);
}

int main(void) {
    static const golden_test per_model[] = {
        {"everything agrees", everything_agrees, false, true},
        {"batch and threads do not matter", batch_and_threads_do_not_matter, false, true},
        {"other criteria do not matter", other_criteria_do_not_matter, false, true},
        {"recomputing does not matter", recomputing_does_not_matter, false, true},
        {"criteria get what they declare", criteria_get_what_they_declare, false, false},
        {"taps say what sums say", taps_say_what_sums_say, false, false},
        {"wanda agrees", wanda_agrees, false, true},
        {"rows agree", rows_agree, false, true},
        {"NaN scores are named", nan_scores_are_named, false, false}};
    const struct CMUnitTest tests[] = {cmocka_unit_test(nan_weights_are_named)};
    return run_on_golden("probe", per_model, sizeof per_model / sizeof *per_model, open_fixture, close_fixture, tests,
                         1);
}
