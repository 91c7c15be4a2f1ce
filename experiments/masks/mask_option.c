// mask_option - one mask from the options of a program. Contract in mask_option.h.
#include "mask_option.h"
#include <stdlib.h>
#include <string.h>

static unsigned units_named(const char *name) {
    if (strcmp(name, "heads") == 0) return UNITS_HEADS;
    return strcmp(name, "neurons") == 0 ? UNITS_NEURONS : UNITS_BOTH;
}

mask_rule mask_option_rule(const mask_option *o, long sparsity) {
    mask_rule rule = {
        .dense_layers = (int)o->dense_layers, .sparsity = sparsity, .mode = o->mode, .units = units_named(o->units)};
    while (strcmp(mask_scope_names[rule.scope], o->scope) != 0) rule.scope++;
    while (o->local_counts && strcmp(mask_counts_names[rule.counts], o->local_counts) != 0) rule.counts++;
    return rule;
}

int mask_scores_check(const store_aggregate *a, const char *path, const model_config *c, const char *model_name,
                      const char *model_hash) {
    if ((a->heads || a->neurons) && (a->L != c->L || (a->heads && a->H != c->H) || (a->neurons && a->F != c->F)))
        return err_set(
            "%s: scores of a model of %d layers, %d heads and %d neurons each, not of %s; score that model first", path,
            a->L, a->H, a->F, model_name);
    if (!a->model_hash || strcmp(a->model_hash, model_hash) != 0)
        return err_set("%s: scores of another model than %s, though of the same shape; score that model first", path,
                       model_name);
    return 0;
}

static int from_scores(mask *out, const mask_option *o, const mask_rule *rule, const model_config *c,
                       const char *model_hash) {
    store_aggregate a = {0};
    int bad = -1;
    if (!o->scores) return err_set("--mask static needs --scores FILE, which bin/aggregate writes");
    if (store_read_aggregate(&a, o->scores, o->mode, "all", o->criterion) != 0) return -1;
    if ((mask_rule_prunes(rule, UNIT_HEADS) && !a.heads) || (mask_rule_prunes(rule, UNIT_NEURONS) && !a.neurons))
        err_set("%s: criterion %s has no %s scores over all tasks", o->scores, o->criterion,
                a.heads ? "neuron" : "head");
    else if (mask_scores_check(&a, o->scores, c, o->model, model_hash) == 0)
        bad = mask_make(out, c, a.heads, a.neurons, rule);
    store_aggregate_free(&a);
    return bad;
}

int mask_option_make(mask *out, const char *kind, const mask_option *o, long sparsity, const model_config *c,
                     const char *model_hash) {
    const mask_rule rule = mask_option_rule(o, sparsity);
    mask_fill(out, c);
    if (o->dense_layers > c->L) return err_set("--dense-layers %ld: the model has %d layers", o->dense_layers, c->L);
    if (strcmp(kind, "none") == 0) return 0;
    if (strncmp(kind, "file:", 5) == 0) return mask_read(out, c, kind + 5);
    if (strcmp(kind, "static") == 0) return from_scores(out, o, &rule, c, model_hash);
    if (strcmp(kind, "random") != 0) return err_set("--mask %s: not one of none, random, static, file:PATH", kind);
    double *heads = xcalloc((size_t)c->L * (size_t)(c->H + c->F), sizeof *heads),
           *neurons = heads + (size_t)c->L * (size_t)c->H;
    mask_random_scores(heads, neurons, c, o->seed);
    const int bad = mask_make(out, c, heads, neurons, &rule);
    free(heads);
    return bad;
}
