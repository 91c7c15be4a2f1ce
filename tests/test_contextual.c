// test_contextual - masks that a predictor makes in a pass that it watches: when they can act, refusals, planted scores
// against mask_make, causality. Evaluation under them: test_contextual_eval.
#include "contextual_fixture.h"

// ---------------------------------------------------------------- kinds and refusals
static void kinds(void **state) {
    (void)state;
    const struct {
        predictor_design d;
        int lag;
        model_state heads, neurons;
        mask_scope scope;
        unsigned units;
        int dense;
        contextual_features want;
    } t[] = {
        {PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, SCOPE_GLOBAL, UNITS_BOTH, 1, FEATURES_EARLY},
        // heads of layer 0 have run
        {PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, SCOPE_LOCAL, UNITS_BOTH, 0, FEATURES_DENSE},
        // its neurons have not
        {PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, SCOPE_LOCAL, UNITS_NEURONS, 0, FEATURES_EARLY},
        {PREDICTOR_SHADOW, 0, STATE_RESIDUAL, STATE_MID, SCOPE_HYBRID, UNITS_BOTH, 0, FEATURES_EARLY},
        {PREDICTOR_DEJAVU, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, SCOPE_LOCAL, UNITS_BOTH, 1, FEATURES_DENSE},
        {PREDICTOR_DEJAVU, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, SCOPE_LOCAL, UNITS_NEURONS, 1, FEATURES_STREAM},
        {PREDICTOR_DEJAVU, 0, STATE_RESIDUAL, STATE_MID, SCOPE_LOCAL, UNITS_BOTH, 0, FEATURES_STREAM},
        {PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, SCOPE_LOCAL, UNITS_BOTH, 1, FEATURES_STREAM},
        {PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, SCOPE_GLOBAL, UNITS_BOTH, 1, FEATURES_DENSE},
        {PREDICTOR_LOWRANK, 1, STATE_RESIDUAL, STATE_MID, SCOPE_HYBRID, UNITS_BOTH, 1, FEATURES_DENSE},
        {PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, SCOPE_GLOBAL, UNITS_BOTH, 0, FEATURES_EARLY},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const predictor_info p = describe(&small_opt, t[i].d, t[i].lag, t[i].heads, t[i].neurons, MODE_SOUND);
        const mask_rule rule = {
            .scope = t[i].scope, .units = t[i].units, .sparsity = 50000, .dense_layers = t[i].dense};
        if (contextual_kind(&p, &rule) != t[i].want)
            fail_msg("case %zu: %s", i, contextual_feature_names[contextual_kind(&p, &rule)]);
    }
}

static void refusals(void **state) {
    (void)state;
    predictor_info p = describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND);
    mask_rule rule = rule_of(SCOPE_LOCAL, 50, MODE_SOUND);
    assert_int_equal(contextual_check(&p, &rule), 0);
    rule.dense_layers = 0;
    assert_int_equal(contextual_check(&p, &rule), -1);
    assert_non_null(strstr(err_get(), "--dense-layers 1 or more"));
    rule = rule_of(SCOPE_LOCAL, 50, MODE_COMPAT);
    assert_int_equal(contextual_check(&p, &rule), -1);
    assert_non_null(strstr(err_get(), "trained on sound scores"));
    p.mode = MODE_COMPAT;
    p.lag = 0;
    assert_int_equal(contextual_check(&p, &rule), 0);
    rule = rule_of(SCOPE_LOCAL, 50, MODE_SOUND);
    assert_int_equal(contextual_check(&p, &rule), -1);
    p.mode = MODE_SOUND;
    p.has[1] = false;
    assert_int_equal(contextual_check(&p, &rule), -1);
    assert_non_null(strstr(err_get(), "no nets for neurons; --units heads"));
    rule.units = UNITS_HEADS;
    assert_int_equal(contextual_check(&p, &rule), 0);
}

// ---------------------------------------------------------------- planted scores
static void planted_masks(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    model_run *run = model_run_new(&o.m, MOST, 1, RUN_FORWARD);
    double heads[12], neurons[144];
    int32_t tokens[20];
    seeded_tokens(tokens, 20, small_opt.V, 5);
    mask_random_scores(heads, neurons, &small_opt, 7);
    for (int i = 0; i < 12; i++) heads[i] = (double)(float)heads[i];
    for (int i = 0; i < 144; i++) neurons[i] = (double)(float)neurons[i];
    mask got, want;
    mask_alloc(&got, &small_opt);
    mask_alloc(&want, &small_opt);
    const predictor_info what[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND)};
    int in_pass = 0;
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        predictor *p = planted(&what[i], heads, neurons);
        for (int scope = 0; scope < 3; scope++)
            for (int percent = 0; percent <= 100; percent += 25) {
                const mask_rule rule = rule_of((mask_scope)scope, percent, MODE_SOUND);
                contextual c;
                contextual_open(&c, p, &o.m, UNITS_BOTH, false);
                assert_int_equal(mask_make(&want, &small_opt, heads, neurons, &rule), 0);
                for (int during = 0; during < 2; during++) {
                    if (during && contextual_kind(&what[i], &rule) == FEATURES_DENSE) continue;
                    memset(got.heads, 7, UNITS);
                    contextual_begin(&c, tokens, 15, 14, during ? &got : NULL, &rule);
                    const model_seq s = {.tokens = tokens,
                                         .n = 20,
                                         .mask = during ? &got : NULL,
                                         .mask_from = 14,
                                         .watch = &c.watch,
                                         .targets_from = 14,
                                         .last_target = SEQ_NO_TARGET};
                    model_forward(run, &s, 1);
                    assert_int_equal(contextual_end(&c), 0);
                    if (!during) assert_int_equal(contextual_mask(&c, &got, &rule), 0);
                    if (memcmp(got.heads, want.heads, UNITS) != 0)
                        fail_msg("predictor %zu, %s, %d %%, %s the pass", i, mask_scope_names[scope], percent,
                                 during ? "during" : "after");
                    in_pass += during;
                }
                contextual_close(&c);
            }
        predictor_close(p);
    }
    assert_int_equal(in_pass, 5 * (3 + 1 + 3));
    mask_free(&got);
    mask_free(&want);
    model_run_free(run);
    random_opt_free(&o);
}

// ---------------------------------------------------------------- causality
// What follows the watched row does not reach the mask; in compat, where the watched row is the last, it does.
static void causal(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    model_run *run = model_run_new(&o.m, MOST, 1, RUN_FORWARD);
    const predictor_info what[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND)};
    const mask_rule rule = rule_of(SCOPE_LOCAL, 50, MODE_SOUND);
    for (size_t d = 0; d < sizeof what / sizeof *what; d++) {
        predictor *p = predictor_new(&what[d], 4);
        contextual c;
        mask m;
        uint8_t first[UNITS], last[UNITS];
        int moved = 0;
        mask_alloc(&m, &small_opt);
        contextual_open(&c, p, &o.m, UNITS_BOTH, false);
        for (int tail = 0; tail < 5; tail++)
            for (int look = 0; look < 2; look++) {
                int32_t tokens[30];
                seeded_tokens(tokens, 20, small_opt.V, 1);
                seeded_tokens(tokens + 20, 10, small_opt.V, 100 + (uint64_t)tail);
                const int at = look ? 29 : 19;
                contextual_begin(&c, tokens, at + 1, at, &m, &rule);
                const model_seq s = {.tokens = tokens,
                                     .n = 30,
                                     .mask = &m,
                                     .mask_from = look ? 29 : 19,
                                     .watch = &c.watch,
                                     .targets_from = at,
                                     .last_target = SEQ_NO_TARGET};
                model_forward(run, &s, 1);
                uint8_t *kept = look ? last : first;
                if (tail == 0)
                    memcpy(kept, m.heads, UNITS);
                else if (!look)
                    assert_memory_equal(first, m.heads, UNITS);
                else
                    moved += memcmp(last, m.heads, UNITS) != 0;
            }
        assert_true(moved > 0);
        contextual_close(&c);
        mask_free(&m);
        predictor_close(p);
    }
    model_run_free(run);
    random_opt_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds), cmocka_unit_test(refusals),
                                       cmocka_unit_test(planted_masks), cmocka_unit_test(causal)};
    return cmocka_run_group_tests_name("contextual", tests, NULL, NULL);
}
