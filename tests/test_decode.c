// test_decode - prompts and tokens after them: against full passes by zeroing, with masks that a predictor makes again,
// with unions of the masks of a batch, and the count of bytes. A step without repair does not wake OpenMP's threads.
#include "opt_fixture.h"
#include "decode.h"
#include "predictor_about.h"
#include <dlfcn.h>

static const model_config config = {.L = 4,
                                    .H = 4,
                                    .D = 8,
                                    .E = 32,
                                    .F = 96,
                                    .P = 32,
                                    .V = 60,
                                    .positions = 40,
                                    .pre_ln = true,
                                    .final_ln = true,
                                    .bias = true};
enum { N = 3, PROMPT = 9, STEPS = 14 };

typedef struct {
    random_opt o;
    int32_t tokens[N][PROMPT + STEPS];
} world;

static world *make_world(void) {
    static world w;
    random_opt_make(&w.o, &config, 3);
    model_sparse_prepare(&w.o.m);
    rng r = rng_make(4);
    for (int i = 0; i < N; i++) random_tokens(w.tokens[i], PROMPT + STEPS, config.V, &r);
    return &w;
}

static predictor_info untrained(predictor_design design) {
    const bool shadow = design == PREDICTOR_SHADOW;
    const model_state reads = shadow ? STATE_HEAD_OUTPUT : STATE_RESIDUAL;
    return describe(&config, design, shadow ? 0 : 1, reads, reads, MODE_SOUND);
}

// A parallel region of GCC's OpenMP begins with this function, and this one comes before the library's; with one thread
// nobody is woken.
static int woken;
void GOMP_parallel(void (*work)(void *), void *of, unsigned threads, unsigned flags);
void GOMP_parallel(void (*work)(void *), void *of, unsigned threads, unsigned flags) {
    static void (*begin)(void (*)(void *), void *, unsigned, unsigned);
    if (!begin) *(void **)&begin = dlsym(RTLD_NEXT, "GOMP_parallel");
    woken += threads != 1;
    begin(work, of, threads, flags);
}

// All logits [step, sequence, V] of a run; prompts of different lengths. then: other masks from the first step on.
static float *run_then(world *w, const decode_options *o, const mask *masks, const mask *then, decode_bytes *bytes) {
    const size_t V = (size_t)config.V;
    float *out = xcalloc((STEPS + 1) * N * V, sizeof *out);
    decode *d = decode_new(&w->o.m, o, N, PROMPT, PROMPT + STEPS);
    if (!d) fail_msg("%s", err_get());
    for (int again = 0; again < 2; again++) {  // a second run of the same decoder begins again
        decode_seq s[N];
        for (int i = 0; i < N; i++)
            s[i] = (decode_seq){.prompt = w->tokens[i], .n = PROMPT - i, .mask = masks ? &masks[i] : NULL};
        assert_int_equal(decode_prompt(d, s, N), 0);
        for (int i = 0; i < N && then; i++) decode_set_mask(d, i, &then[i]);
        for (int step = 0; step <= STEPS; step++) {
            int32_t next[N];
            for (int i = 0; i < N; i++) {
                float *to = out + ((size_t)step * N + (size_t)i) * V;
                if (again) assert_same_bits("a second run", to, decode_logits(d, i), V * sizeof *to);
                memcpy(to, decode_logits(d, i), V * sizeof *to);
                int best = 0;
                for (int v = 1; v < config.V; v++)
                    if (to[v] > to[best]) best = v;
                assert_int_equal(decode_likeliest(d, i), best);
                next[i] = w->tokens[i][PROMPT - i + (step < STEPS ? step : 0)];
            }
            if (step == STEPS) break;
            if (bytes) *bytes = decode_step_bytes(d);
            woken = 0;
            assert_int_equal(decode_step(d, next), 0);
            if (woken && o->kv != KV_REPAIR)  // which is a product of many rows
                fail_msg("a step wakes OpenMP's threads %d times", woken);
        }
    }
    decode_free(d);
    return out;
}

static float *run(world *w, const decode_options *o, const mask *masks, decode_bytes *bytes) {
    return run_then(w, o, masks, NULL, bytes);
}

static void assert_runs_agree(const char *what, const float *got, const float *want) {
    double w[60];
    for (int k = 0; k < (STEPS + 1) * N; k++) {
        for (int v = 0; v < config.V; v++) w[v] = (double)want[k * config.V + v];
        assert_agree(what, got + k * config.V, w, (size_t)config.V, 1e-5);
    }
}

static void fixed_masks(void **state) {
    world *w = *state;
    mask masks[N];
    rng r = rng_make(5);
    for (int i = 0; i < N; i++) {
        mask_alloc(&masks[i], &config);
        for (int k = 0; k < config.L * (config.H + config.F); k++) masks[i].heads[k] = rng_below(&r, 2) != 0;
    }
    for (int masked = 0; masked < 2; masked++) {
        float *got = run(w, &(decode_options){.kv = masked ? KV_SKIP : KV_COMPUTE}, masked ? masks : NULL, NULL);
        model_run *full = model_run_new(&w->o.m, PROMPT + STEPS, 1, RUN_MASK_BY_ZERO);
        double want[60];
        float logits[60];
        for (int step = 0; step <= STEPS; step++)
            for (int i = 0; i < N; i++) {
                const int n = PROMPT - i + step;
                model_forward(full,
                              &(model_seq){.tokens = w->tokens[i],
                                           .n = n,
                                           .mask = masked ? &masks[i] : NULL,
                                           .targets_from = n - 1,
                                           .last_target = SEQ_NO_TARGET},
                              1);
                model_logits(full, 0, logits);
                for (int v = 0; v < config.V; v++) want[v] = (double)logits[v];
                assert_agree("token by token against the whole", got + (step * N + i) * config.V, want,
                             (size_t)config.V, 1e-5);
            }
        model_run_free(full);
        free(got);
    }
    for (int i = 0; i < N; i++) mask_free(&masks[i]);
}

// Live units with repaired K and V against masks by zeroing with all K and V: the same for every design and refresh.
static void predicted_masks(void **state) {
    world *w = *state;
    static const struct {
        predictor_design design;
        mask_scope scope;
        int refresh;
    } cases[] = {{PREDICTOR_SHADOW, SCOPE_GLOBAL, 0}, {PREDICTOR_SHADOW, SCOPE_LOCAL, 1},
                 {PREDICTOR_SHADOW, SCOPE_HYBRID, 4}, {PREDICTOR_DEJAVU, SCOPE_LOCAL, 1},
                 {PREDICTOR_DEJAVU, SCOPE_LOCAL, 3},  {PREDICTOR_DEJAVU, SCOPE_GLOBAL, 0}};
    float *still = NULL;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const predictor_info about = untrained(cases[k].design);
        predictor *p = predictor_new(&about, 7);
        decode_options o = {
            .predictor = p,
            .rule = {.scope = cases[k].scope, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1},
            .refresh = cases[k].refresh,
            .kv = KV_REPAIR};
        float *got = run(w, &o, NULL, NULL);
        o.kv = KV_COMPUTE;
        o.flags = RUN_MASK_BY_ZERO;
        float *want = run(w, &o, NULL, NULL);
        assert_runs_agree("predicted masks", got, want);
        o.flags = RUN_OWN_LISTS;
        float *own = run(w, &o, NULL, NULL);
        assert_runs_agree("predicted masks, own lists", own, want);
        if (k == 1) {  // a mask made again at every token is not the mask of the prompt
            bool differs = false;
            o.refresh = 0;
            still = run(w, &o, NULL, NULL);
            for (int v = 0; v < (STEPS + 1) * N * config.V; v++) differs |= fabsf(still[v] - want[v]) > 1e-3f;
            assert_true(differs);
            free(still);
        }
        free(got), free(want), free(own);
        predictor_close(p);
    }
}

static void bytes_are_counted(void **state) {
    world *w = *state;
    const double E = config.E, F = config.F, L = config.L, V = config.V, kept = 3, at = PROMPT + STEPS;
    const double fixed = 4 * (V * E + N * 2 * E + 2 * E + L * (4 * E + 2 * E));
    decode_bytes dense, pruned, skipped;
    free(run(w, &(decode_options){0}, NULL, &dense));
    assert_true(dense.weights == fixed + 4 * L * (4 * E * E + 3 * E + 2 * F * E + F));
    assert_true(dense.kv == 4 * L * 2 * E * (at + at - 1 + at - 2));
    assert_true(decode_dense_bytes(&w->o.m) == dense.weights - 4 * 2 * 2 * E);
    mask m;
    mask_alloc(&m, &config);
    memset(m.heads, 0, (size_t)(config.L * config.H));
    memset(m.neurons, 0, (size_t)(config.L * config.F));
    for (int l = 0; l < config.L; l++)
        m.heads[l * config.H + l] = m.neurons[l * config.F] = m.neurons[l * config.F + 5] =
            m.neurons[l * config.F + 95] = 1;
    const mask masks[N] = {m, m, m};
    free(run(w, &(decode_options){.kv = KV_COMPUTE}, masks, &pruned));
    free(run(w, &(decode_options){.kv = KV_SKIP}, masks, &skipped));
    const double one = 8 * E, units = L * (2 * one + 8 + kept * (2 * E + 1)), kv = L * 2 * (E * E + E);
    assert_true(fabs(pruned.weights - (fixed + 4 * (units + kv))) < 1e-6);
    assert_true(fabs(skipped.weights - (fixed + 4 * (units + kv / config.H))) < 1e-6);
    assert_true(pruned.kv == dense.kv / config.H);
    mask_free(&m);
}

// ---------------------------------------------------------------- batches of masks that differ
// Masks of three sequences: heads {0, 1}, {0, 2}, {0, 1}, or {0}, {1}, {2}; random neurons.
static void make_batch(mask *masks, bool overlap) {
    static const uint8_t heads[2][N][4] = {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}},
                                           {{1, 1, 0, 0}, {1, 0, 1, 0}, {1, 1, 0, 0}}};
    rng r = rng_make(6);
    for (int i = 0; i < N; i++) {
        mask_alloc(&masks[i], &config);
        for (int l = 0; l < config.L; l++) memcpy(masks[i].heads + l * config.H, heads[overlap][i], 4);
        for (int k = 0; k < config.L * config.F; k++) masks[i].neurons[k] = rng_below(&r, 3) == 0;
    }
}

// The masks that a batch runs with these kinds as a union, which are `of`'s otherwise.
static void unite(mask *to, const mask *of, bool heads, bool neurons) {
    for (int i = 0; i < N; i++) {
        mask_alloc(&to[i], &config);
        for (int k = 0; k < config.L * config.H; k++)
            to[i].heads[k] = heads ? of[0].heads[k] | of[1].heads[k] | of[2].heads[k] : of[i].heads[k];
        for (int k = 0; k < config.L * config.F; k++)
            to[i].neurons[k] = neurons ? of[0].neurons[k] | of[1].neurons[k] | of[2].neurons[k] : of[i].neurons[k];
    }
}

static double total(const mask *m, bool heads) {
    double n = 0;
    const int units = config.L * (heads ? config.H : config.F);
    for (int k = 0; k < units; k++) n += heads ? m->heads[k] : m->neurons[k];
    return n;
}

// Bytes of a step, K and V of dropped heads skipped: `once` for units that are read once, from the first mask.
static double counted(const mask *run, bool heads_once, bool neurons_once) {
    const double E = config.E, L = config.L, V = config.V, D = config.D;
    const double head = 4 * (4 * D * E + 3 * D), neuron = 4 * (2 * E + 1), token = 4 * 2 * D;
    double bytes = 4 * (V * E + N * 2 * E + 2 * E + L * (4 * E + 2 * E));
    for (int i = 0; i < N; i++) {
        if (i == 0 || !heads_once) bytes += head * total(&run[i], true);
        if (i == 0 || !neurons_once) bytes += neuron * total(&run[i], false);
        bytes += token * (PROMPT - i + STEPS) * total(&run[i], true);
    }
    return bytes;
}

// own: each sequence as if alone. union, auto: dropped units set to zero, under masks that are put together here.
static void batch_masks_act(void **state) {
    world *w = *state;
    for (int overlap = 0; overlap < 2; overlap++) {
        mask own[N], same[N], neurons[N], both[N];
        make_batch(own, overlap);
        unite(same, own, false, false), unite(neurons, own, false, true), unite(both, own, true, true);
        const struct {
            const char *what;
            batch_masks batch;
            unsigned flags;
            const mask *runs;
            bool heads_once;
        } cases[] = {{"own", BATCH_OWN, 0, same, false},
                     {"own, own lists", BATCH_OWN, RUN_OWN_LISTS, same, false},
                     {"union", BATCH_UNION, 0, both, true},
                     {"union, own lists", BATCH_UNION, RUN_OWN_LISTS, both, true},
                     // one list of own masks reads no weight twice, and less of K and V
                     {"auto", BATCH_AUTO, 0, neurons, false},
                     // of disjoint heads own lists read no weight twice; else they read three heads' a layer
                     {"auto, own lists", BATCH_AUTO, RUN_OWN_LISTS, overlap ? both : neurons, overlap}};
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            const bool repairs = k % 2 == 0;
            decode_options o = {.kv = repairs ? KV_REPAIR : KV_SKIP, .batch = cases[k].batch, .flags = cases[k].flags};
            decode_bytes bytes;
            float *got = run(w, &o, own, &bytes);
            o = (decode_options){.kv = repairs ? KV_COMPUTE : KV_SKIP, .flags = RUN_MASK_BY_ZERO};
            float *want = run_then(w, &o, own, cases[k].runs, NULL);
            assert_runs_agree(cases[k].what, got, want);
            free(want);
            o = (decode_options){.kv = repairs ? KV_REPAIR : KV_SKIP};
            want = run_then(w, &o, own, cases[k].runs, NULL);
            assert_same_bits(cases[k].what, got, want, (STEPS + 1) * N * (size_t)config.V * sizeof *got);
            free(got), free(want);
            const bool neurons_once = cases[k].batch != BATCH_OWN;
            if (cases[k].flags) {
                const double sum = counted(cases[k].runs, cases[k].heads_once, neurons_once);
                assert_true(bytes.weights + bytes.kv == sum);
            }
        }
        for (int i = 0; i < N; i++)
            mask_free(&own[i]), mask_free(&same[i]), mask_free(&neurons[i]), mask_free(&both[i]);
    }
}

// Heads of own lists give way to the union until the sequences are so long that K and V of its heads weigh more than
// the weights that own lists read again: 3 L heads of weights against L, 2 L and L tokens of K and V.
static void union_by_bytes(void **state) {
    world *w = *state;
    mask own[N], all;
    make_batch(own, true);
    mask_alloc(&all, &config);
    const mask *masks[N] = {&own[0], &own[1], &own[2]};
    const double head = 4 * (4 * config.D * config.E + 3 * config.D), token = 4 * 2 * config.D;
    const int even = (int)(head / token);  // tokens of three sequences, one more head each: 3 head = 3 token even
    for (int t = even - 1; t <= even + 1; t++) {
        const int tokens[N] = {t, t, t};
        batch_step s = {&w->o.m, masks, tokens, N, KV_SKIP, true};
        batch_union(&all, &s);
        assert_int_equal(batch_union_is_free(&s, &all, UNIT_HEADS), head >= token * t);
        assert_true(batch_union_is_free(&s, &all, UNIT_NEURONS));
        s.own_lists = false;
        assert_false(batch_union_is_free(&s, &all, UNIT_HEADS));
        masks[1] = masks[2] = &own[0];  // masks that are the same
        batch_union(&all, &s);
        assert_true(batch_union_is_free(&s, &all, UNIT_HEADS));
        masks[1] = &own[1], masks[2] = &own[2];
    }
    mask_free(&all);
    for (int i = 0; i < N; i++) mask_free(&own[i]);
}

// A sequence that ends takes its units out of the union; the last one runs its own.
static void union_shrinks(void **state) {
    world *w = *state;
    mask own[N];
    make_batch(own, true);
    decode *d = decode_new(&w->o.m, &(decode_options){.batch = BATCH_UNION}, N, PROMPT, PROMPT + STEPS);
    decode_seq s[N];
    for (int i = 0; i < N; i++) s[i] = (decode_seq){.prompt = w->tokens[i], .n = PROMPT, .mask = &own[i]};
    assert_int_equal(decode_prompt(d, s, N), 0);
    for (int n = N; n > 0; n--) {
        for (int i = 0; i < n; i++)
            for (int k = 0; k < config.L * config.F; k++) {
                uint8_t any = 0;
                for (int j = 0; j < n; j++) any |= own[j].neurons[k];
                assert_int_equal(decode_mask(d, i)->neurons[k], any);
            }
        assert_int_equal(decode_step(d, (const int32_t[]){1, 2, 3}), 0);
        decode_drop(d, n - 1);
    }
    decode_free(d);
    for (int i = 0; i < N; i++) mask_free(&own[i]);
}

static void refusals(void **state) {
    world *w = *state;
    assert_null(decode_new(&w->o.m, &(decode_options){0}, 1, 8, 41));
    assert_non_null(strstr(err_get(), "40 positions"));
    const predictor_info about = untrained(PREDICTOR_DEJAVU);
    predictor *p = predictor_new(&about, 7);
    decode_options o = {.predictor = p,
                        .rule = {.scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1},
                        .refresh = 4};
    assert_null(decode_new(&w->o.m, &o, 1, 8, 20));
    assert_non_null(strstr(err_get(), "--refresh 4"));
    o.refresh = 1, o.rule.scope = SCOPE_LOCAL, o.batch = BATCH_UNION;
    assert_null(decode_new(&w->o.m, &o, 2, 8, 20));
    assert_non_null(strstr(err_get(), "--batch-masks union: with --refresh 1"));
    o.refresh = 4, o.rule.scope = SCOPE_GLOBAL;
    o.rule.dense_layers = 0;
    assert_null(decode_new(&w->o.m, &o, 1, 8, 20));
    assert_non_null(strstr(err_get(), "--dense-layers 1"));
    predictor_close(p);
}

static int open_world(void **state) {
    *state = make_world();
    return 0;
}
static int close_world(void **state) {
    random_opt_free(&((world *)*state)->o);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fixed_masks),       cmocka_unit_test(predicted_masks),
                                       cmocka_unit_test(bytes_are_counted), cmocka_unit_test(batch_masks_act),
                                       cmocka_unit_test(union_by_bytes),    cmocka_unit_test(union_shrinks),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, open_world, close_world) != 0;
}
