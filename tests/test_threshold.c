// test_threshold - threshold masks: thresholds against sorted values; passes under them against explicit masks that are
// found layer by layer, token by token; what is counted.
#include "opt_fixture.h"
#include "decode.h"
#include "eval.h"
#include "shim.h"
#include "threshold.h"
#include <unistd.h>

static const model_config gated = {
    .type = MODEL_LLAMA,
    .L = 3,
    .H = 4,
    .E = 32,
    .F = 48,
    .D = 8,
    .P = 32,
    .V = 101,
    .positions = 64,
    .llama = {.K = 2, .act = ACT_SILU, .norm_eps = 1e-5, .rope = {.theta = 100}, .bias_ffn = true}};

// What thresholds are on, from the taps: r, or by gate act(z).
static float value_of(const model *m, const model_run *run, int l, size_t i, threshold_by by) {
    const float z = model_tap_z(run, l)[i];
    if (m->arch.gated && by == THRESHOLD_PRODUCT) return fabsf(model_tap_r(run, l)[i]);
    return m->arch.act == ACT_RELU ? fmaxf(z, 0) : fabsf(z / (1 + expf(-z)));
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Every value of a layer, zeros too, sorted: of n the floor(p n / 100)-th is the threshold.
static void thresholds_of(const char *folder, threshold_by by) {
    static const char text[] =
        "A threshold of its own for every layer. The quick brown fox jumps over the lazy dog, 1234 times; and then it "
        "sleeps: the text is longer than the model has positions, so that it is read in more than one window. So it "
        "goes on for a while, with words that have been there before, and some that have not; until it ends here.";
    char path[] = "/tmp/test_threshold_XXXXXX";
    model m = {0};
    const int file = mkstemp(path);
    assert_int_equal(write(file, text, sizeof text - 1), sizeof text - 1);
    close(file);
    if (model_load(&m, folder) != 0) fail_msg("%s", err_get());
    tok *tk = tok_open_model(folder, &m.c);
    threshold t;
    if (!tk || threshold_calibrate(&t, &m, tk, path, by) != 0) fail_msg("%s", err_get());
    int32_t *id = NULL;
    int n = 0, cap = 0;
    VEC_PUSH(id, n, cap, tok_first(tk, &m.c));
    assert_int_equal(tok_encode(tk, text, sizeof text - 1, &id, &n, &cap), 0);
    assert_int_equal(t.tokens, n);
    const int most = m.c.positions;
    model_run *run = model_run_new(&m, most, 1, RUN_TAPS);
    const size_t F = (size_t)m.c.F;
    for (int l = 0; l < m.c.L; l++) {
        double *value = xcalloc((size_t)n * F, sizeof *value);
        for (int at = 0; at < n; at += most) {
            const int rows = n - at < most ? n - at : most;
            model_forward(run, &(model_seq){.tokens = id + at, .n = rows, .last_target = SEQ_NO_TARGET}, 1);
            for (size_t i = 0; i < (size_t)rows * F; i++)
                value[(size_t)at * F + i] = (double)value_of(&m, run, l, i, by);
        }
        const long count = (long)n * m.c.F;
        qsort(value, (size_t)count, sizeof *value, ascending);
        for (long p = 0; p <= 100000; p += 2500) {
            float above[16];
            const long k = p * count / 100000;
            const model_above a = threshold_at(above, &t, &(mask_rule){.sparsity = p, .dense_layers = 1});
            const double want = l == 0 || k == 0 ? -1 : value[k - 1];
            assert_true(a.least == above && a.gate == (by == THRESHOLD_GATE));
            if (!(fabs((double)above[l] - want) <= 1e-6 * fabs(want)))
                fail_msg("layer %d at %ld: %g, want %g", l, p, (double)above[l], want);
        }
        free(value);
    }
    unlink(path);
    model_run_free(run);
    threshold_free(&t);
    tok_close(tk);
    free(id);
    model_free(&m);
}

static void thresholds_are_quantiles(void **state) {
    (void)state;
    for (threshold_by by = THRESHOLD_GATE; by < THRESHOLDS; by++) {
        thresholds_of("tests/golden/opt/pre", by);  // of fewer positions than the text has tokens
        thresholds_of("tests/golden/llama/llama", by);
    }
}

// ---------------------------------------------------------------- passes
enum { TOKENS = 19, FROM = 7 };

// The log-likelihood of targets FROM.. under the masks that the thresholds mean: of each token layer by layer, from the
// values that the layers below leave. *pruned: neurons that those masks drop at these positions.
static double by_masks(const model *m, const int32_t *tokens, const float *above, threshold_by by, long *pruned) {
    const model_config *c = &m->c;
    model_run *taps = model_run_new(m, 1, 1, RUN_TAPS), *run = model_run_new(m, 1, 1, RUN_FORWARD);
    kv_cache *cache = kv_cache_new(m, TOKENS);
    double sum = 0;
    mask own;
    mask_alloc(&own, c);
    *pruned = 0;
    for (int t = 0; t < TOKENS; t++) {
        model_seq s = {.tokens = tokens + t, .n = 1, .prefix = cache, .mask = &own, .last_target = tokens[t + 1]};
        mask_fill(&own, c);
        for (int l = 0; l < c->L; l++) {
            model_forward(taps, &s, 1);
            for (int j = 0; j < c->F; j++) own.neurons[l * c->F + j] = value_of(m, taps, l, (size_t)j, by) > above[l];
        }
        double lp;
        s.append = cache;
        model_forward(run, &s, 1);
        model_logprobs(run, &lp, NULL, 0);
        long off[2];
        mask_pruned(&own, c, off);
        if (t >= FROM) sum += lp, *pruned += off[UNIT_NEURONS];
    }
    mask_free(&own);
    kv_cache_free(cache);
    model_run_free(taps);
    model_run_free(run);
    return sum;
}

static void passes_are_those_of_masks(const ops *device, const model_config *c, threshold_by by) {
    random_opt o;
    random_opt_make(&o, c, 3);
    model on;
    if (model_from_tensors_on(&on, c, o.t, o.n, device) != 0) fail_msg("%s", err_get());
    int32_t tokens[TOKENS + 1];
    rng r = rng_make(5);
    for (int t = 0; t <= TOKENS; t++) tokens[t] = (int32_t)rng_below(&r, (uint64_t)c->V);
    // two candidates that share tokens, so that one pass has sequences with K and V of another
    const eval_item item = {.n_seqs = 2, .shared = 4, .seq = {{tokens, TOKENS, FROM}, {tokens, TOKENS, FROM}}};
    eval *e = eval_new(&on, MODE_SOUND, NULL, NULL);
    double last = 0;
    for (int k = 0; k < 4; k++) {
        const float above[] = {-1, k < 3 ? 0.2f * (float)k : 0, k == 3 ? 1e9f : 0.1f * (float)k};
        double ll[TASK_MAX_CHOICES], *to = ll;
        eval_counts counts;
        long pruned;
        const model_above thresholds = {above, by == THRESHOLD_GATE};
        const mask_source source = {.above = &thresholds};
        if (eval_run(e, &item, 1, &source, NULL, 1, &to, &counts) != 0) fail_msg("%s", err_get());
        const double want = by_masks(&o.m, tokens, above, by, &pruned);
        for (int j = 0; j < 2; j++)
            if (!(fabs(ll[j] - want) <= 2e-5 * fabs(want))) fail_msg("%d: %.9g, want %.9g", k, ll[j], want);
        assert_int_equal(counts.positions, 2 * (TOKENS - FROM));
        assert_int_equal(counts.pruned[UNIT_NEURONS], 2 * pruned);
        assert_int_equal(counts.pruned[UNIT_HEADS], 0);
        assert_true(want != last);
        last = want;
    }
    // without thresholds again: nothing is left of them
    double ll[TASK_MAX_CHOICES], *to = ll;
    eval_counts counts;
    const mask_source none = {0};
    const float all[] = {-1, -1, -1};
    long pruned;
    assert_int_equal(eval_run(e, &item, 1, &none, NULL, 1, &to, &counts), 0);
    const double want = by_masks(&o.m, tokens, all, by, &pruned);
    assert_true(fabs(ll[0] - want) <= 2e-5 * fabs(want));
    assert_int_equal(counts.pruned[UNIT_NEURONS], 0);
    eval_free(e);
    model_free(&on);
    random_opt_free(&o);
}

static bool by_gate(const model_config *c, threshold_by by) { return c == &gated && by == THRESHOLD_GATE; }

// Token by token as decoding runs them, with W2 by live columns and without: the logits of the whole pass; bytes by
// hand.
static void decoding_reads_live_columns(const ops *device, const model_config *c, threshold_by by) {
    random_opt o;
    random_opt_make(&o, c, 3);
    model on;
    if (model_from_tensors_on(&on, c, o.t, o.n, device) != 0) fail_msg("%s", err_get());
    const model_above above = {(const float[]){-1, 0.1f, 0.2f}, by == THRESHOLD_GATE};
    int32_t tokens[TOKENS];
    rng r = rng_make(5);
    for (int t = 0; t < TOKENS; t++) tokens[t] = (int32_t)rng_below(&r, (uint64_t)c->V);
    model_run *run = model_run_new(&on, TOKENS, 1, RUN_FORWARD);
    float *want = xmalloc((size_t)c->V * sizeof *want);
    model_forward(run, &(model_seq){.tokens = tokens, .n = TOKENS, .above = &above, .last_target = SEQ_NO_TARGET}, 1);
    model_logits(run, 0, want);
    int32_t kept[TOKENS];
    model_kept(run, 0, kept);
    for (int sparse = 0; sparse < 2; sparse++) {
        if (sparse) model_sparse_prepare(&on);
        decode *d = decode_new(&on, &(decode_options){.above = &above}, 1, 3, TOKENS);
        assert_int_equal(decode_prompt(d, &(decode_seq){.prompt = tokens, .n = 3}, 1), 0);
        for (int t = 3; t < TOKENS; t++) assert_int_equal(decode_step(d, tokens + t), 0);
        const float *got = decode_logits(d, 0);
        for (int i = 0; i < c->V; i++)
            if (!(fabsf(got[i] - want[i]) <= 1e-5f))
                fail_msg("logit %d: %g, want %g", i, (double)got[i], (double)want[i]);
        assert_int_equal(decode_kept(d, 0), kept[TOKENS - 1]);
        const double numbers = by_gate(c, by) ? 2 * c->E + 1 : c->E,  // of up a row and a bias, of down a column
            columns = (double)(c->L * c->F - kept[TOKENS - 1]) * numbers * (double)sizeof(float),
                     saved = decode_dense_bytes(&on) - decode_step_bytes(d).weights;
        assert_true(columns > 0 && fabs(saved - (sparse ? columns : 0)) < 1e-6 * columns);
        decode_free(d);
    }
    free(want);
    model_run_free(run);
    model_free(&on);
    random_opt_free(&o);
}

static void on(const ops *device) {
    const model_config *const models[] = {&small_opt, &gated};
    for (int k = 0; k < 2; k++)
        for (threshold_by by = THRESHOLD_GATE; by < THRESHOLDS; by++) {
            passes_are_those_of_masks(device, models[k], by);
            decoding_reads_live_columns(device, models[k], by);
        }
}

static void on_the_host(void **state) {
    (void)state;
    on(ops_cpu());
}

static void on_a_gpu(void **state) {
    (void)state;
    const ops *gpu = shim_open();
    if (!gpu) skip();
    on(gpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(thresholds_are_quantiles), cmocka_unit_test(on_the_host),
                                       cmocka_unit_test(on_a_gpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
