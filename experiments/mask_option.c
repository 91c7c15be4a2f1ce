// mask_option - one mask from the options of a program. Contract in mask_option.h.
#include "mask_option.h"
#include "store.h"
#include <stdlib.h>
#include <string.h>

mask_rule mask_option_rule(const mask_option *o, long sparsity) {
    mask_rule rule = {.dense_layers = (int)o->dense_layers, .sparsity = sparsity,
                      .units = o->units[0] == 'h' ? UNITS_HEADS : o->units[0] == 'n' ? UNITS_NEURONS : UNITS_BOTH};
    while (strcmp(mask_scope_names[rule.scope], o->scope) != 0) rule.scope++;
    return rule;
}

static int from_scores(mask *out, const mask_option *o, const mask_rule *rule, const opt_config *c) {
    store_aggregate a = {0};
    int bad = -1;
    if (!o->scores) return err_set("--mask static needs --scores FILE, which bin/aggregate writes");
    if (store_read_aggregate(&a, o->scores, false, "all", o->criterion) != 0) return -1;
    if (a.L != c->L || a.H != c->H || a.F != c->F) err_set("%s: of a model with %d layers, %d heads and %d neurons a layer, not of %s", o->scores, a.L, a.H, a.F, o->model);
    else bad = mask_make(out, c, a.heads, a.neurons, rule);
    store_aggregate_free(&a);
    return bad;
}

int mask_option_make(mask *out, const char *kind, const mask_option *o, long sparsity, const opt_config *c) {
    const mask_rule rule = mask_option_rule(o, sparsity);
    mask_fill(out, c);
    if (o->dense_layers > c->L) return err_set("--dense-layers %ld: the model has %d layers", o->dense_layers, c->L);
    if (strcmp(kind, "none") == 0) return 0;
    if (strncmp(kind, "file:", 5) == 0) return mask_read(out, c, kind + 5);
    if (strcmp(kind, "static") == 0) return from_scores(out, o, &rule, c);
    if (strcmp(kind, "random") != 0) return err_set("--mask %s: not one of none, random, static, file:PATH", kind);
    double *heads = xcalloc((size_t)c->L * (size_t)(c->H + c->F), sizeof *heads), *neurons = heads + (size_t)c->L * (size_t)c->H;
    mask_random_scores(heads, neurons, c, o->seed);
    const int bad = mask_make(out, c, heads, neurons, &rule);
    free(heads);
    return bad;
}
