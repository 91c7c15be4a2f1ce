// compact_fixture - what the tests of compacted checkpoints share: sources of random weights, masks of all kinds, the
// checkpoints that they give, in a folder that goes with the test.
#pragma once
#include "opt_fixture.h"
#include "compact.h"
#include "mask.h"

static char root[] = "/tmp/test_compact_XXXXXX";
static const model_config shapes[] = {{.L = 4,
                                       .H = 4,
                                       .E = 24,
                                       .F = 40,
                                       .D = 6,
                                       .P = 24,
                                       .V = 50,
                                       .positions = 40,
                                       .pre_ln = true,
                                       .final_ln = true,
                                       .bias = true,
                                       .tied = true,
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1},
                                      {.L = 4,
                                       .H = 3,
                                       .E = 21,
                                       .F = 33,
                                       .D = 7,
                                       .P = 10,
                                       .V = 50,
                                       .positions = 40,
                                       .bias = true,
                                       .tied = true,
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1},
                                      {.L = 3,
                                       .H = 2,
                                       .E = 32,
                                       .F = 9,
                                       .D = 16,
                                       .P = 32,
                                       .V = 50,
                                       .positions = 40,
                                       .pre_ln = true,
                                       .tied = true,
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1},
                                      {.type = MODEL_QWEN3,
                                       .L = 4,
                                       .H = 6,
                                       .E = 20,
                                       .F = 31,
                                       .D = 6,
                                       .P = 20,
                                       .V = 50,
                                       .positions = 40,
                                       .pre_ln = true,
                                       .final_ln = true,
                                       .llama = {.K = 2,
                                                 .act = ACT_SILU,
                                                 .norm_eps = 1e-5,
                                                 .rope = {.theta = 100},
                                                 .bias_qkv = true,
                                                 .bias_out = true,
                                                 .qk_norm = true},
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1},
                                      {.type = MODEL_LLAMA,
                                       .L = 3,
                                       .H = 4,
                                       .E = 24,
                                       .F = 17,
                                       .D = 6,
                                       .P = 24,
                                       .V = 50,
                                       .positions = 40,
                                       .pre_ln = true,
                                       .final_ln = true,
                                       .tied = true,
                                       .llama = {.K = 4, .act = ACT_RELU, .norm_eps = 1e-5, .rope = {.theta = 100}},
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1},
                                      {.type = MODEL_NEOX,
                                       .L = 3,
                                       .H = 4,
                                       .E = 24,
                                       .F = 17,
                                       .D = 6,
                                       .P = 24,
                                       .V = 50,
                                       .positions = 40,
                                       .pre_ln = true,
                                       .final_ln = true,
                                       .parallel = true,
                                       .rotary = 2,
                                       .llama = {.K = 4,
                                                 .act = ACT_GELU,
                                                 .norm_eps = 1e-5,
                                                 .rope = {.theta = 100},
                                                 .bias_qkv = true,
                                                 .bias_out = true,
                                                 .bias_ffn = true},
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1}};
enum { SHAPES = 6, PATTERNS = 5 };

static char *folder(const char *name) { return xasprintf("%s/%s", root, name); }

// A checkpoint of random weights on disk, and loaded.
static inline void make_source(model *m, const model_config *c, dtype type, const char *name) {
    int n;
    tensor *t = random_weights(c, 7, &n);
    weights_narrow(t, n, type);
    char *dir = folder(name);
    model_config declared = *c;
    declared.declared = type;
    assert_int_equal(ckpt_save(dir, &declared, t, n), 0);
    weights_free(t, n);
    if (model_load(m, dir) != 0) fail_msg("%s", err_get());
    free(dir);
}

// 0: units at random; 1: a layer without heads, one without neurons, one with neither; 2: one head and one neuron each;
// 3: nothing is left; 4: all is.
static inline void make_mask(mask *m, const model_config *c, rng *r, int pattern) {
    mask_alloc(m, c);
    for (int kind = UNIT_HEADS; kind <= UNIT_NEURONS; kind++)
        for (int l = 0; l < c->L; l++) {
            const int U = kind == UNIT_HEADS ? c->H : c->F, units = model_units(c, l, kind),
                      one = units ? (int)rng_below(r, (uint64_t)units) : 0;
            uint8_t *keep = (kind == UNIT_HEADS ? m->heads : m->neurons) + l * U;
            for (int u = 0; u < units; u++)
                keep[u] = pattern == 4 || (pattern == 2 ? u == one : pattern != 3 && rng_below(r, 2));
            if (pattern == 1 && (l == 0 || l == 1 + kind)) memset(keep, 0, (size_t)U);
        }
}

// What `more`, a mask of the model `small` that m compacts, keeps of the whole one.
static inline void make_both(mask *both, const model_config *c, const mask *m, const model_config *small,
                             const mask *more) {
    mask_alloc(both, c);
    for (int l = 0; l < c->L; l++) {
        for (int u = 0, k = 0; u < c->H; u++)
            both->heads[l * c->H + u] = m->heads[l * c->H + u] ? more->heads[l * small->H + k++] : 0;
        for (int u = 0, k = 0; u < c->F; u++)
            both->neurons[l * c->F + u] = m->neurons[l * c->F + u] ? more->neurons[l * small->F + k++] : 0;
    }
}

static inline void pruned(model *small, const model *whole, const mask *m, int type, compact_form form,
                          const char *name) {
    char *dir = folder(name);
    if (compact_save(dir, &whole->file, m, NULL, type, form) != 0 || model_load(small, dir) != 0)
        fail_msg("%s", err_get());
    free(dir);
}

static inline void compacted(model *small, const model *whole, const mask *m, int type, const char *name) {
    pruned(small, whole, m, type, COMPACT_SMALL, name);
}

static inline int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}
static inline int remove_root(void **state) {
    (void)state;
    char *command = xasprintf("rm -rf %s", root);
    const int bad = system(command);
    free(command);
    return bad;
}
