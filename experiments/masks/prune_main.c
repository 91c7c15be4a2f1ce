// prune - a compacted checkpoint: a model without the heads and neurons that a fixed mask drops, in a folder that every
// program loads.
//
// The folder is made whole beside its place and renamed into it: config.json, model.safetensors
// (model/transformer/compact.h), vocab.json and merges.txt of the source, mask.h5 (the mask, in the source's numbering:
// `sweep --mask file:` on the source is the same model by zeroing), and compaction.json: where it came from.
#include "cli.h"
#include "compact.h"
#include "mask_option.h"
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    char *model, *mask, *scores, *criterion, *scope, *local_counts, *units, *sparsity, *weights, *mode, *out;
    long dense_layers, seed;
} arg = {.mask = "static",
         .criterion = "plainact",
         .scope = "global",
         .local_counts = "spread",
         .units = "both",
         .sparsity = "50",
         .dense_layers = 1,
         .weights = "stored",
         .mode = "sound"};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory to compact",
     .required = true},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.mask,
     .arg = "KIND",
     .help = "static, random, file:PATH; none: nothing is pruned, the weights are only written again"},
    {.name = "scores",
     .type = CLI_STR,
     .value = &arg.scores,
     .arg = "FILE",
     .help = "aggregates (bin/aggregate) for a static mask; those over all tasks are used"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.criterion,
     .arg = "NAME",
     .help = "criterion of a static mask"},
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
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.seed,
     .arg = "N",
     .help = "seed of a random mask",
     .min = 0,
     .max = CLI_SEED_MAX},
    {.name = "mode",
     .type = CLI_STR,
     .value = &arg.mode,
     .arg = "MODE",
     .help = "sound rules, or those of the published code (heads only)",
     .choices = "sound|compat"},
    {.name = "weights",
     .type = CLI_STR,
     .value = &arg.weights,
     .arg = "TYPE",
     .help = "type of the weights written; stored: that of the source",
     .choices = "stored|fp32|fp16|bf16"},
    {.name = "out", .type = CLI_STR, .value = &arg.out, .arg = "DIR", .help = "folder to make", .required = true},
    {0}};

// ---------------------------------------------------------------- the folder
static const char *const names[] = {"config.json", "model.safetensors", "vocab.json",
                                    "merges.txt",  "mask.h5",           "compaction.json"};

static void remove_folder(const char *dir) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int tmp = 0; tmp < 2; tmp++) {
            char *path = xasprintf("%s/%s%s", dir, names[i], tmp ? ".tmp" : "");
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

// A file of the source as it is; one that is not there is left out.
static int copy_file(const char *dir, const char *name) {
    char *path = xasprintf("%s/%s", arg.model, name);
    size_t n = 0;
    char *text = file_exists(path) ? file_read(path, &n) : NULL;
    int bad = 0;
    if (text)
        bad = put_file(dir, name, text, n);
    else if (file_exists(path))
        bad = -1;
    free(text);
    free(path);
    return bad;
}

// ---------------------------------------------------------------- where it came from
static double parameters(const tensor *t, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)(tensor_bytes(&t[i]) / dtype_bytes(t[i].type));
    return sum;
}

static int put_provenance(const char *dir, const ckpt *from, const mask *m, const char *command) {
    const bool rule = strcmp(arg.mask, "static") == 0 || strcmp(arg.mask, "random") == 0;
    double heads, neurons;
    char hash[33];
    mask_effective(m, &from->config, &heads, &neurons);
    mask_hash(hash, m, &from->config);
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:f}", "source", arg.model, "source_hash", from->hash,
                             "command", command, "code", code_version(), "mask", arg.mask, "mask_hash", hash,
                             "effective_heads", heads, "effective_neurons", neurons);
    ASSERT(root);
    if (rule) {
        json_t *how = json_pack("{s:s, s:s, s:s, s:I, s:s}", "scope", arg.scope, "units", arg.units, "sparsity",
                                arg.sparsity, "dense_layers", (json_int_t)arg.dense_layers, "mode", arg.mode);
        json_object_update(root, how);
        if (strcmp(arg.scope, "local") == 0)
            json_object_set_new(root, "local_counts",
                                json_string(mode_named(arg.mode) == MODE_COMPAT ? "floor" : arg.local_counts));
        json_decref(how);
    }
    if (strcmp(arg.mask, "random") == 0) json_object_set_new(root, "seed", json_integer(arg.seed));
    if (strcmp(arg.mask, "static") == 0) {
        store_aggregate a;
        if (store_read_aggregate(&a, arg.scores, mode_named(arg.mode), "all", arg.criterion) != 0)
            die(1, "%s", err_get());
        json_object_set_new(root, "criterion", json_string(arg.criterion));
        json_object_set_new(root, "scores", json_string(arg.scores));
        json_object_set_new(root, "scores_hash", json_string(a.hash));
        store_aggregate_free(&a);
    }
    // of a source that was compacted itself, its own
    char *path = xasprintf("%s/compaction.json", arg.model);
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
    printf("%s: %.1f %% of the heads and %.1f %% of the neurons of %s are gone; %.0f of %.0f parameters, %zu of %zu "
           "bytes\n",
           arg.out, 100 * heads, 100 * neurons, arg.model, parameters(to->tensors, to->n_tensors),
           parameters(from->tensors, from->n_tensors), to->bytes, from->bytes);
}

static void make_mask(mask *m, const ckpt *from) {
    const mask_option o = {.model = arg.model,
                           .scores = arg.scores,
                           .criterion = arg.criterion,
                           .scope = arg.scope,
                           .units = arg.units,
                           .local_counts = arg.local_counts,
                           .dense_layers = arg.dense_layers,
                           .seed = (uint64_t)arg.seed,
                           .mode = mode_named(arg.mode)};
    const long sparsity = mask_parse_sparsity(arg.sparsity);
    if (sparsity < 0) die(2, "--sparsity: %s", err_get());
    if (strcmp(arg.mask, "none") && strcmp(arg.mask, "random") && strcmp(arg.mask, "static") &&
        strncmp(arg.mask, "file:", 5))
        die(2, "--mask %s: not one of none, random, static, file:PATH", arg.mask);
    if (strcmp(arg.mask, "static") == 0 && !arg.scores)
        die(2, "--mask static needs --scores FILE, which bin/aggregate writes");
    mask_alloc(m, &from->config);
    if (mask_option_make(m, arg.mask, &o, sparsity, &from->config, from->hash) != 0) die(1, "%s", err_get());
}

int main(int argc, char **argv) {
    cli_parse(argc, argv,
              "makes a compacted checkpoint: the model without the heads and neurons that a fixed mask drops", options);
    signal(SIGXFSZ, SIG_IGN);
    struct stat there;
    for (size_t n = strlen(arg.out); n > 1 && arg.out[n - 1] == '/'; n--) arg.out[n - 1] = 0;
    if (lstat(arg.out, &there) == 0) die(1, "%s: exists; remove it or give another --out", arg.out);
    ckpt from, made = {0};
    if (ckpt_open(&from, arg.model) != 0 || ckpt_check_values(&from) != 0) die(1, "%s", err_get());
    mask m = {0};
    make_mask(&m, &from);
    const int lock = store_lock(arg.out);
    if (lock < 0) die(1, "%s", err_get());
    const int type = strcmp(arg.weights, "stored") == 0 ? COMPACT_AS_STORED : dtype_of_option(arg.weights);
    char *dir = xasprintf("%s.tmp", arg.out), *mask_path = xasprintf("%s/mask.h5", dir),
         *command = cli_command(argc, argv);
    int bad =
        mkdir(dir, 0777) != 0 && errno != EEXIST ? err_set("%s: cannot make the folder: %s", dir, strerror(errno)) : 0;
    bad = bad || compact_save(dir, &from, &m, type) || copy_file(dir, "vocab.json") || copy_file(dir, "merges.txt") ||
          mask_write(&m, &from.config, mask_path) || put_provenance(dir, &from, &m, command) || ckpt_open(&made, dir) ||
          ckpt_check_values(&made);
    if (!bad && rename(dir, arg.out) != 0)
        bad = err_set("%s: cannot rename %s to it: %s", arg.out, dir, strerror(errno));
    if (bad) remove_folder(dir);
    store_unlock(arg.out, lock);
    if (bad) die(1, "%s", err_get());
    describe(&from, &made, &m);
    ckpt_close(&made);
    ckpt_close(&from);
    mask_free(&m);
    free(command);
    free(mask_path);
    free(dir);
    stdout_end();
    return 0;
}
