// bench - time of a prompt and of each token after it, for the dense model and for masks of every source, beside the
// bytes that had to be read and the bandwidth of the memory in the same run. It times the decoder that generation and
// evaluation run (decode.h).
#include "bench.h"
#include "cli.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static bench_options arg = {.mask = "none,static,contextual",
                            .design = "shadow,dejavu",
                            .hidden = "1024",
                            .scope = "local",
                            .local_counts = "spread",
                            .units = "both",
                            .sparsity = "50",
                            .refresh = "0",
                            .kv = "repair",
                            .mode = "sound",
                            .prompt = "128",
                            .tokens = "128",
                            .batch = "1",
                            .device = "cpu",
                            .activations = "fp32",
                            .dense_layers = 1,
                            .rounds = 3};

static const cli_option options[] = {
    {.name = "model", .type = CLI_STR, .value = &arg.model, .arg = "DIR", .help = "checkpoint directory"},
    {.name = "shape", .type = CLI_STR, .value = &arg.shape, .arg = "a,b", .help = model_shape_help},
    {.name = "weights",
     .type = CLI_STR,
     .value = &arg.weights,
     .arg = "a,b",
     .help = "types of the weights: fp32, fp16, bf16; without it as stored (random ones: fp32)"},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.mask,
     .arg = "a,b",
     .help = "masks: none (dense), random, static, contextual, oracle, file:PATH"},
    {.name = "scores",
     .type = CLI_STR,
     .value = &arg.scores,
     .arg = "FILE",
     .help = "aggregates (bin/aggregate) for static masks; with random weights static masks are seeded"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.criterion,
     .arg = "NAME",
     .help = "criterion of a static mask (plainact unless given) and of the predictor's nets"},
    {.name = "predictor",
     .type = CLI_STR,
     .value = &arg.predictor,
     .arg = "a,b",
     .help = "predictor files (bin/train) for contextual masks; without it untrained nets of --design and --hidden"},
    {.name = "predictor-weights",
     .type = CLI_STR,
     .value = &arg.predictor_weights,
     .arg = "TYPE",
     .help = "type that predictors run with; without it that of the model's weights",
     .choices = "fp32|fp16|bf16"},
    {.name = "design",
     .type = CLI_STR,
     .value = &arg.design,
     .arg = "a,b",
     .help = "untrained nets: shadow, dejavu, dejavu-lowrank, sequence"},
    {.name = "hidden",
     .type = CLI_STR,
     .value = &arg.hidden,
     .arg = "a,b",
     .help = "hidden units (rank) of untrained nets"},
    {.name = "refresh",
     .type = CLI_STR,
     .value = &arg.refresh,
     .arg = "a,b",
     .help = "contextual masks are made again at every K-th token; 0: once, at the end of the prompt"},
    {.name = "scope",
     .type = CLI_STR,
     .value = &arg.scope,
     .arg = "a,b",
     .help = "where units compete: local, global, hybrid"},
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
    {.name = "sparsity", .type = CLI_STR, .value = &arg.sparsity, .arg = "a,b", .help = "percentages pruned"},
    {.name = "dense-layers",
     .type = CLI_INT,
     .value = &arg.dense_layers,
     .arg = "N",
     .help = "first layers that are never pruned",
     .max = 1e6},
    {.name = "kv",
     .type = CLI_STR,
     .value = &arg.kv,
     .arg = "a,b",
     .help = "K and V of dropped heads: compute, repair, skip"},
    {.name = "own-lists",
     .type = CLI_FLAG,
     .value = &arg.own_lists,
     .help = "every sequence of a batch goes by its own list of live units, not by the union"},
    {.name = "prompt", .type = CLI_STR, .value = &arg.prompt, .arg = "a,b", .help = "tokens of the prompt"},
    {.name = "tokens", .type = CLI_STR, .value = &arg.tokens, .arg = "a,b", .help = "tokens after it, each timed"},
    {.name = "batch", .type = CLI_STR, .value = &arg.batch, .arg = "a,b", .help = "sequences at once"},
    {.name = "rounds",
     .type = CLI_INT,
     .value = &arg.rounds,
     .arg = "N",
     .help = "times that everything is taken, in turn",
     .min = 1,
     .max = 1000},
    {.name = "mode",
     .type = CLI_STR,
     .value = &arg.mode,
     .arg = "MODE",
     .help = "sound masks, or those of the published code",
     .choices = "sound|compat"},
    {.name = "peer",
     .type = CLI_STR,
     .value = &arg.peer,
     .arg = "PYTHON",
     .help = "a Python whose torch, transformers and ctranslate2 decode the same shape in the same rounds"},
    {.name = "out",
     .type = CLI_STR,
     .value = &arg.out,
     .arg = "FILE",
     .help = "CSV file, appended; what has its rows is not timed again. Without it: the table only"},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.seed,
     .arg = "N",
     .help = "seed of random weights, prompts, masks and nets",
     .max = 9e15},
    {.name = "threads",
     .type = CLI_INT,
     .value = &arg.threads,
     .arg = "N",
     .help = "threads; 0: as many as there are cores",
     .max = 1024},
    {.name = "device", .type = CLI_STR, .value = &arg.device, .arg = "NAME", .help = ops_devices},
    {.name = "activations",
     .type = CLI_STR,
     .value = &arg.activations,
     .arg = "TYPE",
     .help = ops_activations,
     .choices = "fp32|fp16|bf16"},
    {0},
};

// Whole numbers of a list; ends the program on others.
static int *numbers(const char *list, const char *option, int *n) {
    char **item = cli_split(list, n), *end;
    int *x = xcalloc((size_t)*n + 1, sizeof *x);
    if (*n == 0) die(2, "--%s names no number", option);
    for (int i = 0; i < *n; i++) {
        const long v = strtol(item[i], &end, 10);
        if (*end || v < 1 || v > 1 << 20)
            die(2, "--%s %s: a whole number from 1 to %d is wanted", option, item[i], 1 << 20);
        x[i] = (int)v;
    }
    free(item);
    return x;
}

static int most(const int *x, int n) {
    int m = 0;
    for (int i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static bool masked(void) { return strcmp(arg.mask, "none") != 0; }

typedef struct {
    int *prompt, *tokens, *batch, n_prompt, n_tokens, n_batch;
} lengths;

// Everything that can be wrong with a model is said before one is made.
static void check(const model_config *c, const char *name, const char *weights, dtype stored, const lengths *x,
                  const ops *o) {
    const int longest = most(x->prompt, x->n_prompt) + most(x->tokens, x->n_tokens);
    if (longest > c->positions)
        die(1, "%s has %d positions, and a prompt of %d with %d tokens needs %d; lower --prompt or --tokens", name,
            c->positions, most(x->prompt, x->n_prompt), most(x->tokens, x->n_tokens), longest);
    if (arg.dense_layers > c->L) die(2, "--dense-layers %ld: %s has %d layers", arg.dense_layers, name, c->L);
    const dtype type = weights ? (dtype)dtype_of_option(weights) : stored;
    bench_need need = {most(x->prompt, x->n_prompt),
                       most(x->tokens, x->n_tokens),
                       most(x->batch, x->n_batch),
                       masked(),
                       strstr(arg.kv, "repair") ? KV_REPAIR : KV_COMPUTE,
                       bench_predictor_bytes(&arg, c, bench_predictor_type(&arg, dtype_options[type]))};
    if (need.predictors < 0 || bench_fits(name, c, type, &need, o) != 0) die(1, "%s", err_get());
}

static void run_group(bench_group *g) {
    if (bench_configs(g) != 0) die(1, "%s", err_get());
    bool *present = xcalloc((size_t)g->n, sizeof *present);
    int missing = 0;
    for (int i = 0; i < g->n; i++) missing += !(present[i] = g->out && bench_rows_present(g, &g->config[i]));
    if (missing < g->n)
        log_info("%s, %s, prompt %d, %d tokens, batch %d: %d of %d have their rows in %s", g->model->name,
                 g->model->weights, g->prompt, g->tokens, g->batch, g->n - missing, g->n, g->out->path);
    if (missing) {
        bench_peers_start(g);
        if (bench_run(g, present) != 0) die(1, "%s", err_get());
        for (int i = 0; i < g->n && g->out; i++)
            if (!present[i] && bench_rows_write(g, &g->config[i]) != 0) die(1, "%s", err_get());
        if (g->out && bench_peer_rows(g) != 0) die(1, "%s", err_get());
        bench_table(stdout, g);
        bench_peers_stop(g);
    }
    free(present);
    bench_configs_free(g);
}

static void run_model(const char *shape, const char *weights, const lengths *x, const ops *o, results *out) {
    bench_model made;
    if (!arg.model) {
        model_config c;
        if (model_shape(&c, shape) != 0) die(2, "--shape %s", err_get());
        check(&c, shape, weights, DT_F32, x, o);
    } else {
        ckpt file = {0};
        if (ckpt_open(&file, arg.model) != 0) die(1, "%s", err_get());
        check(&file.config, arg.model, weights, file.tensors[0].type, x, o);
        ckpt_close(&file);
    }
    if (bench_model_open(&made, arg.model, shape, weights, (uint64_t)arg.seed, o) != 0) die(1, "%s", err_get());
    if (masked()) model_sparse_prepare(&made.m);
    bench_group g = {.o = &arg, .device = o, .model = &made, .out = out};
    if (bench_predictors(&g) != 0) die(1, "%s", err_get());
    for (int b = 0; b < x->n_batch; b++)
        for (int p = 0; p < x->n_prompt; p++)
            for (int t = 0; t < x->n_tokens; t++) {
                g.batch = x->batch[b];
                g.prompt = x->prompt[p];
                g.tokens = x->tokens[t];
                run_group(&g);
            }
    for (int i = 0; i < g.n_nets; i++) predictor_close(g.net[i]);
    free(g.net);
    bench_model_close(&made);
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "time of prompts and tokens under masks, beside the bytes read and the memory's bandwidth",
              options);
    if (!arg.model == !arg.shape) die(2, "give --model DIR or --shape NAME; see --help");
    if (arg.threads)
        omp_set_num_threads((int)arg.threads);
    else
        arg.threads = omp_get_max_threads();
    lengths x = {0};
    x.prompt = numbers(arg.prompt, "prompt", &x.n_prompt);
    x.tokens = numbers(arg.tokens, "tokens", &x.n_tokens);
    x.batch = numbers(arg.batch, "batch", &x.n_batch);
    int n_weights = 0, n_shapes = 1;
    char **weights = arg.weights ? cli_split(arg.weights, &n_weights) : NULL,
         **shape = arg.shape ? cli_split(arg.shape, &n_shapes) : NULL;
    for (int i = 0; i < n_weights; i++)
        if (dtype_of_option(weights[i]) < 0) die(2, "--weights %s: not one of fp32, fp16, bf16", weights[i]);
    const bool narrow = strcmp(arg.activations, "fp32") != 0;
    for (int i = 0; i < n_weights && narrow; i++)
        if (strcmp(weights[i], arg.activations) != 0)
            die(2, "--weights %s: with --activations %s products have weights of that type; leave --weights out",
                weights[i], arg.activations);
    const ops *o = ops_open_as(arg.device, arg.activations);
    if (!o) die(1, "%s", err_get());
    results out = {.fd = -1};
    char *lines = results_timed(argc, argv, options, arg.device, omp_get_max_threads());
    if (arg.out && results_open(&out, arg.out, bench_columns, BENCH_N_COLUMNS, lines) != 0) die(1, "%s", err_get());
    free(lines);
    for (int s = 0; s < n_shapes; s++)
        for (int w = 0; w < (n_weights ? n_weights : 1); w++) {
            const char *as = narrow ? arg.activations : NULL;
            run_model(shape ? shape[s] : NULL, n_weights ? weights[w] : as, &x, o, arg.out ? &out : NULL);
        }
    results_close(&out);
    void *blocks[] = {x.prompt, x.tokens, x.batch, weights, shape};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    stdout_end();
    return 0;
}
