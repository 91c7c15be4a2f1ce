// mask_options - the shared options of masks, and one mask by them. Contract in mask_options.h.
#include "mask_options.h"
#include "moments.h"
#include "registry.h"
#include "threshold.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- rows
const cli_option mask_one_rows[] = {
    {.name = "scores",
     .type = CLI_STR,
     .place = offsetof(mask_options, scores),
     .arg = "FILE",
     .help = "aggregates (bin/aggregate) for a static mask; those over all tasks are used"},
    {.name = "criterion",
     .type = CLI_STR,
     .place = offsetof(mask_options, criterion),
     .arg = "NAME",
     .help = "criterion of the scores; without it plainact, or the only one of a predictor"},
    {.name = "scope",
     .type = CLI_CHOICE,
     .place = offsetof(mask_options, scope),
     .arg = "SCOPE",
     .help = "where units compete",
     .names = mask_scope_names},
    {.name = "sparsity",
     .type = CLI_STR,
     .place = offsetof(mask_options, sparsity),
     .arg = "P",
     .help = "percentage pruned"},
    {0}};

const cli_option mask_several_rows[] = {{.name = "scores",
                                         .type = CLI_STR,
                                         .place = offsetof(mask_options, scores),
                                         .arg = "FILE",
                                         .help = "aggregates (bin/aggregate) for static masks"},
                                        {.name = "scope",
                                         .type = CLI_CHOICES,
                                         .place = offsetof(mask_options, scopes),
                                         .arg = "a,b",
                                         .help = "where units compete",
                                         .names = mask_scope_names},
                                        {.name = "sparsity",
                                         .type = CLI_STR,
                                         .place = offsetof(mask_options, sparsity),
                                         .arg = "a,b",
                                         .help = "percentages pruned"},
                                        {0}};

const cli_option mask_rule_rows[] = {
    {.name = "local-counts",
     .type = CLI_CHOICE,
     .place = offsetof(mask_options, counts),
     .arg = "HOW",
     .help = "units each layer loses in a local scope: as many in all as in a global one, or the floor of its share",
     .names = mask_counts_names},
    {.name = "units",
     .type = CLI_CHOICE,
     .place = offsetof(mask_options, units),
     .arg = "UNITS",
     .help = "what is pruned",
     .names = mask_units_names,
     .values = mask_units_values},
    {.name = "group-heads",
     .type = CLI_FLAG,
     .place = offsetof(mask_options, group_heads),
     .help = "query heads that share a K/V head are ranked and pruned together"},
    {.name = "dense-layers",
     .type = CLI_INT,
     .place = offsetof(mask_options, dense_layers),
     .arg = "N",
     .help = "first layers that are never pruned",
     .max = 1e6},
    {.name = "calibrate",
     .type = CLI_STR,
     .place = offsetof(mask_options, calibrate),
     .arg = "FILE",
     .help = "text whose values give the thresholds of threshold masks; a few thousand tokens are enough"},
    {.name = "ablate",
     .type = CLI_CHOICE,
     .place = offsetof(mask_options, ablate),
     .arg = "WHAT",
     .help = "what a pruned unit puts out: zero, or the mean of its values over the examples of --scores, which needs "
             "those of flap",
     .names = ablate_names},
    {.name = "raw-scores",
     .type = CLI_FLAG,
     .place = offsetof(mask_options, raw_scores),
     .help = "scopes that compare layers take scores of flap as they are, not standardised within each layer"},
    {0}};

const cli_option mask_predictor_rows[] = {
    {.name = "predictor",
     .type = CLI_STR,
     .place = offsetof(mask_options, predictor),
     .arg = "FILE",
     .help = "predictor (bin/train) of a contextual mask"},
    {.name = "predictor-weights",
     .type = CLI_CHOICE,
     .place = offsetof(mask_options, predictor_weights),
     .arg = "TYPE",
     .help = "type that the predictor's weights are narrowed to; q8_0: matrices in blocks of 8 bits (CPU only)",
     .names = activation_options},
    {.name = "refresh",
     .type = CLI_INT,
     .place = offsetof(mask_options, refresh),
     .arg = "K",
     .help = "contextual: a new mask at every K-th token; 0: one, at the end of the prompt",
     .max = 1e6},
    {0}};

// ---------------------------------------------------------------- what they say
const char *const ablate_names[] = {"zero", "mean", NULL};
const char *const mask_kind_names[] = {"none",   "random",    "static",    "contextual",
                                       "oracle", "reference", "threshold", "file"};

char *mask_kinds_named(unsigned kinds) {
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    const char *between = "";
    for (int k = 0; k < MASK_KINDS; k++) {
        if (!(kinds >> k & 1)) continue;
        fprintf(f, "%s%s", between, mask_kind_names[k]);
        if (k == MASK_FILE) fputs(":PATH", f);
        if (k == MASK_THRESHOLD) fputs(":gate|product", f);
        between = ", ";
    }
    fclose(f);
    return text;
}

int mask_kind_of(const char *name, unsigned kinds, const char **path) {
    const char *colon = strchr(name, ':');
    const size_t bytes = colon ? (size_t)(colon - name) : strlen(name);
    int kind = 0;
    *path = colon ? colon + 1 : NULL;
    while (kind < MASK_KINDS && (strlen(mask_kind_names[kind]) != bytes || memcmp(mask_kind_names[kind], name, bytes)))
        kind++;
    const bool known = kind < MASK_KINDS && kinds >> kind & 1, rest = colon && colon[1];
    if (known && kind == MASK_THRESHOLD && rest && threshold_named(*path) < THRESHOLDS) return kind;
    if (known && kind != MASK_THRESHOLD && rest == (kind == MASK_FILE) && !colon == !rest) return kind;
    char *all = mask_kinds_named(kinds);
    err_set("--mask %s: not one of %s", name, all);
    free(all);
    return -1;
}

mask_rule mask_options_rule(const mask_options *o, mask_scope scope, long sparsity) {
    return (mask_rule){.scope = scope,
                       .units = o->units,
                       .sparsity = sparsity,
                       .dense_layers = (int)o->dense_layers,
                       .mode = o->mode,
                       .counts = o->counts,
                       .group_heads = o->group_heads};
}

bool mask_options_standardise(const mask_options *o, const char *of) {
    const criterion *c = crit_find(of);
    return c && c->standardised && !o->raw_scores;
}

const char *mask_options_criterion(const mask_options *o) { return o->criterion ? o->criterion : "plainact"; }

int mask_options_check_means(const mask_options *o) {
    if (o->ablate != ABLATE_MEAN) return 0;
    if (o->mode == MODE_COMPAT) return err_set("--ablate mean: published masks put out zero; use --mode sound");
    return o->scores ? 0 : err_set("--ablate mean needs --scores FILE with the means of units' values");
}

int mask_options_check_threshold(const mask_options *o) {
    if (o->mode == MODE_COMPAT)
        return err_set("--mask threshold: neurons only, which published masks never prune; use --mode sound");
    if (o->ablate == ABLATE_MEAN)
        return err_set("--mask threshold: a neuron below its threshold puts out zero; leave --ablate mean out");
    return o->calibrate ? 0 : err_set("--mask threshold needs --calibrate FILE, a text");
}

int mask_options_read(mask_choice *choice, const mask_options *o, unsigned kinds) {
    const long sparsity = mask_parse_sparsity(o->sparsity);
    if (sparsity < 0) return err_prefix("--sparsity");
    const int kind = mask_kind_of(o->mask, kinds, &choice->path);
    if (kind < 0) return -1;
    if (kind == MASK_STATIC && !o->scores)
        return err_set("--mask static needs --scores FILE, which bin/aggregate writes");
    if (kind == MASK_THRESHOLD && mask_options_check_threshold(o) != 0) return -1;
    if (kind == MASK_CONTEXTUAL && !o->predictor)
        return err_set("--mask contextual needs --predictor FILE, which bin/train writes");
    if (o->ablate == ABLATE_MEAN && mask_options_check_means(o) != 0) return -1;
    choice->kind = (mask_kind)kind;
    choice->rule = mask_options_rule(o, o->scope, sparsity);
    return 0;
}

// ---------------------------------------------------------------- one mask
int mask_scores_check(const store_aggregate *a, const char *path, const mask_model *m) {
    const model_config *c = m->c;
    if ((a->heads || a->neurons) && (a->L != c->L || (a->heads && a->H != c->H) || (a->neurons && a->F != c->F)))
        return err_set(
            "%s: scores of a model of %d layers, %d heads and %d neurons each, not of %s; score that model first", path,
            a->L, a->H, a->F, m->name);
    if (!a->model_hash || strcmp(a->model_hash, m->hash) != 0)
        return err_set("%s: scores of another model than %s, though of the same shape; score that model first", path,
                       m->name);
    return 0;
}

int mask_options_means(mask_means *out, const mask_options *o, const mask_model *m) {
    static const char group[] = "/aggregates/all/flap";
    store *s = store_open(o->scores);
    if (!s) return -1;
    moment_set set = {0};
    store_aggregate a = {.model_hash = store_attr(s, "/", "model_hash")};
    int bad = mask_scores_check(&a, o->scores, m);
    if (!bad && !moments_there(s, group))
        bad = err_set(
            "%s: no means of units' values, which come with flap: bin/score --criteria flap, then bin/aggregate",
            o->scores);
    if (!bad) bad = moments_read(&set, s, group);
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++)
        if (set.L != m->c->L || (size_t)set.width[kind] != moments_width(m->c, kind))
            bad = err_set("%s: means of a model of another shape than %s", o->scores, m->name);
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++) {
        out->of[kind] = set.mean[kind];
        set.mean[kind] = NULL;
    }
    if (!bad) {
        const size_t n = (size_t)set.L * (size_t)set.width[UNIT_HEADS],
                     f = (size_t)set.L * (size_t)set.width[UNIT_NEURONS];
        char hash[2][33];
        hash_bytes(hash[0], out->of[UNIT_HEADS], n * sizeof(double));
        hash_bytes(hash[1], out->of[UNIT_NEURONS], f * sizeof(double));
        hash_bytes(out->hash, hash, sizeof hash);
    }
    moments_free(&set);
    store_aggregate_free(&a);
    store_close(s);
    return bad;
}

void mask_means_free(mask_means *means) {
    for (int kind = 0; kind < UNIT_KINDS; kind++) free(means->of[kind]);
    *means = (mask_means){0};
}

static int from_scores(mask *out, const mask_options *o, const mask_rule *rule, const mask_model *m) {
    const char *of = mask_options_criterion(o);
    store_aggregate a = {0};
    mask_rule own = *rule;
    int bad = -1;
    own.standardise = mask_options_standardise(o, of);
    const criterion *known = crit_find(of);
    if (known && mask_rule_prunes(rule, UNIT_NEURONS) && crit_check_neurons(known, m->c) != 0) return -1;
    if (store_read_aggregate(&a, o->scores, o->mode, "all", of) != 0) return -1;
    if ((mask_rule_prunes(rule, UNIT_HEADS) && !a.heads) || (mask_rule_prunes(rule, UNIT_NEURONS) && !a.neurons))
        err_set("%s: criterion %s has no %s scores over all tasks", o->scores, of, a.heads ? "neuron" : "head");
    else if (mask_scores_check(&a, o->scores, m) == 0)
        bad = mask_make(out, m->c, a.heads, a.neurons, &own);
    store_aggregate_free(&a);
    return bad;
}

static int at_random(mask *out, const mask_options *o, const mask_rule *rule, const model_config *c) {
    double *heads = xcalloc((size_t)c->L * (size_t)(c->H + c->F), sizeof *heads),
           *neurons = heads + (size_t)c->L * (size_t)c->H;
    mask_random_scores(heads, neurons, c, (uint64_t)o->seed);
    const int bad = mask_make(out, c, heads, neurons, rule);
    free(heads);
    return bad;
}

int mask_options_make(mask *out, const mask_options *o, const mask_choice *choice, const mask_model *m) {
    mask_fill(out, m->c);
    if (o->dense_layers > m->c->L)
        return err_set("--dense-layers %ld: the model has %d layers", o->dense_layers, m->c->L);
    switch (choice->kind) {
    case MASK_NONE: return 0;
    case MASK_RANDOM: return at_random(out, o, &choice->rule, m->c);
    case MASK_STATIC: return from_scores(out, o, &choice->rule, m);
    case MASK_FILE: return mask_read(out, m->c, choice->path);
    default: ASSERT(!"mask_options_make: a mask that is not fixed"); return -1;
    }
}
