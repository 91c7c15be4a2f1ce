// test_verify - the checks of bin/verify: they hold on a right model, for every kind of mask, and each fails when what
// it checks is made wrong.
#include "opt_fixture.h"
#include "ops.h"
#include "verify.h"

static const mask_rule half = {.scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1};

static char *text;  // of the last report

static int run_refreshed(const model *m, const mask_source *source, const mask_rule *rule, int refresh) {
    static int32_t pool[3][24];
    verify_input in[3];
    rng r = rng_make(2);
    for (int i = 0; i < 3; i++) {
        random_tokens(pool[i], 24, m->c.V, &r);
        in[i] = (verify_input){pool[i], 24, i ? 12 : 1};
    }
    const verify_what w = {.m = m, .source = source, .rule = rule, .refresh = refresh, .tolerance = 2e-4};
    size_t bytes;
    free(text);
    FILE *f = open_memstream(&text, &bytes);
    const int failed = verify_run(&w, in, 3, f);
    fclose(f);
    return failed;
}

static int run(const model *m, const mask_source *source, const mask_rule *rule) {
    return run_refreshed(m, source, rule, 0);
}

static void failed_only(const char *name, int n) {
    char want[20];
    int fails = 0;
    snprintf(want, sizeof want, "%-7s FAIL", name);
    for (const char *p = text; (p = strstr(p, "FAIL")); p++) fails++;
    if (fails != n || !strstr(text, want)) fail_msg("%d failures of %s were wanted:\n%s", n, name, text);
}

static void random_mask(mask *m, const model_config *c, const mask_rule *rule) {
    double *s = xmalloc((size_t)c->L * (size_t)(c->H + c->F) * sizeof *s);
    mask_random_scores(s, s + c->L * c->H, c, 3);
    assert_int_equal(mask_make(m, c, s, s + c->L * c->H, rule), 0);
    free(s);
}

static void right_models(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    model_sparse_prepare(&o.m);
    mask m;
    mask_alloc(&m, &small_opt);
    const mask_source fixed = {.fixed = &m};
    assert_int_equal(run(&o.m, &fixed, NULL), 0);  // every unit runs: nothing may change
    random_mask(&m, &small_opt, &half);
    assert_int_equal(run(&o.m, &fixed, &half), 0);
    if (!strstr(text, "of 3 inputs 3 change the output")) fail_msg("%s", text);
    oracle *orc = oracle_new(&o.m, 1);
    const mask_source by_oracle = oracle_source(orc);
    assert_int_equal(run(&o.m, &by_oracle, &half), 0);
    oracle_free(orc);
    for (int lag = 0; lag < 2; lag++)
        for (int scope = 0; scope < 3; scope++) {
            const predictor_info what = {
                .design = PREDICTOR_DEJAVU,
                .per_layer = true,
                .lag = lag,
                .state = {lag ? STATE_RESIDUAL : STATE_HEAD_OUTPUT, lag ? STATE_MID : STATE_HEAD_OUTPUT},
                .has = {true, true},
                .L = 3,
                .H = 4,
                .E = 32,
                .F = 48,
                .hidden = {8, 8},
                .criterion = "snip"};
            mask_rule rule = half;
            rule.scope = (mask_scope)scope;
            contextual_source source = {.p = predictor_new(&what, 5)};
            const mask_source predicted = {.context = &source};
            const bool dense = contextual_kind(&what, &rule) == FEATURES_DENSE;  // cannot be refreshed
            if (run_refreshed(&o.m, &predicted, &rule, dense ? 0 : 3))
                fail_msg("lag %d, scope %d:\n%s", lag, scope, text);
            if (!strstr(text, dense ? "acts on the tokens after it" : "a new mask every 3 tokens"))
                fail_msg("%s", text);
            if (dense && run_refreshed(&o.m, &predicted, &rule, 3) != -1)
                fail_msg("a refresh of dense features was not refused");
            predictor_close(source.p);
        }
    mask_free(&m);
    random_opt_free(&o);
}

// Pruned neurons that never fire: the output must not change, and that is what is said.
static void silent_units(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    float *b = weights_find(o.t, o.n, "layers.1.fc1.bias");
    mask m;
    mask_alloc(&m, &small_opt);
    for (int u = 0; u < 10; u++) {
        b[u] = -1e4f;
        m.neurons[48 + u] = 0;
    }
    model_free(&o.m);
    assert_int_equal(model_from_tensors(&o.m, &small_opt, o.t, o.n), 0);
    model_sparse_prepare(&o.m);
    const mask_source fixed = {.fixed = &m};
    assert_int_equal(run(&o.m, &fixed, NULL), 0);
    if (!strstr(text, "neurons alone: of 3 inputs 0 change the output, on 3 no pruned unit")) fail_msg("%s", text);
    mask_free(&m);
    random_opt_free(&o);
}

static void wrong_models(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    model_sparse_prepare(&o.m);
    mask m;
    mask_alloc(&m, &small_opt);
    random_mask(&m, &small_opt, &half);
    const mask_source fixed = {.fixed = &m};
    // the sparse passes read a copy of fc2 that is not fc2
    float *copy = (float *)o.m.layer[2].w2_t.data, was[48 * 32];
    memcpy(was, copy, sizeof was);
    for (int i = 0; i < 48 * 32; i++) copy[i] *= 1.01f;
    assert_true(run(&o.m, &fixed, &half) > 0);
    if (!strstr(text, "sparse  FAIL") || strstr(text, "acts    FAIL") || strstr(text, "counts  FAIL"))
        fail_msg("%s", text);
    memcpy(copy, was, sizeof was);
    // a mask that is not of the rule: one neuron less, then one in a dense layer
    int u = 48;
    while (!m.neurons[u]) u++;
    m.neurons[u] = 0;
    assert_int_equal(run(&o.m, &fixed, &half), 1);
    failed_only("counts", 1);
    m.neurons[u] = 1;
    m.heads[1] = 0;
    for (u = 4; m.heads[u]; u++) {
    }
    m.heads[u] = 1;
    assert_int_equal(run(&o.m, &fixed, &half), 1);
    failed_only("counts", 1);
    // a model whose heads say nothing to the residual: masks of heads cannot act
    random_mask(&m, &small_opt, &half);
    for (int l = 0; l < 3; l++) {
        char name[60];
        snprintf(name, sizeof name, "layers.%d.self_attn.out_proj.weight", l);
        memset(weights_find(o.t, o.n, name), 0, 32 * 32 * sizeof(float));
    }
    model_free(&o.m);
    assert_int_equal(model_from_tensors(&o.m, &small_opt, o.t, o.n), 0);
    model_sparse_prepare(&o.m);
    assert_int_equal(run(&o.m, &fixed, &half), 1);
    failed_only("acts", 1);
    mask_free(&m);
    random_opt_free(&o);
}

static void errors(void **state) {
    (void)state;
    const float want[6] = {3, 4, 0, 1, 1, 1}, same[6] = {3, 4, 0, 1, 1, 1}, off[6] = {3, 4, 0.1f, 1, 1, 1.01f},
                nan[6] = {3, NAN, 0, 1, 1, 1};
    assert_float_equal(verify_error(same, want, 2, 3), 0, 0);
    assert_float_equal(verify_error(off, want, 2, 3), 0.1 / sqrt(25.0 / 3), 1e-6);  // of the second row: 0.01 / 1
    assert_true(isinf(verify_error(nan, want, 2, 3)));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(right_models), cmocka_unit_test(silent_units),
                                       cmocka_unit_test(wrong_models), cmocka_unit_test(errors)};
    const int failed = cmocka_run_group_tests_name("verify", tests, NULL, NULL);
    free(text);
    return failed;
}
