// sweep_scores - what the series of bin/sweep take their masks from: scores, predictors, mask files. Contract in
// sweep.h.
#include <stdlib.h>
#include <string.h>
#include "ops.h"
#include "sweep.h"

static const char *missing_kind(const sweep *w, const store_aggregate *a) {
    if ((w->units & UNITS_HEADS) && !a->heads) return "head";
    if ((w->units & UNITS_NEURONS) && w->mode == MODE_SOUND && !a->neurons) return "neuron";
    return NULL;
}

int scores_read_static(unit_scores *out, char hash[33], const sweep *w, const series *s, const target *t) {
    const char *file = w->o->masks.scores, *over = series_aggregate(s, t);
    const mask_model of = {.name = w->o->model, .hash = w->model.file.hash, .c = &w->model.c};
    store_aggregate a = {0};
    if (w->units & UNITS_NEURONS && crit_check_neurons(s->crit, &w->model.c) != 0) return 1;
    if (store_read_aggregate(&a, file, w->mode, over, s->crit->name)) return 1;
    int bad = mask_scores_check(&a, file, &of);
    const char *missing = missing_kind(w, &a);
    if (!bad && missing) {
        err_set("%s: criterion %s has no %s scores over %s", file, s->crit->name, missing, over);
        bad = 1;
    }
    if (!bad) memcpy(hash, a.hash, sizeof a.hash);
    if (!bad && out) {
        *out = (unit_scores){a.heads, a.neurons};
        a.heads = a.neurons = NULL;
    }
    store_aggregate_free(&a);
    return bad;
}

void scores_random(unit_scores *out, const sweep *w, uint64_t seed) {
    const model_config *c = &w->model.c;
    out->heads = xmalloc((size_t)c->L * (size_t)c->H * sizeof *out->heads);
    out->neurons = xmalloc((size_t)c->L * (size_t)c->F * sizeof *out->neurons);
    mask_random_scores(out->heads, out->neurons, c, seed);
}

int scores_read_mask(mask *out, char hash[33], const sweep *w, const series *s) {
    const model_config *c = &w->model.c;
    mask own = {0}, *m = out ? out : &own;
    if (!out) mask_alloc(&own, c);
    const int bad = mask_read(m, c, s->path);
    if (!bad) mask_hash(hash, m, c);
    if (!bad && w->mode == MODE_COMPAT)
        memset(m->neurons, 1, (size_t)c->L * (size_t)c->F);  // the published FFN mask never acts
    mask_free(&own);
    return bad;
}

char *predictor_path(const char *name, uint64_t seed) {
    const char *at = strstr(name, "{seed}");
    return at ? xasprintf("%.*s%llu%s", (int)(at - name), name, (unsigned long long)seed, at + strlen("{seed}"))
              : xstrdup(name);
}

predictor *predictor_of(const sweep *w, const series *s, uint64_t seed) {
    char *path = predictor_path(s->path, seed);
    predictor *p = predictor_open(path, s->crit->name, &w->model);
    free(path);
    if (p && (predictor_narrow(p, (dtype)w->o->masks.predictor_weights) || predictor_place(p, w->model.o))) {
        predictor_close(p);
        return NULL;
    }
    return p;
}
