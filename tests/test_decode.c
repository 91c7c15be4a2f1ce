// test_decode - prompts and tokens after them: against full passes by zeroing, with masks that a predictor makes again,
// and the count of bytes. A step without repair does not wake OpenMP's threads.
#include "opt_fixture.h"
#include "decode.h"
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
    predictor_info p = {.design = design,
                        .per_layer = design != PREDICTOR_SHADOW,
                        .lag = design == PREDICTOR_SHADOW ? 0 : 1,
                        .has = {true, true},
                        .L = config.L,
                        .H = config.H,
                        .E = config.E,
                        .F = config.F,
                        .hidden = {16, 16},
                        .criterion = "random"};
    p.state[0] = p.state[1] = design == PREDICTOR_SHADOW ? STATE_HEAD_OUTPUT : STATE_RESIDUAL;
    return p;
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

// All logits [step, sequence, V] of a run; prompts of different lengths.
static float *run(world *w, const decode_options *o, const mask *masks, decode_bytes *bytes) {
    const size_t V = (size_t)config.V;
    float *out = xcalloc((STEPS + 1) * N * V, sizeof *out);
    decode *d = decode_new(&w->o.m, o, N, PROMPT, PROMPT + STEPS);
    if (!d) fail_msg("%s", err_get());
    for (int again = 0; again < 2; again++) {  // a second run of the same decoder begins again
        decode_seq s[N];
        for (int i = 0; i < N; i++)
            s[i] = (decode_seq){.prompt = w->tokens[i], .n = PROMPT - i, .mask = masks ? &masks[i] : NULL};
        assert_int_equal(decode_prompt(d, s, N), 0);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(fixed_masks), cmocka_unit_test(predicted_masks),
                                       cmocka_unit_test(bytes_are_counted), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, open_world, close_world) != 0;
}
