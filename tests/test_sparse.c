// test_sparse - sparse passes, over live units alone: against the same masks by zeroing, which test_opt_masks holds
// against PyTorch; K/V policies; same bits whatever the batch and the threads. Their kernels and operations: test_live.
#include "opt_fixture.h"
#include "cpu_vec.h"
#include <omp.h>

static const char *const set_names[] = {"avx512", "avx2", "plain"};
enum { SETS = 3, TYPES = 3 };

// ---------------------------------------------------------------- models
static const model_config odd = {.L = 3,
                                 .H = 5,
                                 .D = 7,
                                 .E = 35,
                                 .F = 53,
                                 .P = 35,
                                 .V = 61,
                                 .positions = 90,
                                 .pre_ln = true,
                                 .final_ln = true,
                                 .bias = true};
static const model_config even = {.L = 3,
                                  .H = 4,
                                  .D = 16,
                                  .E = 64,
                                  .F = 192,
                                  .P = 64,
                                  .V = 80,
                                  .positions = 90,
                                  .pre_ln = true,
                                  .final_ln = true,
                                  .bias = true};
static const model_config post = {
    .L = 2, .H = 3, .D = 8, .E = 24, .F = 40, .P = 16, .V = 50, .positions = 90, .bias = true};
static const model_config bare = {
    .L = 2, .H = 2, .D = 32, .E = 64, .F = 70, .P = 64, .V = 50, .positions = 90, .pre_ln = true};
// Models of the Llama family: three query heads to a KV head, with norms of q and k and biases; a KV head to each.
static const model_config grouped = {
    .type = MODEL_QWEN3,
    .L = 3,
    .H = 6,
    .D = 8,
    .E = 32,
    .F = 53,
    .P = 32,
    .V = 61,
    .positions = 90,
    .llama = {.K = 2, .act = ACT_SILU, .norm_eps = 1e-5, .rope = {.theta = 100}, .bias_qkv = true, .qk_norm = true}};
static const model_config turned = {
    .type = MODEL_LLAMA,
    .L = 2,
    .H = 4,
    .D = 6,
    .E = 19,
    .F = 40,
    .P = 19,
    .V = 50,
    .positions = 90,
    .tied = true,
    .llama = {.K = 4, .act = ACT_RELU, .norm_eps = 1e-5, .rope = {.theta = 100}, .bias_out = true, .bias_ffn = true}};
// A GPT-NeoX: FFN beside the attention, the first numbers of each head turned.
static const model_config neox = {.type = MODEL_NEOX,
                                  .L = 3,
                                  .H = 4,
                                  .D = 6,
                                  .E = 24,
                                  .F = 40,
                                  .P = 24,
                                  .V = 50,
                                  .positions = 90,
                                  .parallel = true,
                                  .rotary = 4,
                                  .llama = {.K = 4,
                                            .act = ACT_GELU,
                                            .norm_eps = 1e-5,
                                            .rope = {.theta = 100},
                                            .bias_qkv = true,
                                            .bias_out = true,
                                            .bias_ffn = true}};
static const model_config *const configs[] = {&odd, &even, &post, &bare, &grouped, &turned, &neox};
enum { CONFIGS = 7 };

typedef enum { MASK_RANDOM, MASK_ALL, MASK_NONE, MASK_ONE_HEAD, MASK_EMPTY_LAYER, MASKS } mask_kind;

static mask random_mask(const model_config *c, mask_kind kind, rng *r) {
    const int heads = c->L * c->H, neurons = c->L * c->F;
    uint8_t *m = xmalloc((size_t)(heads + neurons));
    for (int k = 0; k < heads + neurons; k++) {
        const int layer = k < heads ? k / c->H : (k - heads) / c->F;
        if (kind == MASK_ALL || kind == MASK_NONE)
            m[k] = kind == MASK_ALL;
        else if (kind == MASK_ONE_HEAD && k < heads)
            m[k] = k % c->H == layer % c->H;
        else
            m[k] = rng_below(r, 2) != 0;
        if (kind == MASK_EMPTY_LAYER && layer == 1) m[k] = 0;
    }
    return (mask){m, m + heads};
}

static void assert_close(const char *what, const float *got, const float *want, int n) {
    double w[200];
    for (int i = 0; i < n; i++) w[i] = (double)want[i];
    assert_agree(what, got, w, (size_t)n, 1e-5);
}

static void by_zero_agrees(void **state) {
    (void)state;
    rng r = rng_make(4);
    int32_t tokens[70];
    float got[100], want[100];
    for (int set = 0; set < SETS; set++) {
        const vec_kernels *k = vec_find(set_names[set]);
        if (!k) continue;
        vec_use(k);
        for (int round = 0; round < CONFIGS * TYPES; round++) {
            const model_config *c = configs[round % CONFIGS];
            random_opt o;
            random_opt_make_as(&o, c, (dtype)(round / CONFIGS), (uint64_t)(100 + round));
            assert_true(model_sparse_prepare(&o.m) == model_sparse_bytes(&o.m) && model_sparse_bytes(&o.m) > 0);
            for (int kind = 0; kind < MASKS; kind++) {
                mask m = random_mask(c, (mask_kind)kind, &r);
                for (int length = 1; length <= 64; length = length < 4 ? length + 1 : 4 * length) {
                    random_tokens(tokens, length, c->V, &r);
                    logits_of(&o.m, tokens, length, &m, RUN_MASK_BY_ZERO, want);
                    logits_of(&o.m, tokens, length, &m, RUN_FORWARD, got);
                    assert_close("live units against the mask by zeroing", got, want, c->V);
                    if (kind == MASK_ALL) {
                        logits_of(&o.m, tokens, length, NULL, RUN_FORWARD, want);
                        assert_close("all units live", got, want, c->V);
                    }
                }
                free(m.heads);
            }
            random_opt_free(&o);
        }
    }
    vec_use(NULL);
}

// Token by token after a cache against the full pass by zeroing, under one mask from the first token on.
static void decode_agrees(void **state) {
    (void)state;
    rng r = rng_make(5);
    enum { T = 24 };
    int32_t tokens[T];
    float got[100], want[100];
    for (int round = 0; round < CONFIGS * TYPES * 3; round++) {
        const model_config *c = configs[round % CONFIGS];
        const kv_policy kv = (kv_policy)(round / CONFIGS % 3);
        random_opt o;
        random_opt_make_as(&o, c, (dtype)(round / CONFIGS / 3), (uint64_t)(200 + round));
        model_sparse_prepare(&o.m);
        mask m = random_mask(c, round % 5 == 4 ? MASK_EMPTY_LAYER : MASK_RANDOM, &r);
        random_tokens(tokens, T, c->V, &r);
        kv_cache *cache = kv_cache_new_as(&o.m, T, kv);
        model_run *run = model_run_new(&o.m, 5, 1, RUN_FORWARD);
        for (int at = 0, take; at < T; at += take) {
            take = at == 0 ? 5 : 1 + (at == 9);
            model_forward(run,
                          &(model_seq){.tokens = tokens + at,
                                       .n = take,
                                       .prefix = cache,
                                       .append = cache,
                                       .mask = &m,
                                       .targets_from = take - 1,
                                       .last_target = SEQ_NO_TARGET},
                          1);
            model_logits(run, 0, got);
            logits_of(&o.m, tokens, at + take, &m, RUN_MASK_BY_ZERO, want);
            assert_close("decoded logits", got, want, c->V);
        }
        model_run_free(run);
        kv_cache_free(cache);
        free(m.heads);
        random_opt_free(&o);
    }
}

// Masks that change at every step: repair gives what computing all K and V gives; skip does not, once a head came back.
static void policies(void **state) {
    (void)state;
    rng r = rng_make(6);
    enum { T = 40, PROMPT = 11 };
    int32_t tokens[T];
    float got[2][100], want[100];
    for (int round = 0; round < 2 * CONFIGS; round++) {
        const model_config *c = configs[round % CONFIGS];
        random_opt o;
        random_opt_make_as(&o, c, (dtype)(round % TYPES), (uint64_t)(300 + round));
        model_sparse_prepare(&o.m);
        random_tokens(tokens, T, c->V, &r);
        kv_cache *cache[3];
        for (int kv = 0; kv < 3; kv++) cache[kv] = kv_cache_new_as(&o.m, T, (kv_policy)kv);
        model_run *run = model_run_new(&o.m, PROMPT, 1, RUN_FORWARD);
        mask m = random_mask(c, MASK_RANDOM, &r);
        bool differs = false;
        for (int at = 0, take; at < T; at += take) {
            take = at == 0 ? PROMPT : 1;
            if (at % 3 == 2 || round >= CONFIGS) {
                mask other = random_mask(c, at % 7 == 6 ? MASK_ALL : MASK_RANDOM, &r);
                memcpy(m.heads, other.heads, (size_t)(c->L * (c->H + c->F)));
                free(other.heads);
            }
            for (int kv = 0; kv < 3; kv++) {
                model_seq s = {.tokens = tokens + at,
                               .n = take,
                               .prefix = cache[kv],
                               .append = cache[kv],
                               .mask = at == 25 ? NULL : &m,
                               .mask_from = PROMPT - 1,
                               .targets_from = take - 1,
                               .last_target = SEQ_NO_TARGET};
                model_forward(run, &s, 1);
                model_logits(run, 0, kv == 0 ? want : got[kv - 1]);
            }
            assert_close("repaired K and V", got[0], want, c->V);
            for (int v = 0; v < c->V; v++) differs |= fabsf(got[1][v] - want[v]) > 1e-3f;
        }
        assert_true(differs);
        const size_t K = (size_t)o.m.arch.kv_heads;
        for (int l = 0; l < c->L; l++)  // where repair says that K and V are there, they are those of the other cache
            for (int t = 0; t < T; t++)
                for (size_t h = 0; h < K; h++) {
                    const size_t unit = ((size_t)l * T + (size_t)t) * K + h, at = unit * (size_t)c->D;
                    if (!cache[KV_REPAIR]->has[unit]) continue;
                    assert_close("K", cache[KV_REPAIR]->k[0] + at, cache[KV_COMPUTE]->k[0] + at, c->D);
                    assert_close("V", cache[KV_REPAIR]->v[0] + at, cache[KV_COMPUTE]->v[0] + at, c->D);
                }
        for (int kv = 0; kv < 3; kv++) kv_cache_free(cache[kv]);
        model_run_free(run);
        free(m.heads);
        random_opt_free(&o);
    }
}

// ---------------------------------------------------------------- batches, threads
enum { BATCH = 6, STEPS = 7 };

// Decodes a batch of sequences with masks of their own (one of them shared by two, one sequence dense) and lays out all
// logits [step, seq, V].
static float *decode_batch(const model *m, int first, int n, unsigned flags, uint64_t seed) {
    const model_config *c = &m->c;
    rng r = rng_make(seed);
    int32_t tokens[BATCH][STEPS + 9];
    mask masks[BATCH];
    for (int i = 0; i < BATCH; i++) {
        random_tokens(tokens[i], STEPS + 9, c->V, &r);
        masks[i] = random_mask(c, i == 4 ? MASK_EMPTY_LAYER : MASK_RANDOM, &r);
    }
    kv_cache *cache[BATCH];
    for (int i = 0; i < BATCH; i++) cache[i] = kv_cache_new_as(m, STEPS + 9, (kv_policy)(i % 3));
    model_run *run = model_run_new(m, 9 * BATCH, BATCH, flags);
    float *out = xcalloc((size_t)(STEPS + 1) * BATCH * (size_t)c->V, sizeof *out),
          *all = xmalloc((size_t)BATCH * (size_t)c->V * sizeof *all);
    for (int step = 0; step <= STEPS; step++) {
        model_seq s[BATCH];
        for (int k = 0; k < n; k++) {
            const int i = first + k, length = step ? 1 : 2 + i, at = step ? 2 + i + step - 1 : 0;
            s[k] = (model_seq){.tokens = tokens[i] + at,
                               .n = length,
                               .prefix = cache[i],
                               .append = cache[i],
                               .mask = i == 3 ? NULL : &masks[i % 5],
                               .targets_from = length - 1,
                               .last_target = SEQ_NO_TARGET};
        }
        model_forward(run, s, n);
        model_last_logits(run, all);
        for (int k = 0; k < n; k++) {
            float *to = out + ((size_t)step * BATCH + (size_t)(first + k)) * (size_t)c->V;
            model_logits(run, k, to);
            assert_same_bits("all last logits", to, all + (size_t)k * (size_t)c->V, (size_t)c->V * sizeof *to);
        }
    }
    for (int i = 0; i < BATCH; i++) kv_cache_free(cache[i]), free(masks[i].heads);
    model_run_free(run);
    free(all);
    return out;
}

static void batches(void **state) {
    (void)state;
    const int threads = omp_get_max_threads();
    for (int round = 0; round < CONFIGS; round++) {
        const model_config *c = configs[round];
        random_opt o;
        random_opt_make_as(&o, c, (dtype)(round % TYPES), (uint64_t)(400 + round));
        model_sparse_prepare(&o.m);
        const size_t n = (size_t)(STEPS + 1) * BATCH * (size_t)c->V;
        float *whole = decode_batch(&o.m, 0, BATCH, RUN_FORWARD, 7),
              *own = decode_batch(&o.m, 0, BATCH, RUN_OWN_LISTS, 7), *sum = xcalloc(n, sizeof *sum);
        assert_same_bits("union and own lists", whole, own, n * sizeof *whole);
        for (int i = 0; i < BATCH; i++) {
            float *one = decode_batch(&o.m, i, 1, RUN_FORWARD, 7);
            for (size_t k = 0; k < n; k++) sum[k] += one[k];
            free(one);
        }
        for (size_t k = 0; k < n; k++) whole[k] += 0.0f;
        assert_same_bits("sequences one by one", whole, sum, n * sizeof *whole);
        for (int t = 1; t <= 3; t++) {
            omp_set_num_threads(t);
            float *again = decode_batch(&o.m, 0, BATCH, RUN_FORWARD, 7);
            for (size_t k = 0; k < n; k++) again[k] += 0.0f;
            assert_same_bits("threads", whole, again, n * sizeof *whole);
            free(again);
        }
        omp_set_num_threads(threads);
        free(whole), free(own), free(sum);
        random_opt_free(&o);
    }
}

// ---------------------------------------------------------------- a watch writes the mask while the pass runs
typedef struct {
    mask m;
    const mask *wanted;
    const model_config *c;
    double seen;
} chooser;

static void choose(void *self, model_state state, int layer, const float *x) {
    chooser *k = self;
    const model_config *c = k->c;
    for (int e = 0; e < model_state_width(c, state); e++) k->seen += (double)x[e] * (1 + layer);
    if (state == STATE_RESIDUAL) memcpy(k->m.heads + layer * c->H, k->wanted->heads + layer * c->H, (size_t)c->H);
    if (state == STATE_MID) memcpy(k->m.neurons + layer * c->F, k->wanted->neurons + layer * c->F, (size_t)c->F);
}

static void watched(void **state) {
    (void)state;
    rng r = rng_make(8);
    for (int round = 0; round < CONFIGS; round++) {
        const model_config *c = configs[round];
        random_opt o;
        random_opt_make_as(&o, c, DT_F32, (uint64_t)(500 + round));
        model_sparse_prepare(&o.m);
        int32_t tokens[4];
        random_tokens(tokens, 4, c->V, &r);
        mask wanted = random_mask(c, MASK_RANDOM, &r);
        float got[2][100], want[100];
        double seen[2];
        for (int zero = 0; zero < 2; zero++) {
            chooser k = {.m = random_mask(c, MASK_NONE, &r), .wanted = &wanted, .c = c};
            const model_watch w = {.row = 3,
                                   .states = 1 << STATE_RESIDUAL | 1 << STATE_MID | 1 << STATE_HEAD_OUTPUT,
                                   .see = choose,
                                   .self = &k};
            model_run *run = model_run_new(&o.m, 4, 1, zero ? RUN_MASK_BY_ZERO : RUN_FORWARD);
            model_forward(run,
                          &(model_seq){.tokens = tokens,
                                       .n = 4,
                                       .mask = &k.m,
                                       .watch = &w,
                                       .targets_from = 3,
                                       .last_target = SEQ_NO_TARGET},
                          1);
            model_logits(run, 0, got[zero]);
            seen[zero] = k.seen;
            model_run_free(run);
            free(k.m.heads);
        }
        logits_of(&o.m, tokens, 4, &wanted, RUN_MASK_BY_ZERO, want);
        assert_close("mask written in the pass", got[0], want, c->V);
        assert_close("mask written in the pass, by zeroing", got[1], want, c->V);
        assert_true(fabs(seen[0] - seen[1]) <= 1e-4 * fmax(1, fabs(seen[1])));
        free(wanted.heads);
        random_opt_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_zero_agrees), cmocka_unit_test(decode_agrees),
                                       cmocka_unit_test(policies), cmocka_unit_test(batches),
                                       cmocka_unit_test(watched)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
