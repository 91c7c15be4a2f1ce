// threshold - quantiles of the neurons' values over a text. Contract in threshold.h. Values that are not 0 are kept, of
// all tokens, and sorted once; with ReLU they are the fewer ones.
#include "threshold.h"
#include "ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const threshold_names[THRESHOLDS + 1] = {"gate", "product", NULL};

void threshold_free(threshold *t) {
    for (int l = 0; l < t->L && t->above; l++) free(t->above[l]);
    free(t->above);
    free(t->n);
    free(t->zeros);
    *t = (threshold){0};
}

// The values of a layer at rows of the last pass.
static void add_layer(threshold *t, const model *m, const model_run *run, int layer, int rows, float *z) {
    const size_t n = (size_t)rows * (size_t)model_units(&m->c, layer, UNIT_NEURONS);
    const long there = t->n[layer] - t->zeros[layer];
    m->o->get(z, model_tap_z(run, layer), n * sizeof *z);
    float *all = t->above[layer] = xrealloc(t->above[layer], ((size_t)there + n + 1) * sizeof *all);
    size_t kept = (size_t)there;
    for (size_t i = 0; i < n; i++)
        if (z[i] > 0) all[kept++] = z[i];
    t->n[layer] += (long)n;
    t->zeros[layer] = t->n[layer] - (long)kept;
    t->above[layer] = xrealloc(all, (kept + 1) * sizeof *all);
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int threshold_calibrate(threshold *t, const model *m, const tok *tk, const char *file) {
    const model_config *c = &m->c;
    const int most = c->positions < 2048 ? c->positions : 2048;
    size_t bytes;
    int32_t *id = NULL;
    int n = 0, cap = 0;
    *t = (threshold){.L = c->L};
    if (m->arch.gated) return err_set("--mask threshold: the FFN of this model is gated; OPT's is not");
    char *text = file_read(file, &bytes);
    if (!text) return -1;
    VEC_PUSH(id, n, cap, tok_first(tk, c));
    int bad = tok_encode(tk, text, bytes, &id, &n, &cap) ? err_prefix("%s", file) : 0;
    if (!bad && n < 2) bad = err_set("%s: no text to calibrate by", file);
    hash_bytes(t->hash, text, bytes);
    free(text);
    t->tokens = n;
    t->n = xcalloc((size_t)c->L, sizeof *t->n);
    t->zeros = xcalloc((size_t)c->L, sizeof *t->zeros);
    t->above = xcalloc((size_t)c->L, sizeof *t->above);
    const int window = n < most ? n : most;
    model_run *run = bad ? NULL : model_run_new(m, window, 1, RUN_TAPS);
    float *z = xmalloc((size_t)most * (size_t)c->F * sizeof *z);
    for (int at = 0; at < n && !bad; at += most) {
        const int rows = n - at < most ? n - at : most;
        model_forward(run, &(model_seq){.tokens = id + at, .n = rows, .last_target = SEQ_NO_TARGET}, 1);
        for (int l = 0; l < c->L; l++) add_layer(t, m, run, l, rows, z);
    }
    for (int l = 0; l < c->L && !bad; l++) {
        const size_t above = (size_t)(t->n[l] - t->zeros[l]);
        if (above) qsort(t->above[l], above, sizeof *t->above[l], ascending);
    }
    model_run_free(run);
    free(z);
    free(id);
    if (bad) threshold_free(t);
    return bad;
}

void threshold_at(float *above, const threshold *t, const mask_rule *rule) {
    for (int l = 0; l < t->L; l++) {
        const long k = mask_count(rule->sparsity, t->n[l]);
        above[l] = -1;
        if (l < rule->dense_layers || k == 0) continue;
        above[l] = k <= t->zeros[l] ? 0 : t->above[l][k - t->zeros[l] - 1];
    }
}
