// test_contextual_eval - evaluation under masks that predictors make, against references that know nothing of watches,
// caches or batches (full passes with taps, token-by-token decoding); effective sparsity by hand; predictions that are
// NaN.
#include "contextual_fixture.h"
#include "eval_batch.h"

// ---------------------------------------------------------------- the reference of the evaluation
typedef struct {
    const model *m;
    model_run *taps;
    predictor *p;
} reference;

static const float *tap(const model_run *r, model_state state, int layer) {
    if (state == STATE_HEAD_OUTPUT) return model_tap_a(r, layer);
    return state == STATE_RESIDUAL ? model_tap_res(r, layer) : model_tap_mid(r, layer);
}

static const float *state_at(const reference *f, model_state state, int layer, int row) {
    return tap(f->taps, state, layer) + (size_t)row * (size_t)f->m->c.E;
}

// A whole pass over tokens [n], every row kept, under a mask from a position on.
static void pass(const reference *f, const int32_t *tokens, int n, const mask *m, int from) {
    const model_seq s = {.tokens = tokens, .n = n, .mask = m, .mask_from = from, .last_target = SEQ_NO_TARGET};
    model_forward(f->taps, &s, 1);
}

// Scores of all layers from the states of row `at` of the last pass.
static void predict(const reference *f, const int32_t *tokens, int at, const mask_rule *rule, double *heads,
                    double *neurons) {
    const predictor_info *a = predictor_about(f->p);
    const model_config *c = &f->m->c;
    if (a->design == PREDICTOR_SEQUENCE) {
        // embeddings by hand, through the projection where there is one
        float *x = xcalloc((size_t)(at + 1) * (size_t)c->E, sizeof *x);
        const float *table = f->m->embed.data, *proj = f->m->proj_in.data;
        for (int t = 0; t <= at; t++)
            for (int e = 0; e < c->E; e++) {
                double s = 0;
                if (!proj) s = (double)table[(size_t)tokens[t] * (size_t)c->P + (size_t)e];
                for (int k = 0; proj && k < c->P; k++)
                    s += (double)proj[(size_t)e * (size_t)c->P + (size_t)k] *
                         (double)table[(size_t)tokens[t] * (size_t)c->P + (size_t)k];
                x[(size_t)t * (size_t)c->E + (size_t)e] = (float)s;
            }
        const float *in[2] = {x, x};
        predictor_all(f->p, in, at + 1, heads, neurons);
        free(x);
    } else if (!a->per_layer) {
        const float *in[2] = {state_at(f, a->state[0], a->from, at), state_at(f, a->state[1], a->from, at)};
        predictor_all(f->p, in, 1, heads, neurons);
    } else {
        memset(heads, 0, (size_t)(c->L * c->H) * sizeof *heads);
        memset(neurons, 0, (size_t)(c->L * c->F) * sizeof *neurons);
        for (int l = a->lag; l < c->L; l++) {
            const float *in[2] = {state_at(f, a->state[0], l - a->lag, at), state_at(f, a->state[1], l - a->lag, at)};
            // as published, masks of compat that compare layers come from inputs that are not normalised
            const bool raw = rule->mode == MODE_COMPAT && a->design == PREDICTOR_DEJAVU && rule->scope != SCOPE_LOCAL;
            (raw ? predictor_layer_raw : predictor_layer)(f->p, l, in, heads + (size_t)l * (size_t)c->H,
                                                          neurons + (size_t)l * (size_t)c->F);
        }
    }
}

// The mask of row `at`, which acts from there on. Pruned streams: one whole pass per layer and kind, each under what is
// decided so far (the neurons of a layer may see what its heads put out).
static void mask_at(const reference *f, const int32_t *tokens, int at, const mask_rule *rule, bool stream, mask *m) {
    const model_config *c = &f->m->c;
    double heads[12], neurons[144];
    if (!stream) {
        pass(f, tokens, at + 1, NULL, 0);
        predict(f, tokens, at, rule, heads, neurons);
        assert_int_equal(mask_make(m, c, heads, neurons, rule), 0);
        return;
    }
    mask all;
    mask_alloc(&all, c);
    mask_fill(m, c);
    for (int l = rule->dense_layers; l < c->L; l++)
        for (int kind = 0; kind < 2; kind++) {
            pass(f, tokens, at + 1, m, at);
            predict(f, tokens, at, rule, heads, neurons);
            assert_int_equal(mask_make(&all, c, heads, neurons, rule), 0);
            if (kind == 0)
                memcpy(m->heads + l * c->H, all.heads + l * c->H, (size_t)c->H);
            else
                memcpy(m->neurons + l * c->F, all.neurons + l * c->F, (size_t)c->F);
        }
    mask_free(&all);
}

static double log_likelihood(const reference *f, const int32_t *tokens, int n, int from, const mask *m, int mask_from) {
    double lp[MOST], sum = 0;
    const model_seq s = {
        .tokens = tokens, .n = n, .mask = m, .mask_from = mask_from, .targets_from = from, .last_target = tokens[n]};
    model_forward(f->taps, &s, 1);
    model_logprobs(f->taps, lp, NULL, 0);
    for (int i = 0; i < n - from; i++) sum += lp[i];
    return sum;
}

// Documents: candidates after one context, or after two of equal length (like winogrande's), tokens in one pool.
enum { DOCS = SCORED_ITEMS + 8 };  // more than are evaluated side by side
static eval_item *documents(int32_t *pool, int V) {
    eval_item *item = xcalloc(DOCS, sizeof *item);
    rng r = rng_make(8);
    for (int i = 0; i < DOCS; i++) {
        const int context = 1 + (int)rng_below(&r, 30), split = i % 3 == 0 ? context - 1 : -1;
        int32_t head[40];
        seeded_tokens(head, context, V, (uint64_t)i);
        item[i].n_seqs = 2 + (int)rng_below(&r, 3);
        item[i].shared = context - 1;
        for (int j = 0; j < item[i].n_seqs; j++) {
            const int more = 1 + (int)rng_below(&r, 12);
            memcpy(pool, head, (size_t)context * sizeof *pool);
            for (int t = context; t < context + more; t++) pool[t] = (int32_t)rng_below(&r, (uint64_t)V);
            if (split >= 0) pool[split] = j % 2;
            item[i].seq[j].tokens = pool;
            item[i].seq[j].n = context + more - 1;
            item[i].seq[j].from = context - 1;
            pool += context + more;
        }
    }
    return item;
}

static void compare_documents(const model_config *c, const predictor_info *what, mask_span acts, const mask_rule *rule,
                              int n_rules) {
    random_opt o;
    random_opt_make(&o, c, 3);
    reference f = {&o.m, model_run_new(&o.m, MOST, 1, RUN_TAPS), predictor_new(what, 9)};
    int32_t *pool = xcalloc(DOCS * TASK_MAX_CHOICES * MOST, sizeof *pool);
    eval_item *item = documents(pool, c->V);
    contextual_source source = {.p = f.p, .span = acts, .refresh = 128};
    const mask_source from = {.context = &source};
    double *ll[4];
    eval_counts counts[4];
    for (int k = 0; k < n_rules; k++) ll[k] = xcalloc(DOCS * TASK_MAX_CHOICES, sizeof **ll);
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    if (eval_run(e, item, DOCS, &from, rule, n_rules, ll, counts)) fail_msg("%s", err_get());
    mask m;
    mask_alloc(&m, c);
    for (int k = 0; k < n_rules; k++) {
        long positions = 0, wanted[2] = {0, 0}, off[2];
        const bool stream = acts == SPAN_DECODE && contextual_kind(what, &rule[k]) == FEATURES_STREAM;
        for (int i = 0; i < DOCS; i++)
            for (int j = 0; j < item[i].n_seqs; j++) {
                const int n = item[i].seq[j].n, first = item[i].seq[j].from;
                const int32_t *t = item[i].seq[j].tokens;
                mask_at(&f, t, acts == SPAN_COMPAT ? n - 1 : first, &rule[k], stream, &m);
                const double want = log_likelihood(&f, t, n, first, &m, acts == SPAN_DECODE ? first : 0),
                             got = ll[k][i * TASK_MAX_CHOICES + j];
                if (!(fabs(got - want) <= 2e-5 * fabs(want)))
                    fail_msg("%s lag %d, rule %d, document %d candidate %d: %.9g, want %.9g",
                             predictor_design_names[what->design], what->lag, k, i, j, got, want);
                mask_pruned(&m, c, off);
                for (int u = 0; u < 2; u++) wanted[u] += off[u] * (n - first);
                positions += n - first;
            }
        assert_int_equal(counts[k].positions, positions);
        for (int u = 0; u < 2; u++) assert_int_equal(counts[k].pruned[u], wanted[u]);
    }
    mask_free(&m);
    for (int k = 0; k < n_rules; k++) free(ll[k]);
    eval_free(e);
    free(item);
    free(pool);
    predictor_close(f.p);
    model_run_free(f.taps);
    random_opt_free(&o);
}

static void documents_decode(void **state) {
    (void)state;
    const mask_rule rules[] = {rule_of(SCOPE_GLOBAL, 40, MODE_SOUND), rule_of(SCOPE_LOCAL, 50, MODE_SOUND),
                               rule_of(SCOPE_HYBRID, 75, MODE_SOUND), rule_of(SCOPE_LOCAL, 25, MODE_SOUND)};
    const predictor_info what[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_LOWRANK, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 0, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND)};
    for (size_t i = 0; i < sizeof what / sizeof *what; i++)
        compare_documents(&small_opt, &what[i], SPAN_DECODE, rules, 4);
    // only pruned streams: no dense states are looked at
    compare_documents(&small_opt, &what[2], SPAN_DECODE, rules + 3, 1);
    const predictor_info post = describe(&projected, PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND),
                         ahead = describe(&projected, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND);
    compare_documents(&projected, &post, SPAN_DECODE, rules, 2);
    compare_documents(&projected, &ahead, SPAN_DECODE, rules, 4);
}

static void documents_all(void **state) {
    (void)state;
    const mask_rule rules[] = {rule_of(SCOPE_GLOBAL, 40, MODE_SOUND), rule_of(SCOPE_LOCAL, 50, MODE_SOUND)};
    const mask_rule compat[] = {rule_of(SCOPE_GLOBAL, 40, MODE_COMPAT), rule_of(SCOPE_LOCAL, 50, MODE_COMPAT),
                                rule_of(SCOPE_HYBRID, 75, MODE_COMPAT)};
    const predictor_info what[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND)};
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) compare_documents(&small_opt, &what[i], SPAN_ALL, rules, 2);
    const predictor_info published[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_COMPAT),
        describe(&small_opt, PREDICTOR_DEJAVU, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_COMPAT)};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        compare_documents(&small_opt, &published[i], SPAN_COMPAT, compat, 3);
}

// ---------------------------------------------------------------- running text
// Token by token, with a cache: every position under its segment's mask, every segment's mask from the position before
// it.
static double step_by_step(const reference *f, model_run *one, const eval_item *it, int refresh, const mask_rule *rule,
                           bool stream, long pruned[2]) {
    const model_config *c = &f->m->c;
    const predictor_info *a = predictor_about(f->p);
    const int32_t *t = it->seq[0].tokens;
    double heads[12], neurons[144], sum = 0;
    kv_cache *cache = kv_cache_new(f->m, MOST);
    mask m;
    mask_alloc(&m, c);
    memset(heads, 0, sizeof heads);
    memset(neurons, 0, sizeof neurons);
    for (int i = 0; i < it->seq[0].n; i++) {
        const bool predicts = (i + 1) % refresh == 0, scored = i >= it->seq[0].from;
        const model_seq s = {
            .tokens = t + i, .n = 1, .prefix = cache, .append = cache, .mask = &m, .last_target = t[i + 1]};
        model_forward(one, &s, 1);
        if (scored) {
            double lp;
            long off[2];
            model_logprobs(one, &lp, NULL, 0);
            sum += lp;
            mask_pruned(&m, c, off);
            for (int u = 0; u < 2; u++) pruned[u] += off[u];
        }
        if (!predicts) continue;
        if (stream) {  // the row's states as this step's own pass, under the mask at work, left them
            for (int l = a->lag; l < c->L; l++) {
                const float *in[2] = {tap(one, a->state[0], l - a->lag), tap(one, a->state[1], l - a->lag)};
                predictor_layer(f->p, l, in, heads + (size_t)l * (size_t)c->H, neurons + (size_t)l * (size_t)c->F);
            }
        } else {
            pass(f, t, i + 1, NULL, 0);
            predict(f, t, i, rule, heads, neurons);
        }
        assert_int_equal(mask_make(&m, c, heads, neurons, rule), 0);
    }
    mask_free(&m);
    kv_cache_free(cache);
    return sum;
}

// ROUNDS times the windows are more than are evaluated side by side
enum { WINDOWS = 7, ROUNDS = SCORED_ITEMS / WINDOWS + 1 };
static void windows(eval_item *item, int32_t *pool, int V) {
    static const int length[WINDOWS] = {60, 8, 9, 1, 33, 16, 50}, from[WINDOWS] = {0, 0, 3, 0, 20, 15, 49};
    for (int i = 0; i < WINDOWS; i++) {
        seeded_tokens(pool, MOST, V, 40 + (uint64_t)i);
        item[i] = (eval_item){.n_seqs = 1, .window = true};
        item[i].seq[0].tokens = pool;
        item[i].seq[0].n = length[i];
        item[i].seq[0].from = from[i];
        pool += MOST;
    }
}

static void running_text(void **state) {
    (void)state;
    const mask_rule rules[] = {rule_of(SCOPE_LOCAL, 50, MODE_SOUND), rule_of(SCOPE_GLOBAL, 40, MODE_SOUND),
                               rule_of(SCOPE_LOCAL, 25, MODE_SOUND), rule_of(SCOPE_HYBRID, 60, MODE_SOUND)};
    const predictor_info what[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND),
        describe(&small_opt, PREDICTOR_SEQUENCE, 0, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND)};
    static int32_t pool[WINDOWS * MOST];
    eval_item item[ROUNDS * WINDOWS];
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    windows(item, pool, small_opt.V);
    for (int i = WINDOWS; i < ROUNDS * WINDOWS; i++) item[i] = item[i - WINDOWS];
    model_run *one = model_run_new(&o.m, 1, 1, RUN_TAPS);
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    for (size_t d = 0; d < sizeof what / sizeof *what; d++)
        for (int refresh = 8; refresh <= 64; refresh += 28) {
            reference f = {&o.m, model_run_new(&o.m, MOST, 1, RUN_TAPS), predictor_new(&what[d], 9)};
            contextual_source source = {.p = f.p, .span = SPAN_DECODE, .refresh = refresh};
            const mask_source from = {.context = &source};
            double sums[4][ROUNDS * WINDOWS * TASK_MAX_CHOICES], *ll[4];
            eval_counts counts[4];
            for (int k = 0; k < 4; k++) ll[k] = sums[k];
            if (eval_run(e, item, ROUNDS * WINDOWS, &from, rules, 4, ll, counts)) fail_msg("%s", err_get());
            for (int k = 0; k < 4; k++) {
                long wanted[2] = {0, 0}, positions = 0;
                for (int i = 0; i < WINDOWS; i++) {
                    const double want = step_by_step(&f, one, &item[i], refresh, &rules[k],
                                                     contextual_kind(&what[d], &rules[k]) == FEATURES_STREAM, wanted);
                    positions += item[i].seq[0].n - item[i].seq[0].from;
                    if (!(fabs(sums[k][i * TASK_MAX_CHOICES] - want) <= 2e-5 * fabs(want)))
                        fail_msg("%s lag %d, segments of %d, rule %d, window %d: %.9g, want %.9g",
                                 predictor_design_names[what[d].design], what[d].lag, refresh, k, i,
                                 sums[k][i * TASK_MAX_CHOICES], want);
                    for (int j = i + WINDOWS; j < ROUNDS * WINDOWS; j += WINDOWS)
                        assert_float_equal(sums[k][j * TASK_MAX_CHOICES], sums[k][i * TASK_MAX_CHOICES], 0);
                }
                assert_int_equal(counts[k].positions, ROUNDS * positions);
                for (int u = 0; u < 2; u++) assert_int_equal(counts[k].pruned[u], ROUNDS * wanted[u]);
            }
            predictor_close(f.p);
            model_run_free(f.taps);
        }
    eval_free(e);
    model_run_free(one);
    random_opt_free(&o);
}

// A fixed mask in the same span: whole passes with the mask from the end of the context, or from the second segment on.
static void fixed_mask(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    reference f = {&o.m, model_run_new(&o.m, MOST, 1, RUN_TAPS), NULL};
    int32_t *pool = xcalloc(DOCS * TASK_MAX_CHOICES * MOST, sizeof *pool);
    static int32_t text[WINDOWS * MOST];
    eval_item *item = documents(pool, small_opt.V), win[WINDOWS];
    windows(win, text, small_opt.V);
    mask m;
    double heads[12], neurons[144], sums[DOCS * TASK_MAX_CHOICES], *ll = sums;
    eval_counts counts;
    const mask_rule rule = rule_of(SCOPE_GLOBAL, 50, MODE_SOUND);
    mask_alloc(&m, &small_opt);
    mask_random_scores(heads, neurons, &small_opt, 2);
    assert_int_equal(mask_make(&m, &small_opt, heads, neurons, &rule), 0);
    const mask_source source = {.fixed = &m, .after = 8};
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    assert_int_equal(eval_run(e, item, DOCS, &source, NULL, 1, &ll, &counts), 0);
    assert_int_equal(counts.pruned[UNIT_HEADS], 4 * counts.positions);
    for (int i = 0; i < DOCS; i++)
        for (int j = 0; j < item[i].n_seqs; j++)
            assert_float_equal(sums[i * TASK_MAX_CHOICES + j],
                               log_likelihood(&f, item[i].seq[j].tokens, item[i].seq[j].n, item[i].seq[j].from, &m,
                                              item[i].seq[j].from),
                               2e-3);
    assert_int_equal(eval_run(e, win, WINDOWS, &source, NULL, 1, &ll, &counts), 0);
    for (int i = 0; i < WINDOWS; i++)
        assert_float_equal(sums[i * TASK_MAX_CHOICES],
                           log_likelihood(&f, win[i].seq[0].tokens, win[i].seq[0].n, win[i].seq[0].from, &m, 8), 2e-3);
    // scored: 60, 8, 6, 1, 13, 1, 1, of which the mask reaches 52, 0, 1 (position 8 of 9), 0, 13, 1, 1
    assert_int_equal(counts.positions, 90);
    assert_int_equal(counts.pruned[UNIT_NEURONS], 48 * 68);
    assert_float_equal(eval_effective(&counts, &small_opt, UNIT_NEURONS), 48.0 / 144 * 68 / 90, 1e-12);
    mask_free(&m);
    eval_free(e);
    free(item);
    free(pool);
    model_run_free(f.taps);
    random_opt_free(&o);
}

// Two windows of 20 and 12 inputs in segments of 8, scored from 5 and 0 on: 3 + 8 positions are dense of 15 + 12, the
// others lack 1 of 4 heads in 2 of 3 layers (local 25 %) and 12 of 48 neurons.
static void effective_by_hand(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    static int32_t pool[WINDOWS * MOST];
    eval_item item[WINDOWS];
    windows(item, pool, small_opt.V);
    item[0].seq[0].n = 20;
    item[0].seq[0].from = 5;
    item[1].seq[0].n = 12;
    const predictor_info what =
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND);
    const mask_rule rule = rule_of(SCOPE_LOCAL, 25, MODE_SOUND);
    predictor *p = predictor_new(&what, 1);
    contextual_source source = {.p = p, .span = SPAN_DECODE, .refresh = 8};
    const mask_source from = {.context = &source};
    double sums[2 * TASK_MAX_CHOICES], *ll = sums;
    eval_counts counts;
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    assert_int_equal(eval_run(e, item, 2, &from, &rule, 1, &ll, &counts), 0);
    assert_int_equal(counts.positions, 27);
    assert_int_equal(counts.pruned[UNIT_HEADS], 2 * 16);
    assert_int_equal(counts.pruned[UNIT_NEURONS], 24 * 16);
    assert_float_equal(eval_effective(&counts, &small_opt, UNIT_HEADS), 2.0 / 12 * 16 / 27, 1e-12);
    // tokens: 20 + 12 dense (an estimate: the last segment is not needed), 12 + 4 masked
    assert_float_equal(eval_context_tokens(item, 2, &source, 3), 32 + 3 * 16, 0);
    eval_free(e);
    predictor_close(p);
    random_opt_free(&o);
}

static void predicted_nan(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    double heads[12], neurons[144], *ll;
    int32_t *pool = xcalloc(DOCS * TASK_MAX_CHOICES * MOST, sizeof *pool);
    eval_item *item = documents(pool, small_opt.V);
    mask_random_scores(heads, neurons, &small_opt, 7);
    neurons[100] = NAN;
    const predictor_info what[] = {
        describe(&small_opt, PREDICTOR_SHADOW, 0, STATE_HEAD_OUTPUT, STATE_HEAD_OUTPUT, MODE_SOUND),
        describe(&small_opt, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_MID, MODE_SOUND)};
    const mask_rule rule = rule_of(SCOPE_LOCAL, 50, MODE_SOUND);
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    ll = xcalloc(DOCS * TASK_MAX_CHOICES, sizeof *ll);
    for (size_t d = 0; d < 2; d++) {
        predictor *p = planted(&what[d], heads, neurons);
        contextual_source source = {.p = p, .span = SPAN_DECODE, .refresh = 128};
        const mask_source from = {.context = &source};
        eval_counts counts;
        assert_int_equal(eval_run(e, item, DOCS, &from, &rule, 1, &ll, &counts), -1);
        if (!strstr(err_get(), "neuron 4 is nan")) fail_msg("%s", err_get());
        predictor_close(p);
    }
    free(ll);
    eval_free(e);
    free(item);
    free(pool);
    random_opt_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(documents_decode),  cmocka_unit_test(documents_all),
                                       cmocka_unit_test(running_text),      cmocka_unit_test(fixed_mask),
                                       cmocka_unit_test(effective_by_hand), cmocka_unit_test(predicted_nan)};
    return cmocka_run_group_tests_name("contextual eval", tests, NULL, NULL);
}
