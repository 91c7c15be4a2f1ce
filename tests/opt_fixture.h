// opt_fixture - what the tests of the model share: the golden models of tests/golden with their references, the
// rule of agreement of two implementations, and small models with random weights.
#pragma once
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>
#include <hdf5.h>
#include "model.h"

static const char *const golden_names[] = {"pre", "post", "odd", "half", "bf16"};
enum { GOLDEN = sizeof golden_names / sizeof *golden_names, GOLDEN_F32 = 3 };  // the first three are stored as fp32
static const char *const llama_names[] = {"llama/llama",  "llama/mistral", "llama/relu",
                                          "llama/biased", "llama/qwen2",   "llama/qwen3"};
enum { LLAMAS = sizeof llama_names / sizeof *llama_names, LLAMAS_F32 = 4 };
// GPT-NeoX, its FFN beside the attention and after it, and a Galactica: one matrix and another activation than ReLU
static const char *const gelu_names[] = {"gelu/parallel", "gelu/sequential", "gelu/galactica"};
enum { GELUS = sizeof gelu_names / sizeof *gelu_names, GOLDEN_ALL = GOLDEN + LLAMAS + GELUS };
// The k-th of them all; f32: its weights are stored as fp32.
static inline const char *golden_name(int k, bool *f32) {
    *f32 = k < GOLDEN_F32 || (k >= GOLDEN && k < GOLDEN + LLAMAS_F32) || k >= GOLDEN + LLAMAS;
    if (k < GOLDEN) return golden_names[k];
    return k < GOLDEN + LLAMAS ? llama_names[k - GOLDEN] : gelu_names[k - GOLDEN - LLAMAS];
}

// ---------------------------------------------------------------- agreement
// |got - want| <= tol * max(|want|, rms of want[0..n)): hand over one layer (and one sequence) at a time. A NaN never
// agrees.
static inline void assert_agree(const char *what, const float *got, const double *want, size_t n, double tol) {
    double square = 0;
    for (size_t i = 0; i < n; i++) square += want[i] * want[i];
    const double rms = sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tol * fmax(fabs(want[i]), rms)))
            fail_msg("%s: value %zu of %zu is %.9g, want %.9g (rms %.3g, tolerance %g)", what, i, n, (double)got[i],
                     want[i], rms, tol);
}

static inline void assert_same_bits(const char *what, const void *a, const void *b, size_t bytes) {
    if (memcmp(a, b, bytes) != 0) fail_msg("%s: not the same bits", what);
}

// |got - want| <= 1e-5 * scale, scale the size of the terms that were added.
static inline void assert_sum(const char *what, float got, double want, double scale) {
    if (!(fabs((double)got - want) <= 1e-5 * fmax(fabs(want), scale)))
        fail_msg("%s: %.9g, want %.9g", what, (double)got, want);
}

static inline float *normal_floats(rng *r, size_t n) {
    float *f = xmalloc(n * sizeof *f + 4);
    for (size_t i = 0; i < n; i++) f[i] = (float)rng_normal(r);
    return f;
}

// ---------------------------------------------------------------- golden models
typedef struct {
    const char *name;
    hid_t file;
    model m;
    int N, rows;                // sequences, tokens in all
    int32_t *tokens;            // [rows]
    int32_t *offset, *context;  // [N + 1], [N]
    double *loss;               // [N]
} golden;

// A whole dataset as double (or int32); the caller frees it.
static inline void *golden_read_as(const golden *g, const char *path, hid_t type, size_t size, size_t *count) {
    const hid_t set = H5Dopen2(g->file, path, H5P_DEFAULT);
    if (set < 0) fail_msg("%s: reference.h5 has no %s", g->name, path);
    const hid_t space = H5Dget_space(set);
    const size_t n = (size_t)H5Sget_simple_extent_npoints(space);
    void *out = xmalloc(n * size);
    if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0) fail_msg("%s: cannot read %s", g->name, path);
    H5Sclose(space);
    H5Dclose(set);
    if (count) *count = n;
    return out;
}
static inline double *golden_read(const golden *g, const char *path) {
    return golden_read_as(g, path, H5T_NATIVE_DOUBLE, sizeof(double), NULL);
}
static inline int32_t *golden_ints(const golden *g, const char *path, size_t *n) {
    return golden_read_as(g, path, H5T_NATIVE_INT32, sizeof(int32_t), n);
}
static inline bool golden_has(const golden *g, const char *path) { return H5Lexists(g->file, path, H5P_DEFAULT) > 0; }

static inline void golden_open(golden *g, const char *name) {
    *g = (golden){.name = name};
    char path[100];
    const char *folder = strchr(name, '/') ? "" : "opt/";
    snprintf(path, sizeof path, "tests/golden/%s%s", folder, name);
    if (model_load(&g->m, path) != 0) fail_msg("%s", err_get());
    snprintf(path, sizeof path, "tests/golden/%s%s/reference.h5", folder, name);
    g->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (g->file < 0) fail_msg("cannot open %s", path);
    size_t n;
    g->tokens = golden_ints(g, "tokens", &n);
    g->rows = (int)n;
    g->context = golden_ints(g, "context", &n);
    g->N = (int)n;
    g->offset = golden_ints(g, "offset", NULL);
    g->loss = golden_read(g, "loss");
}

static inline void golden_close(golden *g) {
    free(g->tokens), free(g->offset), free(g->context), free(g->loss);
    H5Fclose(g->file);
    model_free(&g->m);
}

static inline int golden_length(const golden *g, int i) { return g->offset[i + 1] - g->offset[i]; }

// Fixture of a test: *state, a model's name, becomes the open model.
static inline int open_golden(void **state) {
    static golden g;
    golden_open(&g, *state);
    *state = &g;
    return 0;
}
static inline int close_golden(void **state) {
    golden_close(*state);
    return 0;
}

// f32: only on models that are stored as fp32; every: not only on OPT with ReLU
typedef struct {
    const char *name;
    CMUnitTestFunction run;
    bool f32, every;
} golden_test;

// Runs each of t [n] on each golden model, whose name `open` finds in *state, and then more [n_more]. Returns what main
// returns.
static inline int run_on_golden(const char *group, const golden_test *t, size_t n, CMFixtureFunction open,
                                CMFixtureFunction close, const struct CMUnitTest *more, size_t n_more) {
    struct CMUnitTest *tests = xcalloc(GOLDEN_ALL * n + n_more, sizeof *tests);
    size_t named = 0;
    for (int m = 0; m < GOLDEN_ALL; m++) {
        bool f32;
        const char *name = golden_name(m, &f32);
        for (size_t k = 0; k < n; k++)
            if ((f32 || !t[k].f32) && (m < GOLDEN || t[k].every))
                tests[named++] = (struct CMUnitTest){xasprintf("%s: %s", name, t[k].name), t[k].run, open, close,
                                                     (void *)(uintptr_t)name};
    }
    for (size_t k = 0; k < n_more; k++) tests[named + k] = more[k];
    const int failed = _cmocka_run_group_tests(group, tests, named + n_more, NULL, NULL);
    for (size_t k = 0; k < named; k++) free((void *)(uintptr_t)tests[k].name);
    free(tests);
    return failed != 0;
}

// Sequence i whole: all its rows give logits (from 0), or those that predict the continuation (from context - 1).
static inline model_seq golden_seq(const golden *g, int i, int targets_from) {
    return (model_seq){.tokens = g->tokens + g->offset[i],
                       .n = golden_length(g, i),
                       .targets_from = targets_from,
                       .last_target = SEQ_NO_OUTPUT};
}

// ---------------------------------------------------------------- random models
static const model_config small_opt = {.L = 3,
                                       .H = 4,
                                       .E = 32,
                                       .F = 48,
                                       .D = 8,
                                       .P = 32,
                                       .V = 101,
                                       .positions = 64,
                                       .pre_ln = true,
                                       .final_ln = true,
                                       .bias = true,
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1,
                                       .declared = DT_F32};
// A model whose units a test removes or spoils.
static const model_config removable = {.L = 3,
                                       .H = 4,
                                       .E = 24,
                                       .F = 40,
                                       .D = 6,
                                       .P = 24,
                                       .V = 50,
                                       .positions = 32,
                                       .pre_ln = true,
                                       .final_ln = true,
                                       .bias = true,
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1};

// Weights of a configuration, fp32, in the order of arch_tensor_list: biases and norms away from their trivial values.
typedef struct {
    model m;
    tensor *t;
    int n;
} random_opt;

static inline tensor *random_weights(const model_config *c, uint64_t seed, int *n) {
    tensor *t = arch_tensor_list(c, n);
    rng r = rng_make(seed);
    for (int i = 0; i < *n; i++) {
        const size_t count = (size_t)(t[i].dim[0] * (t[i].rank > 1 ? t[i].dim[1] : 1));
        const bool norm = strstr(t[i].name, "norm.weight") != NULL;
        double scale = norm ? 0.2 : 0.5;
        if (t[i].rank > 1 && !strstr(t[i].name, "embed")) scale = 1.3 / sqrt((double)t[i].dim[1]);
        float *w = xmalloc(count * sizeof *w);
        for (size_t k = 0; k < count; k++) w[k] = (float)(scale * rng_normal(&r) + (norm ? 1 : 0));
        t[i].data = w;
    }
    return t;
}

// The same in another type: fp16 as the compiler rounds, bf16 cut.
static inline void weights_narrow(tensor *t, int n, dtype type) {
    for (int i = 0; i < n && type != DT_F32; i++) {
        const size_t count = tensor_bytes(&t[i]) / 4;
        const float *f = t[i].data;
        uint16_t *h = xmalloc(count * sizeof *h);
        for (size_t k = 0; k < count; k++) {
            const _Float16 half = (_Float16)f[k];
            uint32_t u;
            memcpy(&u, &f[k], 4);
            h[k] = (uint16_t)(u >> 16);
            if (type == DT_F16) memcpy(&h[k], &half, 2);
        }
        free((void *)(uintptr_t)f);
        t[i].data = h;
        t[i].type = type;
    }
}

static inline void weights_free(tensor *t, int n) {
    for (int i = 0; i < n; i++) free((void *)t[i].data);
    tensors_free(t, n);
}

static inline void random_opt_make_as(random_opt *o, const model_config *c, dtype type, uint64_t seed) {
    o->t = random_weights(c, seed, &o->n);
    weights_narrow(o->t, o->n, type);
    if (model_from_tensors(&o->m, c, o->t, o->n) != 0) fail_msg("%s", err_get());
}

static inline void random_opt_make(random_opt *o, const model_config *c, uint64_t seed) {
    random_opt_make_as(o, c, DT_F32, seed);
}

static inline void random_opt_free(random_opt *o) {
    model_free(&o->m);
    weights_free(o->t, o->n);
}

static inline float *weights_find(tensor *t, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0) return (float *)t[i].data;
    fail_msg("no weight %s", name);
    return NULL;
}

static inline void random_tokens(int32_t *tokens, int n, int V, rng *r) {
    for (int t = 0; t < n; t++) tokens[t] = (int32_t)rng_below(r, (uint64_t)V);
}

// Logits at the end of a pass of n tokens under a mask.
static inline void logits_of(const model *m, const int32_t *tokens, int n, const mask *units, unsigned flags,
                             float *out) {
    model_run *r = model_run_new(m, n, 1, flags);
    model_forward(
        r, &(model_seq){.tokens = tokens, .n = n, .mask = units, .targets_from = n - 1, .last_target = SEQ_NO_TARGET},
        1);
    model_logits(r, 0, out);
    model_run_free(r);
}
