// prune - a compacted checkpoint: a model without the heads and neurons that a fixed mask drops, in a folder that every
// program loads; or one of the source's shape in which they are zeros.
//
// transformers loads it too: where layers differ in width with trust_remote_code=True, by the file modeling_pruned.py,
// which is put beside the weights.
//
// The folder is made whole beside its place and renamed into it: config.json, model.safetensors
// (model/transformer/compact.h), the source's files of the tokenizer and of generation, mask.h5 (the mask, in the
// source's numbering: `sweep --mask file:` on the source is the same model by zeroing), and compaction.json: where it
// came from.
#include "cli.h"
#include "compact.h"
#include "gguf.h"
#include "mask_options.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    char *model, *out;
    int weights;
    compact_form form;
    bool bias;
    mask_options masks;
} arg = {.weights = COMPACT_AS_STORED,
         .masks = {.mask = "static", .scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = "50", .dense_layers = 1}};

// COMPACT_AS_STORED or a dtype
static const char *const weight_names[] = {"stored", "fp32", "fp16", "bf16", NULL};
static const int weight_types[] = {COMPACT_AS_STORED, DT_F32, DT_F16, DT_BF16};

static const char *const form_names[] = {[COMPACT_SMALL] = "compact", [COMPACT_ZEROED] = "zeroed", NULL};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory to compact",
     .required = true},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.masks.mask,
     .arg = "KIND",
     .help = "static, random, file:PATH; none: nothing is pruned, the weights are only written again"},
    {.group = mask_one_rows, .value = &arg.masks},
    {.group = mask_rule_rows, .value = &arg.masks},
    {.name = "bias",
     .type = CLI_FLAG,
     .value = &arg.bias,
     .help = "write the means of what is pruned into the biases of the output projection and of the FFN's last matrix; "
             "means: of --scores"},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.masks.seed,
     .arg = "N",
     .help = "seed of a random mask",
     .min = 0,
     .max = CLI_SEED_MAX},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &arg.masks.mode,
     .arg = "MODE",
     .help = "sound rules, or those of the published code (heads only)",
     .names = mode_names},
    {.name = "weights",
     .type = CLI_CHOICE,
     .value = &arg.weights,
     .arg = "TYPE",
     .help = "type of the weights written; stored: that of the source",
     .names = weight_names,
     .values = weight_types},
    {.name = "form",
     .type = CLI_CHOICE,
     .value = &arg.form,
     .arg = "FORM",
     .help = "compact: without what is pruned; zeroed: of the source's shape, with zeros there, for any software",
     .names = form_names},
    {.name = "out", .type = CLI_STR, .value = &arg.out, .arg = "DIR", .help = "folder to make", .required = true},
    {0}};

// ---------------------------------------------------------------- the folder
static const char *const names[] = {"config.json", "model.safetensors", "mask.h5", "compaction.json",
                                    "modeling_pruned.py"};
// The last of them (the Makefile makes a C string of it).
static const char modeling[] =
#include "modeling_pruned.h"
    ;
// Of the source, copied as they are: the tokenizer and how texts are generated.
static const char *const companions[] = {"vocab.json",
                                         "merges.txt",
                                         "tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "generation_config.json",
                                         "chat_template.jinja"};
enum { N_NAMES = sizeof names / sizeof *names, N_COMPANIONS = sizeof companions / sizeof *companions };

static void remove_folder(const char *dir) {
    for (int i = 0; i < N_NAMES + N_COMPANIONS; i++)
        for (int tmp = 0; tmp < 2; tmp++) {
            const char *name = i < N_NAMES ? names[i] : companions[i - N_NAMES];
            char *path = xasprintf("%s/%s%s", dir, name, tmp ? ".tmp" : "");
            unlink(path);
            free(path);
        }
    rmdir(dir);
}

static int put_file(const char *dir, const char *name, const char *text, size_t n) {
    char *path = xasprintf("%s/%s", dir, name);
    file_out f;
    int bad = file_out_open(&f, path);
    if (!bad) {
        fwrite(text, 1, n, f.f);
        bad = file_out_close(&f);
    }
    free(path);
    return bad;
}

// Files of the source as they are, or out of its GGUF file; one that is not there is left out.
static int copy_companions(const char *dir, const char *source) {
    int bad = 0;
    char *file = gguf_find(source, &bad);
    if (file) bad = gguf_export_tok(file, dir);
    free(file);
    for (int i = 0; i < N_COMPANIONS && !bad; i++) {
        char *path = xasprintf("%s/%s", source, companions[i]);
        size_t n = 0;
        char *text = path_there(path) ? file_read(path, &n) : NULL;
        if (path_there(path)) bad = text ? put_file(dir, companions[i], text, n) : -1;
        free(text);
        free(path);
    }
    return bad;
}

// ---------------------------------------------------------------- where it came from
static double parameters(const tensor *t, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)tensor_numbers(&t[i]);
    return sum;
}

static void put_rule(json_t *root, const mask_rule *rule) {
    json_t *how = json_pack("{s:s, s:s, s:s, s:i, s:s}", "scope", mask_scope_names[rule->scope], "units",
                            mask_units_name(rule->units), "sparsity", arg.masks.sparsity, "dense_layers",
                            rule->dense_layers, "mode", mode_names[rule->mode]);
    json_object_update(root, how);
    json_decref(how);
    if (rule->scope == SCOPE_LOCAL) json_object_set_new(root, "local_counts", json_string(mask_counts_name(rule)));
    if (mask_rule_groups(rule)) json_object_set_new(root, "group_heads", json_true());
    if (rule->scope != SCOPE_LOCAL && strcmp(arg.masks.mask, "static") == 0 &&
        mask_options_standardise(&arg.masks, mask_options_criterion(&arg.masks)))
        json_object_set_new(root, "standardised", json_true());
}

static int put_scores(json_t *root) {
    const char *criterion = mask_options_criterion(&arg.masks);
    store_aggregate a;
    if (store_read_aggregate(&a, arg.masks.scores, arg.masks.mode, "all", criterion) != 0) return -1;
    json_object_set_new(root, "criterion", json_string(criterion));
    json_object_set_new(root, "scores", json_string(arg.masks.scores));
    json_object_set_new(root, "scores_hash", json_string(a.hash));
    store_aggregate_free(&a);
    return 0;
}

static int put_provenance(const char *dir, const ckpt *from, const mask *m, const mask_choice *choice,
                          const mask_means *means, const char *command) {
    double heads, neurons;
    char hash[33];
    mask_effective(m, &from->config, &heads, &neurons);
    mask_hash(hash, m, &from->config);
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:f}", "source", arg.model, "source_hash", from->hash,
                  "command", command, "code", code_version(), "form", form_names[arg.form], "mask", arg.masks.mask,
                  "mask_hash", hash, "effective_heads", heads, "effective_neurons", neurons);
    ASSERT(root);
    if (choice->kind == MASK_STATIC || choice->kind == MASK_RANDOM) put_rule(root, &choice->rule);
    if (choice->kind == MASK_RANDOM) json_object_set_new(root, "seed", json_integer(arg.masks.seed));
    if (choice->kind == MASK_STATIC && put_scores(root) != 0) {
        json_decref(root);
        return -1;
    }
    if (arg.bias) {
        json_object_set_new(root, "scores", json_string(arg.masks.scores));
        json_object_set_new(root, "means_hash", json_string(means->hash));
    }
    // of a source that was compacted itself, its own
    char *path = xasprintf("%s/compaction.json", from->dir);
    json_t *before = file_exists(path) ? json_load_file(path, 0, NULL) : NULL;
    if (before) json_object_set_new(root, "before", before);
    free(path);
    char *body = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6)), *text = xasprintf("%s\n", body);
    const int bad = put_file(dir, "compaction.json", text, strlen(text));
    free(text);
    free(body);
    json_decref(root);
    return bad;
}

// ---------------------------------------------------------------- main
static void describe(const ckpt *from, const ckpt *to, const mask *m) {
    double heads, neurons;
    mask_effective(m, &from->config, &heads, &neurons);
    printf("%s: %.1f %% of the heads and %.1f %% of the neurons of %s are %s; %.0f of %.0f parameters, %zu of %zu "
           "bytes\n",
           arg.out, 100 * heads, 100 * neurons, arg.model, arg.form == COMPACT_ZEROED ? "zeros" : "gone",
           parameters(to->tensors, to->n_tensors), parameters(from->tensors, from->n_tensors), to->bytes, from->bytes);
    const model_type type = from->config.type;
    if (arg.bias && (type == MODEL_MISTRAL || type == MODEL_QWEN2 || type == MODEL_QWEN3))
        printf("means are in biases that a %s of transformers does not have: only programs of this project load it\n",
               model_type_names[type]);
}

static void check_bias(void) {
    if (!arg.bias && arg.masks.ablate == ABLATE_MEAN)
        die(2, "--ablate mean: prune writes means into biases; use --bias");
    if (arg.bias && arg.masks.mode == MODE_COMPAT) die(2, "--bias: published masks put out zero; use --mode sound");
    if (arg.bias && !arg.masks.scores) die(2, "--bias needs --scores FILE with the means of units' values");
}

int main(int argc, char **argv) {
    cli_parse(argc, argv,
              "makes a compacted checkpoint: the model without the heads and neurons that a fixed mask drops", options);
    for (size_t n = strlen(arg.out); n > 1 && arg.out[n - 1] == '/'; n--) arg.out[n - 1] = 0;
    struct stat there;
    if (lstat(arg.out, &there) == 0) die(1, "%s: exists; remove it or give another --out", arg.out);
    mask_choice choice;
    check_bias();
    if (mask_options_read(&choice, &arg.masks, MASKS_FIXED) != 0) die(2, "%s", err_get());
    ckpt from, made = {0};
    if (ckpt_open(&from, arg.model) != 0 || ckpt_check_values(&from) != 0 ||
        model_check_mode(&from.config, choice.rule.mode))
        die(1, "%s", err_get());
    mask m = {0};
    mask_alloc(&m, &from.config);
    const mask_model of = {.name = arg.model, .hash = from.hash, .c = &from.config};
    if (mask_options_make(&m, &arg.masks, &choice, &of) != 0) die(1, "%s", err_get());
    mask_means means = {0};
    if (arg.bias && mask_options_means(&means, &arg.masks, &of) != 0) die(1, "%s", err_get());
    const int lock = store_lock(arg.out);
    if (lock < 0) die(1, "%s", err_get());
    char *dir = xasprintf("%s.tmp", arg.out), *mask_path = xasprintf("%s/mask.h5", dir),
         *command = cli_command(argc, argv);
    int bad =
        mkdir(dir, 0777) != 0 && errno != EEXIST ? err_set("%s: cannot make the folder: %s", dir, strerror(errno)) : 0;
    bad = bad ||
          compact_save(dir, &from, &m, arg.bias ? (const double *const *)means.of : NULL, arg.weights, arg.form) ||
          copy_companions(dir, from.dir) || mask_write(&m, &from.config, from.hash, mask_path) ||
          put_provenance(dir, &from, &m, &choice, &means, command) || ckpt_open(&made, dir) || ckpt_check_values(&made);
    if (!bad && model_compacted(&made.config) && made.config.type != MODEL_NEOX)
        bad = put_file(dir, "modeling_pruned.py", modeling, strlen(modeling));
    if (!bad && rename(dir, arg.out) != 0)
        bad = err_set("%s: cannot rename %s to it: %s", arg.out, dir, strerror(errno));
    if (bad) remove_folder(dir);
    store_unlock(arg.out, lock);
    if (bad) die(1, "%s", err_get());
    describe(&from, &made, &m);
    ckpt_close(&made);
    ckpt_close(&from);
    mask_free(&m);
    mask_means_free(&means);
    free(command);
    free(mask_path);
    free(dir);
    stdout_end();
    return 0;
}
