// generate - text from a prompt: greedy or sampled, with a K/V cache, dense, with a fixed mask or with masks that a
// predictor makes.
#include "cli.h"
#include "decode.h"
#include "mask_option.h"
#include "ops.h"
#include "tok.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char *model, *device, *activations, *prompt, *mask, *scores, *criterion, *predictor, *predictor_weights, *scope,
        *local_counts, *units, *sparsity, *kv;
    long tokens, top_k, seed, threads, dense_layers, refresh;
    double temperature, top_p;
    bool no_bos, stats;
} arg = {.device = "cpu",
         .activations = "fp32",
         .tokens = 64,
         .top_p = 1,
         .mask = "none",
         .criterion = "plainact",
         .scope = "global",
         .local_counts = "spread",
         .units = "both",
         .sparsity = "50",
         .dense_layers = 1,
         .kv = "repair",
         .predictor_weights = "fp32"};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory with its tokenizer",
     .required = true},
    {.name = "prompt",
     .type = CLI_STR,
     .value = &arg.prompt,
     .arg = "TEXT",
     .help = "what the text begins with",
     .required = true},
    {.name = "tokens",
     .type = CLI_INT,
     .value = &arg.tokens,
     .arg = "N",
     .help = "tokens to generate; ends earlier at </s> or the last position",
     .min = 1,
     .max = 1e6},
    {.name = "temperature",
     .type = CLI_FLOAT,
     .value = &arg.temperature,
     .arg = "X",
     .help = "0: greedy; else logits are divided by it and sampled",
     .min = 0,
     .max = 100},
    {.name = "top-k",
     .type = CLI_INT,
     .value = &arg.top_k,
     .arg = "N",
     .help = "sample among the N likeliest; 0: all",
     .min = 0,
     .max = 1e6},
    {.name = "top-p",
     .type = CLI_FLOAT,
     .value = &arg.top_p,
     .arg = "X",
     .help = "sample among the likeliest that make up this probability",
     .min = 0.0001,
     .max = 1},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.seed,
     .arg = "N",
     .help = "seed of sampling and of a random mask",
     .min = 0,
     .max = CLI_SEED_MAX},
    {.name = "no-bos", .type = CLI_FLAG, .value = &arg.no_bos, .help = "do not put </s> before the prompt"},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.mask,
     .arg = "KIND",
     .help = "none, random, static, contextual, or file:PATH"},
    {.name = "scores",
     .type = CLI_STR,
     .value = &arg.scores,
     .arg = "FILE",
     .help = "aggregates (bin/aggregate) for a static mask; those over all tasks are used"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.criterion,
     .arg = "NAME",
     .help = "criterion of a static mask, or of the predictor's nets"},
    {.name = "predictor",
     .type = CLI_STR,
     .value = &arg.predictor,
     .arg = "FILE",
     .help = "predictor (bin/train) of a contextual mask"},
    {.name = "predictor-weights",
     .type = CLI_STR,
     .value = &arg.predictor_weights,
     .arg = "TYPE",
     .help = "type that the predictor's weights are narrowed to",
     .choices = "fp32|fp16|bf16"},
    {.name = "refresh",
     .type = CLI_INT,
     .value = &arg.refresh,
     .arg = "K",
     .help = "contextual: a new mask at every K-th token; 0: one, at the end of the prompt",
     .min = 0,
     .max = 1e6},
    {.name = "kv",
     .type = CLI_STR,
     .value = &arg.kv,
     .arg = "POLICY",
     .help = "K and V of dropped heads: computed, repaired when the head comes back, or skipped",
     .choices = "compute|repair|skip"},
    {.name = "scope",
     .type = CLI_STR,
     .value = &arg.scope,
     .arg = "SCOPE",
     .help = "where units compete",
     .choices = "local|global|hybrid"},
    {.name = "local-counts",
     .type = CLI_STR,
     .value = &arg.local_counts,
     .arg = "HOW",
     .help = mask_counts_help,
     .choices = "spread|floor"},
    {.name = "units",
     .type = CLI_STR,
     .value = &arg.units,
     .arg = "UNITS",
     .help = "what is pruned",
     .choices = "heads|neurons|both"},
    {.name = "sparsity", .type = CLI_STR, .value = &arg.sparsity, .arg = "P", .help = "percentage pruned"},
    {.name = "dense-layers",
     .type = CLI_INT,
     .value = &arg.dense_layers,
     .arg = "N",
     .help = "first layers that are never pruned",
     .min = 0,
     .max = 1e6},
    {.name = "stats",
     .type = CLI_FLAG,
     .value = &arg.stats,
     .help = "print tokens, seconds and the effective sparsity on stderr"},
    {.name = "device", .type = CLI_STR, .value = &arg.device, .arg = "NAME", .help = ops_devices},
    {.name = "activations",
     .type = CLI_STR,
     .value = &arg.activations,
     .arg = "TYPE",
     .help = ops_activations,
     .choices = "fp32|fp16|bf16"},
    {.name = "threads",
     .type = CLI_INT,
     .value = &arg.threads,
     .arg = "N",
     .help = "threads; 0: all cores",
     .min = 0,
     .max = 4096},
    {0}};

static predictor *nets;
static mask_rule rule;

// The one mask of this run, or the predictor of its masks; false: dense.
static bool make_mask(mask *m, model *loaded) {
    const mask_option o = {.model = arg.model,
                           .scores = arg.scores,
                           .criterion = arg.criterion,
                           .scope = arg.scope,
                           .local_counts = arg.local_counts,
                           .units = arg.units,
                           .dense_layers = arg.dense_layers,
                           .seed = (uint64_t)arg.seed};
    const long sparsity = mask_parse_sparsity(arg.sparsity);
    if (sparsity < 0) die(2, "--sparsity: %s", err_get());
    if (strcmp(arg.mask, "none") == 0) return false;
    rule = mask_option_rule(&o, sparsity);
    if (strcmp(arg.mask, "contextual") == 0) {
        if (!arg.predictor) die(2, "--mask contextual needs --predictor FILE, which bin/train writes");
        if (!(nets = predictor_open(arg.predictor,
                                    arg.criterion && cli_given(options, "criterion") ? arg.criterion : NULL, loaded)))
            die(1, "%s", err_get());
        if (predictor_narrow(nets, (dtype)dtype_of_option(arg.predictor_weights)) != 0) die(1, "%s", err_get());
        return true;
    }
    mask_alloc(m, &loaded->c);
    const bool kind =
        strcmp(arg.mask, "random") == 0 || strcmp(arg.mask, "static") == 0 || strncmp(arg.mask, "file:", 5) == 0;
    if (!kind) die(2, "--mask %s: not one of none, random, static, contextual, file:PATH", arg.mask);
    if (strcmp(arg.mask, "static") == 0 && !arg.scores)
        die(2, "--mask static needs --scores FILE, which bin/aggregate writes");
    if (mask_option_make(m, arg.mask, &o, sparsity, &loaded->c, loaded->file.hash) != 0) die(1, "%s", err_get());
    return true;
}

typedef struct {
    float logit;
    int32_t id;
} candidate;
static int likelier(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit) : (x->id > y->id) - (x->id < y->id);
}

static int32_t draw(const float *logits, int V, rng *r, candidate *c) {
    for (int i = 0; i < V; i++) c[i] = (candidate){logits[i], i};
    qsort(c, (size_t)V, sizeof *c, likelier);
    int n = arg.top_k && arg.top_k < V ? (int)arg.top_k : V;
    double total = 0, kept = 0;
    for (int i = 0; i < n; i++) total += exp((double)(c[i].logit - c[0].logit) / arg.temperature);
    int m = 0;
    while (m < n && kept < arg.top_p * total) kept += exp((double)(c[m++].logit - c[0].logit) / arg.temperature);
    double at = rng_uniform(r) * kept;
    for (int i = 0; i < m; i++)
        if ((at -= exp((double)(c[i].logit - c[0].logit) / arg.temperature)) < 0) return c[i].id;
    return c[m - 1].id;
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "continues a prompt with an OPT model", options);
    if (arg.threads) omp_set_num_threads((int)arg.threads);
    model m;
    const ops *device = ops_open_as(arg.device, arg.activations);
    if (!device || model_load_on(&m, arg.model, device) != 0) die(1, "%s", err_get());
    tok *t = tok_open(arg.model, m.c.V);
    if (!t) die(1, "%s", err_get());
    mask units = {0};
    const bool masked = make_mask(&units, &m);
    if (masked) model_sparse_prepare(&m);
    int32_t *ids = NULL;
    int n = 0, cap = 0;
    if (!arg.no_bos) VEC_PUSH(ids, n, cap, m.c.bos);
    if (tok_encode(t, arg.prompt, strlen(arg.prompt), &ids, &n, &cap) != 0) die(1, "%s", err_get());
    if (n == 0) die(2, "--prompt is empty and --no-bos leaves nothing to begin with");
    if (n >= m.c.positions)
        die(1, "the prompt has %d tokens, and %s only %d positions; shorten it", n, arg.model, m.c.positions);
    const int room = m.c.positions - n, most = arg.tokens < room ? (int)arg.tokens : room, prompt = n;
    decode_options o = {.predictor = nets, .rule = rule, .refresh = (int)arg.refresh};
    while (strcmp(kv_policy_names[o.kv], arg.kv) != 0) o.kv++;
    decode *d = decode_new(&m, &o, 1, n, n + most);
    if (!d) die(1, "%s", err_get());
    candidate *c = xmalloc(sizeof *c * (size_t)m.c.V);
    rng r = rng_make((uint64_t)arg.seed);
    const decode_seq s = {.prompt = ids, .n = n, .mask = masked && !nets ? &units : NULL};
    const double start = clock_s();
    if (decode_prompt(d, &s, 1) != 0) die(1, "%s", err_get());
    const double filled = clock_s();
    fputs(arg.prompt, stdout);
    int made = 0;
    while (made < most) {
        const int32_t id = arg.temperature == 0 ? decode_likeliest(d, 0) : draw(decode_logits(d, 0), m.c.V, &r, c);
        if (id == m.c.eos) break;
        made++;
        size_t bytes;
        const char *text = tok_bytes(t, id, &bytes);
        fwrite(text, 1, bytes, stdout);
        fflush(stdout);
        if (made == most) break;
        if (decode_step(d, &id) != 0) die(1, "%s", err_get());
    }
    fputc('\n', stdout);
    if (arg.stats) {
        double heads = 0, neurons = 0;
        if (device->record)
            log_info("%d of %d steps were replays of a graph", decode_replayed(d), made > 0 ? made - 1 : 0);
        if (masked) mask_effective(decode_mask(d, 0), &m.c, &heads, &neurons);
        log_info("%d prompt tokens in %.3f s, %d tokens in %.3f s (%.1f a second); pruned: %.1f %% of the heads, %.1f "
                 "%% of the neurons",
                 prompt, filled - start, made, clock_s() - filled, made / (clock_s() - filled), 100 * heads,
                 100 * neurons);
    }
    stdout_end();
    decode_free(d);
    predictor_close(nets);
    mask_free(&units);
    free(ids);
    free(c);
    tok_close(t);
    model_free(&m);
    return 0;
}
