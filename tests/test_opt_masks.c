// test_opt_masks - passes under masks of heads and neurons: against float64 PyTorch (tests/golden), whole
// and after a cache; a mask of ones changes nothing; a masked unit is a removed one.
#include "opt_fixture.h"

enum { MAX_SEQS = 32 };

// ---------------------------------------------------------------- masks
static void masks_agree(void **state) {
    golden *g = *state;
    const size_t L = (size_t)g->m.c.L, H = (size_t)g->m.c.H, F = (size_t)g->m.c.F, V = (size_t)g->m.c.V,
                 N = (size_t)g->N;
    size_t n_heads;
    int32_t *heads = golden_ints(g, "mask/heads", &n_heads), *neurons = golden_ints(g, "mask/neurons", NULL),
            *from = golden_ints(g, "mask/from", NULL);
    double *logprob = golden_read(g, "mask/logprob"), *last = golden_read(g, "mask/last");
    uint8_t *h8 = xmalloc(L * H), *f8 = xmalloc(L * F);
    float *got = xmalloc(V * sizeof *got);
    double *lp = xmalloc((size_t)g->rows * sizeof *lp);
    const size_t scored = (size_t)g->rows - N;
    const mask kept = {h8, f8};
    for (size_t m = 0; m < n_heads / (L * H); m++) {
        for (size_t k = 0; k < L * H; k++) h8[k] = (uint8_t)heads[m * L * H + k];
        for (size_t k = 0; k < L * F; k++) f8[k] = (uint8_t)neurons[m * L * F + k];
        model_run *r = model_run_new(&g->m, g->rows, g->N, RUN_FORWARD);
        model_seq seqs[MAX_SEQS];
        for (int i = 0; i < g->N; i++) {
            seqs[i] = golden_seq(g, i, 0);
            seqs[i].mask = &kept;
            seqs[i].mask_from = from[m * N + (size_t)i];
        }
        model_forward(r, seqs, g->N);
        model_logprobs(r, lp, NULL, 0);
        for (size_t k = 0; k < scored; k++)
            if (!(fabs(lp[k] - logprob[m * scored + k]) <= 2e-4))
                fail_msg("mask %zu: log-probability %zu is %g, want %g", m, k, lp[k], logprob[m * scored + k]);
        for (int i = 0; i < g->N; i++) seqs[i].targets_from = seqs[i].n - 1, seqs[i].last_target = SEQ_NO_TARGET;
        model_forward(r, seqs, g->N);
        for (int i = 0; i < g->N; i++) {
            model_logits(r, i, got);
            assert_agree("masked logits", got, last + (m * N + (size_t)i) * V, V, 1e-4);
        }
        // The same in two steps: positions before the cut into the cache, the rest after it; mask_from counts from the
        // very first token.
        for (int i = 0; i < g->N; i++) {
            const int cut = seqs[i].n / 2;
            kv_cache *cache = kv_cache_new(&g->m, seqs[i].n);
            model_seq first = seqs[i], second = seqs[i];
            first.n = cut, first.append = cache, first.targets_from = cut, first.last_target = SEQ_NO_OUTPUT;
            second.tokens += cut, second.n -= cut, second.prefix = cache, second.targets_from = second.n - 1;
            model_forward(r, &first, 1);
            model_forward(r, &second, 1);
            model_logits(r, 0, got);
            assert_agree("masked logits after a prefix", got, last + (m * N + (size_t)i) * V, V, 1e-4);
            kv_cache_free(cache);
        }
        model_run_free(r);
    }
    free(heads), free(neurons), free(from), free(logprob), free(last), free(h8), free(f8), free(got), free(lp);
}

// A mask of ones changes no bit, nor does one that begins after the last position, nor a masked neighbour in the
// batch.
static void idle_masks(void **state) {
    golden *g = *state;
    const size_t L = (size_t)g->m.c.L, H = (size_t)g->m.c.H, F = (size_t)g->m.c.F, V = (size_t)g->m.c.V;
    uint8_t *ones = xmalloc(L * (H + F)), *zeros = xcalloc(L * (H + F), 1);
    memset(ones, 1, L * (H + F));
    const mask all = {ones, ones + L * H}, none = {zeros, zeros + L * H};
    model_seq seqs[4];
    for (int k = 0; k < 4; k++)
        seqs[k] = golden_seq(g, 0, seqs[0].n - 1), seqs[k].targets_from = seqs[k].n - 1,
        seqs[k].last_target = SEQ_NO_TARGET;
    seqs[1].mask = &all;
    seqs[2].mask = &none, seqs[2].mask_from = seqs[2].n;
    seqs[3].mask = &none;
    float *y = xmalloc(4 * V * sizeof *y);
    model_run *r = model_run_new(&g->m, 4 * seqs[0].n, 4, RUN_FORWARD);
    model_forward(r, seqs, 4);
    for (int k = 0; k < 4; k++) model_logits(r, k, y + (size_t)k * V);
    assert_same_bits("mask of ones", y, y + V, V * sizeof *y);
    assert_same_bits("mask after the end", y, y + 2 * V, V * sizeof *y);
    assert_memory_not_equal(y, y + 3 * V, V * sizeof *y);
    model_run_free(r);
    free(ones), free(zeros), free(y);
}

// ---------------------------------------------------------------- removal
// The model without the units that the mask leaves out: neurons lose their rows of fc1 and columns of fc2 (as many in
// every layer, the configuration has one F), heads the columns of out_proj that read them.
static void remove_units(tensor *small, int n_small, tensor *whole, int n, const model_config *c, const mask *kept) {
    for (int l = 0; l < c->L; l++) {
        static const char *const same[] = {"self_attn.q_proj.weight",
                                           "self_attn.q_proj.bias",
                                           "self_attn.k_proj.weight",
                                           "self_attn.k_proj.bias",
                                           "self_attn.v_proj.weight",
                                           "self_attn.v_proj.bias",
                                           "self_attn.out_proj.weight",
                                           "self_attn.out_proj.bias",
                                           "self_attn_layer_norm.weight",
                                           "self_attn_layer_norm.bias",
                                           "final_layer_norm.weight",
                                           "final_layer_norm.bias",
                                           "fc2.bias"};
        char name[80];
        for (size_t k = 0; k < sizeof same / sizeof *same; k++) {
            snprintf(name, sizeof name, "layers.%d.%s", l, same[k]);
            const size_t count = (size_t)c->E * (strstr(name, "_proj.weight") ? (size_t)c->E : 1);
            memcpy(weights_find(small, n_small, name), weights_find(whole, n, name), count * sizeof(float));
        }
        snprintf(name, sizeof name, "layers.%d.self_attn.out_proj.weight", l);
        float *wo = weights_find(small, n_small, name);
        for (int e = 0; e < c->E; e++)
            for (int i = 0; i < c->E; i++)
                if (!kept->heads[l * c->H + i / c->D]) wo[e * c->E + i] = 0;
        static const char *const resized[] = {"fc1.weight", "fc1.bias", "fc2.weight"};
        float *from[3], *to[3];
        for (int k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "layers.%d.%s", l, resized[k]);
            from[k] = weights_find(whole, n, name), to[k] = weights_find(small, n_small, name);
        }
        int F = 0;
        for (int j = 0; j < c->F; j++) F += kept->neurons[l * c->F + j];
        for (int j = 0, s = 0; j < c->F; j++) {
            if (!kept->neurons[l * c->F + j]) continue;
            memcpy(to[0] + s * c->E, from[0] + j * c->E, (size_t)c->E * sizeof(float));
            to[1][s] = from[1][j];
            for (int e = 0; e < c->E; e++) to[2][e * F + s] = from[2][e * c->F + j];
            s++;
        }
    }
    static const char *const outer[] = {"embed_tokens.weight", "embed_positions.weight", "final_layer_norm.weight",
                                        "final_layer_norm.bias"};
    for (int k = 0; k < 4; k++) {
        const size_t of_outer[] = {(size_t)c->V, (size_t)c->positions + 2, 1, 1}, rows = of_outer[k];
        memcpy(weights_find(small, n_small, outer[k]), weights_find(whole, n, outer[k]),
               rows * (size_t)c->E * sizeof(float));
    }
}

static void masked_is_removed(void **state) {
    (void)state;
    model_config c = removable, fewer = removable;
    enum { T = 20 };
    rng r = rng_make(11);
    int32_t tokens[T];
    random_tokens(tokens, T, c.V, &r);
    random_opt whole, small;
    random_opt_make(&whole, &c, 12);
    for (int round = 0; round < 4; round++) {
        uint8_t heads[12], neurons[120] = {0};
        for (int k = 0; k < c.L * c.H; k++) heads[k] = rng_below(&r, 2) != 0;
        fewer.F = round == 3 ? 1 : 7 + 9 * round;
        for (int l = 0; l < c.L; l++) {
            int32_t order[40];
            rng_permutation(&r, order, c.F);
            for (int k = 0; k < fewer.F; k++) neurons[l * c.F + order[k]] = 1;
        }
        const mask kept = {heads, neurons};
        small.t = random_weights(&fewer, 13, &small.n);
        remove_units(small.t, small.n, whole.t, whole.n, &c, &kept);
        assert_int_equal(model_from_tensors(&small.m, &fewer, small.t, small.n), 0);
        model_seq seq = {.tokens = tokens, .n = T, .last_target = SEQ_NO_TARGET, .targets_from = T - 1};
        float a[50], b[50];
        double want[50];
        model_run *run = model_run_new(&small.m, T, 1, RUN_FORWARD);
        model_forward(run, &seq, 1);
        model_logits(run, 0, a);
        model_run_free(run);
        run = model_run_new(&whole.m, T, 1, RUN_FORWARD);
        seq.mask = &kept;
        model_forward(run, &seq, 1);
        model_logits(run, 0, b);
        model_run_free(run);
        for (int v = 0; v < c.V; v++) want[v] = (double)a[v];
        assert_agree("masked model", b, want, (size_t)c.V, 1e-5);
        random_opt_free(&small);
    }
    random_opt_free(&whole);
}

int main(void) {
    static const golden_test per_model[] = {{"masks agree", masks_agree, false, true},
                                            {"idle masks", idle_masks, false, true}};
    const struct CMUnitTest tests[] = {cmocka_unit_test(masked_is_removed)};
    return run_on_golden("opt masks", per_model, 2, open_golden, close_golden, tests, 1);
}
