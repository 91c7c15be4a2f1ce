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

threshold_by threshold_named(const char *name) {
    int k = 0;
    while (k < THRESHOLDS && strcmp(threshold_names[k], name) != 0) k++;
    return (threshold_by)k;
}

// The values of a layer at rows of the last pass; room for them on the device and in host memory.
static void add_layer(threshold *t, const model *m, const model_run *run, int layer, int rows, float *on, float *x) {
    const int F = model_units(&m->c, layer, UNIT_NEURONS);
    const size_t n = (size_t)rows * (size_t)F;
    const long there = t->n[layer] - t->zeros[layer];
    const bool product = m->arch.gated && t->by == THRESHOLD_PRODUCT;
    if (!product && F) m->o->gated(on, model_tap_z(run, layer), NULL, m->arch.act, F, &(span){0, rows}, 1);
    m->o->get(x, product ? model_tap_r(run, layer) : on, n * sizeof *x);
    float *all = t->above[layer] = xrealloc(t->above[layer], ((size_t)there + n + 1) * sizeof *all);
    size_t kept = (size_t)there;
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0) all[kept++] = fabsf(x[i]);
    t->n[layer] += (long)n;
    t->zeros[layer] = t->n[layer] - (long)kept;
    t->above[layer] = xrealloc(all, (kept + 1) * sizeof *all);
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int threshold_calibrate(threshold *t, const model *m, const tok *tk, const char *file, threshold_by by) {
    const model_config *c = &m->c;
    const int most = c->positions < 2048 ? c->positions : 2048;
    size_t bytes;
    int32_t *id = NULL;
    int n = 0, cap = 0;
    *t = (threshold){.by = by, .L = c->L};
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
    const size_t values = (size_t)most * (size_t)c->F;
    float *x = xmalloc(values * sizeof *x), *on[OPS_PARTS] = {NULL};
    for (int p = 0; p < m->parts; p++) {
        m->o->use(p);
        on[p] = m->o->alloc(values * sizeof *x);
    }
    for (int at = 0; at < n && !bad; at += most) {
        const int rows = n - at < most ? n - at : most;
        model_forward(run, &(model_seq){.tokens = id + at, .n = rows, .last_target = SEQ_NO_TARGET}, 1);
        for (int l = 0; l < c->L; l++) {
            m->o->use(model_part(m, l));
            add_layer(t, m, run, l, rows, on[model_part(m, l)], x);
        }
    }
    for (int l = 0; l < c->L && !bad; l++) {
        const size_t above = (size_t)(t->n[l] - t->zeros[l]);
        if (above) qsort(t->above[l], above, sizeof *t->above[l], ascending);
    }
    model_run_free(run);
    for (int p = 0; p < m->parts; p++) m->o->release(on[p]);
    m->o->use(0);
    free(x);
    free(id);
    if (bad) threshold_free(t);
    return bad;
}

model_above threshold_at(float *least, const threshold *t, const mask_rule *rule) {
    for (int l = 0; l < t->L; l++) {
        const long k = mask_count(rule->sparsity, t->n[l]);
        least[l] = -1;
        if (l < rule->dense_layers || k == 0) continue;
        least[l] = k <= t->zeros[l] ? 0 : t->above[l][k - t->zeros[l] - 1];
    }
    return (model_above){least, t->by == THRESHOLD_GATE};
}
