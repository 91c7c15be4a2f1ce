// store_layout - what every dataset of the project's HDF5 files is: one table, from which store_commit writes the
// attributes of each dataset. criteria/FILES.md shows the same rows to readers, and test_files compares both.
//
//   what        one sentence
//   axes        what its dimensions count
//   unit        of its numbers; "of the criterion" in the table: what the criterion says (criterion.h)
//   scale       where the numbers are stored times a factor: the dataset beside it that holds the factor of each row
//   model_hash  of the model, where the file says which it is
#include "registry.h"
#include "store_hdf5.h"
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define OF_CRITERION "of the criterion"

// The first row that fits counts. `*` is any name; /layer_NNN of nets that exist per layer is left out. "unit" among
// the axes: head or neuron.
static const struct layout {
    const char *path, *axes, *unit, *what;
} layout[] = {
    {"/examples/id", "example", "name", "the document of each example in its task"},
    {"/examples/task", "example", "name", "the task of each example"},
    {"/examples/tokens", "token", "token id",
     "all examples one after the other: example i is tokens[offset[i]:offset[i + 1]]"},
    {"/examples/offset", "example + 1", "tokens", "where each example begins in tokens, and their number at the end"},
    {"/examples/context_length", "example", "tokens", "tokens before the continuation whose loss is taken"},
    {"/examples/loss", "example", "nats per token", "mean cross-entropy of the continuation"},
    {"/features*/head_output", "example, layer, value", "activation",
     "what all heads put out, before the output projection, at the token that `position` names"},
    {"/features*/residual", "example, layer, value", "activation",
     "the hidden state that enters each layer, at the token that `position` names"},
    {"/features*/residual_mid", "example, layer, value", "activation",
     "the hidden state between attention and FFN, before its norm, at the token that `position` names"},
    {"/scores*/*/index", "example", "row of /examples", "the examples that have these scores"},
    {"/scores*/*/*_scale", "example", "1", "factor of each row of 16-bit scores: score = stored number * factor"},
    {"/scores*/*/*", "example, layer, unit", OF_CRITERION,
     "score of each unit for each example (those of `index`, where it is there); larger is more important"},
    {"/task_scores*/*/*/*_mean", "layer, value", "activation",
     "mean of each value that units put out, over all tokens of the task's examples"},
    {"/task_scores*/*/*/*_variance", "layer, value", "activation^2", "variance of the same, divisor tokens - 1"},
    {"/task_scores*/*/*/*", "layer, unit", OF_CRITERION, "score of each unit for the whole task"},
    {"/squared_norms/*", "layer, value", "weight^2",
     "squared norm of the column of the next matrix that reads each value that units put out"},
    {"/documents/*/*/id", "document", "name", "documents that were scored, or shown as few-shot examples"},
    {"/aggregates*/*/*/*_mean", "layer, value", "activation",
     "mean of each value that units put out, over all tokens of all tasks"},
    {"/aggregates*/*/*/*_variance", "layer, value", "activation^2", "variance of the same, divisor tokens - 1"},
    {"/aggregates/*/*/*", "layer, unit", OF_CRITERION,
     "score of each unit for a task (mean over its examples), or for all (mean over the tasks)"},
    {"/aggregates_compat/*/*/*", "layer, unit", OF_CRITERION,
     "score of each unit for a task (sum over its examples), or for all (mean over the tasks)"},
    {"/ranks*/*/*/*_mean", "layer, unit", "rank",
     "mean rank of each unit among all units of its kind, over examples; 1 is the least important"},
    {"/ranks*/*/*/*_variance", "layer, unit", "rank^2 / units^2",
     "variance of the same rank; 0: the same rank for every example, 1/12: random"},
    {"/correlation*/*_criteria", "criterion", "name", "the criteria of the matrix beside it, by row and by column"},
    {"/correlation*/*", "criterion, criterion", "1", "Spearman's correlation of the aggregates over all tasks"},
    {"/predictors/*/*/loss", "epoch, column", "1",
     "loss of the net after each epoch, in the parts that `columns` names: squared error, or cross-entropy in nats"},
    {"/predictors/*/*/quality", "row, column", "1",
     "how well the test part is predicted: `rows` names what predicts, `columns` the measures"},
    {"/predictors/*/*/*.weight", "output, input", "1", "weights of one layer of the net"},
    {"/predictors/*/*/*.bias", "output", "1", "biases of one layer of the net"},
    {"/predictions/*/*train_index", "example", "row of /examples", "examples of the store that the net was trained on"},
    {"/predictions/*/*index", "example", "row of /examples", "examples of the store whose predictions these are"},
    {"/predictions/*/*", "example, layer, unit", "1",
     "what the net puts out for each unit: the score normalised as its target, or a logit (dejavu-lowrank)"},
    {"/mask/*", "layer, unit", "1", "which units run; 1: the unit runs, 0: it is pruned"},
};

// ---------------------------------------------------------------- one dataset
// The path without its layer. Caller frees.
static char *without_layer(const char *path) {
    const char *layer = strstr(path, "/layer_"), *rest = layer ? strchr(layer + 1, '/') : NULL;
    return rest ? xasprintf("%.*s%s", (int)(layer - path), path, rest) : xstrdup(path);
}

static const struct layout *layout_of(const char *path) {
    char *plain = without_layer(path);
    const struct layout *found = NULL;
    for (size_t i = 0; !found && i < sizeof layout / sizeof *layout; i++)
        if (fnmatch(layout[i].path, plain, FNM_PATHNAME) == 0) found = &layout[i];
    free(plain);
    return found;
}

static unit_kind kind_of(const char *path) {
    return strncmp(strrchr(path, '/') + 1, unit_names[UNIT_NEURONS], strlen(unit_names[UNIT_NEURONS])) == 0
               ? UNIT_NEURONS
               : UNIT_HEADS;
}

// Of .../CRITERION/{heads, neurons}.
static const char *unit_of_criterion(const char *path) {
    const char *leaf = strrchr(path, '/'), *from = leaf;
    while (from > path && from[-1] != '/') from--;
    char *name = xstrndup(from, (size_t)(leaf - from));
    const criterion *c = crit_find(name);
    const mode_kind mode = strstr(path, mode_suffixes[MODE_COMPAT]) ? MODE_COMPAT : MODE_SOUND;
    free(name);
    const char *unit = c ? crit_unit(c, mode, kind_of(path)) : NULL;
    return unit ? unit : "not stated by the criterion";
}

static char *axes_of(const struct layout *of, const char *path) {
    const size_t n = strlen(of->axes), tail = strlen("unit");
    return n > tail && strcmp(of->axes + n - tail, "unit") == 0
               ? xasprintf("%.*s%s", (int)(n - tail), of->axes, unit_names_of_one[kind_of(path)])
               : xstrdup(of->axes);
}

static int describe(store *s, const char *path, const char *model_hash) {
    const struct layout *of = layout_of(path);
    if (!of) return 0;  // somebody else's, copied along
    char *axes = axes_of(of, path), *scale = xasprintf("%s_scale", path);
    const char *unit = strcmp(of->unit, OF_CRITERION) == 0 ? unit_of_criterion(path) : of->unit;
    int bad = store_put_text(s, path, "what", of->what) || store_put_text(s, path, "axes", axes) ||
              store_put_text(s, path, "unit", unit) ||
              (model_hash && store_put_text(s, path, "model_hash", model_hash)) ||
              (store_has(s, scale) && store_put_text(s, path, "scale", strrchr(scale, '/') + 1));
    free(scale);
    free(axes);
    return bad ? -1 : 0;
}

// ---------------------------------------------------------------- all of a file
typedef struct {
    char **path;
    int n, cap;
} paths;

static herr_t add(hid_t file, const char *name, const H5O_info_t *info, void *to) {
    (void)file;
    paths *p = to;
    if (info->type == H5O_TYPE_DATASET) VEC_PUSH(p->path, p->n, p->cap, xasprintf("/%s", name));
    return 0;
}

int store_describe(store *s) {
    paths p = {0};
    char *model_hash = store_attr(s, "/", "model_hash");
    int bad = H5Ovisit(s->file, H5_INDEX_NAME, H5_ITER_NATIVE, add, &p) < 0 ? store_fail(s, "its datasets") : 0;
    for (int i = 0; i < p.n; i++) {
        if (!bad) bad = describe(s, p.path[i], model_hash);
        free(p.path[i]);
    }
    free(p.path);
    free(model_hash);
    return bad;
}
