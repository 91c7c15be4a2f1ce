// bench_config - what is compared in a group, and its masks. Contract in bench.h.
#include "bench.h"
#include "store.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- predictors
static predictor_info untrained(const model_config *c, predictor_design design, int hidden, const mask_rule *rule) {
    predictor_info a = {.design = design,
                        .L = c->L,
                        .H = c->H,
                        .E = c->E,
                        .F = c->F,
                        .hidden = {hidden, hidden},
                        .criterion = "untrained"};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) a.has[k] = mask_rule_prunes(rule, k);
    a.per_layer = design == PREDICTOR_DEJAVU || design == PREDICTOR_LOWRANK;
    a.lag = a.per_layer && c->L > 1;
    a.mode = rule->mode;
    a.state[UNIT_HEADS] = a.per_layer ? STATE_RESIDUAL : STATE_HEAD_OUTPUT;
    a.state[UNIT_NEURONS] = design == PREDICTOR_LOWRANK ? STATE_MID : a.state[UNIT_HEADS];
    return a;
}

// Whether a kind is among those of --mask.
static bool asks(const bench_options *o, mask_kind kind) {
    int n;
    char **name = cli_split_files(o->masks.mask, "file:", &n);
    bool found = false;
    for (int i = 0; i < n; i++) found |= strcmp(name[i], mask_kind_names[kind]) == 0;
    free(name);
    return found;
}

// fn for every untrained predictor that is asked for.
typedef int net_fn(void *ctx, const predictor_info *a);
static int each_untrained(const bench_options *o, const model_config *c, net_fn *fn, void *ctx) {
    const mask_rule rule = mask_options_rule(&o->masks, SCOPE_LOCAL, 0);
    int bad = 0;
    for (int i = 0; i < o->design.n && !bad; i++)
        for (int k = 0; k < o->hidden.n && !bad; k++) {
            const predictor_info a = untrained(c, (predictor_design)o->design.at[i], (int)o->hidden.at[k], &rule);
            bad = fn(ctx, &a);
        }
    return bad;
}

dtype bench_predictor_type(const bench_options *o, const char *weights) {
    const int type = o->masks.predictor_weights < 0 ? dtype_of_option(weights) : o->masks.predictor_weights;
    return type < 0 ? DT_F32 : (dtype)type;
}

typedef struct {
    double all, largest;
} weight_count;
static void count_weights(weight_count *c, double weights) {
    c->all += weights;
    if (weights > c->largest) c->largest = weights;
}

static int count_net(void *ctx, const predictor_info *a) {
    const double E = a->E, nets = a->per_layer ? a->L - a->lag : 1, layers = a->per_layer ? 1 : a->L;
    double weights = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (a->has[k])
            weights += nets * (a->hidden[k] * (E + 1) + (a->hidden[k] + 1) * layers * (k == UNIT_HEADS ? a->H : a->F) +
                               (a->design == PREDICTOR_SEQUENCE ? 4 * E * (E + 1) : 0));
    count_weights(ctx, weights);
    return 0;
}

double bench_predictor_bytes(const bench_options *o, const model_config *c, dtype type) {
    weight_count count = {0};
    if (!asks(o, MASK_CONTEXTUAL)) return 0;
    if (!o->masks.predictor) {
        if (each_untrained(o, c, count_net, &count) != 0) return -1;
    } else {
        int n;
        char **path = cli_split_files(o->masks.predictor, "", &n);
        for (int i = 0; i < n; i++) {
            FILE *f = fopen(path[i], "rb");
            if (f && fseek(f, 0, SEEK_END) == 0) count_weights(&count, (double)ftell(f) / (double)dtype_bytes(DT_F32));
            if (f) fclose(f);
        }
        free(path);
    }
    const double bytes = (double)dtype_size(type, dtype_block(type)) / (double)dtype_block(type);
    return count.all * bytes + (type == DT_F32 ? 0 : count.largest * (double)dtype_bytes(DT_F32));
}

static int keep(bench_group *g, predictor *p) {
    if (!p) return -1;
    VEC_PUSH(g->net, g->n_nets, g->cap_nets, p);
    return predictor_narrow(p, bench_predictor_type(g->o, g->model->weights));
}

// Untrained nets of a GPU are drawn there.
static int make_net(void *ctx, const predictor_info *a) {
    bench_group *g = ctx;
    const uint64_t seed = (uint64_t)g->o->masks.seed;
    return keep(g, g->device->host
                       ? predictor_new(a, seed)
                       : predictor_new_on(a, seed, bench_predictor_type(g->o, g->model->weights), g->device));
}

int bench_predictors(bench_group *g) {
    const bench_options *o = g->o;
    if (!asks(o, MASK_CONTEXTUAL)) return 0;
    if (!o->masks.predictor) return each_untrained(o, &g->model->m.c, make_net, g);
    int n, bad = 0;
    char **path = cli_split_files(o->masks.predictor, "", &n);
    for (int i = 0; i < n && !bad; i++) {
        bad = g->model->is_random ? err_set("--predictor %s: random weights have no trained predictor; give --model, "
                                            "or --design and --hidden",
                                            path[i])
                                  : keep(g, predictor_open(path[i], o->masks.criterion, &g->model->m));
    }
    free(path);
    return bad;
}

// ---------------------------------------------------------------- configurations
static bench_config *add(bench_group *g, mask_kind kind, const mask_rule *rule, kv_policy kv) {
    g->config = xrealloc(g->config, (size_t)(g->n + 1) * sizeof *g->config);
    bench_config *c = &g->config[g->n++];
    *c = (bench_config){.kind = kind, .kv = kv};
    if (rule) c->rule = *rule;
    return c;
}

static int fix(const bench_group *g, bench_config *c, int n) {
    c->fixed = xcalloc((size_t)n, sizeof *c->fixed);
    c->n_fixed = n;
    for (int i = 0; i < n; i++) mask_alloc(&c->fixed[i], &g->model->m.c);
    return 0;
}

static int fixed_mask(bench_group *g, const mask_choice *choice, kv_policy kv) {
    const mask_options *o = &g->o->masks;
    const bool is_static = choice->kind == MASK_STATIC;
    const model *m = &g->model->m;
    bench_config *c = add(g, choice->kind, mask_has_rule(choice->kind) ? &choice->rule : NULL, kv);
    if (is_static && !o->scores && !g->model->is_random)
        return err_set("--mask static needs --scores FILE, which bin/aggregate writes");
    c->path = choice->path;
    c->criterion = is_static && o->scores ? mask_options_criterion(o) : NULL;
    fix(g, c, 1);
    // nothing is known about random weights: a static mask of theirs keeps what a seed says
    mask_choice made = *choice;
    if (is_static && !o->scores) made.kind = MASK_RANDOM;
    const mask_model of = {.name = g->model->name, .hash = m->file.hash, .c = &m->c};
    if (mask_options_make(&c->fixed[0], o, &made, &of) != 0) return -1;
    // the published FFN mask never acts
    if (o->mode == MODE_COMPAT && c->path) memset(c->fixed[0].neurons, 1, (size_t)m->c.L * (size_t)m->c.F);
    mask_hash(c->scores_hash, &c->fixed[0], &m->c);
    return 0;
}

// Scores for every sequence's own prompt: exact removal where there is a trained model; random weights have none that
// mean anything, and get seeded ones.
static double *oracle_scores(bench_group *g) {
    const model_config *c = &g->model->m.c;
    const size_t heads = (size_t)c->L * (size_t)c->H, each = heads + (size_t)c->L * (size_t)c->F;
    double *score = xcalloc((size_t)g->sequences * each, sizeof *score);
    const mask_rule rule = mask_options_rule(&g->o->masks, SCOPE_LOCAL, 0);
    oracle *exact = g->model->is_random ? NULL : oracle_new(&g->model->m, rule.dense_layers);
    if (exact)
        log_info("oracle masks: exact removal on %d prompt%s, as much work as %.3g tokens", g->sequences,
                 g->sequences > 1 ? "s" : "", g->sequences * oracle_cost(c, rule.dense_layers, rule.units, g->prompt));
    for (int i = 0; i < g->sequences; i++) {
        double *to = score + (size_t)i * each;
        if (!exact) {
            mask_random_scores(to, to + heads, c, rng_hash((uint64_t)g->o->masks.seed, (uint64_t)i, 0x6f7261636c65));
            continue;
        }
        int32_t *tokens = bench_prompt(g, i);
        const model_seq text = {.tokens = tokens, .n = g->prompt, .last_target = SEQ_NO_OUTPUT};
        const mask_source source = oracle_source(exact);
        source.scores(source.self, &text, rule.units, to, to + heads);
        free(tokens);
    }
    oracle_free(exact);
    return score;
}

static int oracle_masks(bench_group *g, const mask_rule *rule, kv_policy kv, batch_masks batch, double **scores) {
    const model_config *m = &g->model->m.c;
    const size_t heads = (size_t)m->L * (size_t)m->H, each = heads + (size_t)m->L * (size_t)m->F;
    bench_config *c = add(g, MASK_ORACLE, rule, kv);
    c->batch = batch;
    if (!g->model->is_random && g->prompt < 2)
        return err_set("--mask oracle needs prompts of two tokens or more: what a unit is worth is read off the loss");
    fix(g, c, g->sequences);
    c->criterion = g->model->is_random ? NULL : "removal";
    if (!*scores) *scores = oracle_scores(g);
    char all[BENCH_FIELD * 2] = "";
    for (int i = 0; i < g->sequences; i++) {
        const double *s = *scores + (size_t)i * each;
        char hash[33];
        if (mask_make(&c->fixed[i], m, s, s + heads, rule) != 0) return -1;
        mask_hash(hash, &c->fixed[i], m);
        strcat(memcpy(all, c->scores_hash, sizeof c->scores_hash), hash);
        hash_bytes(c->scores_hash, all, strlen(all));
    }
    return 0;
}

static int contextual_masks(bench_group *g, const mask_rule *rule, kv_policy kv, batch_masks batch) {
    const cli_list *refresh = &g->o->refresh;
    int bad = 0;
    for (int i = 0; i < g->n_nets && !bad; i++)
        for (int k = 0; k < refresh->n && !bad; k++) {
            const predictor_info *a = predictor_about(g->net[i]);
            bench_config *c = add(g, MASK_CONTEXTUAL, rule, kv);
            c->p = g->net[i];
            c->batch = batch;
            c->untrained = !g->o->masks.predictor;
            c->criterion = a->criterion;
            c->refresh = (int)refresh->at[k];
            memcpy(c->scores_hash, a->hash, sizeof c->scores_hash);
            // what the decoder refuses it refuses here, before anything is timed
            const decode_options asked = {
                .predictor = c->p, .rule = *rule, .refresh = c->refresh, .kv = kv, .batch = batch};
            decode *d = decode_new(&g->model->m, &asked, 1, 1, 2);
            if (!d) bad = -1;
            decode_free(d);
        }
    return bad;
}

static void thresholds(bench_group *g, const mask_choice *choice, kv_policy kv) {
    mask_rule rule = choice->rule;
    rule.scope = SCOPE_LOCAL;
    rule.units = UNITS_NEURONS;
    bench_config *c = add(g, MASK_THRESHOLD, &rule, kv);
    c->path = choice->path;
    const threshold *of = &g->calibrated[threshold_named(choice->path)];
    c->above = threshold_at(xmalloc((size_t)g->model->m.c.L * sizeof(float)), of, &rule);
    memcpy(c->scores_hash, of->hash, sizeof c->scores_hash);
}

// A mask of its own for every sequence, of a batch in all ways to run them.
static int masks_of_each(bench_group *g, const mask_choice *choice, kv_policy kv, double **scores) {
    const cli_list *ways = &g->o->batch_masks;
    const int n = g->batch < 2 ? 1 : ways->n;
    int bad = 0;
    for (int i = 0; i < n && !bad; i++) {
        const batch_masks way = g->batch < 2 ? BATCH_OWN : (batch_masks)ways->at[i];
        bad = choice->kind == MASK_ORACLE ? oracle_masks(g, &choice->rule, kv, way, scores)
                                          : contextual_masks(g, &choice->rule, kv, way);
    }
    return bad;
}

// One mask in all scopes, at all sparsities, with all policies; of a file, which has no rule, in the first scope and
// sparsity.
static int masks_of_kind(bench_group *g, mask_choice *choice, const long *sparsity, int n_sparsities, double **scores) {
    const bench_options *o = g->o;
    // every layer has a threshold of its own, and no head is pruned
    const bool by_value = choice->kind == MASK_THRESHOLD;
    const int n_scopes = choice->kind == MASK_FILE || by_value ? 1 : o->masks.scopes.n, n_kv = by_value ? 1 : o->kv.n;
    int bad = 0;
    if (choice->kind == MASK_FILE) n_sparsities = 1;
    for (int k = 0; k < n_scopes; k++)
        for (int s = 0; s < n_sparsities; s++)
            for (int p = 0; p < n_kv && !bad; p++) {
                const kv_policy kv = (kv_policy)o->kv.at[p];
                choice->rule = mask_options_rule(&o->masks, (mask_scope)o->masks.scopes.at[k], sparsity[s]);
                if (by_value)
                    thresholds(g, choice, kv);
                else if (choice->kind == MASK_CONTEXTUAL || choice->kind == MASK_ORACLE)
                    bad = masks_of_each(g, choice, kv, scores);
                else
                    bad = fixed_mask(g, choice, kv);
            }
    return bad;
}

int bench_configs(bench_group *g) {
    const bench_options *o = g->o;
    int n_masks, n_sparsities, bad = 0;
    char **name = cli_split_files(o->masks.mask, "file:", &n_masks);
    long *sparsity = mask_parse_sparsities(o->masks.sparsity, &n_sparsities);
    double *scores = NULL;
    g->config = NULL;
    g->n = 0;
    bad = sparsity ? 0 : -1;
    for (int i = 0; i < n_masks && !bad; i++) {
        mask_choice choice = {0};
        const int kind = mask_kind_of(name[i], MASKS_ALL & ~(1u << MASK_REFERENCE), &choice.path);
        choice.kind = kind < 0 ? MASK_NONE : (mask_kind)kind;
        if (kind < 0)
            bad = -1;
        else if (kind == MASK_NONE)
            add(g, MASK_NONE, NULL, KV_COMPUTE);
        else
            bad = masks_of_kind(g, &choice, sparsity, n_sparsities, &scores);
    }
    if (!bad && g->n == 0) bad = err_set("--mask names nothing to measure");
    free(scores);
    free(sparsity);
    g->names = name;  // of mask files
    return bad;
}

void bench_configs_free(bench_group *g) {
    for (int i = 0; i < g->n; i++) {
        bench_config *c = &g->config[i];
        for (int k = 0; k < c->n_fixed; k++) mask_free(&c->fixed[k]);
        free(c->fixed);
        free((void *)(uintptr_t)c->above.least);
        free(c->prefill);
        free(c->step);
        free(c->loss);
        free(c->bandwidth);
    }
    free(g->config);
    free(g->names);
    g->config = NULL;
    g->names = NULL;
    g->n = 0;
}
