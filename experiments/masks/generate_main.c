// generate - text from a prompt or from each of a file: greedy or sampled, with a K/V cache, dense, with a fixed mask
// or with masks that a predictor makes. What is made of a prompt does not depend on the others of its batch, unless
// they are asked to share their masks.
#include "cli.h"
#include "decode.h"
#include "device.h"
#include "mask_options.h"
#include "prompts.h"
#include "tok_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char *model, *prompt, *prompts;
    long batch, tokens, top_k;
    double temperature, top_p;
    kv_policy kv;
    batch_masks batch_masks;
    bool no_bos, json, stats;
    mask_options masks;
    int weights;
    device_options device;
} arg = {
    .weights = -1,
    .batch = 8,
    .tokens = 64,
    .top_p = 1,
    .kv = KV_REPAIR,
    .masks = {.mask = "none", .scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = "50", .dense_layers = 1},
    .device = {.name = "cpu"},
};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory with its tokenizer",
     .required = true},
    {.name = "prompt", .type = CLI_STR, .value = &arg.prompt, .arg = "TEXT", .help = "what the text begins with"},
    {.name = "prompts",
     .type = CLI_STR,
     .value = &arg.prompts,
     .arg = "FILE",
     .help = "instead: a prompt on each line; FILE.jsonl: JSON texts, or objects with \"prompt\"; -: standard input"},
    {.name = "batch",
     .type = CLI_INT,
     .value = &arg.batch,
     .arg = "N",
     .help = "prompts at once; the texts do not depend on it, unless --batch-masks says so",
     .min = 1,
     .max = 4096},
    {.name = "json",
     .type = CLI_FLAG,
     .value = &arg.json,
     .help = "print a line of JSON for each prompt: texts, ids, and the natural logarithm of the probability that the "
             "model gave each token (before --temperature and so on)"},
    {.name = "batch-masks",
     .type = CLI_CHOICE,
     .value = &arg.batch_masks,
     .arg = "WHICH",
     .help =
         "contextual masks of a batch: each prompt its own; the union, so that each runs what any other of the batch "
         "runs; auto: of heads and neurons the union where it reads no more bytes",
     .names = batch_masks_names},
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
     .value = &arg.masks.seed,
     .arg = "N",
     .help = "seed of sampling (prompt I of a file: N + I, from 0) and of a random mask",
     .min = 0,
     .max = CLI_SEED_MAX},
    {.name = "no-bos",
     .type = CLI_FLAG,
     .value = &arg.no_bos,
     .help = "do not put the tokenizer's BOS (OPT: </s>) before the prompt"},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.masks.mask,
     .arg = "KIND",
     .help = "none, random, static, contextual, or file:PATH"},
    {.name = "kv",
     .type = CLI_CHOICE,
     .value = &arg.kv,
     .arg = "POLICY",
     .help = "K and V of dropped heads: computed, repaired when the head comes back, or skipped",
     .names = kv_policy_names},
    {.group = mask_one_rows, .value = &arg.masks},
    {.group = mask_rule_rows, .value = &arg.masks},
    {.group = mask_predictor_rows, .value = &arg.masks},
    {.name = "stats",
     .type = CLI_FLAG,
     .value = &arg.stats,
     .help = "print tokens, seconds and the effective sparsity on stderr"},
    {.group = weights_rows, .value = &arg.weights},
    {.group = device_rows, .value = &arg.device},
    {0}};

// The one mask of this run, or the predictor of its masks; a dense run has neither.
static void make_mask(mask *m, predictor **nets, const mask_choice *choice, model *loaded) {
    const mask_model of = {.name = arg.model, .hash = loaded->file.hash, .c = &loaded->c};
    if (choice->kind == MASK_NONE) return;
    if (choice->kind == MASK_CONTEXTUAL) {
        *nets = predictor_open(arg.masks.predictor, arg.masks.criterion, loaded);
        if (!*nets || predictor_narrow(*nets, (dtype)arg.masks.predictor_weights) != 0) die(1, "%s", err_get());
        return;
    }
    mask_alloc(m, &loaded->c);
    if (mask_options_make(m, &arg.masks, choice, &of) != 0) die(1, "%s", err_get());
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

// ---------------------------------------------------------------- prompts
static prompt *read_prompts(int *n) {
    prompt *p = NULL;
    *n = 0;
    if (arg.prompts) {
        if (prompts_read(&p, n, arg.prompts) != 0) die(1, "%s", err_get());
        return p;
    }
    p = xcalloc(1, sizeof *p);
    p->text = xstrdup(arg.prompt);
    p->bytes = strlen(arg.prompt);
    *n = 1;
    return p;
}

// Which prompt a message is about.
static const char *name_of(const prompt *p) {
    static char name[64];
    snprintf(name, sizeof name, p->line ? "the prompt of line %ld" : "the prompt", p->line);
    return name;
}

static void encode(prompt *p, const tok *t, const model_config *c) {
    if (!arg.no_bos && tok_first(t, c) >= 0) VEC_PUSH(p->ids, p->n, p->cap, tok_first(t, c));
    if (tok_encode(t, p->text, p->bytes, &p->ids, &p->n, &p->cap) != 0) die(1, "%s: %s", name_of(p), err_get());
    if (p->n == 0) die(2, "%s is empty and --no-bos leaves nothing to begin with", name_of(p));
    if (p->n >= c->positions)
        die(1, "%s has %d tokens, and %s only %d positions; shorten it", name_of(p), p->n, arg.model, c->positions);
    const int room = c->positions - p->n;
    p->ends = arg.tokens < room ? "tokens" : "positions";
    p->made = arg.tokens < room ? (int)arg.tokens : room;
    p->log_p = xcalloc((size_t)p->made, sizeof *p->log_p);
    p->ids = xrealloc(p->ids, (size_t)(p->n + p->made) * sizeof *p->ids);
}

// ---------------------------------------------------------------- a batch
typedef struct {
    const model *m;
    const tok *t;
    decode *d;
    candidate *c;       // [V]
    bool masked, live;  // live: print tokens as they are made
    int steps;
    double prompts_s, tokens_s;
} generator;

// The next token of place k. False: its text ends before it.
static bool next_token(generator *g, prompt *p, int k, int made, int32_t *id) {
    const bool greedy = arg.temperature == 0;
    *id = greedy ? decode_likeliest(g->d, k) : draw(decode_logits(g->d, k), g->m->c.V, &p->draws, g->c);
    if (model_ends_text(&g->m->c, *id)) {
        p->ends = "token";
        return false;
    }
    p->ids[p->n + made] = *id;
    if (arg.json) p->log_p[made] = decode_log_probability(g->d, k, *id);
    if (g->live) {
        size_t bytes;
        const char *text = tok_bytes(g->t, *id, &bytes);
        fwrite(text, 1, bytes, stdout);
        fflush(stdout);
    }
    return true;
}

// All tokens of the prompts p[n], which run side by side until each has ended.
static void run_batch(generator *g, prompt *p, int n, const mask *fixed) {
    decode_seq *s = xcalloc((size_t)n, sizeof *s);
    prompt **of = xcalloc((size_t)n, sizeof *of);  // the prompt at each place of the batch
    int32_t *next = xcalloc((size_t)n, sizeof *next);
    for (int k = 0; k < n; k++) {
        s[k] = (decode_seq){.prompt = p[k].ids, .n = p[k].n, .mask = fixed};
        of[k] = &p[k];
    }
    const double start = clock_s();
    if (decode_prompt(g->d, s, n) != 0) die(1, "%s", err_get());
    const double filled = clock_s();
    g->prompts_s += filled - start;
    for (int made = 0; n > 0; made++) {
        for (int k = 0; k < n; k++) {
            const bool more = next_token(g, of[k], k, made, &next[k]);
            if (more && made + 1 < of[k]->made) continue;
            of[k]->made = made + more;
            next[k] = -1;
            if (g->masked) mask_effective(decode_mask(g->d, k), &g->m->c, &of[k]->heads, &of[k]->neurons);
        }
        for (int k = n - 1; k >= 0; k--) {
            if (next[k] >= 0) continue;
            decode_drop(g->d, k);
            n--;
            of[k] = of[n], next[k] = next[n];
        }
        g->steps += n > 0;
        const bool greedy = arg.temperature == 0 && !arg.json;
        if (n && (greedy ? decode_step_ahead(g->d, next) : decode_step(g->d, next)) != 0) die(1, "%s", err_get());
    }
    g->tokens_s += clock_s() - filled;
    free(s);
    free(of);
    free(next);
}

static void print_prompt(const generator *g, const prompt *p, int number) {
    char *made = NULL;
    size_t all, bytes;
    FILE *f = open_memstream(&made, &all);
    for (int i = 0; i < p->made; i++) {
        const char *text = tok_bytes(g->t, p->ids[p->n + i], &bytes);
        fwrite(text, 1, bytes, f);
    }
    fclose(f);
    if (arg.json)
        prompt_write(stdout, p, number, made);
    else {
        fwrite(p->text, 1, p->bytes, stdout);
        fwrite(made, 1, all, stdout);
        fputc('\n', stdout);
    }
    fflush(stdout);
    free(made);
}

static void print_stats(const generator *g, const prompt *p, int n) {
    long prompts = 0, made = 0;
    double heads = 0, neurons = 0;
    for (int i = 0; i < n; i++) {
        prompts += p[i].n, made += p[i].made;
        heads += p[i].heads / n, neurons += p[i].neurons / n;
    }
    if (g->m->o->record) log_info("%d of %d steps were replays of a graph", decode_replayed(g->d), g->steps);
    log_info(
        "%ld prompt tokens in %.3f s, %ld tokens in %.3f s (%.1f a second); pruned: %.1f %% of the heads, %.1f %% of "
        "the neurons",
        prompts, g->prompts_s, made, g->tokens_s, (double)made / g->tokens_s, 100 * heads, 100 * neurons);
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "continues a prompt, or each of a file", options);
    mask_choice choice;
    if (mask_options_read(&choice, &arg.masks, MASKS_FIXED | 1u << MASK_CONTEXTUAL) != 0) die(2, "%s", err_get());
    if (arg.batch_masks != BATCH_OWN && choice.kind != MASK_CONTEXTUAL)
        die(2, "--batch-masks %s: prompts have masks of their own with --mask contextual only",
            batch_masks_names[arg.batch_masks]);
    if (!arg.prompt == !arg.prompts) die(2, "--prompt or --prompts is required, and not both; see --help");
    int n;
    prompt *p = read_prompts(&n);
    model m;
    const ops *device = device_open(&arg.device);
    if (!device || model_load_as(&m, arg.model, device, arg.weights) != 0) die(1, "%s", err_get());
    tok *t = tok_open_model(arg.model, &m.c);
    if (!t) die(1, "%s", err_get());
    mask units = {0};
    predictor *nets = NULL;
    const bool masked = choice.kind != MASK_NONE;
    make_mask(&units, &nets, &choice, &m);
    if (masked) model_sparse_prepare(&m);
    int longest = 0, most = 0;
    for (int i = 0; i < n; i++) {
        encode(&p[i], t, &m.c);
        p[i].draws = rng_make((uint64_t)arg.masks.seed + (uint64_t)i);
        longest = p[i].n > longest ? p[i].n : longest;
        most = p[i].n + p[i].made > most ? p[i].n + p[i].made : most;
    }
    mask_means means = {0};
    model_means *put_out = NULL;
    if (arg.masks.ablate == ABLATE_MEAN) {
        const mask_model of = {.name = arg.model, .hash = m.file.hash, .c = &m.c};
        if (mask_options_means(&means, &arg.masks, &of) != 0) die(1, "%s", err_get());
        put_out = model_means_new(&m, means.of[UNIT_HEADS], means.of[UNIT_NEURONS]);
    }
    const decode_options o = {.predictor = nets,
                              .rule = choice.rule,
                              .refresh = (int)arg.masks.refresh,
                              .kv = arg.kv,
                              .means = put_out,
                              .batch = arg.batch_masks};
    const int batch = arg.batch < n ? (int)arg.batch : n;
    generator g = {.m = &m, .t = t, .masked = masked, .live = n == 1 && !arg.json};
    if (!(g.d = decode_new(&m, &o, batch, longest, most))) die(1, "%s", err_get());
    g.c = xmalloc(sizeof *g.c * (size_t)m.c.V);
    if (g.live) fwrite(p->text, 1, p->bytes, stdout);
    for (int i = 0; i < n; i += batch) {
        const int some = n - i < batch ? n - i : batch;
        run_batch(&g, p + i, some, masked && !nets ? &units : NULL);
        for (int k = i; k < i + some && !g.live; k++) print_prompt(&g, &p[k], k);
    }
    if (g.live) fputc('\n', stdout);
    if (arg.stats) print_stats(&g, p, n);
    stdout_end();
    decode_free(g.d);
    predictor_close(nets);
    model_means_free(put_out);
    mask_means_free(&means);
    mask_free(&units);
    prompts_free(p, n);
    free(g.c);
    tok_close(t);
    model_free(&m);
    return 0;
}
