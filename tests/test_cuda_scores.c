// test_cuda_scores - whole passes with every criterion on the golden models, by the CUDA table beside the CPU's: within
// the agreement of two implementations (2e-4, grasp 2e-3), and the same bits of an example alone and in a batch.
// Criteria that read taps get them from the device; for the others only sums come back.
#include "opt_fixture.h"
#include "probe.h"
#include "shim.h"

static const ops *gpu;

// Floats of a feature of an example, and of all of them in one mode.
static size_t feature_width(const model_config *c, int kind) {
    return (size_t)c->L * (size_t)(kind == FEAT_HEAD_OUTPUT ? c->H * c->D : c->E);
}
static size_t features_of(const model_config *c) {
    size_t all = 0;
    for (int k = 0; k < FEAT_KINDS; k++) all += feature_width(c, k);
    return all;
}

static void probe_both(const model *m[2], const golden *g, const probe_plan *plan, double *score[2], double *loss[2],
                       int only) {
    const model_config *c = &g->m.c;
    const size_t H = (size_t)c->L * (size_t)c->H, F = (size_t)c->L * (size_t)c->F,
                 all = (size_t)plan->n_crit * 2 * (H + F), each = all + 2 * features_of(c);
    const int n = only >= 0 ? 1 : g->N, first = only >= 0 ? only : 0;
    for (int side = 0; side < 2; side++) {
        probe *p = probe_new(m[side], plan, g->rows);
        probe_example *ex = xcalloc((size_t)n, sizeof *ex);
        probe_result *out = xcalloc((size_t)n, sizeof *out);
        float *plane = xcalloc((size_t)n * each, sizeof *plane),
              **to = xcalloc((size_t)n * (size_t)plan->n_crit * 4, sizeof *to);
        for (int i = 0; i < n; i++) {
            ex[i] = (probe_example){.tokens = g->tokens + g->offset[first + i],
                                    .n = golden_length(g, first + i),
                                    .context = g->context[first + i],
                                    .key = 5};
            float *at = plane + (size_t)i * each;
            float **rows = to + (size_t)i * (size_t)plan->n_crit * 4;
            for (int mode = 0; mode < 2; mode++) {
                out[i].heads[mode] = rows + mode * plan->n_crit;
                out[i].neurons[mode] = rows + (2 + mode) * plan->n_crit;
                for (int k = 0; k < plan->n_crit; k++, at += H + F)
                    out[i].heads[mode][k] = at, out[i].neurons[mode][k] = at + H;
                for (int k = 0; k < FEAT_KINDS; at += feature_width(c, k++)) out[i].features[mode][k] = at;
            }
        }
        if (probe_run(p, ex, n, out, NULL, 0) != 0) fail_msg("%s", err_get());
        score[side] = xmalloc((size_t)n * each * sizeof **score);
        loss[side] = xmalloc((size_t)n * sizeof **loss);
        for (size_t i = 0; i < (size_t)n * each; i++) score[side][i] = (double)plane[i];
        for (int i = 0; i < n; i++) loss[side][i] = out[i].loss;
        probe_free(p);
        free(ex), free(out), free(plane), free(to);
    }
}

static void agree_within(const char *model_name, const criterion *crit, const char *what, const double *got,
                         const double *want, size_t n) {
    char text[100];
    float *x = xmalloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)got[i];
    snprintf(text, sizeof text, "%s: %s of %s", model_name, crit ? crit->name : "feature", what);
    assert_agree(text, x, want, n, crit && strcmp(crit->name, "grasp") == 0 ? 2e-3 : 2e-4);
    free(x);
}

// Golden model k on the CPU and on the GPU.
static void open_both(golden *g, model *on_gpu, int k) {
    char path[100];
    bool f32;
    const char *name = golden_name(k, &f32);
    golden_open(g, name);
    snprintf(path, sizeof path, "tests/golden/%s%s", strchr(name, '/') ? "" : "opt/", name);
    if (model_load_on(on_gpu, path, gpu) != 0) fail_msg("%s", err_get());
}

// Every criterion in the modes that a model has, removal too, and every feature, on every golden model of every family:
// within the agreement of two implementations.
static void scores_agree(void **state) {
    (void)state;
    probe_plan plan = {.seed = 3};
    plan.crit = crit_select("all,removal,wanda", &plan.n_crit);
    for (int k = 0; k < GOLDEN_ALL; k++) {
        golden g;
        model on_gpu;
        open_both(&g, &on_gpu, k);
        plan.mode[MODE_SOUND] = true;
        plan.mode[MODE_COMPAT] = model_check_mode(&g.m.c, MODE_COMPAT) == 0;
        const model *m[2] = {&g.m, &on_gpu};
        double *score[2], *loss[2], *alone[2], *alone_loss[2];
        probe_both(m, &g, &plan, score, loss, -1);
        probe_both(m, &g, &plan, alone, alone_loss, 1);
        const model_config *c = &g.m.c;
        const size_t H = (size_t)c->H, F = (size_t)c->F, L = (size_t)c->L,
                     each = 2 * ((size_t)plan.n_crit * L * (H + F) + features_of(c));
        char label[120];
        snprintf(label, sizeof label, "%s: an example alone and in a batch", g.name);
        assert_same_bits(label, alone[1], score[1] + each, each * sizeof **score);
        for (int i = 0; i < g.N; i++) {
            assert_true(fabs(loss[1][i] - loss[0][i]) <= 2e-5 * fabs(loss[0][i]));
            size_t at = (size_t)i * each;
            for (int mode = 0; mode < 2; mode++) {
                for (int q = 0; q < plan.n_crit; q++) {
                    for (size_t l = 0; l < L; l++, at += H)
                        agree_within(g.name, plan.crit[q], "heads", score[1] + at, score[0] + at, H);
                    for (size_t l = 0; l < L; l++, at += F)
                        agree_within(g.name, plan.crit[q], "neurons", score[1] + at, score[0] + at, F);
                }
                for (int kind = 0; kind < FEAT_KINDS; kind++)
                    for (size_t l = 0, width = feature_width(c, kind) / L; l < L; l++, at += width)
                        agree_within(g.name, NULL, "a layer", score[1] + at, score[0] + at, width);
            }
        }
        for (int side = 0; side < 2; side++)
            free(score[side]), free(loss[side]), free(alone[side]), free(alone_loss[side]);
        model_free(&on_gpu);
        golden_close(&g);
    }
    free(plan.crit);
}

// ---------------------------------------------------------------- a criterion that reads everything itself
static double product(const float *a, const float *b, size_t n) {
    double s = 0;
    for (size_t i = 0; a && b && i < n; i++) s += fabs((double)a[i] * (double)b[i]);
    return s;
}
// H v in the sound order, H u in the published one, else the gradient.
static const float *with(const crit_in *in) {
    if (in->hv) return in->hv;
    return in->hu ? in->hu : in->grad;
}
static void read_head(float *out, const crit_in *in) {
    double s = 0;
    for (int t = 0; t < in->T; t++) {
        const size_t at = (size_t)t * (size_t)in->ld, D = (size_t)in->D;
        s += product(in->act + at, with(in) + at, D);
        if (in->out_grad) s += product(in->out_grad + (size_t)t * (size_t)in->E, in->act + at, D);
    }
    out[0] = (float)s;
}
static void read_neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        const size_t E = (size_t)in->E, row = (size_t)u * E;
        double s = product(in->w + row, in->hu_w ? in->hu_w + row : in->dw + row, E);
        for (int t = 0; t < in->T; t++) {
            const size_t at = (size_t)t * (size_t)in->ld + (size_t)u;
            s += product(in->act + at, with(in) + at, 1) * (double)in->x[(size_t)t * E];
            if (in->xcorr) s += fabs((double)in->xcorr[t]) * (double)in->xmax[t];
        }
        out[u] = (float)s;
    }
}
static void taps_are_copied_where_asked(void **state) {
    (void)state;
    enum { TAPS = CRIT_ACT | CRIT_GRAD, WEIGHTS = TAPS | CRIT_WEIGHT | CRIT_WGRAD };
    const criterion reader = {
        .name = "reader",
        .sound = {read_head, read_neurons, TAPS | CRIT_OUT_GRAD, WEIGHTS | CRIT_XCORR, "", "", NULL},
        .compat = {read_head, read_neurons, TAPS | CRIT_HESS_COMPAT, WEIGHTS | CRIT_HESS_COMPAT, "", "", NULL}};
    const criterion tangents = {
        .name = "tangents", .sound = {read_head, read_neurons, TAPS | CRIT_HESS, WEIGHTS | CRIT_HESS, "", "", NULL}};
    const criterion *list[] = {&reader, &tangents};
    const probe_plan plan = {.crit = list, .n_crit = 2, .mode = {true, true}, .seed = 3};
    for (int k = 0; k < GOLDEN_F32; k++) {
        golden g;
        model on_gpu;
        open_both(&g, &on_gpu, k);
        const model *m[2] = {&g.m, &on_gpu};
        double *score[2], *loss[2];
        probe_both(m, &g, &plan, score, loss, -1);
        const size_t H = (size_t)g.m.c.H, F = (size_t)g.m.c.F, L = (size_t)g.m.c.L,
                     each = 2 * (2 * L * (H + F) + features_of(&g.m.c));
        for (int i = 0; i < g.N; i++)
            for (int mode = 0; mode < 2; mode++)
                for (size_t q = 0; q < 2; q++) {
                    const size_t first = (size_t)i * each + (size_t)mode * each / 2 + q * L * (H + F);
                    double size = 0;
                    for (size_t l = 0; l < L; l++) {
                        agree_within(g.name, list[q], "heads", score[1] + first + l * H, score[0] + first + l * H, H);
                        agree_within(g.name, list[q], "neurons", score[1] + first + L * H + l * F,
                                     score[0] + first + L * H + l * F, F);
                        size += fabs(score[0][first + l * H] * score[0][first + L * H + l * F]);
                    }
                    if (!(mode && q)) assert_true(size > 0);  // the second has no compat scores
                }
        for (int side = 0; side < 2; side++) free(score[side]), free(loss[side]);
        model_free(&on_gpu);
        golden_close(&g);
    }
}

// ---------------------------------------------------------------- what comes back
static size_t most_got;
static int fetches;
static void counting_get(void *host, const void *device, size_t bytes) {
    most_got = bytes > most_got ? bytes : most_got;
    gpu->get(host, device, bytes);
}
static const void *counting_fetch(struct fetch *f, const void *device, size_t bytes) {
    most_got = bytes > most_got ? bytes : most_got;
    fetches++;
    return gpu->fetch(f, device, bytes);
}

// A sequence so long that a tap is larger than the sums: with the built-in criteria nothing as large as a tap is
// copied, and features and sums of no layer are waited for before the next one's work is enqueued. The host waits until
// the GPU has nothing to do for the log-probabilities, and at the end of the batch.
static void only_sums_come_back(void **state) {
    (void)state;
    enum { T = 180, EXAMPLES = 3 };
    const model_config c = {.L = 4,
                            .H = 2,
                            .E = 16,
                            .F = 24,
                            .D = 8,
                            .P = 16,
                            .V = 13,
                            .positions = T,
                            .pre_ln = true,
                            .final_ln = true,
                            .bias = true};
    ops counting = *gpu;
    counting.get = counting_get;
    counting.fetch = counting_fetch;
    int n;
    tensor *t = random_weights(&c, 5, &n);
    model m;
    if (model_from_tensors_on(&m, &c, t, n, &counting) != 0) fail_msg("%s", err_get());
    int32_t tokens[T];
    for (int i = 0; i < T; i++) tokens[i] = i * 7 % 13;
    probe_plan plan = {.mode = {true, true}, .seed = 3};
    plan.crit = crit_select("all", &plan.n_crit);
    const size_t scores = (size_t)plan.n_crit * 2 * (size_t)(c.L * (2 + 24)), each = scores + 2 * features_of(&c);
    float *plane = xcalloc(EXAMPLES * each, sizeof *plane),
          **to = xcalloc((size_t)plan.n_crit * 4 * EXAMPLES, sizeof *to);
    probe_example ex[EXAMPLES];
    probe_result out[EXAMPLES] = {0};
    for (int i = 0; i < EXAMPLES; i++) {
        float *at = plane + (size_t)i * each, **rows = to + i * plan.n_crit * 4;
        for (int k = 0; k < 4 * plan.n_crit; k++) {
            rows[k] = at;
            at += c.L * (k < 2 * plan.n_crit ? c.H : c.F);
        }
        for (int mode = 0; mode < 2; mode++) {
            out[i].heads[mode] = rows + mode * plan.n_crit, out[i].neurons[mode] = rows + (2 + mode) * plan.n_crit;
            for (int k = 0; k < FEAT_KINDS; at += feature_width(&c, k++)) out[i].features[mode][k] = at;
        }
        ex[i] = (probe_example){.tokens = tokens, .n = T, .context = T - 20, .key = 1};
    }
    probe *p = probe_new(&m, &plan, T * EXAMPLES);
    most_got = 0;
    const long drains = shim_count("drain"), waits = shim_count("wait");
    if (probe_run(p, ex, EXAMPLES, out, NULL, 0) != 0) fail_msg("%s", err_get());
    assert_true(most_got > 0 && most_got <= EXAMPLES * 24 * USUMS * sizeof(double) &&
                most_got < EXAMPLES * T * 16 * sizeof(float));
    assert_true(fetches >= c.L * EXAMPLES * 2 * FEAT_KINDS);
    // of the log-probabilities, and of the sums that were sent last; others are of heads and neurons in three stages
    if (drains >= 0) {
        assert_int_equal(shim_count("drain") - drains, 2);
        assert_int_equal(shim_count("wait") - waits, 2 + 2 * 3 * c.L);
    }
    probe_free(p);
    model_free(&m);
    weights_free(t, n);
    free(plane), free(to), free(plan.crit);
}

int main(void) {
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(scores_agree), cmocka_unit_test(taps_are_copied_where_asked),
                                       cmocka_unit_test(only_sums_come_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
