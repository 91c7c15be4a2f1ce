// test_cuda_decode - decoding on a GPU (CUDA on the CPU, tests/cuda): steps that are recorded once and replayed have
// the bits of steps that are launched operation by operation, and the numbers of the CPU, for tokens, positions, masks
// and refreshes that the recording has never seen, on one GPU and on several, with activations of 16 bit too; greedy
// decoding keeps tokens and positions on the device; every family, and how much a token launches.
#include "opt_fixture.h"
#include "decode.h"
#include "orders.h"
#include "predictor_about.h"
#include "shim.h"

static const model_config config = {.L = 2,
                                    .H = 3,
                                    .D = 8,
                                    .E = 24,
                                    .F = 40,
                                    .P = 24,
                                    .V = 40,
                                    .positions = 24,
                                    .pre_ln = true,
                                    .final_ln = true,
                                    .bias = true};
enum { N = 3, PROMPT = 7, STEPS = 7, CPU = 0, LAUNCHED, RECORDED, SIDES };

static const ops *gpu;
static ops launched;  // the GPU's table, without record
static ops counted;   // the GPU's, which counts the bytes that go up and come down
static size_t up, down;
static void count_put(void *device, const void *host, size_t bytes) { up += bytes, gpu->put(device, host, bytes); }
static void count_get(void *host, const void *device, size_t bytes) { down += bytes, gpu->get(host, device, bytes); }
static const void *count_fetch(struct fetch *f, const void *device, size_t bytes) {
    down += bytes;
    return gpu->fetch(f, device, bytes);
}
static int launches, chain;  // of the last replay; chain only where it is wanted, -1
static void count_launches(const struct recording *r) {
    launches = gpu->launches(r);
    if (chain) chain = gpu->chain(r);
    gpu->replay(r);
}
static random_opt on_cpu;
static model subject[SIDES];
static int each = 1;  // cases of a test are taken in steps of so many
static int32_t tokens[N][PROMPT + STEPS];

static int open_world(void **state) {
    (void)state;
    launched = *gpu;
    launched.record = NULL;
    counted = *gpu;
    counted.put = count_put;
    counted.get = count_get;
    counted.fetch = count_fetch;
    counted.replay = count_launches;
    const ops *table[SIDES] = {ops_cpu(), &launched, &counted};
    random_opt_make(&on_cpu, &config, 3);
    for (int k = 0; k < SIDES; k++) {
        if (model_from_tensors_on(&subject[k], &config, on_cpu.t, on_cpu.n, table[k]) != 0) fail_msg("%s", err_get());
        model_sparse_prepare(&subject[k]);
    }
    rng r = rng_make(4);
    for (int i = 0; i < N; i++)
        for (int t = 0; t < PROMPT + STEPS; t++) tokens[i][t] = (int32_t)rng_below(&r, (uint64_t)config.V);
    return 0;
}

static int close_world(void **state) {
    (void)state;
    for (int k = 0; k < SIDES; k++) model_free(&subject[k]);
    random_opt_free(&on_cpu);
    return 0;
}

static void make_masks(mask *m, int n, uint64_t seed) {
    rng r = rng_make(seed);
    for (int i = 0; i < n; i++) {
        mask_alloc(&m[i], &config);
        for (int k = 0; k < config.L * (config.H + config.F); k++) m[i].heads[k] = rng_below(&r, 2) != 0;
        m[i].heads[0] = 1;
    }
}

// ---------------------------------------------------------------- decoders
// Masks of sequence i: none, or mask[of[i]] from the beginning; mask[later[i]] from the fifth step on.
typedef struct {
    const char *what;
    decode_options o;
    int n;
    int of[N], later[N];  // -1: none
    int replayed;         // of two times STEPS steps
} decoding;

// Logits [2, 1 + STEPS, n, V] of two prompts in turn, of different lengths, and of the tokens after them.
static float *decode_all(const model *m, const decoding *c, const mask *masks, int *replayed) {
    const size_t V = (size_t)config.V;
    float *out = xcalloc(2 * (STEPS + 1) * (size_t)c->n * V, sizeof *out), *to = out;
    decode *d = decode_new(m, &c->o, c->n, PROMPT, PROMPT + STEPS);
    if (!d) fail_msg("%s", err_get());
    for (int again = 0; again < 2; again++) {
        decode_seq s[N];
        int length[N];
        for (int i = 0; i < c->n; i++) {
            length[i] = PROMPT - i - 2 * again;
            s[i] = (decode_seq){
                .prompt = tokens[(i + again) % N], .n = length[i], .mask = c->of[i] < 0 ? NULL : &masks[c->of[i]]};
        }
        assert_int_equal(decode_prompt(d, s, c->n), 0);
        for (int step = 0;; step++) {
            int32_t next[N];
            for (int i = 0; i < c->n; i++, to += V) {
                memcpy(to, decode_logits(d, i), V * sizeof *to);
                if (step == 4 && c->later[i] != c->of[i])
                    decode_set_mask(d, i, c->later[i] < 0 ? NULL : &masks[c->later[i]]);
            }
            if (step == STEPS) break;
            for (int i = 0; i < c->n; i++) next[i] = tokens[(i + again) % N][length[i] + step];
            assert_int_equal(decode_step(d, next), 0);
        }
    }
    *replayed = decode_replayed(d);
    decode_free(d);
    return out;
}

// Under fixed masks, or with predicts those of a predictor.
static void check_decoding(const decoding *c, const mask *masks, const predictor_info *predicts) {
    const int rows = 2 * (STEPS + 1) * c->n, V = config.V;
    float *logits[SIDES];
    int replayed[SIDES];
    for (int k = 0; k < SIDES; k++) {
        decoding one = *c;
        if (predicts) one.o.predictor = predictor_new(predicts, 7);  // each device has its own
        logits[k] = decode_all(&subject[k], &one, masks, &replayed[k]);
        predictor_close(one.o.predictor);
    }
    assert_same_bits(c->what, logits[RECORDED], logits[LAUNCHED], (size_t)(rows * V) * sizeof(float));
    for (int k = 0; k < rows; k++) {
        double want[40];
        for (int v = 0; v < V; v++) want[v] = (double)logits[CPU][k * V + v];
        assert_agree(c->what, logits[RECORDED] + k * V, want, (size_t)V, 1e-5);
    }
    if (replayed[CPU] || replayed[LAUNCHED] || replayed[RECORDED] != (gpu->record ? c->replayed : 0))
        fail_msg("%s: %d steps are replayed, want %d", c->what, replayed[RECORDED], gpu->record ? c->replayed : 0);
    for (int k = 0; k < SIDES; k++) free(logits[k]);
}

// The first step of a kind is launched, all that follow are replayed, after the second prompt too; of a step whose
// masks are new, the lists are made first.
static void fixed_masks(void **state) {
    (void)state;
    mask masks[4];
    make_masks(masks, 4, 5);
    memset(masks[3].neurons, 0, (size_t)(config.L * config.F));  // nothing lives
    static const decoding cases[] = {
        {"dense", {0}, N, {-1, -1, -1}, {-1, -1, -1}, 2 * STEPS - 1},
        {"one sequence", {0}, 1, {0}, {0}, 2 * STEPS - 1},
        {"one mask for all", {0}, N, {1, 1, 1}, {1, 1, 1}, 2 * STEPS - 1},
        {"a mask each", {0}, N, {0, 1, 2}, {0, 1, 2}, 2 * STEPS - 1},
        {"a list each", {.flags = RUN_OWN_LISTS}, N, {0, 1, 2}, {0, 1, 2}, 2 * STEPS - 1},
        {"a list each, then one for all", {.flags = RUN_OWN_LISTS}, N, {0, 1, 2}, {1, 1, 1}, 2 * STEPS - 4},
        {"the union of the masks", {.batch = BATCH_UNION}, N, {0, 1, 2}, {0, 1, 2}, 2 * STEPS - 1},
        {"some dense", {0}, N, {0, -1, 2}, {0, -1, 2}, 2 * STEPS - 1},
        {"masks change", {0}, N, {0, 1, 2}, {2, 1, 3}, 2 * STEPS - 4},  // the change, the change back
        {"a mask for all that changes", {0}, N, {1, 1, 1}, {3, 3, 3}, 2 * STEPS - 4},
        {"one mask, then one each", {0}, N, {1, 1, 1}, {0, 1, 2}, 2 * STEPS - 4},  // recorded again, of other lists
        {"masks, then none", {0}, N, {0, 1, 2}, {-1, -1, -1}, 2 * STEPS - 4},
        {"repaired K and V", {.kv = KV_REPAIR}, N, {0, 1, 2}, {2, 1, 0}, 2 * STEPS - 4},
        {"skipped K and V", {.kv = KV_SKIP}, N, {0, 1, 2}, {0, 1, 2}, 2 * STEPS - 1},
        // of heads that come back K and V are missing, which takes the host
        {"skipped K and V, then missed", {.kv = KV_SKIP}, 1, {0}, {1}, 6},
        {"dropped units are zeros", {.flags = RUN_MASK_BY_ZERO}, N, {0, 1, 2}, {0, 1, 2}, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k += (size_t)each) check_decoding(&cases[k], masks, NULL);
    for (int i = 0; i < 4; i++) mask_free(&masks[i]);
}

// Steps that make masks are recorded apart from those between them, because their masks stay on the device; where heads
// lack K and V they are launched. Nets of each layer see the stream as earlier choices have left it.
static void predicted_masks(void **state) {
    (void)state;
    enum { S = STEPS };
    static const struct {
        predictor_design design;
        mask_scope scope;
        int refresh, n, replayed;
        kv_policy kv;
        unsigned flags;
    } cases[] = {{PREDICTOR_SHADOW, SCOPE_GLOBAL, 0, N, 2 * S - 2, KV_COMPUTE, 0},
                 {PREDICTOR_SHADOW, SCOPE_GLOBAL, 1, N, 2 * S - 1, KV_COMPUTE, 0},
                 {PREDICTOR_DEJAVU, SCOPE_LOCAL, 1, N, 2 * S - 1, KV_COMPUTE, RUN_OWN_LISTS},
                 {PREDICTOR_DEJAVU, SCOPE_LOCAL, 2, 1, 2 * S - 3, KV_COMPUTE, 0},
                 {PREDICTOR_SHADOW, SCOPE_LOCAL, 2, N, 2 * S - 3, KV_COMPUTE, 0},
                 {PREDICTOR_SHADOW, SCOPE_GLOBAL, 2, N, S - 1, KV_REPAIR, 0},
                 {PREDICTOR_SHADOW, SCOPE_HYBRID, 4, N, 2 * (S - 1) - 2, KV_COMPUTE, RUN_OWN_LISTS},
                 {PREDICTOR_SHADOW, SCOPE_GLOBAL, 4, 1, 2 * (S - 1) - 2, KV_REPAIR, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k += (size_t)each) {
        char what[100];
        const bool layers = cases[k].design == PREDICTOR_DEJAVU;
        const predictor_info about = describe(&config, cases[k].design, 0, layers ? STATE_RESIDUAL : STATE_HEAD_OUTPUT,
                                              STATE_HEAD_OUTPUT, MODE_SOUND);
        snprintf(what, sizeof what, "design %d, refresh %d, %d sequences, K and V %s, flags %u", cases[k].design,
                 cases[k].refresh, cases[k].n, kv_policy_names[cases[k].kv], cases[k].flags);
        const decoding c = {
            what,
            {.rule = {.scope = cases[k].scope, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = !layers},
             .refresh = cases[k].refresh,
             .kv = cases[k].kv,
             .flags = cases[k].flags},
            cases[k].n,
            {-1, -1, -1},
            {-1, -1, -1},
            cases[k].replayed};
        check_decoding(&c, NULL, &about);
    }
}

// Nets that look a layer ahead, their choices and the lists are done beside the layers: a step has as many launches
// that wait for one another as one under a fixed mask. The others are, for each kind of unit, the list of the first
// layer, and for each layer after it the state's normalisation, two products, the choice and the list.
static void nets_look_ahead_beside_the_layers(void **state) {
    (void)state;
    enum { LAYERS = 4, EACH_NET = 5 };
    model_config deep = config;
    deep.L = LAYERS;
    random_opt made;
    model shallow[SIDES];
    mask fixed;
    random_opt_make(&made, &deep, 5);
    memcpy(shallow, subject, sizeof subject);
    for (int k = 0; k < SIDES; k++) {
        const ops *o = shallow[k].o;
        if (model_from_tensors_on(&subject[k], &deep, made.t, made.n, o) != 0) fail_msg("%s", err_get());
        model_sparse_prepare(&subject[k]);
    }
    mask_alloc(&fixed, &deep);
    for (int k = 0; k < LAYERS * (deep.H + deep.F); k++) fixed.heads[k] = k % 2 == 0;
    const predictor_info ahead = describe(&deep, PREDICTOR_DEJAVU, 1, STATE_RESIDUAL, STATE_RESIDUAL, MODE_SOUND);
    const mask_rule half = {.scope = SCOPE_LOCAL, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1};
    const decoding c[] = {{"a fixed mask", {.kv = KV_COMPUTE}, 1, {0}, {0}, 2 * STEPS - 1},
                          {"look-ahead", {.rule = half, .refresh = 1, .kv = KV_COMPUTE}, 1, {-1}, {-1}, 2 * STEPS - 1},
                          {"look-ahead, a batch",
                           {.rule = half, .refresh = 1, .kv = KV_COMPUTE},
                           N,
                           {-1, -1, -1},
                           {-1, -1, -1},
                           2 * STEPS - 1}};
    int launched_before = 0, chain_before = 0;
    for (int k = 0; k < 3; k++) {
        chain = k < 2 ? -1 : 0;
        check_decoding(&c[k], &fixed, k ? &ahead : NULL);
        if (k == 1 && gpu->record && gpu->parts == 1) {
            assert_int_equal(chain, chain_before);
            assert_int_equal(launches - launched_before, UNIT_KINDS * (1 + (LAYERS - 1) * EACH_NET));
        }
        launched_before = launches, chain_before = chain;
    }
    chain = 0;
    mask_free(&fixed);
    for (int k = 0; k < SIDES; k++) model_free(&subject[k]);
    memcpy(subject, shallow, sizeof subject);
    random_opt_free(&made);
}

// What a step leaves in the cache: the published decoder kept its place in the ring on the host, where the recording
// froze it, and every replay wrote the same rows (METHOD 10.4).
static void every_token_has_its_row(void **state) {
    (void)state;
    const size_t E = (size_t)config.E, floats = (size_t)config.L * (PROMPT + STEPS) * E;
    float *rows[2] = {xmalloc(floats * sizeof(float)), xmalloc(floats * sizeof(float))}, logits[40], whole[40];
    const model *m = &subject[RECORDED];
    model_run *step = model_run_new(m, 1, 1, RUN_FORWARD), *all = model_run_new(m, PROMPT + STEPS, 1, RUN_FORWARD);
    kv_cache *c[2] = {kv_cache_new(m, PROMPT + STEPS), kv_cache_new(m, PROMPT + STEPS)};
    for (int t = 0; t < PROMPT + STEPS; t++)
        model_step(
            step,
            &(model_seq){.tokens = &tokens[0][t], .n = 1, .prefix = c[0], .append = c[0], .last_target = SEQ_NO_TARGET},
            1, &(int32_t){0}, false);
    model_step_logits(step, logits);
    model_forward(all,
                  &(model_seq){.tokens = tokens[0],
                               .n = PROMPT + STEPS,
                               .append = c[1],
                               .targets_from = PROMPT + STEPS - 1,
                               .last_target = SEQ_NO_TARGET},
                  1);
    model_logits(all, 0, whole);
    assert_int_equal(model_replayed(step), gpu->record ? PROMPT + STEPS - 1 : 0);
    assert_int_equal(c[0]->n, PROMPT + STEPS);
    for (int values = 0; values < 2; values++) {
        for (int k = 0; k < 2; k++) gpu->get(rows[k], (values ? c[k]->v : c[k]->k)[0], floats * sizeof(float));
        for (size_t i = 0; i < floats; i += E) {
            double want[24];
            for (size_t e = 0; e < E; e++) want[e] = (double)rows[1][i + e];
            assert_agree(values ? "row of V" : "row of K", rows[0] + i, want, E, 1e-5);
        }
    }
    double want[40];
    for (int v = 0; v < config.V; v++) want[v] = (double)whole[v];
    assert_agree("logits of the last token", logits, want, 40, 1e-5);
    model_run_free(step), model_run_free(all);
    for (int k = 0; k < 2; k++) kv_cache_free(c[k]), free(rows[k]);
}

// As long as a mask's epoch is the same nobody looks at the mask; with another one, or none, what it holds counts.
static void masks_are_looked_at_once_an_epoch(void **state) {
    (void)state;
    static const struct {
        uint64_t epoch;
        int holds, acts;  // which of two masks it holds by now, and which one acts
    } steps[] = {{1, 0, 0}, {1, 0, 0}, {1, 1, 0}, {2, 1, 1}, {2, 0, 1}, {0, 0, 0}, {0, 1, 1}, {3, 1, 1}, {3, 0, 1}};
    enum { COUNT = sizeof steps / sizeof *steps };
    const size_t units = (size_t)(config.L * (config.H + config.F));
    const model *m = &subject[RECORDED];
    mask both[2], now;
    make_masks(both, 2, 6);
    mask_alloc(&now, &config);
    model_run *r[2] = {model_run_new(m, 1, 1, RUN_FORWARD), model_run_new(m, 1, 1, RUN_FORWARD)};
    kv_cache *c[2] = {kv_cache_new(m, COUNT), kv_cache_new(m, COUNT)};
    for (int t = 0; t < COUNT; t++) {
        float logits[2][40];
        memcpy(now.heads, both[steps[t].holds].heads, units);
        for (int k = 0; k < 2; k++) {
            model_step(r[k],
                       &(model_seq){.tokens = &tokens[0][t],
                                    .n = 1,
                                    .prefix = c[k],
                                    .append = c[k],
                                    .mask = k ? &both[steps[t].acts] : &now,
                                    .mask_epoch = k ? 0 : steps[t].epoch,
                                    .last_target = SEQ_NO_TARGET},
                       1, &(int32_t){0}, false);
            model_step_logits(r[k], logits[k]);
        }
        char what[40];
        snprintf(what, sizeof what, "step %d, epoch %d", t, (int)steps[t].epoch);
        assert_same_bits(what, logits[0], logits[1], (size_t)config.V * sizeof(float));
    }
    for (int k = 0; k < 2; k++) model_run_free(r[k]), kv_cache_free(c[k]), mask_free(&both[k]);
    mask_free(&now);
}

// With activations of 16 bit, whose scales the device chooses: replayed steps have the bits of launched ones, which are
// near those of fp32 and not equal.
static void rounded_activations(void **state) {
    (void)state;
    static const decoding cases[] = {
        {"dense, rounded", {0}, N, {-1, -1, -1}, {-1, -1, -1}, 2 * STEPS - 1},
        {"masks that change, rounded", {.kv = KV_REPAIR}, N, {0, -1, 2}, {2, -1, 0}, 2 * STEPS - 4}};
    mask masks[N];
    make_masks(masks, N, 5);
    for (int type = DT_F16; type <= DT_BF16; type += each) {
        ops table[] = {launched, counted};
        model m[2];
        for (int k = 0; k < 2; k++) {
            table[k].activations = (dtype)type;
            if (model_from_tensors_on(&m[k], &config, on_cpu.t, on_cpu.n, &table[k]) != 0) fail_msg("%s", err_get());
            model_sparse_prepare(&m[k]);
        }
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c += (size_t)each) {
            const int rows = 2 * (STEPS + 1) * cases[c].n, V = config.V;
            int replayed[3];
            float *logits[] = {decode_all(&m[0], &cases[c], masks, &replayed[0]),
                               decode_all(&m[1], &cases[c], masks, &replayed[1]),
                               decode_all(&subject[LAUNCHED], &cases[c], masks, &replayed[2])};
            const size_t bytes = (size_t)(rows * V) * sizeof **logits;
            assert_same_bits(cases[c].what, logits[1], logits[0], bytes);
            assert_int_equal(replayed[1], gpu->record ? cases[c].replayed : 0);
            for (int k = 0; k < rows; k++) {
                double want[40];
                for (int v = 0; v < V; v++) want[v] = (double)logits[2][k * V + v];
                assert_agree(cases[c].what, logits[1] + k * V, want, (size_t)V, 0.05);
            }
            assert_true(memcmp(logits[1], logits[2], bytes) != 0);
            for (int k = 0; k < 3; k++) free(logits[k]);
        }
        for (int k = 0; k < 2; k++) model_free(&m[k]);
    }
    for (int i = 0; i < N; i++) mask_free(&masks[i]);
}

// Greedy decoding: the tokens of full passes on the CPU; a replayed step uploads nothing, and only its tokens come
// down. The caller's own tokens now and then, and another prompt, are what those are. The same where steps begin before
// the tokens of those before have come down (ahead).
static void greedy(void **state) {
    (void)state;
    mask masks[N];
    make_masks(masks, N, 5);
    const model *m = &subject[CPU];
    model_run *whole = model_run_new(m, PROMPT + STEPS, 1, RUN_FORWARD);
    float logits[40];
    for (int side = each == 1 ? CPU : RECORDED; side < SIDES; side++)
        for (int n = each == 1 ? 1 : N; n <= N; n += N - 1) {
            decode *d = decode_new(&subject[side], &(decode_options){0}, n, PROMPT, PROMPT + STEPS);
            if (!d) fail_msg("%s", err_get());
            for (int again = 0; again < 4; again++) {
                const bool ahead = again > 1;
                int32_t text[N][PROMPT + STEPS];
                decode_seq s[N];
                int length[N];
                for (int i = 0; i < n; i++) {
                    length[i] = PROMPT - i - again % 2;
                    memcpy(text[i], tokens[(i + again) % N], sizeof text[i]);
                    s[i] = (decode_seq){.prompt = text[i], .n = length[i], .mask = i == 2 ? NULL : &masks[i]};
                }
                assert_int_equal(decode_prompt(d, s, n), 0);
                for (int step = 0; step < STEPS; step++) {
                    int32_t next[N];
                    for (int i = 0; i < n; i++) {
                        model_forward(whole,
                                      &(model_seq){.tokens = text[i],
                                                   .n = length[i] + step,
                                                   .mask = s[i].mask,
                                                   .targets_from = length[i] + step - 1,
                                                   .last_target = SEQ_NO_TARGET},
                                      1);
                        model_logits(whole, 0, logits);
                        int32_t best = 0;
                        for (int v = 1; v < config.V; v++)
                            if (logits[v] > logits[best]) best = v;
                        if (decode_likeliest(d, i) != best)
                            fail_msg("%s: step %d, sequence %d of %d: token %d, want %d", subject[side].o->device, step,
                                     i, n, decode_likeliest(d, i), best);
                        next[i] = text[i][length[i] + step] = step == 3 ? (best + 1) % config.V : best;
                    }
                    const int replayed = decode_replayed(d);
                    up = down = 0;
                    assert_int_equal((ahead ? decode_step_ahead : decode_step)(d, next), 0);
                    const bool room = length[0] + step + 1 < PROMPT + STEPS, replays = decode_replayed(d) > replayed;
                    if (decode_begun(d) != (ahead && room && replays))
                        fail_msg("step %d: the next has %sbegun", step, decode_begun(d) ? "" : "not ");
                    // tokens, and positions to every part
                    const size_t own = step == 0 || step == 3 ? (size_t)n * (size_t)(1 + gpu->parts) * sizeof *next : 0;
                    if (replays && (up != own || down != (size_t)n * sizeof *next))
                        fail_msg("step %d of %d sequences: %zu bytes go up, want %zu, %zu come down", step, n, up, own,
                                 down);
                }
                if (side == RECORDED && gpu->record) assert_int_equal(decode_replayed(d), (STEPS - 1) + again * STEPS);
            }
            decode_free(d);
        }
    model_run_free(whole);
    for (int i = 0; i < N; i++) mask_free(&masks[i]);
}

// Logits of steps that were not those that had begun: after another mask, without a sequence, and after a prompt that
// is as long as the text before and is followed by the token that was to follow that.
enum { DISTURBED = 3 };
static void disturbed(const model *m, const mask *masks, float *to) {
    const size_t V = (size_t)config.V;
    decode *d = decode_new(m, &(decode_options){0}, 2, PROMPT, PROMPT + STEPS);
    decode_seq s[] = {{.prompt = tokens[0], .n = 4, .mask = &masks[0]}, {.prompt = tokens[1], .n = 3}};
    if (!d) fail_msg("%s", err_get());
    for (int how = 0; how < DISTURBED; how++, to += V) {
        int32_t next[2] = {1, 2};
        s[0].n = 4;
        assert_int_equal(decode_prompt(d, s, 2), 0);
        for (int step = 0; step < 3; step++) {
            assert_int_equal(decode_step_ahead(d, next), 0);
            for (int i = 0; i < 2; i++) next[i] = decode_likeliest(d, i);
        }
        assert_true(decode_begun(d) == (m->o->record != NULL));
        if (how == 0) decode_set_mask(d, 0, &masks[1]);
        if (how == 1) decode_drop(d, 1);
        if (how == 2) {
            decode_seq other[] = {{.prompt = tokens[2], .n = 7, .mask = &masks[0]}, {.prompt = tokens[0], .n = 6}};
            assert_int_equal(decode_prompt(d, other, 2), 0);
        }
        assert_int_equal(decode_step(d, next), 0);
        memcpy(to, decode_logits(d, 0), V * sizeof *to);
    }
    decode_free(d);
}

static void begun_steps_serve_their_own_text(void **state) {
    (void)state;
    mask masks[2];
    float logits[2][DISTURBED * 40];
    make_masks(masks, 2, 8);
    for (int k = 0; k < 2; k++) disturbed(&subject[k ? RECORDED : LAUNCHED], masks, logits[k]);
    assert_same_bits("steps after others had begun", logits[1], logits[0], sizeof logits[0]);
    for (int k = 0; k < 2; k++) mask_free(&masks[k]);
}

// ---------------------------------------------------------------- long prompts under masks
// Prompts of many tokens, whose products gather the live rows of the weights: the CPU's logits, and of each sequence
// the bits that it has alone, whatever masks the others have, and whether their prompts are short.
static void long_prompts(void **state) {
    (void)state;
    enum { LONG = 23 };
    static const int length[N] = {LONG, 19, 5}, masks_of[][N] = {{0, 0, 0}, {0, 1, 2}, {1, -1, 1}, {3, 2, -1}};
    const size_t V = (size_t)config.V;
    mask masks[4];
    int32_t text[N][LONG];
    rng r = rng_make(9);
    make_masks(masks, 4, 12);
    memset(masks[3].neurons, 0, (size_t)(config.L * config.F));
    for (int i = 0; i < N; i++) random_tokens(text[i], LONG, config.V, &r);
    decode *all[2], *alone = decode_new(&subject[RECORDED], &(decode_options){0}, 1, LONG, LONG);
    for (int k = 0; k < 2; k++) all[k] = decode_new(&subject[k ? RECORDED : CPU], &(decode_options){0}, N, LONG, LONG);
    for (size_t how = 0; how < sizeof masks_of / sizeof *masks_of; how++) {
        decode_seq s[N];
        for (int i = 0; i < N; i++) {
            const mask *m = masks_of[how][i] < 0 ? NULL : &masks[masks_of[how][i]];
            s[i] = (decode_seq){.prompt = text[i], .n = length[i], .mask = m};
        }
        for (int k = 0; k < 2; k++) assert_int_equal(decode_prompt(all[k], s, N), 0);
        for (int i = 0; i < N; i++) {
            double want[40];
            for (size_t v = 0; v < V; v++) want[v] = (double)decode_logits(all[0], i)[v];
            assert_agree("a long prompt", decode_logits(all[1], i), want, V, 1e-5);
            assert_int_equal(decode_prompt(alone, &s[i], 1), 0);
            assert_same_bits("a long prompt alone", decode_logits(all[1], i), decode_logits(alone, 0),
                             V * sizeof(float));
        }
    }
    for (int k = 0; k < 2; k++) decode_free(all[k]);
    decode_free(alone);
    for (int i = 0; i < 4; i++) mask_free(&masks[i]);
}

// ---------------------------------------------------------------- families
// Every kind of layer, dense and with half of its units: the CPU's logits, and what a replay launches. A layer of one
// token is the norm with q, k and v; attention; its output; the norm with the FFN's first matrices; its last. About the
// layers are tokens, positions or a last norm, the head, the likeliest token, and projections. Of widths that
// are no multiple of 4 norms are launches of their own.
enum { FAMILY_STEPS = 5 };
static const struct {
    const char *name;
    int layer, about;  // launches of a layer, and about them
} families[] = {{"opt/pre", 5, 5},      {"opt/post", 9, 6},      {"llama/llama", 5, 4},     {"llama/biased", 5, 4},
                {"llama/qwen3", 13, 4}, {"gelu/parallel", 6, 4}, {"gelu/sequential", 5, 4}, {"gelu/galactica", 5, 5}};

static float *family_logits(const model *m, const mask *k, int n) {
    const size_t V = (size_t)m->c.V;
    float *out = xmalloc(FAMILY_STEPS * (size_t)n * V * sizeof *out);
    model_run *r = model_run_new(m, N, N, RUN_FORWARD);
    kv_cache *c[N];
    for (int i = 0; i < n; i++) c[i] = kv_cache_new(m, FAMILY_STEPS);
    for (int t = 0; t < FAMILY_STEPS; t++) {
        model_seq s[N];
        int32_t top[N];
        for (int i = 0; i < n; i++)
            s[i] = (model_seq){.tokens = &tokens[i][t],
                               .n = 1,
                               .prefix = c[i],
                               .append = c[i],
                               .mask = k,
                               .last_target = SEQ_NO_TARGET};
        model_step(r, s, n, top, false);
        model_step_logits(r, out + (size_t)(t * n) * V);
    }
    for (int i = 0; i < n; i++) kv_cache_free(c[i]);
    model_run_free(r);
    return out;
}

static void every_family(void **state) {
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f += (size_t)each) {
        model m[2];
        mask k;
        char path[80];
        snprintf(path, sizeof path, "tests/golden/%s", families[f].name);
        if (model_load(&m[0], path) != 0 || model_load_on(&m[1], path, &counted) != 0) fail_msg("%s", err_get());
        mask_alloc(&k, &m[0].c);
        rng r = rng_make(f);
        for (int i = 0; i < m[0].c.L * (m[0].c.H + m[0].c.F); i++) k.heads[i] = rng_below(&r, 2) != 0;
        for (int side = 0; side < 2; side++) model_sparse_prepare(&m[side]);
        for (int how = 0; how < 4; how++) {
            const mask *live = how % 2 ? &k : NULL;
            const int n = how < 2 ? 1 : N, V = m[0].c.V;
            float *want = family_logits(&m[0], live, n), *got = family_logits(&m[1], live, n);
            char what[100];
            snprintf(what, sizeof what, "%s, %s, %d sequences", families[f].name, live ? "live units" : "dense", n);
            for (int i = 0; i < FAMILY_STEPS * n; i++) {
                double w[600];
                for (int v = 0; v < V; v++) w[v] = (double)want[i * V + v];
                assert_agree(what, got + i * V, w, (size_t)V, 2e-5);
            }
            const int expected = families[f].layer * m[1].c.L + families[f].about;
            if (n == 1 && gpu->record && launches != expected)
                fail_msg("%s: %d launches, want %d", what, launches, expected);
            free(want), free(got);
        }
        mask_free(&k);
        model_free(&m[0]), model_free(&m[1]);
    }
}

// The cases all once; some with device memory that the host cannot touch, in other orders of threads and streams,
// without recordings, on several devices.
int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    gpu = shim_open_as(getenv("DEVICE") ? getenv("DEVICE") : "cuda");
    if (!gpu) return 77;
    const bool off = getenv("KIT_GRAPH") || getenv("KIT_SYNC") || getenv("CU_FAKE_PEERS"), first = !getenv("EACH");
    if (off != !gpu->record) {
        printf("FAIL: steps are %srecorded on %s\n", gpu->record ? "" : "not ", gpu->device);
        return 1;
    }
    const bool stand_in = strstr(gpu->about, "stand-in") != NULL;
    each = stand_in ? 5 : 1;
    if (getenv("EACH")) each = atoi(getenv("EACH"));
    const struct CMUnitTest tests[] = {cmocka_unit_test(greedy),
                                       cmocka_unit_test(begun_steps_serve_their_own_text),
                                       cmocka_unit_test(rounded_activations),
                                       cmocka_unit_test(fixed_masks),
                                       cmocka_unit_test(predicted_masks),
                                       cmocka_unit_test(nets_look_ahead_beside_the_layers),
                                       cmocka_unit_test(long_prompts)};
    const struct CMUnitTest of_one_part[] = {cmocka_unit_test(every_token_has_its_row), cmocka_unit_test(every_family),
                                             cmocka_unit_test(masks_are_looked_at_once_an_epoch)};
    int bad = cmocka_run_group_tests(tests, open_world, close_world) != 0;
    if (gpu->parts == 1) bad |= cmocka_run_group_tests(of_one_part, open_world, close_world) != 0;
    if (!first || !stand_in) return bad;
    static const char *const settings[] = {"EACH=1",
                                           "EACH=7 CUH_ORDER=rev CU_FAKE_STREAMS=eager",
                                           "EACH=7 CUH_ORDER=1 CU_FAKE_STREAMS=2",
                                           "EACH=7 CUH_ORDER=20261 CU_FAKE_STREAMS=7",
                                           "EACH=14 KIT_GRAPH=0",
                                           "EACH=14 KIT_SYNC=1",
                                           "EACH=5 DEVICE=cuda:0,1 CU_FAKE_DEVICES=2",
                                           "EACH=7 DEVICE=cuda:1,0 CU_FAKE_DEVICES=2 CU_FAKE_STREAMS=3",
                                           "EACH=14 DEVICE=cuda:0,1 CU_FAKE_DEVICES=2 CU_FAKE_PEERS=0"};
    setenv("OMP_NUM_THREADS", "1", 1);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) bad |= again(argv[0], "*", settings[i]);
    return bad;
}
