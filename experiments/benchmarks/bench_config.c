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
    for (int k = 0; k < 2; k++) a.has[k] = mask_rule_prunes(rule, (unit_kind)k);
    a.per_layer = design == PREDICTOR_DEJAVU || design == PREDICTOR_LOWRANK;
    a.lag = a.per_layer && c->L > 1;
    a.mode = rule->mode;
    a.state[0] = a.per_layer ? STATE_RESIDUAL : STATE_HEAD_OUTPUT;
    a.state[1] = design == PREDICTOR_LOWRANK ? STATE_MID : a.state[0];
    return a;
}

static int whole(const char *text, int least, const char *option) {
    char *end;
    const long x = strtol(text, &end, 10);
    if (end == text || *end || x < least || x > 1 << 24)
        return err_set("--%s %s: a whole number of at least %d is wanted", option, text, least);
    return (int)x;
}

static int design_of(const char *name) {
    for (int k = 0; predictor_design_names[k]; k++)
        if (strcmp(predictor_design_names[k], name) == 0) return k;
    return err_set("--design %s: not one of shadow, dejavu, dejavu-lowrank, sequence", name);
}

static mask_rule rule_of(const bench_options *o, const char *scope, long sparsity) {
    const mask_option m = {.scope = scope,
                           .units = o->units,
                           .local_counts = o->local_counts,
                           .dense_layers = o->dense_layers,
                           .mode = mode_named(o->mode)};
    return mask_option_rule(&m, sparsity);
}

static bool asks(const bench_options *o, const char *kind) {
    int n;
    char **name = cli_split(o->mask, &n);
    bool found = false;
    for (int i = 0; i < n; i++) found |= strcmp(name[i], kind) == 0;
    free(name);
    return found;
}

// fn for every untrained predictor that is asked for.
typedef int net_fn(void *ctx, const predictor_info *a);
static int each_untrained(const bench_options *o, const model_config *c, net_fn *fn, void *ctx) {
    int n_designs, n_hidden, bad = 0;
    char **design = cli_split(o->design, &n_designs), **hidden = cli_split(o->hidden, &n_hidden);
    const mask_rule rule = rule_of(o, "local", 0);
    for (int i = 0; i < n_designs && !bad; i++)
        for (int k = 0; k < n_hidden && !bad; k++) {
            const int which = design_of(design[i]), width = whole(hidden[k], 1, "hidden");
            if ((bad = which < 0 || width < 0 ? -1 : 0)) break;
            const predictor_info a = untrained(c, (predictor_design)which, width, &rule);
            bad = fn(ctx, &a);
        }
    if (!bad && n_designs * n_hidden == 0) bad = err_set("--design and --hidden name no predictor");
    free(design);
    free(hidden);
    return bad;
}

dtype bench_predictor_type(const bench_options *o, const char *weights) {
    const int type = dtype_of_option(o->predictor_weights ? o->predictor_weights : weights);
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
    for (int k = 0; k < 2; k++)
        if (a->has[k])
            weights += nets * (a->hidden[k] * (E + 1) + (a->hidden[k] + 1) * layers * (k ? a->F : a->H) +
                               (a->design == PREDICTOR_SEQUENCE ? 4 * E * (E + 1) : 0));
    count_weights(ctx, weights);
    return 0;
}

double bench_predictor_bytes(const bench_options *o, const model_config *c, dtype type) {
    weight_count count = {0};
    if (!asks(o, "contextual")) return 0;
    if (!o->predictor) {
        if (each_untrained(o, c, count_net, &count) != 0) return -1;
    } else {
        int n;
        char **path = cli_split(o->predictor, &n);
        for (int i = 0; i < n; i++) {
            FILE *f = fopen(path[i], "rb");
            if (f && fseek(f, 0, SEEK_END) == 0) count_weights(&count, (double)ftell(f) / (double)dtype_bytes(DT_F32));
            if (f) fclose(f);
        }
        free(path);
    }
    return count.all * (double)dtype_bytes(type) + (type == DT_F32 ? 0 : count.largest * (double)dtype_bytes(DT_F32));
}

static int keep(bench_group *g, predictor *p) {
    if (!p) return -1;
    VEC_PUSH(g->net, g->n_nets, g->cap_nets, p);
    return predictor_narrow(p, bench_predictor_type(g->o, g->model->weights));
}

// Untrained nets of a GPU are drawn there.
static int make_net(void *ctx, const predictor_info *a) {
    bench_group *g = ctx;
    const uint64_t seed = (uint64_t)g->o->seed;
    return keep(g, g->device->host
                       ? predictor_new(a, seed)
                       : predictor_new_on(a, seed, bench_predictor_type(g->o, g->model->weights), g->device));
}

int bench_predictors(bench_group *g) {
    const bench_options *o = g->o;
    if (!asks(o, "contextual")) return 0;
    if (!o->predictor) return each_untrained(o, &g->model->m.c, make_net, g);
    int n, bad = 0;
    char **path = cli_split(o->predictor, &n);
    for (int i = 0; i < n && !bad; i++) {
        bad = g->model->is_random ? err_set("--predictor %s: random weights have no trained predictor; give --model, "
                                            "or --design and --hidden",
                                            path[i])
                                  : keep(g, predictor_open(path[i], o->criterion, &g->model->m));
    }
    free(path);
    return bad;
}

// ---------------------------------------------------------------- configurations
static bench_config *add(bench_group *g, const char *kind, const mask_rule *rule, kv_policy kv) {
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

static int fixed_mask(bench_group *g, const char *kind, const char *name, const char *scope, const mask_rule *rule,
                      kv_policy kv) {
    const bench_options *o = g->o;
    bench_config *c = add(g, kind, strcmp(kind, "file") ? rule : NULL, kv);
    const bool is_static = strcmp(kind, "static") == 0;
    if (is_static && !o->scores && !g->model->is_random)
        return err_set("--mask static needs --scores FILE, which bin/aggregate writes");
    c->path = strncmp(name, "file:", 5) == 0 ? name + 5 : NULL;
    c->criterion = NULL;
    if (is_static && o->scores) c->criterion = o->criterion ? o->criterion : "plainact";
    fix(g, c, 1);
    const mask_option m = {.model = g->model->name,
                           .scores = o->scores,
                           .criterion = c->criterion,
                           .scope = scope,
                           .units = o->units,
                           .local_counts = o->local_counts,
                           .dense_layers = o->dense_layers,
                           .seed = (uint64_t)o->seed,
                           .mode = rule->mode};
    // nothing is known about random weights: a static mask of theirs keeps what a seed says
    if (mask_option_make(&c->fixed[0], is_static && !o->scores ? "random" : name, &m, rule->sparsity, &g->model->m.c,
                         g->model->m.file.hash) != 0)
        return -1;
    // the published FFN mask never acts
    if (rule->mode == MODE_COMPAT && c->path)
        memset(c->fixed[0].neurons, 1, (size_t)g->model->m.c.L * (size_t)g->model->m.c.F);
    mask_hash(c->scores_hash, &c->fixed[0], &g->model->m.c);
    return 0;
}

// Scores for every sequence's own prompt: exact removal where there is a trained model; random weights have none that
// mean anything, and get seeded ones.
static double *oracle_scores(bench_group *g) {
    const model_config *c = &g->model->m.c;
    const size_t heads = (size_t)c->L * (size_t)c->H, each = heads + (size_t)c->L * (size_t)c->F;
    double *score = xcalloc((size_t)g->batch * each, sizeof *score);
    const mask_rule rule = rule_of(g->o, "local", 0);
    oracle *exact = g->model->is_random ? NULL : oracle_new(&g->model->m, rule.dense_layers);
    if (exact)
        log_info("oracle masks: exact removal on %d prompt%s, as much work as %.3g tokens", g->batch,
                 g->batch > 1 ? "s" : "", g->batch * oracle_cost(c, rule.dense_layers, rule.units, g->prompt));
    for (int i = 0; i < g->batch; i++) {
        double *to = score + (size_t)i * each;
        if (!exact) {
            mask_random_scores(to, to + heads, c, rng_hash((uint64_t)g->o->seed, (uint64_t)i, 0x6f7261636c65));
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

static int oracle_masks(bench_group *g, const mask_rule *rule, kv_policy kv, double **scores) {
    const model_config *m = &g->model->m.c;
    const size_t heads = (size_t)m->L * (size_t)m->H, each = heads + (size_t)m->L * (size_t)m->F;
    bench_config *c = add(g, "oracle", rule, kv);
    if (!g->model->is_random && g->prompt < 2)
        return err_set("--mask oracle needs prompts of two tokens or more: what a unit is worth is read off the loss");
    fix(g, c, g->batch);
    c->criterion = g->model->is_random ? NULL : "removal";
    if (!*scores) *scores = oracle_scores(g);
    char all[BENCH_FIELD * 2] = "";
    for (int i = 0; i < g->batch; i++) {
        const double *s = *scores + (size_t)i * each;
        char hash[33];
        if (mask_make(&c->fixed[i], m, s, s + heads, rule) != 0) return -1;
        mask_hash(hash, &c->fixed[i], m);
        strcat(memcpy(all, c->scores_hash, sizeof c->scores_hash), hash);
        hash_bytes(c->scores_hash, all, strlen(all));
    }
    return 0;
}

static int contextual_masks(bench_group *g, const mask_rule *rule, kv_policy kv) {
    int n, bad = 0;
    char **refresh = cli_split(g->o->refresh, &n);
    for (int i = 0; i < g->n_nets && !bad; i++)
        for (int k = 0; k < n && !bad; k++) {
            const predictor_info *a = predictor_about(g->net[i]);
            bench_config *c = add(g, "contextual", rule, kv);
            c->p = g->net[i];
            c->untrained = !g->o->predictor;
            c->criterion = a->criterion;
            memcpy(c->scores_hash, a->hash, sizeof c->scores_hash);
            if ((c->refresh = whole(refresh[k], 0, "refresh")) < 0) bad = -1;
            if (bad) break;
            // what the decoder refuses it refuses here, before anything is timed
            decode *d = decode_new(&g->model->m,
                                   &(decode_options){.predictor = c->p, .rule = *rule, .refresh = c->refresh, .kv = kv},
                                   1, 1, 2);
            if (!d) bad = -1;
            decode_free(d);
        }
    free(refresh);
    return bad;
}

static const char masks[] = "none, random, static, contextual, oracle, file:PATH";

static int masks_of_rule(bench_group *g, const char *scope, const mask_rule *rule, kv_policy kv, const char *name,
                         double **scores) {
    static const char *const kinds[] = {"random", "static", "contextual", "oracle"};
    if (strcmp(name, kinds[2]) == 0) return contextual_masks(g, rule, kv);
    if (strcmp(name, kinds[3]) == 0) return oracle_masks(g, rule, kv, scores);
    for (int k = 0; k < 2; k++)
        if (strcmp(name, kinds[k]) == 0) return fixed_mask(g, kinds[k], name, scope, rule, kv);
    return err_set("--mask %s: not one of %s", name, masks);
}

int bench_configs(bench_group *g) {
    const bench_options *o = g->o;
    int n_masks, n_scopes, n_sparsities, n_kv, bad = 0;
    char **name = cli_split(o->mask, &n_masks), **scope = cli_split(o->scope, &n_scopes),
         **policy = cli_split(o->kv, &n_kv);
    long *sparsity = mask_parse_sparsities(o->sparsity, &n_sparsities);
    double *scores = NULL;
    g->config = NULL;
    g->n = 0;
    bad = sparsity ? 0 : -1;
    for (int i = 0; i < n_masks && !bad; i++) {
        if (strcmp(name[i], "none") == 0) {
            add(g, "none", NULL, KV_COMPUTE);
            continue;
        }
        const bool file = strncmp(name[i], "file:", 5) == 0;
        for (int k = 0; k < n_scopes && !bad; k++)
            for (int s = 0; s < n_sparsities && !bad; s++)
                for (int p = 0; p < n_kv && !bad; p++) {
                    kv_policy kv = KV_COMPUTE;
                    mask_scope at = SCOPE_LOCAL;
                    while (kv <= KV_SKIP && strcmp(kv_policy_names[kv], policy[p]) != 0) kv++;
                    while (at <= SCOPE_HYBRID && strcmp(mask_scope_names[at], scope[k]) != 0) at++;
                    if (kv > KV_SKIP)
                        bad = err_set("--kv %s: not one of compute, repair, skip", policy[p]);
                    else if (at > SCOPE_HYBRID)
                        bad = err_set("--scope %s: not one of local, global, hybrid", scope[k]);
                    if (bad) break;
                    const mask_rule rule = rule_of(o, scope[k], sparsity[s]);
                    if (!file)
                        bad = masks_of_rule(g, scope[k], &rule, kv, name[i], &scores);
                    else if (k == 0 && s == 0)
                        bad = fixed_mask(g, "file", name[i], scope[k], &rule, kv);
                }
    }
    if (!bad && g->n == 0)
        bad = err_set("--mask, --scope, --sparsity and --kv name nothing to measure; masks are %s", masks);
    void *blocks[] = {scores, sparsity, scope, policy};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    g->names = name;  // of mask files
    return bad;
}

void bench_configs_free(bench_group *g) {
    for (int i = 0; i < g->n; i++) {
        bench_config *c = &g->config[i];
        for (int k = 0; k < c->n_fixed; k++) mask_free(&c->fixed[k]);
        free(c->fixed);
        free(c->prefill);
        free(c->step);
        free(c->bandwidth);
    }
    free(g->config);
    free(g->names);
    g->config = NULL;
    g->names = NULL;
    g->n = 0;
}
