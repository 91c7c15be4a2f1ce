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
    {"model", CLI_STR, &arg.model, "DIR", "checkpoint directory", true, NULL, 0, 0},
    {"mask", CLI_STR, &arg.mask, "KIND",
     "none, random, static, contextual, oracle (heads unless --units is given), file:PATH", false, NULL, 0, 0},
    {"scores", CLI_STR, &arg.scores, "FILE",
     "aggregates (bin/aggregate) for a static mask; those over all tasks are used", false, NULL, 0, 0},
    {"criterion", CLI_STR, &arg.criterion, "NAME",
     "criterion of a static or contextual mask; default: plainact, or the only one of the predictor", false, NULL, 0,
     0},
    {"predictor", CLI_STR, &arg.predictor, "FILE", "predictor file (bin/train) for a contextual mask", false, NULL, 0,
     0},
    {"predictor-weights", CLI_STR, &arg.predictor_weights, "TYPE", "type that the predictor's weights are narrowed to",
     false, "fp32|fp16|bf16", 0, 0},
    {"scope", CLI_STR, &arg.scope, "SCOPE", "where units compete", false, "local|global|hybrid", 0, 0},
    {"local-counts", CLI_STR, &arg.local_counts, "HOW", mask_counts_help, false, "spread|floor", 0, 0},
    {"units", CLI_STR, &arg.units, "UNITS", "what is pruned", false, "heads|neurons|both", 0, 0},
    {"sparsity", CLI_STR, &arg.sparsity, "P", "percentage pruned", false, NULL, 0, 0},
    {"dense-layers", CLI_INT, &arg.dense_layers, "N", "first layers that are never pruned", false, NULL, 0, 1e6},
    {"refresh", CLI_INT, &arg.refresh, "N",
     "contextual: a new mask at every N-th token; 0: one, at the end of the context", false, NULL, 0, 1e6},
    {"text", CLI_STR, &arg.text, "FILE", "text that inputs are cut from, at seeded places; without it: random tokens",
     false, NULL, 0, 0},
    {"inputs", CLI_INT, &arg.inputs, "N", "inputs", false, NULL, 1, 10000},
    {"context", CLI_INT, &arg.context, "N", "context tokens of an input", false, NULL, 1, 1e6},
    {"steps", CLI_INT, &arg.steps, "N", "tokens that follow, one by one", false, NULL, 1, 1e6},
    {"seed", CLI_INT, &arg.seed, "N", "seed of the inputs and of a random mask", false, NULL, 0, 0},
    {"tolerance", CLI_FLOAT, &arg.tolerance, "X",
     "of differences, relative to the larger of a logit and its row's root mean square; 16-bit activations: unless "
     "given 0.0078 (fp16), 0.0625 (bf16), eight steps of the type",
     false, NULL, 1e-12, 1},
    {"mode", CLI_STR, &arg.mode, "MODE", "sound masks, or those of the published code", false, "sound|compat", 0, 0},
    {"threads", CLI_INT, &arg.threads, "N", "threads; 0: all cores", false, NULL, 0, 4096},
    {"device", CLI_STR, &arg.device, "NAME", ops_devices, false, NULL, 0, 0},
    {"activations", CLI_STR, &arg.activations, "TYPE", ops_activations, false, "fp32|fp16|bf16", 0, 0},
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
                                .compat = strcmp(arg.mode, "compat") == 0};
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
        orc = oracle_new(&loaded, rule.compat ? 0 : rule.dense_layers, (int)(arg.context + arg.steps));
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
