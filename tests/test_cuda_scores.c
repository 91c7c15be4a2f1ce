// test_cuda_scores - whole passes with every criterion on the golden models, by the CUDA table beside the CPU's: within the agreement of two implementations
// (2e-4, grasp 2e-3), and the same bits of an example alone and in a batch.
#include "opt_fixture.h"
#include "probe.h"
#include "shim.h"

static const ops *gpu;

static void probe_both(const opt *m[2], const golden *g, const probe_plan *plan, double *score[2], double *loss[2], int only) {
    const opt_config *c = &g->m.c;
    const size_t H = (size_t)c->L * (size_t)c->H, F = (size_t)c->L * (size_t)c->F, all = (size_t)plan->n_crit * 2 * (H + F), E = (size_t)c->L * (size_t)c->E;
    const int n = only >= 0 ? 1 : g->N, first = only >= 0 ? only : 0;
    for (int side = 0; side < 2; side++) {
        probe *p = probe_new(m[side], plan, g->rows);
        probe_example *ex = xcalloc((size_t)n, sizeof *ex);
        probe_result *out = xcalloc((size_t)n, sizeof *out);
        float *plane = xcalloc((size_t)n * (all + 6 * E), sizeof *plane), **to = xcalloc((size_t)n * (size_t)plan->n_crit * 4, sizeof *to);
        for (int i = 0; i < n; i++) {
            ex[i] = (probe_example){g->tokens + g->offset[first + i], golden_length(g, first + i), g->context[first + i], 5};
            float *at = plane + (size_t)i * (all + 6 * E);
            float **rows = to + (size_t)i * (size_t)plan->n_crit * 4;
            for (int mode = 0; mode < 2; mode++) {
                out[i].heads[mode] = rows + mode * plan->n_crit;
                out[i].neurons[mode] = rows + (2 + mode) * plan->n_crit;
                for (int k = 0; k < plan->n_crit; k++, at += H + F) out[i].heads[mode][k] = at, out[i].neurons[mode][k] = at + H;
                for (int k = 0; k < FEAT_KINDS; k++, at += E) out[i].features[mode][k] = at;
            }
        }
        if (probe_run(p, ex, n, out, NULL, 0) != 0) fail_msg("%s", err_get());
        score[side] = xmalloc((size_t)n * (all + 6 * E) * sizeof **score);
        loss[side] = xmalloc((size_t)n * sizeof **loss);
        for (size_t i = 0; i < (size_t)n * (all + 6 * E); i++) score[side][i] = (double)plane[i];
        for (int i = 0; i < n; i++) loss[side][i] = out[i].loss;
        probe_free(p);
        free(ex), free(out), free(plane), free(to);
    }
}

static void agree_within(const char *model, const criterion *crit, const char *what, const double *got, const double *want, size_t n) {
    char text[100];
    float *x = xmalloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)got[i];
    snprintf(text, sizeof text, "%s: %s of %s", model, crit ? crit->name : "feature", what);
    assert_agree(text, x, want, n, crit && strcmp(crit->name, "grasp") == 0 ? 2e-3 : 2e-4);
    free(x);
}

// Every criterion in both modes, removal too, and every feature, on every golden model: within the agreement of two implementations.
static void scores_agree(void **state) {
    (void)state;
    probe_plan plan = {.sound = true, .compat = true, .seed = 3};
    plan.crit = crit_select("all,removal", &plan.n_crit);
    for (int k = 0; k < GOLDEN; k++) {
        golden g;
        golden_open(&g, golden_names[k]);
        char path[100];
        opt on_gpu;
        snprintf(path, sizeof path, "tests/golden/opt/%s", golden_names[k]);
        if (opt_load_on(&on_gpu, path, gpu) != 0) fail_msg("%s", err_get());
        const opt *m[2] = {&g.m, &on_gpu};
        double *score[2], *loss[2], *alone[2], *alone_loss[2];
        probe_both(m, &g, &plan, score, loss, -1);
        probe_both(m, &g, &plan, alone, alone_loss, 1);
        const opt_config *c = &g.m.c;
        const size_t H = (size_t)c->H, F = (size_t)c->F, L = (size_t)c->L, E = (size_t)c->E, each = 2 * ((size_t)plan.n_crit * L * (H + F) + 3 * L * E);
        assert_same_bits("an example alone and in a batch", alone[1], score[1] + each, each * sizeof **score);
        for (int i = 0; i < g.N; i++) {
            assert_true(fabs(loss[1][i] - loss[0][i]) <= 2e-5 * fabs(loss[0][i]));
            size_t at = (size_t)i * each;
            for (int mode = 0; mode < 2; mode++) {
                for (int q = 0; q < plan.n_crit; q++) {
                    for (size_t l = 0; l < L; l++, at += H) agree_within(golden_names[k], plan.crit[q], "heads", score[1] + at, score[0] + at, H);
                    for (size_t l = 0; l < L; l++, at += F) agree_within(golden_names[k], plan.crit[q], "neurons", score[1] + at, score[0] + at, F);
                }
                for (size_t l = 0; l < 3 * L; l++, at += E) agree_within(golden_names[k], NULL, "a layer", score[1] + at, score[0] + at, E);
            }
        }
        for (int side = 0; side < 2; side++) free(score[side]), free(loss[side]), free(alone[side]), free(alone_loss[side]);
        opt_free(&on_gpu);
        golden_close(&g);
    }
    free(plan.crit);
}

int main(void) {
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(scores_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
