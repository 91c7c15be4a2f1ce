// test_opt - the model's forward pass: logits and taps against float64 PyTorch (tests/golden/make_opt.py,
// make_llama.py); a sequence's numbers do not depend on its batch, its cache or the thread count; bad weights. Passes
// under masks: test_opt_masks.
#include "opt_fixture.h"
#include <cblas.h>
#include <dlfcn.h>
#include <omp.h>

enum { MAX_SEQS = 32 };

// Logits of every row of sequence i, [n, V]: the last row of each of its beginnings, all in one batch.
static float *all_logits(const golden *g, int i) {
    const int n = golden_length(g, i), V = g->m.c.V;
    model_run *r = model_run_new(&g->m, n * (n + 1) / 2, n, RUN_FORWARD);
    model_seq seqs[MAX_SEQS];
    for (int t = 0; t < n; t++) {
        seqs[t] = golden_seq(g, i, t);
        seqs[t].n = t + 1;
        seqs[t].last_target = SEQ_NO_TARGET;
    }
    model_forward(r, seqs, n);
    float *out = xmalloc((size_t)n * (size_t)V * sizeof *out);
    for (int t = 0; t < n; t++) model_logits(r, t, out + (size_t)t * (size_t)V);
    model_run_free(r);
    return out;
}

static void logits_agree(void **state) {
    golden *g = *state;
    double *want = golden_read(g, "logits");
    for (int i = 0; i < g->N; i++) {
        float *got = all_logits(g, i);
        const size_t V = (size_t)g->m.c.V;
        assert_agree("logits", got, want + (size_t)g->offset[i] * V, (size_t)golden_length(g, i) * V, 1e-4);
        free(got);
    }
    free(want);
}

typedef struct {
    const char *name;
    const float *(*of)(const model_run *, int);
    size_t width;
} tap_at;

// The taps of a model; returns how many.
static int list_taps(const model *m, tap_at out[7]) {
    const size_t E = (size_t)m->c.E, A = (size_t)(m->c.H * m->c.D), F = (size_t)m->c.F;
    const tap_at all[] = {{"res", model_tap_res, E}, {"a", model_tap_a, A}, {"mid", model_tap_mid, E},
                          {"x", model_tap_x, E},     {"z", model_tap_z, F}, {"r", model_tap_r, F},
                          {"u", model_tap_u, F}};
    memcpy(out, all, sizeof all);
    if (m->arch.gated) return 7;
    return m->arch.act == ACT_RELU ? 5 : 6;
}

static void taps_agree(void **state) {
    golden *g = *state;
    const size_t L = (size_t)g->m.c.L, E = (size_t)g->m.c.E;
    tap_at tap[7];
    const int taps = list_taps(&g->m, tap);
    model_run *r = model_run_new(&g->m, g->rows, g->N, RUN_TAPS);
    model_seq seqs[MAX_SEQS];
    for (int i = 0; i < g->N; i++) seqs[i] = golden_seq(g, i, g->context[i] - 1);
    model_forward(r, seqs, g->N);
    for (int k = 0; k < taps; k++) {
        double *want = golden_read(g, tap[k].name);
        const size_t width = tap[k].width;
        for (size_t l = 0; l < L; l++)
            for (int i = 0; i < g->N; i++)
                assert_agree(tap[k].name, tap[k].of(r, (int)l) + (size_t)model_row(r, i) * width,
                             want + (l * (size_t)g->rows + (size_t)g->offset[i]) * width,
                             (size_t)golden_length(g, i) * width, 1e-4);
        for (int i = 0; k == 0 && i < g->N; i++) {  // what leaves the last layer: at the rows that have a target
            const size_t from = (size_t)g->context[i] - 1;
            assert_agree("last residual", model_tap_res(r, (int)L) + ((size_t)model_row(r, i) + from) * E,
                         want + (L * (size_t)g->rows + (size_t)g->offset[i] + from) * E,
                         ((size_t)golden_length(g, i) - 1 - from) * E, 1e-4);
        }
        free(want);
    }
    model_run_free(r);
}

static int argmax(const double *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

// Log-probabilities of the whole vocabulary and of its beginning, from the reference's logits; the last row's target is
// any token.
static void logprobs_agree(void **state) {
    golden *g = *state;
    const int V = g->m.c.V;
    const int32_t extra = 7;
    double *logits = golden_read(g, "logits"), *published = golden_read(g, "logprob");
    model_run *r = model_run_new(&g->m, g->rows, g->N, RUN_FORWARD);
    model_seq seqs[MAX_SEQS];
    for (int i = 0; i < g->N; i++) {
        seqs[i] = golden_seq(g, i, 0);
        seqs[i].last_target = extra;
    }
    model_forward(r, seqs, g->N);
    double *got = xmalloc((size_t)g->rows * sizeof *got);
    int32_t *top = xmalloc((size_t)g->rows * sizeof *top);
    for (int vocab = 0; vocab <= V; vocab += V - 3) {  // 0: all, and all but the last three
        const int cut = vocab ? vocab : V;
        model_logprobs(r, got, top, vocab);
        for (int i = 0, k = 0; i < g->N; i++)
            for (int t = g->offset[i]; t < g->offset[i + 1]; t++, k++) {
                const bool last = t + 1 == g->offset[i + 1];
                const int32_t target = last ? extra : g->tokens[t + 1];
                const double *y = logits + (size_t)t * (size_t)V;
                if (target >= cut) continue;
                double sum = 0;
                for (int v = 0; v < cut; v++) sum += exp(y[v] - y[target]);
                assert_true(fabs(got[k] + log(sum)) <= 2e-4);
                if (!vocab && !last) assert_true(fabs(got[k] - published[t - i]) <= 2e-4);
                assert_int_equal(top[k], argmax(y, cut));
            }
    }
    free(got), free(top), free(logits), free(published);
    model_run_free(r);
}

// ---------------------------------------------------------------- same bits
// Everything a forward pass with taps yields for the sequences `order`, each sequence's numbers at its own place,
// whatever the order.
static float *snapshot(const golden *g, const int *order, int n, size_t *count) {
    const int L = g->m.c.L, V = g->m.c.V;
    tap_at tap[7];
    const int taps = list_taps(&g->m, tap);
    size_t per_row = 1;
    for (int k = 0; k < taps; k++) per_row += (size_t)L * tap[k].width;
    *count = (size_t)g->rows * per_row + (size_t)g->N * (size_t)V;
    float *out = xcalloc(*count, sizeof *out), *logits = out + (size_t)g->rows * per_row;
    model_run *r = model_run_new(&g->m, g->rows, g->N, RUN_TAPS);
    model_seq seqs[MAX_SEQS];
    for (int k = 0; k < n; k++) {
        seqs[k] = golden_seq(g, order[k], 0);
        seqs[k].last_target = 5;
    }
    model_forward(r, seqs, n);
    double *lp = xmalloc((size_t)g->rows * sizeof *lp);
    model_logprobs(r, lp, NULL, 0);
    const double *at = lp;
    for (int k = 0; k < n; k++) {
        model_logits(r, k, logits + (size_t)order[k] * (size_t)V);
        for (int t = 0; t < seqs[k].n; t++) {
            float *to = out + (size_t)(g->offset[order[k]] + t) * per_row;
            const size_t row = (size_t)(model_row(r, k) + t);
            for (int l = 0; l < L; l++)
                for (int p = 0; p < taps; p++) {
                    memcpy(to, tap[p].of(r, l) + row * tap[p].width, tap[p].width * sizeof *to);
                    to += tap[p].width;
                }
            *to = (float)*at++;
        }
    }
    free(lp);
    model_run_free(r);
    return out;
}

static void batch_does_not_matter(void **state) {
    golden *g = *state;
    const int order[] = {2, 0, 1}, all[] = {0, 1, 2};
    size_t n;
    float *whole = snapshot(g, all, 3, &n), *turned = snapshot(g, order, 3, &n), *sum = xcalloc(n, sizeof *sum);
    assert_same_bits("sequences in another order", whole, turned, n * sizeof *whole);
    for (int i = 0; i < 3; i++) {
        float *one = snapshot(g, &i, 1, &n);
        for (size_t k = 0; k < n; k++) sum[k] += one[k];  // the places of the others hold zeros
        free(one);
    }
    for (size_t k = 0; k < n; k++) whole[k] += 0.0f;  // -0 + 0 is +0 in the sum, so here, too
    assert_same_bits("sequences one by one", whole, sum, n * sizeof *whole);
    free(whole), free(turned), free(sum);
}

static void threads_do_not_matter(void **state) {
    golden *g = *state;
    const int all[] = {0, 1, 2}, before = omp_get_max_threads();
    size_t n;
    omp_set_num_threads(1);
    float *one = snapshot(g, all, 3, &n);
    for (int threads = 2; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        float *many = snapshot(g, all, 3, &n);
        assert_same_bits("more threads", one, many, n * sizeof *one);
        free(many);
    }
    omp_set_num_threads(before);
    free(one);
}

// ---------------------------------------------------------------- K/V cache
// Chunks of `step` tokens, all sequences side by side, each after its own cache.
static void cache_agrees(void **state) {
    golden *g = *state;
    const size_t V = (size_t)g->m.c.V;
    double *want = golden_read(g, "logits");
    float *got = xmalloc(V * sizeof *got);
    for (int step = 1; step <= 4; step++) {
        kv_cache *cache[MAX_SEQS];
        for (int i = 0; i < g->N; i++) cache[i] = kv_cache_new(&g->m, golden_length(g, i));
        model_run *r = model_run_new(&g->m, step * g->N, g->N, RUN_FORWARD);
        for (int at = 0;; at += step) {
            model_seq seqs[MAX_SEQS];
            int who[MAX_SEQS], n = 0;
            for (int i = 0; i < g->N; i++) {
                const int left = golden_length(g, i) - at;
                if (left <= 0) continue;
                const int take = left < step ? left : step;
                seqs[n] = (model_seq){.tokens = g->tokens + g->offset[i] + at,
                                      .n = take,
                                      .prefix = at ? cache[i] : NULL,
                                      .append = cache[i],
                                      .targets_from = take - 1,
                                      .last_target = SEQ_NO_TARGET};
                who[n++] = i;
            }
            if (!n) break;
            model_forward(r, seqs, n);
            for (int k = 0; k < n; k++) {
                const int i = who[k];
                model_logits(r, k, got);
                assert_int_equal(cache[i]->n, at + seqs[k].n);
                assert_agree("decoded logits", got, want + (size_t)(g->offset[i] + at + seqs[k].n - 1) * V, V, 1e-4);
            }
        }
        model_run_free(r);
        for (int i = 0; i < g->N; i++) kv_cache_free(cache[i]);
    }
    free(want), free(got);
}

// Decoding against the full pass of the same code: tighter than against the reference. One prefix serves several
// sequences and stays.
static void prefix_is_shared(void **state) {
    golden *g = *state;
    const size_t V = (size_t)g->m.c.V;
    const int n = golden_length(g, 0), half = n / 2;
    float *full = all_logits(g, 0), *got = xmalloc(V * sizeof *got);
    double *want = xmalloc(V * sizeof *want);
    kv_cache *cache = kv_cache_new(&g->m, half);
    model_run *r = model_run_new(&g->m, n * n, n, RUN_FORWARD);
    model_forward(
        r,
        &(model_seq){
            .tokens = g->tokens, .n = half, .append = cache, .targets_from = half, .last_target = SEQ_NO_OUTPUT},
        1);
    assert_int_equal(cache->n, half);
    model_seq seqs[MAX_SEQS];
    for (int t = half; t < n; t++)
        seqs[t - half] = (model_seq){.tokens = g->tokens + half,
                                     .n = t + 1 - half,
                                     .prefix = cache,
                                     .targets_from = t - half,
                                     .last_target = SEQ_NO_TARGET};
    model_forward(r, seqs, n - half);
    assert_int_equal(cache->n, half);
    for (int t = half; t < n; t++) {
        model_logits(r, t - half, got);
        for (size_t v = 0; v < V; v++) want[v] = (double)full[(size_t)t * V + v];
        assert_agree("logits after a shared prefix", got, want, V, 1e-5);
    }
    model_run_free(r);
    kv_cache_free(cache);
    free(full), free(got), free(want);
}

// A forward pass that begins at any layer, with the residual of a whole pass, ends in the same logits.
static void forward_from_layer(void **state) {
    golden *g = *state;
    const size_t E = (size_t)g->m.c.E, V = (size_t)g->m.c.V;
    model_run *taps = model_run_new(&g->m, g->rows, g->N, RUN_TAPS),
              *r = model_run_new(&g->m, g->rows, g->N, RUN_FORWARD);
    model_seq seqs[MAX_SEQS];
    for (int i = 0; i < g->N; i++) seqs[i] = golden_seq(g, i, 0), seqs[i].last_target = SEQ_NO_TARGET;
    float *res = xmalloc((size_t)g->rows * E * sizeof *res), *want = xmalloc(V * sizeof *want),
          *got = xmalloc(V * sizeof *got);
    model_forward(taps, seqs, g->N);
    for (int l = 0; l < g->m.c.L; l++) {
        for (int i = 0; i < g->N; i++)
            memcpy(res + (size_t)g->offset[i] * E, model_tap_res(taps, l) + (size_t)model_row(taps, i) * E,
                   (size_t)seqs[i].n * E * sizeof *res);
        model_forward_from(r, seqs, g->N, l, res);
        for (int i = 0; i < g->N; i++) {
            model_logits(taps, i, want);
            model_logits(r, i, got);
            assert_same_bits("forward from a layer", want, got, V * sizeof *got);
        }
    }
    model_run_free(taps), model_run_free(r);
    free(res), free(want), free(got);
}

// ---------------------------------------------------------------- bad input
static void bad_weights_are_named(void **state) {
    (void)state;
    model m;
    assert_int_equal(model_load(&m, "tests/golden/opt/nowhere"), -1);
    assert_non_null(strstr(err_get(), "nowhere"));
    int n;
    tensor *t = random_weights(&removable, 1, &n);
    for (int i = 0; i < n; i++) {
        tensor *at = &t[i];
        char *name = at->name;
        at->name = (char *)"other";
        assert_int_equal(model_from_tensors(&m, &removable, t, n), -1);
        assert_non_null(strstr(err_get(), name));
        at->name = name;
        at->dim[0]++;
        assert_int_equal(model_from_tensors(&m, &removable, t, n), -1);
        assert_non_null(strstr(err_get(), name));
        at->dim[0]--;
    }
    assert_int_equal(model_from_tensors(&m, &removable, t, n), 0);
    model_free(&m);
    model_free(&m);
    weights_free(t, n);
}

// GSL brings a CBLAS, too, some thirty times slower; the order of the libraries decides.
static void products_are_openblas(void **state) {
    (void)state;
    Dl_info from;
    void (*const product)(const enum CBLAS_ORDER, const enum CBLAS_TRANSPOSE, const enum CBLAS_TRANSPOSE, const blasint,
                          const blasint, const blasint, const float, const float *, const blasint, const float *,
                          const blasint, const float, float *, const blasint) = cblas_sgemm;
    void *address;
    memcpy(&address, &product, sizeof address);
    assert_true(dladdr(address, &from) != 0);
    if (!strstr(from.dli_fname, "openblas")) fail_msg("cblas_sgemm comes from %s", from.dli_fname);
#ifdef __x86_64__
    // An OpenBLAS older than the processor takes kernels without AVX2, five times slower.
    static const char *const avx2_cores[] = {"Haswell", "Zen", "Excavator", "SkylakeX", "Cooperlake", "SapphireRapids"};
    bool avx2 = !__builtin_cpu_supports("avx2");
    for (size_t i = 0; i < sizeof avx2_cores / sizeof *avx2_cores; i++)
        avx2 |= strcasecmp(openblas_get_corename(), avx2_cores[i]) == 0;
    if (!avx2) fail_msg("products run on the kernels of %s", openblas_get_corename());
#endif
}

// Log-probabilities and gradients when the logits of a batch do not fit their buffer: with V = 2^19, pieces of 32 rows.
static void many_logits(void **state) {
    (void)state;
    const model_config c = {.L = 1,
                            .H = 1,
                            .E = 4,
                            .F = 4,
                            .D = 4,
                            .P = 2,
                            .V = 1 << 19,
                            .positions = 64,
                            .pre_ln = true,
                            .final_ln = true,
                            .bias = true};
    enum { N = 3, ROWS = 36 + 5 + 30 };
    static const int length[N] = {36, 5, 30};
    random_opt o;
    random_opt_make(&o, &c, 51);
    rng r = rng_make(52);
    int32_t tokens[ROWS];
    random_tokens(tokens, ROWS, c.V, &r);
    model_seq seqs[N];
    for (int i = 0, at = 0; i < N; at += length[i++])
        seqs[i] = (model_seq){.tokens = tokens + at, .n = length[i], .last_target = SEQ_NO_OUTPUT};
    double whole[ROWS], part[ROWS], back[ROWS];
    int32_t top[ROWS], top_part[ROWS];
    model_run *run = model_run_new(&o.m, ROWS, N, RUN_TAPS);
    model_forward(run, seqs, N);
    model_logprobs(run, whole, top, 0);
    model_backward(run, NULL, back, NULL, NULL, NULL);
    int k = 0;
    for (int i = 0; i < N; i++)
        for (int from = 0; from < length[i] - 1; from += 9) {  // nine rows at a time fit
            model_seq s = seqs[i];
            s.targets_from = from;
            s.n = from + 10 < length[i] ? from + 10 : length[i];
            model_forward(run, &s, 1);
            model_logprobs(run, part + k, top_part + k, 0);
            k += s.n - 1 - from;
        }
    assert_int_equal(k, ROWS - N);
    for (int t = 0; t < k; t++) {
        assert_true(fabs(whole[t] - part[t]) <= 1e-5 * fabs(part[t]));
        assert_true(fabs(back[t] - part[t]) <= 1e-5 * fabs(part[t]));
        assert_int_equal(top[t], top_part[t]);
    }
    model_run_free(run);
    random_opt_free(&o);
}

// A NaN in any weight that a sequence meets is a NaN in its log-probabilities: nothing swallows it, ReLU included.
static void nan_stays_nan(void **state) {
    (void)state;
    const model_config *c = &removable;
    random_opt o;
    random_opt_make(&o, c, 61);
    static const int32_t tokens[] = {0, 3, 7, 1};
    const model_seq s = {.tokens = tokens, .n = 4, .last_target = SEQ_NO_OUTPUT};
    model_run *r = model_run_new(&o.m, 4, 1, RUN_FORWARD);
    double lp[3];
    for (int i = 0; i < o.n; i++) {
        float *w = (float *)o.t[i].data + (strstr(o.t[i].name, "positions") ? 2 * c->E : 0);
        const float was = *w;
        *w = NAN;
        model_forward(r, &s, 1);
        model_logprobs(r, lp, NULL, 0);
        if (!isnan(lp[0])) fail_msg("a NaN in %s gives the log-probability %g", o.t[i].name, lp[0]);
        *w = was;
    }
    model_run_free(r);
    random_opt_free(&o);
}

// Sequences of one to three tokens, whose products take another way, at every place in a batch.
static void short_sequences(void **state) {
    golden *g = *state;
    const size_t V = (size_t)g->m.c.V;
    model_seq seqs[9];
    for (int k = 0; k < 9; k++)
        seqs[k] = (model_seq){.tokens = g->tokens + k,
                              .n = 1 + (k * 7 + k / 3) % 3,
                              .targets_from = (k * 7 + k / 3) % 3,
                              .last_target = SEQ_NO_TARGET};
    model_run *all = model_run_new(&g->m, 27, 9, RUN_FORWARD), *one = model_run_new(&g->m, 3, 1, RUN_FORWARD);
    float *a = xmalloc(V * sizeof *a), *b = xmalloc(V * sizeof *b);
    model_forward(all, seqs, 9);
    for (int k = 0; k < 9; k++) {
        model_logits(all, k, a);
        model_forward(one, &seqs[k], 1);
        model_logits(one, 0, b);
        assert_same_bits("short sequence", a, b, V * sizeof *a);
    }
    model_run_free(all), model_run_free(one);
    free(a), free(b);
}

int main(void) {
    static const golden_test per_model[] = {{"logits agree", logits_agree, false, true},
                                            {"taps agree", taps_agree, false, true},
                                            {"log-probabilities agree", logprobs_agree, false, true},
                                            {"batch does not matter", batch_does_not_matter, false, true},
                                            {"threads do not matter", threads_do_not_matter, false, true},
                                            {"cache agrees", cache_agrees, false, true},
                                            {"prefix is shared", prefix_is_shared, false, true},
                                            {"short sequences", short_sequences, false, true},
                                            {"forward from a layer", forward_from_layer, false, true}};
    const struct CMUnitTest tests[] = {cmocka_unit_test(bad_weights_are_named), cmocka_unit_test(products_are_openblas),
                                       cmocka_unit_test(many_logits), cmocka_unit_test(nan_stays_nan)};
    return run_on_golden("opt", per_model, sizeof per_model / sizeof *per_model, open_golden, close_golden, tests,
                         sizeof tests / sizeof *tests);
}
