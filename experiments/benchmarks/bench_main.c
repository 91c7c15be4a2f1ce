// bench - time of a prompt and of each token after it, for the dense model and for masks of every source, beside the
// bytes that had to be read and the bandwidth of the memory in the same run. It times the decoder that generation and
// evaluation run (decode.h).
#include "bench.h"
#include "cli.h"
#include "model_weights.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static bench_options arg = {
    .design = {2, (const long[]){PREDICTOR_SHADOW, PREDICTOR_DEJAVU}},
    .hidden = {1, (const long[]){1024}},
    .refresh = {1, (const long[]){0}},
    .kv = {1, (const long[]){KV_REPAIR}},
    .prompt = {1, (const long[]){128}},
    .tokens = {1, (const long[]){128}},
    .batch = {1, (const long[]){1}},
    .batch_masks = {1, (const long[]){BATCH_OWN}},
    .rounds = 3,
    .masks = {.mask = "none,static,contextual",
              .scopes = {1, (const long[]){SCOPE_LOCAL}},
              .units = UNITS_BOTH,
              .sparsity = "50",
              .dense_layers = 1,
              .predictor_weights = -1},
    .device = {.name = "cpu"},
};
enum { MOST_TOKENS = 1 << 20, MOST_HIDDEN = 1 << 24 };

static const cli_option options[] = {
    {.name = "model", .type = CLI_STR, .value = &arg.model, .arg = "DIR", .help = "checkpoint directory"},
    {.name = "shape", .type = CLI_STR, .value = &arg.shape, .arg = "a,b", .help = model_shape_help},
    {.name = "weights",
     .type = CLI_CHOICES,
     .value = &arg.weights,
     .arg = "a,b",
     .help = "types of the weights, q8_0 and q4_0 on the CPU only; without it as stored (random ones: fp32)",
     .names = weight_options},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.masks.mask,
     .arg = "a,b",
     .help = "masks: none (dense), random, static (random weights: a seeded one), contextual, oracle, "
             "threshold:gate|product, file:PATH"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.masks.criterion,
     .arg = "NAME",
     .help = "criterion of a static mask (plainact unless given) and of the predictor's nets"},
    {.name = "predictor",
     .type = CLI_STR,
     .value = &arg.masks.predictor,
     .arg = "a,b",
     .help = "predictor files (bin/train) for contextual masks; without it untrained nets of --design and --hidden"},
    {.name = "predictor-weights",
     .type = CLI_CHOICE,
     .value = &arg.masks.predictor_weights,
     .arg = "TYPE",
     .help = "type that predictors run with; without it that of the model's weights (in blocks: fp32); q8_0: matrices "
             "in blocks of 8 bits (CPU only)",
     .names = activation_options},
    {.name = "design",
     .type = CLI_CHOICES,
     .value = &arg.design,
     .arg = "a,b",
     .help = "untrained nets",
     .names = predictor_design_names},
    {.name = "hidden",
     .type = CLI_INTS,
     .value = &arg.hidden,
     .arg = "a,b",
     .help = "hidden units (rank) of untrained nets",
     .min = 1,
     .max = MOST_HIDDEN},
    {.name = "refresh",
     .type = CLI_INTS,
     .value = &arg.refresh,
     .arg = "a,b",
     .help = "contextual masks are made again at every K-th token; 0: once, at the end of the prompt",
     .min = 0,
     .max = MOST_TOKENS},
    {.group = mask_several_rows, .value = &arg.masks},
    {.group = mask_rule_rows, .value = &arg.masks},
    {.name = "kv",
     .type = CLI_CHOICES,
     .value = &arg.kv,
     .arg = "a,b",
     .help = "K and V of dropped heads",
     .names = kv_policy_names},
    {.name = "own-lists",
     .type = CLI_FLAG,
     .value = &arg.own_lists,
     .help = "sequences of a batch whose masks differ go by a list of live units each, not by one of all their units"},
    {.name = "batch-masks",
     .type = CLI_CHOICES,
     .value = &arg.batch_masks,
     .arg = "a,b",
     .help =
         "contextual and oracle masks of a batch: each sequence its own; the union, so that each runs what any other "
         "runs; auto: of heads and neurons the union where it reads no more bytes",
     .names = batch_masks_names},
    {.name = "wikitext",
     .type = CLI_STR,
     .value = &arg.wikitext,
     .arg = "FILE",
     .help = "prompts and tokens of the pages of a text, which then has a perplexity under what is timed; without it "
             "random prompts, "
             "and the likeliest tokens"},
    {.name = "sequences",
     .type = CLI_INT,
     .value = &arg.sequences,
     .arg = "N",
     .help = "sequences of a round, a multiple of every --batch; without it as many as the batch",
     .min = 1,
     .max = MOST_TOKENS},
    {.name = "prompt",
     .type = CLI_INTS,
     .value = &arg.prompt,
     .arg = "a,b",
     .help = "tokens of the prompt",
     .min = 1,
     .max = MOST_TOKENS},
    {.name = "tokens",
     .type = CLI_INTS,
     .value = &arg.tokens,
     .arg = "a,b",
     .help = "tokens after it, each timed",
     .min = 1,
     .max = MOST_TOKENS},
    {.name = "batch",
     .type = CLI_INTS,
     .value = &arg.batch,
     .arg = "a,b",
     .help = "sequences at once",
     .min = 1,
     .max = MOST_TOKENS},
    {.name = "rounds",
     .type = CLI_INT,
     .value = &arg.rounds,
     .arg = "N",
     .help = "times that everything is taken, in turn",
     .min = 1,
     .max = 1000},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &arg.masks.mode,
     .arg = "MODE",
     .help = "sound masks, or those of the published code",
     .names = mode_names},
    {.name = "peer",
     .type = CLI_STR,
     .value = &arg.peer,
     .arg = "PYTHON",
     .help = "a Python whose torch, transformers and ctranslate2 decode the same shape in the same rounds; of a GGUF "
             "file whose llama_cpp or xllamacpp does"},
    {.name = "out",
     .type = CLI_STR,
     .value = &arg.out,
     .arg = "FILE",
     .help = "CSV file, appended; what has its rows is not timed again. Without it: the table only"},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.masks.seed,
     .arg = "N",
     .help = "seed of random weights, prompts, masks and nets",
     .max = 9e15},
    {.group = device_rows, .value = &arg.device},
    {0},
};

static int most(const cli_list *list) {
    long m = 0;
    for (int i = 0; i < list->n; i++) m = list->at[i] > m ? list->at[i] : m;
    return (int)m;
}

static bool masked(void) { return strcmp(arg.masks.mask, "none") != 0; }

static bool calibrates(void) { return strstr(arg.masks.mask, "threshold") != NULL; }

static void calibrate(bench_group *g, const model *m) {
    tok *tk = tok_open_model(arg.model, &m->c);
    if (!tk) die(1, "%s", err_get());
    for (int by = 0; by < THRESHOLDS; by++)
        if (strstr(arg.masks.mask, threshold_names[by]) &&
            threshold_calibrate(&g->calibrated[by], m, tk, arg.masks.calibrate, (threshold_by)by) != 0)
            die(1, "%s", err_get());
    tok_close(tk);
}

static bool repairs(void) {
    for (int i = 0; i < arg.kv.n; i++)
        if (arg.kv.at[i] == KV_REPAIR) return true;
    return false;
}

// Everything that can be wrong with a model is said before one is made.
static void check(const model_config *c, const ckpt *file, const char *name, int weights, const ops *o) {
    const int prompt = most(&arg.prompt), tokens = most(&arg.tokens);
    const dtype stored = file ? file->tensors[0].type : DT_F32, own = dtype_in_blocks(stored) ? DT_F32 : stored;
    const char *type = weights < 0 ? dtype_options[own] : weight_options[weights];
    if (prompt + tokens > c->positions)
        die(1, "%s has %d positions, and a prompt of %d with %d tokens needs %d; lower --prompt or --tokens", name,
            c->positions, prompt, tokens, prompt + tokens);
    if (arg.masks.dense_layers > c->L)
        die(2, "--dense-layers %ld: %s has %d layers", arg.masks.dense_layers, name, c->L);
    const bench_need need = {.prompt = prompt,
                             .tokens = tokens,
                             .batch = most(&arg.batch),
                             .masked = masked(),
                             .kv = repairs() ? KV_REPAIR : KV_COMPUTE,
                             .predictors = bench_predictor_bytes(&arg, c, bench_predictor_type(&arg, type))};
    if (model_check_weights(c, weights, o) != 0 || need.predictors < 0 ||
        bench_fits(name, c, file, weights, &need, o) != 0)
        die(1, "%s", err_get());
}

// A group has as many sequences as asked for, or one batch.
static void set_sequences(bench_group *g) {
    g->sequences = arg.sequences ? (int)arg.sequences : g->batch;
    g->steps = g->sequences / g->batch * g->tokens;
    if (g->text && bench_text_cut(g->text, g->sequences, g->prompt + g->tokens + 1) != 0) die(1, "%s", err_get());
}

static void run_group(bench_group *g) {
    set_sequences(g);
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

// weights: a dtype, or -1: as stored.
static void run_model(const char *shape, int weights, const ops *o, results *out) {
    bench_model made;
    if (!arg.model) {
        model_config c;
        if (model_shape(&c, shape) != 0) die(2, "--shape %s", err_get());
        check(&c, NULL, shape, weights < 0 ? DT_F32 : weights, o);
    } else {
        ckpt file = {0};
        if (ckpt_open(&file, arg.model) != 0 || model_check_mode(&file.config, arg.masks.mode) != 0)
            die(1, "%s", err_get());
        check(&file.config, &file, arg.model, weights, o);
        ckpt_close(&file);
    }
    if (bench_model_open(&made, arg.model, shape, weights, (uint64_t)arg.masks.seed, o) != 0) die(1, "%s", err_get());
    if (masked()) model_sparse_prepare(&made.m);
    bench_group g = {.o = &arg, .device = o, .model = &made, .out = out};
    if (bench_predictors(&g) != 0) die(1, "%s", err_get());
    mask_means means = {0};
    model_means *put_out = NULL;
    if (arg.masks.ablate == ABLATE_MEAN) {
        const mask_model of = {.name = made.name, .hash = made.m.file.hash, .c = &made.m.c};
        if (mask_options_means(&means, &arg.masks, &of) != 0) die(1, "%s", err_get());
        put_out = model_means_new(&made.m, means.of[UNIT_HEADS], means.of[UNIT_NEURONS]);
    }
    g.means = put_out;
    bench_text text = {0};
    if (arg.wikitext && bench_text_open(&text, arg.wikitext, arg.model, &made.m.c) != 0) die(1, "%s", err_get());
    g.text = arg.wikitext ? &text : NULL;
    if (calibrates()) calibrate(&g, &made.m);
    for (int b = 0; b < arg.batch.n; b++)
        for (int p = 0; p < arg.prompt.n; p++)
            for (int t = 0; t < arg.tokens.n; t++) {
                g.batch = (int)arg.batch.at[b];
                g.prompt = (int)arg.prompt.at[p];
                g.tokens = (int)arg.tokens.at[t];
                run_group(&g);
            }
    for (int i = 0; i < g.n_nets; i++) predictor_close(g.net[i]);
    free(g.net);
    for (int by = 0; by < THRESHOLDS; by++) threshold_free(&g.calibrated[by]);
    bench_text_close(&text);
    model_means_free(put_out);
    mask_means_free(&means);
    bench_model_close(&made);
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "time of prompts and tokens under masks, beside the bytes read and the memory's bandwidth",
              options);
    if (!arg.model == !arg.shape) die(2, "give --model DIR or --shape NAME; see --help");
    if (mask_options_check_means(&arg.masks) != 0) die(2, "%s", err_get());
    int sparsities;
    long *sparsity = mask_parse_sparsities(arg.masks.sparsity, &sparsities);
    if (!sparsity) die(2, "%s", err_get());
    free(sparsity);
    if (calibrates() && mask_options_check_threshold(&arg.masks) != 0) die(2, "%s", err_get());
    if (calibrates() && !arg.model) die(2, "--mask threshold needs --model DIR: a shape has no tokenizer");
    if (arg.wikitext && !arg.model) die(2, "--wikitext needs --model DIR: a shape has no tokenizer");
    for (int i = 0; i < arg.batch.n && arg.sequences; i++)
        if (arg.sequences % arg.batch.at[i])
            die(2, "--sequences %ld: no multiple of --batch %ld", arg.sequences, arg.batch.at[i]);
    const dtype narrow = arg.device.activations;
    const bool halves = narrow == DT_F16 || narrow == DT_BF16;
    for (int i = 0; i < arg.weights.n && halves; i++)
        if (arg.weights.at[i] != (long)narrow)
            die(2, "--weights %s: with --activations %s products have weights of that type; leave --weights out",
                weight_options[arg.weights.at[i]], dtype_options[narrow]);
    const ops *o = device_open(&arg.device);
    if (!o) die(1, "%s", err_get());
    arg.device.threads = omp_get_max_threads();
    results out = {.fd = -1};
    char *lines = results_timed(argc, argv, options, arg.device.name, omp_get_max_threads());
    if (arg.out && results_open(&out, arg.out, bench_columns, BENCH_N_COLUMNS, lines) != 0) die(1, "%s", err_get());
    free(lines);
    int n_shapes = 1;
    char **shape = arg.shape ? cli_split(arg.shape, &n_shapes) : NULL;
    const long unless_given = halves ? (long)narrow : -1;
    if (arg.weights.n == 0) arg.weights = (cli_list){1, &unless_given};
    for (int s = 0; s < n_shapes; s++)
        for (int w = 0; w < arg.weights.n; w++)
            run_model(shape ? shape[s] : NULL, (int)arg.weights.at[w], o, arg.out ? &out : NULL);
    results_close(&out);
    free(shape);
    stdout_end();
    return 0;
}
