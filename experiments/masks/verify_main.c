// verify - proves on a model and a mask what the experiments rely on: that the mask acts, that the sparse passes equal
// the masked dense ones, the effective sparsity of every layer, the K/V policies, and what a predictor reads. Exit
// status 1 if anything does not hold.
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "mask_option.h"
#include "ops.h"
#include "tok.h"
#include "verify.h"

static struct {
    char *model, *mask, *scores, *criterion, *predictor, *predictor_weights, *scope, *local_counts, *units, *sparsity,
        *text, *mode, *device, *activations;
    long dense_layers, refresh, inputs, context, steps, seed, threads;
    double tolerance;
} arg = {.mask = "random",
         .criterion = "",
         .scope = "global",
         .local_counts = "spread",
         .units = "both",
         .sparsity = "50",
         .mode = "sound",
         .device = "cpu",
         .activations = "fp32",
         .dense_layers = 1,
         .inputs = 4,
         .context = 32,
         .steps = 12,
         .tolerance = 2e-4,
         .predictor_weights = "fp32"};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory",
     .required = true},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.mask,
     .arg = "KIND",
     .help = "none, random, static, contextual, oracle (heads unless --units is given), file:PATH"},
    {.name = "scores",
     .type = CLI_STR,
     .value = &arg.scores,
     .arg = "FILE",
     .help = "aggregates (bin/aggregate) for a static mask; those over all tasks are used"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.criterion,
     .arg = "NAME",
     .help = "criterion of a static or contextual mask; default: plainact, or the only one of the predictor"},
    {.name = "predictor",
     .type = CLI_STR,
     .value = &arg.predictor,
     .arg = "FILE",
     .help = "predictor file (bin/train) for a contextual mask"},
    {.name = "predictor-weights",
     .type = CLI_STR,
     .value = &arg.predictor_weights,
     .arg = "TYPE",
     .help = "type that the predictor's weights are narrowed to",
     .choices = "fp32|fp16|bf16"},
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
     .max = 1e6},
    {.name = "refresh",
     .type = CLI_INT,
     .value = &arg.refresh,
     .arg = "N",
     .help = "contextual: a new mask at every N-th token; 0: one, at the end of the context",
     .max = 1e6},
    {.name = "text",
     .type = CLI_STR,
     .value = &arg.text,
     .arg = "FILE",
     .help = "text that inputs are cut from, at seeded places; without it: random tokens"},
    {.name = "inputs", .type = CLI_INT, .value = &arg.inputs, .arg = "N", .help = "inputs", .min = 1, .max = 10000},
    {.name = "context",
     .type = CLI_INT,
     .value = &arg.context,
     .arg = "N",
     .help = "context tokens of an input",
     .min = 1,
     .max = 1e6},
    {.name = "steps",
     .type = CLI_INT,
     .value = &arg.steps,
     .arg = "N",
     .help = "tokens that follow, one by one",
     .min = 1,
     .max = 1e6},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.seed,
     .arg = "N",
     .help = "seed of the inputs and of a random mask",
     .max = CLI_SEED_MAX},
    {.name = "tolerance",
     .type = CLI_FLOAT,
     .value = &arg.tolerance,
     .arg = "X",
     .help =
         "of differences, relative to the larger of a logit and its row's root mean square; 16-bit activations: unless "
         "given 0.0078 (fp16), 0.0625 (bf16), eight steps of the type",
     .min = 1e-12,
     .max = 1},
    {.name = "mode",
     .type = CLI_STR,
     .value = &arg.mode,
     .arg = "MODE",
     .help = "sound masks, or those of the published code",
     .choices = "sound|compat"},
    {.name = "threads",
     .type = CLI_INT,
     .value = &arg.threads,
     .arg = "N",
     .help = "threads; 0: all cores",
     .max = 4096},
    {.name = "device", .type = CLI_STR, .value = &arg.device, .arg = "NAME", .help = ops_devices},
    {.name = "activations",
     .type = CLI_STR,
     .value = &arg.activations,
     .arg = "TYPE",
     .help = ops_activations,
     .choices = "fp32|fp16|bf16"},
    {0}};

// Inputs of context + steps tokens, after </s> where they come from a text.
static verify_input *make_inputs(const model *loaded, int32_t **pool) {
    const int n = (int)arg.inputs, length = (int)(arg.context + arg.steps);
    verify_input *in = xcalloc((size_t)n, sizeof *in);
    int32_t *id = NULL;
    int count = 0, cap = 0;
    rng r = rng_make((uint64_t)arg.seed);
    if (length > loaded->c.positions)
        die(2, "--context %ld and --steps %ld: the model has %d positions", arg.context, arg.steps,
            loaded->c.positions);
    if (arg.text) {
        size_t bytes;
        char *text = file_read(arg.text, &bytes);
        tok *t = text ? tok_open(arg.model, loaded->c.V) : NULL;
        if (!t || tok_encode(t, text, bytes, &id, &count, &cap)) die(1, "%s", err_get());
        if (count < length) die(1, "%s: %d tokens; an input takes %d", arg.text, count, length);
        tok_close(t);
        free(text);
    }
    *pool = xmalloc((size_t)n * (size_t)length * sizeof **pool);
    for (int i = 0; i < n; i++) {
        int32_t *to = *pool + (size_t)i * (size_t)length;
        const size_t at = arg.text ? (size_t)rng_below(&r, (uint64_t)(count - length + 1)) : 0;
        for (int t = 0; t < length; t++)
            to[t] = arg.text ? id[at + (size_t)t] : (int32_t)rng_below(&r, (uint64_t)loaded->c.V);
        in[i] = (verify_input){to, length, (int)arg.context};
    }
    free(id);
    return in;
}

int main(int argc, char **argv) {
    static const char kinds[] = "none, random, static, contextual, oracle, file:PATH";
    model loaded = {0};
    mask m = {0};
    int32_t *pool;
    cli_parse(argc, argv,
              "proves on a model and a mask that the mask acts, that sparse passes equal masked dense ones, and what "
              "is pruned",
              options);
    if (arg.threads) omp_set_num_threads((int)arg.threads);
    const long sparsity = mask_parse_sparsity(arg.sparsity);
    if (sparsity < 0) die(2, "--sparsity: %s", err_get());
    if (strcmp(arg.mask, "oracle") == 0 && !cli_given(options, "units")) arg.units = "heads";
    const mask_option option = {.model = arg.model,
                                .scores = arg.scores,
                                .criterion = *arg.criterion ? arg.criterion : "plainact",
                                .scope = arg.scope,
                                .units = arg.units,
                                .local_counts = arg.local_counts,
                                .dense_layers = arg.dense_layers,
                                .seed = (uint64_t)arg.seed,
                                .mode = mode_named(arg.mode)};
    const mask_rule rule = mask_option_rule(&option, sparsity);
    const bool file = strncmp(arg.mask, "file:", 5) == 0, contextual_mask_wanted = strcmp(arg.mask, "contextual") == 0;
    const bool fixed = file || strcmp(arg.mask, "none") == 0 || strcmp(arg.mask, "random") == 0 ||
                       strcmp(arg.mask, "static") == 0,
               oracle_wanted = strcmp(arg.mask, "oracle") == 0;
    if (!fixed && !contextual_mask_wanted && !oracle_wanted) die(2, "--mask %s: not one of %s", arg.mask, kinds);
    if (contextual_mask_wanted && !arg.predictor)
        die(2, "--mask contextual needs --predictor FILE, which bin/train writes");
    if (strcmp(arg.mask, "static") == 0 && !arg.scores)
        die(2, "--mask static needs --scores FILE, which bin/aggregate writes");
    // two orders of a sum round an activation to two neighbours now and then
    if (!cli_given(options, "tolerance") && strcmp(arg.activations, "fp32") != 0)
        arg.tolerance = 8 * (strcmp(arg.activations, "fp16") == 0 ? 0x1p-10 : 0x1p-7);
    const ops *o = ops_open_as(arg.device, arg.activations);
    if (!o || model_load_on(&loaded, arg.model, o)) die(1, "%s", err_get());
    if (arg.dense_layers > loaded.c.L)
        die(2, "--dense-layers %ld: the model has %d layers", arg.dense_layers, loaded.c.L);
    model_sparse_prepare(&loaded);
    mask_alloc(&m, &loaded.c);
    mask_source source = {.fixed = &m};
    contextual_source context = {.span = SPAN_DECODE};
    oracle *orc = NULL;
    if (fixed && mask_option_make(&m, arg.mask, &option, sparsity, &loaded.c, loaded.file.hash))
        die(1, "%s", err_get());
    if (oracle_wanted) {
        orc = oracle_new(&loaded, rule.mode == MODE_COMPAT ? 0 : rule.dense_layers);
        source = oracle_source(orc);
    }
    if (contextual_mask_wanted) {
        if (!(context.p = predictor_open(arg.predictor, *arg.criterion ? arg.criterion : NULL, &loaded)))
            die(1, "%s", err_get());
        if (predictor_narrow(context.p, (dtype)dtype_of_option(arg.predictor_weights)) != 0 ||
            predictor_place(context.p, loaded.o) != 0)
            die(1, "%s", err_get());
        source = (mask_source){.context = &context};
    }
    verify_input *in = make_inputs(&loaded, &pool);
    printf("%s, %s mask, %ld inputs of %ld + %ld tokens\n", arg.model, arg.mask, arg.inputs, arg.context, arg.steps);
    const verify_what what = {&loaded, &source, file || strcmp(arg.mask, "none") == 0 ? NULL : &rule, (int)arg.refresh,
                              arg.tolerance};
    const int failed = verify_run(&what, in, (int)arg.inputs, stdout);
    if (failed < 0) die(1, "%s", err_get());
    if (failed)
        printf("\n%d checks do not hold\n", failed);
    else
        printf("\neverything holds\n");
    stdout_end();
    predictor_close(context.p);
    oracle_free(orc);
    mask_free(&m);
    free(in);
    free(pool);
    model_free(&loaded);
    return failed ? 1 : 0;
}
