// opt_fixture - what the tests of the model share: the golden models of tests/golden/opt with their references, the rule of agreement of
// two implementations, and small models with random weights.
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
#include "opt.h"

static const char *const golden_names[] = {"pre", "post", "odd", "half", "bf16"};
enum { GOLDEN = sizeof golden_names / sizeof *golden_names, GOLDEN_F32 = 3 };  // the first three are stored as fp32

// ---------------------------------------------------------------- agreement
// |got - want| <= tol * max(|want|, rms of want[0..n)): hand over one layer (and one sequence) at a time. A NaN never agrees.
static inline void assert_agree(const char *what, const float *got, const double *want, size_t n, double tol) {
    double square = 0;
    for (size_t i = 0; i < n; i++) square += want[i] * want[i];
    const double rms = sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tol * fmax(fabs(want[i]), rms)))
            fail_msg("%s: value %zu of %zu is %.9g, want %.9g (rms %.3g, tolerance %g)", what, i, n, (double)got[i], want[i], rms, tol);
}

static inline void assert_same_bits(const char *what, const void *a, const void *b, size_t bytes) {
    if (memcmp(a, b, bytes) != 0) fail_msg("%s: not the same bits", what);
}

// ---------------------------------------------------------------- golden models
typedef struct {
    const char *name;
    hid_t file;
    opt m;
    int N, rows;                 // sequences, tokens in all
    int32_t *tokens;             // [rows]
    int32_t *offset, *context;   // [N + 1], [N]
    double *loss;                // [N]
} golden;

// A whole dataset as double (or int32); the caller frees it.
static inline void *golden_read_as(const golden *g, const char *path, hid_t type, size_t size, size_t *count) {
    const hid_t set = H5Dopen2(g->file, path, H5P_DEFAULT);
    if (set < 0) fail_msg("tests/golden/opt/%s/reference.h5: no %s", g->name, path);
    const hid_t space = H5Dget_space(set);
    const size_t n = (size_t)H5Sget_simple_extent_npoints(space);
    void *out = xmalloc(n * size);
    if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0) fail_msg("%s: cannot read %s", g->name, path);
    H5Sclose(space);
    H5Dclose(set);
    if (count) *count = n;
    return out;
}
static inline double *golden_read(const golden *g, const char *path) { return golden_read_as(g, path, H5T_NATIVE_DOUBLE, sizeof(double), NULL); }
static inline int32_t *golden_ints(const golden *g, const char *path, size_t *n) { return golden_read_as(g, path, H5T_NATIVE_INT32, sizeof(int32_t), n); }
static inline bool golden_has(const golden *g, const char *path) { return H5Lexists(g->file, path, H5P_DEFAULT) > 0; }

static inline void golden_open(golden *g, const char *name) {
    *g = (golden){.name = name};
    char path[100];
    snprintf(path, sizeof path, "tests/golden/opt/%s", name);
    if (opt_load(&g->m, path) != 0) fail_msg("%s", err_get());
    snprintf(path, sizeof path, "tests/golden/opt/%s/reference.h5", name);
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
    opt_free(&g->m);
}

static inline int golden_length(const golden *g, int i) { return g->offset[i + 1] - g->offset[i]; }

// Sequence i whole: all its rows give logits (from 0), or those that predict the continuation (from context - 1).
static inline opt_seq golden_seq(const golden *g, int i, int targets_from) {
    return (opt_seq){.tokens = g->tokens + g->offset[i], .n = golden_length(g, i), .targets_from = targets_from, .last_target = OPT_NO_OUTPUT};
}

// ---------------------------------------------------------------- random models
// Weights of a configuration, fp32, in the order of opt_tensor_list: biases and norms away from their trivial values.
typedef struct { opt m; tensor *t; int n; } random_opt;

static inline tensor *random_weights(const opt_config *c, uint64_t seed, int *n) {
    tensor *t = opt_tensor_list(c, n);
    rng r = rng_make(seed);
    for (int i = 0; i < *n; i++) {
        const size_t count = (size_t)(t[i].dim[0] * (t[i].rank > 1 ? t[i].dim[1] : 1));
        const bool norm = strstr(t[i].name, "layer_norm.weight") != NULL;
        const double scale = t[i].rank > 1 && !strstr(t[i].name, "embed") ? 1.3 / sqrt((double)t[i].dim[1]) : norm ? 0.2 : 0.5;
        float *w = xmalloc(count * sizeof *w);
        for (size_t k = 0; k < count; k++) w[k] = (float)(scale * rng_normal(&r) + (norm ? 1 : 0));
        t[i].data = w;
    }
    return t;
}

static inline void weights_free(tensor *t, int n) {
    for (int i = 0; i < n; i++) free((void *)t[i].data);
    tensors_free(t, n);
}

static inline void random_opt_make(random_opt *o, const opt_config *c, uint64_t seed) {
    o->t = random_weights(c, seed, &o->n);
    if (opt_from_tensors(&o->m, c, o->t, o->n) != 0) fail_msg("%s", err_get());
}

static inline void random_opt_free(random_opt *o) {
    opt_free(&o->m);
    weights_free(o->t, o->n);
}

static inline float *weights_find(tensor *t, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0) return (float *)t[i].data;
    fail_msg("no weight %s", name);
    return NULL;
}
