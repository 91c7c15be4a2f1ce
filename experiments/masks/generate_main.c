// generate - text from a prompt: greedy or sampled, with a K/V cache, dense, with a fixed mask or with masks that a
// predictor makes.
#include "cli.h"
#include "decode.h"
#include "device.h"
#include "mask_options.h"
#include "tok_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char *model, *prompt;
    long tokens, top_k;
    double temperature, top_p;
    kv_policy kv;
    bool no_bos, stats;
    mask_options masks;
    int weights;
    device_options device;
} arg = {
    .weights = -1,
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
     .value = &arg.masks.seed,
     .arg = "N",
     .help = "seed of sampling and of a random mask",
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

int main(int argc, char **argv) {
    cli_parse(argc, argv, "continues a prompt", options);
    mask_choice choice;
    if (mask_options_read(&choice, &arg.masks, MASKS_FIXED | 1u << MASK_CONTEXTUAL) != 0) die(2, "%s", err_get());
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
    int32_t *ids = NULL;
    int n = 0, cap = 0;
    if (!arg.no_bos && tok_first(t, &m.c) >= 0) VEC_PUSH(ids, n, cap, tok_first(t, &m.c));
    if (tok_encode(t, arg.prompt, strlen(arg.prompt), &ids, &n, &cap) != 0) die(1, "%s", err_get());
    if (n == 0) die(2, "--prompt is empty and --no-bos leaves nothing to begin with");
    if (n >= m.c.positions)
        die(1, "the prompt has %d tokens, and %s only %d positions; shorten it", n, arg.model, m.c.positions);
    const int room = m.c.positions - n, most = arg.tokens < room ? (int)arg.tokens : room, prompt = n;
    mask_means means = {0};
    model_means *put_out = NULL;
    if (arg.masks.ablate == ABLATE_MEAN) {
        const mask_model of = {.name = arg.model, .hash = m.file.hash, .c = &m.c};
        if (mask_options_means(&means, &arg.masks, &of) != 0) die(1, "%s", err_get());
        put_out = model_means_new(&m, means.of[UNIT_HEADS], means.of[UNIT_NEURONS]);
    }
    const decode_options o = {
        .predictor = nets, .rule = choice.rule, .refresh = (int)arg.masks.refresh, .kv = arg.kv, .means = put_out};
    decode *d = decode_new(&m, &o, 1, n, n + most);
    if (!d) die(1, "%s", err_get());
    candidate *c = xmalloc(sizeof *c * (size_t)m.c.V);
    rng r = rng_make((uint64_t)arg.masks.seed);
    const decode_seq s = {.prompt = ids, .n = n, .mask = masked && !nets ? &units : NULL};
    const double start = clock_s();
    if (decode_prompt(d, &s, 1) != 0) die(1, "%s", err_get());
    const double filled = clock_s();
    fputs(arg.prompt, stdout);
    int made = 0;
    while (made < most) {
        const int32_t id = arg.temperature == 0 ? decode_likeliest(d, 0) : draw(decode_logits(d, 0), m.c.V, &r, c);
        if (model_ends_text(&m.c, id)) break;
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
    model_means_free(put_out);
    mask_means_free(&means);
    mask_free(&units);
    free(ids);
    free(c);
    tok_close(t);
    model_free(&m);
    return 0;
}
