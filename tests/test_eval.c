// test_eval - evaluation: shared prefixes and batches against one plain pass per sequence, the oracle against single
// removals, metrics against closed forms, and published dense values of a real model where ../shared is there.
#include "opt_fixture.h"
#include "eval.h"

// Items of 1 to 5 candidates after contexts of every length, with and without shared tokens. Tokens live in one pool.
static eval_item *make_items(int n, int32_t *pool, uint64_t seed) {
    eval_item *item = xcalloc((size_t)n, sizeof *item);
    rng r = rng_make(seed);
    for (int i = 0; i < n; i++) {
        const int context = 1 + (int)rng_below(&r, 40);
        int32_t head[64];
        for (int t = 0; t < context; t++) head[t] = (int32_t)rng_below(&r, (uint64_t)small_opt.V);
        item[i].n_seqs = 1 + (int)rng_below(&r, TASK_MAX_CHOICES);
        item[i].gold = (int)rng_below(&r, (uint64_t)item[i].n_seqs);
        item[i].shared = item[i].n_seqs > 1 ? (int)rng_below(&r, (uint64_t)context) : 0;
        for (int j = 0; j < item[i].n_seqs; j++) {
            const int more = 1 + (int)rng_below(&r, 20);
            memcpy(pool, head, sizeof head);
            for (int t = item[i].shared; t < context + more; t++)
                pool[t] = (int32_t)rng_below(&r, (uint64_t)small_opt.V);
            item[i].seq[j].tokens = pool;
            item[i].seq[j].n = context + more - 1;
            item[i].seq[j].from = context - 1;
            pool += context + more;
        }
    }
    return item;
}

static double plain(model_run *run, const eval_item *it, int j, const mask *m) {
    double lp[64], sum = 0;
    const model_seq s = {.tokens = it->seq[j].tokens,
                         .n = it->seq[j].n,
                         .mask = m,
                         .targets_from = it->seq[j].from,
                         .last_target = it->seq[j].tokens[it->seq[j].n]};
    model_forward(run, &s, 1);
    model_logprobs(run, lp, NULL, 0);
    for (int t = 0; t < s.n - s.targets_from; t++) sum += lp[t];
    return sum;
}

static void random_mask(mask *m, uint64_t seed) {
    rng r = rng_make(seed);
    for (int i = 0; i < small_opt.L * (small_opt.H + small_opt.F); i++) m->heads[i] = rng_below(&r, 2) == 0;
}

enum { ITEMS = 150 };

static void same_as_plain(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    int32_t *pool = xcalloc(ITEMS * TASK_MAX_CHOICES * 64, sizeof *pool);
    eval_item *item = make_items(ITEMS, pool, 4);
    model_run *run = model_run_new(&o.m, 64, 1, RUN_FORWARD);
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    mask m;
    mask_alloc(&m, &small_opt);
    random_mask(&m, 9);
    const mask *masks[] = {NULL, &m};
    double *ll = xcalloc(ITEMS * TASK_MAX_CHOICES, sizeof *ll);
    eval_counts counts;
    for (int k = 0; k < 2; k++) {
        const mask_source source = {.fixed = masks[k]};
        assert_int_equal(eval_run(e, item, ITEMS, &source, NULL, 1, &ll, &counts), 0);
        for (int i = 0; i < ITEMS; i++)
            for (int j = 0; j < item[i].n_seqs; j++) {
                const double want = plain(run, &item[i], j, masks[k]), got = ll[i * TASK_MAX_CHOICES + j];
                if (!(fabs(got - want) <= 1e-5 * fabs(want)))
                    fail_msg("item %d candidate %d: %.9g, want %.9g", i, j, got, want);
            }
    }
    int off = 0;
    for (int i = 0; i < small_opt.L * small_opt.H; i++) off += !m.heads[i];
    long scored = 0;
    for (int i = 0; i < ITEMS; i++)
        for (int j = 0; j < item[i].n_seqs; j++) scored += item[i].seq[j].n - item[i].seq[j].from;
    assert_int_equal(counts.positions, scored);
    assert_int_equal(counts.pruned[UNIT_HEADS], off * scored);
    assert_float_equal(eval_effective(&counts, &small_opt, UNIT_HEADS), off / 12.0, 1e-12);
    mask_free(&m);
    eval_free(e);
    model_run_free(run);
    free(item);
    free(ll);
    free(pool);
    random_opt_free(&o);
}

// ---------------------------------------------------------------- masks of segments
// Scores that say which loss they are asked for: other units are the lowest for every segment.
enum { SEGMENT = 5, WINDOW = 23 };
static const int32_t *window_tokens;
static int asked[WINDOW];  // [targets_from] inputs

static void segment_scores(double *heads, double *neurons, int from) {
    rng r = rng_make((uint64_t)from);
    for (int i = 0; i < small_opt.L * small_opt.H; i++) heads[i] = rng_uniform(&r);
    for (int i = 0; i < small_opt.L * small_opt.F; i++) neurons[i] = rng_uniform(&r);
}

static int say_scores(void *self, const model_seq *input, unsigned units, double *heads, double *neurons) {
    assert_null(self);
    assert_int_equal(units, UNITS_BOTH);
    assert_ptr_equal(input->tokens, window_tokens);
    assert_int_equal(input->last_target, window_tokens[input->n]);
    asked[input->targets_from] = input->n;
    segment_scores(heads, neurons, input->targets_from);
    return 0;
}

// A window under masks of its segments, against the same tokens one by one, each under the mask of its segment; only
// targets from `from` on are scored.
static void segments_token_by_token(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 3);
    const model_config *c = &small_opt;
    int32_t tokens[WINDOW + 1];
    rng r = rng_make(8);
    for (int t = 0; t <= WINDOW; t++) tokens[t] = (int32_t)rng_below(&r, (uint64_t)c->V);
    window_tokens = tokens;
    model_run *run = model_run_new(&o.m, 1, 1, RUN_FORWARD);
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    double *score = xcalloc((size_t)(c->L * (c->H + c->F)), sizeof *score), *neurons = score + c->L * c->H;
    mask m;
    mask_alloc(&m, c);
    for (int from = 0; from < WINDOW; from += 7) {
        const eval_item item = {.n_seqs = 1, .window = true, .seq = {{tokens, WINDOW, from}}};
        const mask_source source = {.scores = say_scores, .after = SEGMENT, .refresh = SEGMENT};
        const mask_rule rules[2] = {{.scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1},
                                    {.scope = SCOPE_LOCAL, .units = UNITS_BOTH, .sparsity = 25000, .dense_layers = 1}};
        double ll[2][TASK_MAX_CHOICES], *to[2] = {ll[0], ll[1]};
        eval_counts counts[2];
        memset(asked, 0, sizeof asked);
        assert_int_equal(eval_run(e, &item, 1, &source, rules, 2, to, counts), 0);
        for (int t = 0; t < WINDOW; t++) {
            const int end = t + SEGMENT < WINDOW ? t + SEGMENT : WINDOW;
            assert_int_equal(asked[t], t && t % SEGMENT == 0 ? end : 0);
        }
        for (int k = 0; k < 2; k++) {
            kv_cache *cache = kv_cache_new(&o.m, WINDOW);
            double want = 0;
            long pruned = 0;
            for (int t = 0; t < WINDOW; t++) {
                const int g = t / SEGMENT;
                long off[2];
                segment_scores(score, neurons, g * SEGMENT);
                if (mask_make(&m, c, score, neurons, &rules[k]) != 0) fail_msg("%s", err_get());
                const model_seq s = {.tokens = tokens + t,
                                     .n = 1,
                                     .prefix = cache,
                                     .append = cache,
                                     .mask = g ? &m : NULL,
                                     .last_target = tokens[t + 1]};
                double lp;
                model_forward(run, &s, 1);
                model_logprobs(run, &lp, NULL, 0);
                mask_pruned(&m, c, off);
                if (t >= from) want += lp, pruned += g ? off[UNIT_NEURONS] : 0;
            }
            if (!(fabs(ll[k][0] - want) <= 1e-5 * fabs(want))) fail_msg("%.9g, want %.9g", ll[k][0], want);
            assert_int_equal(counts[k].positions, WINDOW - from);
            assert_int_equal(counts[k].pruned[UNIT_NEURONS], pruned);
            kv_cache_free(cache);
        }
    }
    mask_free(&m);
    free(score);
    eval_free(e);
    model_run_free(run);
    random_opt_free(&o);
}

// Removal scores one by one, each from a whole pass of the whole model; then the masks that follow from them.
static void oracle_is_removal(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 5);
    int32_t pool[8 * TASK_MAX_CHOICES * 64];
    eval_item *item = make_items(8, pool, 6);
    model_run *run = model_run_new(&o.m, 64, 1, RUN_FORWARD);
    oracle * or = oracle_new(&o.m, 1);
    mask_source source = oracle_source(or);
    double heads[12], neurons[144];
    mask one;
    mask_alloc(&one, &small_opt);
    for (int i = 0; i < 8; i++) {
        const int g = item[i].gold, targets = item[i].seq[g].n - item[i].seq[g].from;
        const model_seq input = {.tokens = item[i].seq[g].tokens,
                                 .n = item[i].seq[g].n,
                                 .targets_from = item[i].seq[g].from,
                                 .last_target = item[i].seq[g].tokens[item[i].seq[g].n]};
        assert_int_equal(source.scores(source.self, &input, UNITS_BOTH, heads, neurons), 0);
        const double intact = plain(run, &item[i], g, NULL);
        for (int u = 0; u < 12 + 144; u++) {
            one.heads[u] = 0;
            const double want =
                             u < 4 || (u >= 12 && u < 12 + 48) ? 0 : (intact - plain(run, &item[i], g, &one)) / targets,
                         got = u < 12 ? heads[u] : neurons[u - 12];
            if (!(fabs(got - want) <= 1e-5)) fail_msg("item %d unit %d: %.9g, want %.9g", i, u, got, want);
            one.heads[u] = 1;
        }
    }
    // A text without a token after it, as a prompt is: its last row has no target.
    for (int i = 0; i < 8; i++) {
        const int g = item[i].gold, n = item[i].seq[g].n;
        if (n < 3) continue;
        const model_seq input = {
            .tokens = item[i].seq[g].tokens, .n = n, .targets_from = 1, .last_target = SEQ_NO_OUTPUT};
        const eval_item before = {.n_seqs = 1, .seq = {{.tokens = item[i].seq[g].tokens, .n = n - 1, .from = 1}}};
        assert_int_equal(source.scores(source.self, &input, UNITS_BOTH, heads, neurons), 0);
        const double intact = plain(run, &before, 0, NULL);
        for (int u = 4; u < 12 + 144; u++) {
            if (u >= 12 && u < 12 + 48) continue;
            one.heads[u] = 0;
            const double want = (intact - plain(run, &before, 0, &one)) / (n - 2),
                         got = u < 12 ? heads[u] : neurons[u - 12];
            if (!(fabs(got - want) <= 1e-5)) fail_msg("text %d unit %d: %.9g, want %.9g", i, u, got, want);
            one.heads[u] = 1;
        }
    }
    // Two rules at once: each item under the mask of its own scores.
    const mask_rule rule[] = {{.scope = SCOPE_GLOBAL, .units = UNITS_HEADS, .sparsity = 25000, .dense_layers = 1},
                              {.scope = SCOPE_LOCAL, .units = UNITS_HEADS, .sparsity = 50000, .dense_layers = 1}};
    double a[8 * TASK_MAX_CHOICES], b[8 * TASK_MAX_CHOICES], *ll[] = {a, b};
    eval_counts counts[2];
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    assert_int_equal(eval_run(e, item, 8, &source, rule, 2, ll, counts), 0);
    assert_int_equal(counts[0].pruned[UNIT_HEADS], 2 * counts[0].positions);
    assert_int_equal(counts[1].pruned[UNIT_HEADS], 4 * counts[1].positions);
    assert_int_equal(counts[1].pruned[UNIT_NEURONS], 0);
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 2; k++) {
            const int g = item[i].gold;
            const model_seq input = {.tokens = item[i].seq[g].tokens,
                                     .n = item[i].seq[g].n,
                                     .targets_from = item[i].seq[g].from,
                                     .last_target = item[i].seq[g].tokens[item[i].seq[g].n]};
            source.scores(source.self, &input, UNITS_HEADS, heads, neurons);
            assert_int_equal(mask_make(&one, &small_opt, heads, NULL, &rule[k]), 0);
            for (int j = 0; j < item[i].n_seqs; j++)
                assert_float_equal(ll[k][i * TASK_MAX_CHOICES + j], plain(run, &item[i], j, &one), 1e-4);
        }
    // The cost that estimates use: the intact pass, and each head of layers 1 and 2 through 2 or 1 of the 3 layers.
    assert_float_equal(oracle_cost(&small_opt, 1, UNITS_HEADS, 30), 30 * (1 + 4 * (2 + 1) / 3.0), 1e-12);
    eval_free(e);
    oracle_free(or);
    model_run_free(run);
    mask_free(&one);
    free(item);
    random_opt_free(&o);
}

static void damaged_model(void **state) {
    (void)state;
    random_opt o;
    random_opt_make(&o, &small_opt, 5);
    weights_find(o.t, o.n, "layers.1.fc2.weight")[7] = NAN;
    model_free(&o.m);
    assert_int_equal(model_from_tensors(&o.m, &small_opt, o.t, o.n), 0);
    int32_t pool[2 * TASK_MAX_CHOICES * 64];
    eval_item *item = make_items(2, pool, 6);
    eval *e = eval_new(&o.m, MODE_SOUND, NULL, NULL);
    double ll[2 * TASK_MAX_CHOICES], *lls = ll;
    eval_counts counts;
    const mask_source none = {0};
    assert_int_equal(eval_run(e, item, 2, &none, NULL, 1, &lls, &counts), -1);
    eval_free(e);
    free(item);
    random_opt_free(&o);
}

static void accuracies(void **state) {
    (void)state;
    // Four documents of two candidates; candidate lengths 1 and 4 bytes after their space.
    task_doc docs[4];
    int32_t doc[4] = {3, 2, 1, 0};
    for (int i = 0; i < 4; i++) docs[i] = (task_doc){.n_choices = 2, .gold = i % 2, .choice = {" x", " yyyy"}};
    eval_task t = {.split = {.docs = docs, .n = 4}, .doc = doc, .n = 4};
    double ll[4 * TASK_MAX_CHOICES] = {0};
    const double pair[4][2] = {{-2, -4}, {-2, -9}, {-3, -3}, {-5, -1}};  // of documents 3 (gold 1), 2 (0), 1 (1), 0 (0)
    for (int i = 0; i < 4; i++) memcpy(ll + i * TASK_MAX_CHOICES, pair[i], sizeof pair[i]);
    // acc: 0 (wrong), 0 (right), tie -> 0 (wrong), 1 (wrong): 1/4. acc_norm: -2 : -1 -> 1 right; -2 : -2.25 -> 0 right;
    // -3 : -.75 -> 1 right; -5 : -.25 -> 1 wrong: 3/4.
    eval_metric m[EVAL_METRICS];
    eval_task_metrics(m, &t, ll);
    assert_string_equal(m[0].name, "acc");
    assert_float_equal(m[0].value, 0.25, 1e-15);
    assert_float_equal(m[1].value, 0.75, 1e-15);
    assert_float_equal(m[2].value, 0.75, 1e-15);
    assert_float_equal(m[0].error, sqrt(0.25 * 0.75 * 4 / 3) / 2, 1e-12);  // sd with n - 1, over sqrt n
    t.n = 1;
    eval_task_metrics(m, &t, ll);
    assert_true(isnan(m[0].error) && m[0].n == 1);
    const eval_metric two[2] = {{"acc", 0.25, 0.03, 10}, {"acc", 0.64, 0.04, 20}};
    const eval_metric mean = eval_mean("acc", two, 2, false), geo = eval_mean("acc_gmean", two, 2, true);
    assert_float_equal(mean.value, 0.445, 1e-15);
    assert_float_equal(mean.error, 0.025, 1e-15);
    assert_int_equal(mean.n, 30);
    assert_float_equal(geo.value, 0.4, 1e-15);
    assert_float_equal(geo.error, 0.4 / 2 * sqrt(0.12 * 0.12 + 0.0625 * 0.0625), 1e-12);
}

// Characters and bytes differ: acc_norm divides by the first, acc_bytes by the second.
static void characters_and_bytes(void **state) {
    (void)state;
    // 4 characters of 8 bytes against 4 of 4; 3 of 9 (or 4 of 10: the last byte is no UTF-8) against 6 of 6
    task_doc docs[3] = {{.n_choices = 2, .gold = 0, .choice = {" \u00e9\u00e9\u00e9\u00e9", " abcd"}},
                        {.n_choices = 2, .gold = 1, .choice = {" \u20ac\u20ac\u20ac", " abcdef"}},
                        {.n_choices = 2, .gold = 1, .choice = {" \u20ac\u20ac\u20ac\xff", " abcdef"}}};
    int32_t doc[3] = {0, 1, 2};
    eval_task t = {.split = {.docs = docs, .n = 3}, .doc = doc, .n = 1};
    double ll[3 * TASK_MAX_CHOICES] = {0};
    const double pair[3][2] = {{-10, -8}, {-9, -12}, {-9, -13.2}};
    for (int i = 0; i < 3; i++) memcpy(ll + i * TASK_MAX_CHOICES, pair[i], sizeof pair[i]);
    // of the gold candidate: acc -10 < -8 wrong; by bytes -1.25 > -2 right; by characters -2.5 < -2 wrong
    const double first[EVAL_METRICS] = {0, 1, 0};
    // acc -12 < -9 wrong; by bytes -2 < -1 wrong; by characters -2 > -3 right
    // then -13.2 < -9 wrong; -2.2 < -.9 wrong; -2.2 > -2.25 right
    const double others[EVAL_METRICS] = {0, 0, 1};
    eval_metric m[EVAL_METRICS];
    static const char *const names[EVAL_METRICS] = {"acc", "acc_bytes", "acc_norm"};
    for (int i = 0; i < 3; i++) {
        doc[0] = i;
        eval_task_metrics(m, &t, ll + i * TASK_MAX_CHOICES);
        for (int k = 0; k < EVAL_METRICS; k++) {
            assert_string_equal(m[k].name, names[k]);
            assert_float_equal(m[k].value, (i == 0 ? first : others)[k], 0);
        }
    }
}

static void perplexities(void **state) {
    (void)state;
    enum { PAGES = 400 };
    int group[PAGES + 1];
    double ll[(PAGES + 1) * TASK_MAX_CHOICES] = {0};
    eval_text t = {.kind = TEXT_PAGES, .group = group, .n = PAGES + 1, .n_groups = PAGES};
    t.count = xcalloc(PAGES, sizeof *t.count);
    rng r = rng_make(1);
    double sum = 0, square = 0;
    for (int i = 0; i < PAGES; i++) {
        group[i] = i;
        t.count[i].words = 10;
        t.count[i].bytes = 50;
        const double x = -30 + 4 * rng_normal(&r);
        ll[i * TASK_MAX_CHOICES] = x;
        sum += x;
        square += x * x;
    }
    group[PAGES] = 7;  // a second window of a page
    ll[7 * TASK_MAX_CHOICES] -= 5;
    ll[PAGES * TASK_MAX_CHOICES] = 5;
    eval_metric m[2], again[2];
    assert_int_equal(eval_text_metrics(m, &t, ll, 3), 2);
    assert_string_equal(m[0].name, "word_perplexity");
    assert_string_equal(m[1].name, "byte_perplexity");
    assert_float_equal(m[0].value, exp(-sum / (10 * PAGES)), 1e-9);
    assert_float_equal(m[1].value, exp(-sum / (50 * PAGES)), 1e-9);
    assert_int_equal(m[0].n, PAGES);
    // Pages of equal length: the error is that of the mean of x / 10 times the value, to first order; 1,000 draws give
    // it within 10 %.
    const double sd = sqrt((square - sum * sum / PAGES) / (PAGES - 1));
    assert_float_equal(m[0].error / (m[0].value * sd / 10 / sqrt(PAGES)), 1, 0.1);
    eval_text_metrics(again, &t, ll, 3);
    assert_true(again[0].error == m[0].error);
    eval_text_metrics(again, &t, ll, 4);
    assert_true(again[0].error != m[0].error && again[0].value == m[0].value);
    free(t.count);
}

// ---------------------------------------------------------------- a real model: values published with it, made by
// PyTorch
static const char *const model_dir = "../shared/models/opt-en-8m", *const data_dir = "../shared/data";

static void published_values(void **state) {
    (void)state;
    model m = {0};
    if (!file_exists(model_dir) || !file_exists(data_dir)) {
        print_message("skipped: no %s\n", model_dir);
        skip();
    }
    if (model_load(&m, model_dir)) fail_msg("%s", err_get());
    tok *tk = tok_open(model_dir, m.c.V);
    const eval_options o = {.data = data_dir};
    const mask_source none = {0};
    eval_counts counts;
    eval *e = eval_new(&m, MODE_SOUND, NULL, NULL);
    eval_task t;
    if (eval_task_open(&t, "copa", &o, tk, &m.c)) fail_msg("%s", err_get());
    double *ll = xcalloc((size_t)t.n * TASK_MAX_CHOICES, sizeof *ll);
    assert_int_equal(eval_run(e, t.item, t.n, &none, NULL, 1, &ll, &counts), 0);
    eval_metric v[EVAL_METRICS];
    eval_task_metrics(v, &t, ll);
    assert_int_equal(t.n, 100);
    assert_float_equal(v[0].value, 0.55, 0.0101);  // one document may fall within rounding
    assert_float_equal(v[1].value, 0.52, 0.0101);
    assert_float_equal(v[2].value, 0.52, 0.0101);  // its candidates are ASCII
    free(ll);
    eval_task_close(&t);
    // Whole text: what is counted; its perplexity takes minutes and is checked by bin/sweep.
    eval_text text;
    text_file from = {.path = "../shared/data/wikitext2/wiki.valid.raw"};
    assert_non_null(from.text = file_read(from.path, &from.bytes));
    if (eval_text_open(&text, &from, TEXT_PAGES, &o, tk, &m.c)) fail_msg("%s", err_get());
    long words = 0, bytes = 0, tokens = 0, predicted = 0;
    for (int i = 0; i < text.n_groups; i++) {
        words += text.count[i].words;
        bytes += text.count[i].bytes;
        tokens += text.count[i].tokens;
    }
    for (int i = 0; i < text.n; i++) predicted += text.item[i].seq[0].n - text.item[i].seq[0].from;
    assert_int_equal(text.n_groups, 60);
    assert_int_equal(words, 214006);
    assert_int_equal(bytes, 1146785);
    assert_int_equal(tokens, 304292);
    assert_int_equal(predicted, tokens);
    eval_text_close(&text);
    if (eval_text_open(&text, &from, TEXT_DISJOINT, &o, tk, &m.c)) fail_msg("%s", err_get());
    for (int i = tokens = 0; i < text.n_groups; i++) tokens += text.count[i].tokens;
    assert_int_equal(tokens, 316487);
    eval_text_close(&text);
    eval_free(e);
    tok_close(tk);
    model_free(&m);
}

// Documents longer than the positions: refused with their number, left out, or cut from the left without touching what
// is scored.
static void over_long_documents(void **state) {
    (void)state;
    model_config c = small_opt;
    if (!file_exists(model_dir) || !file_exists(data_dir)) skip();
    tok *tk = tok_open(model_dir, 0);
    eval_options o = {.data = data_dir, .limit = 20, .shots = 2};
    eval_task whole, t;
    c.positions = 2048;
    c.V = 8192;
    if (eval_task_open(&whole, "rte", &o, tk, &c)) fail_msg("%s", err_get());
    c.positions = 200;
    assert_int_equal(eval_task_open(&t, "rte", &o, tk, &c), -1);
    int longer = 0;
    for (int i = 0; i < whole.n; i++) longer += whole.item[i].seq[0].n > 200 || whole.item[i].seq[1].n > 200;
    char says[40];
    snprintf(says, sizeof says, "rte: %d of 20 documents", longer);
    if (longer == 0 || longer == 20 || !strstr(err_get(), says)) fail_msg("\"%s\" lacks \"%s\"", err_get(), says);
    o.over = OVER_LONG_SKIP;
    assert_int_equal(eval_task_open(&t, "rte", &o, tk, &c), 0);
    assert_int_equal(t.n, 20 - longer);
    assert_int_equal(t.skipped, longer);
    eval_task_close(&t);
    o.over = OVER_LONG_CUT;
    assert_int_equal(eval_task_open(&t, "rte", &o, tk, &c), 0);
    assert_int_equal(t.n, 20);
    assert_int_equal(t.cut, longer);
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 2; j++) {
            const int n = t.item[i].seq[j].n, was = whole.item[i].seq[j].n;
            assert_int_equal(n, was < 200 ? was : 200);
            assert_memory_equal(t.item[i].seq[j].tokens, whole.item[i].seq[j].tokens + (was - n),
                                (size_t)(n + 1) * sizeof(int32_t));
            assert_int_equal(n - t.item[i].seq[j].from, was - whole.item[i].seq[j].from);
        }
    eval_task_close(&t);
    o.bos = BOS_ON;
    assert_int_equal(eval_task_open(&t, "rte", &o, tk, &c), 0);
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 2; j++) {
            const int n = t.item[i].seq[j].n, was = whole.item[i].seq[j].n;
            assert_int_equal(n, was + 1 < 200 ? was + 1 : 200);
            assert_int_equal(t.item[i].seq[j].tokens[0], 2);
            assert_memory_equal(t.item[i].seq[j].tokens + 1, whole.item[i].seq[j].tokens + (was + 1 - n),
                                (size_t)n * sizeof(int32_t));
            assert_int_equal(n - t.item[i].seq[j].from, was - whole.item[i].seq[j].from);
        }
    eval_task_close(&t);
    eval_task_close(&whole);
    tok_close(tk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_plain),       cmocka_unit_test(segments_token_by_token),
        cmocka_unit_test(oracle_is_removal),   cmocka_unit_test(damaged_model),
        cmocka_unit_test(accuracies),          cmocka_unit_test(characters_and_bytes),
        cmocka_unit_test(perplexities),        cmocka_unit_test(published_values),
        cmocka_unit_test(over_long_documents),
    };
    return cmocka_run_group_tests_name("eval", tests, NULL, NULL);
}
