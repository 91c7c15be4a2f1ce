// train - predictors of unit scores from the states of early layers (or of each layer, or the tokens): store ->
// predictor file, measured on held-out documents. Designs and settings: METHOD 5.
#include "cli.h"
#include "threads.h"
#include "train.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static train_job job = {.o = {.criterion = "all",
                              .design = PREDICTOR_SHADOW,
                              .target = -1,
                              .features = -1,
                              .predictions = "",
                              .curve = "",
                              .metrics = "",
                              .device = "cpu",
                              .seed = 1,
                              .lr = 1e-3,
                              .valid = 0.15,
                              .test = 0.15,
                              .top = 50,
                              .dense_layers = 1,
                              .save_every = 30}};

static const char *const target_names[] = {[TARGET_GLOBAL] = "global", [TARGET_LAYER] = "layer", NULL};
static const char *const feature_names[] = {[FEATURES_SAME] = "same", [FEATURES_AHEAD] = "ahead", NULL};

static const cli_option options[] = {
    {.name = "store",
     .type = CLI_STR,
     .value = &job.o.store,
     .arg = "STORE",
     .help = "scores and features, from bin/score",
     .required = true},
    {.name = "model",
     .type = CLI_STR,
     .value = &job.o.model,
     .arg = "DIR",
     .help = "the model that was scored",
     .required = true},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &job.o.criterion,
     .arg = "NAME,...|all",
     .help = "criteria to predict"},
    {.name = "design",
     .type = CLI_CHOICE,
     .value = &job.o.design,
     .arg = "NAME",
     .help =
         "shadow: one net, from layer 0's heads; dejavu: a net per layer; dejavu-lowrank: DejaVu's own pair, trained "
         "on "
         "the features at the end of the context and top-k labels, where DejaVu trains on every token's activations; "
         "sequence: one net after self-attention over the tokens",
     .names = predictor_design_names},
    {.name = "target",
     .type = CLI_CHOICE,
     .value = &job.o.target,
     .arg = "WHERE",
     .help = "scores are min-max normalised over all layers or within each; default: global for shadow and sequence, "
             "layer for "
             "dejavu",
     .names = target_names},
    {.name = "features",
     .type = CLI_CHOICE,
     .value = &job.o.features,
     .arg = "WHICH",
     .help = "dejavu: what layer l's net reads: the head outputs of l itself, or the residual entering l-1; "
             "dejavu-lowrank: "
             "residual (heads) and residual after attention (neurons) of l, or of l-1; default: dejavu same, "
             "dejavu-lowrank "
             "ahead",
     .names = feature_names},
    {.name = "hidden",
     .type = CLI_INT,
     .value = &job.o.hidden,
     .arg = "N",
     .help = "hidden units, or rank; 0: the smaller of the model's width and 2048 (heads), 1024 (neurons)",
     .max = 1 << 20},
    {.name = "top",
     .type = CLI_FLOAT,
     .value = &job.o.top,
     .arg = "PERCENT",
     .help = "dejavu-lowrank: share of each layer's units that are labelled 1",
     .min = 1,
     .max = 99},
    {.name = "epochs",
     .type = CLI_INT,
     .value = &job.o.epochs,
     .arg = "N",
     .help = "0: 100 for heads, 20 for neurons, more on a small store so that there are 2,000 steps (not in compat)",
     .max = 1e6},
    {.name = "batch",
     .type = CLI_INT,
     .value = &job.o.batch,
     .arg = "N",
     .help = "examples a step; 0: 32 for heads, 16 for neurons",
     .max = 1e5},
    {.name = "lr",
     .type = CLI_FLOAT,
     .value = &job.o.lr,
     .arg = "X",
     .help = "first learning rate of AdamW, annealed to 0 by a cosine",
     .min = 1e-9,
     .max = 10},
    {.name = "early-stop",
     .type = CLI_INT,
     .value = &job.o.early_stop,
     .arg = "N",
     .help = "stop after N epochs without a better validation loss; 0: do not",
     .max = 1e6},
    {.name = "valid",
     .type = CLI_FLOAT,
     .value = &job.o.valid,
     .arg = "X",
     .help = "fraction of the documents for choosing the epoch",
     .min = 0.01,
     .max = 0.5},
    {.name = "test",
     .type = CLI_FLOAT,
     .value = &job.o.test,
     .arg = "X",
     .help = "fraction of the documents for the numbers printed",
     .min = 0.01,
     .max = 0.45},
    {.name = "dense-layers",
     .type = CLI_INT,
     .value = &job.o.dense_layers,
     .arg = "N",
     .help = "first layers that are never pruned: not in the overlaps",
     .max = 1e5},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &job.o.mode,
     .arg = "MODE",
     .help =
         "compat: published settings: scores and features of score --mode compat, 80/20 (heads) and 90/10 (neurons) "
         "without validation, last epoch",
     .names = mode_names},
    {.name = "device",
     .type = CLI_STR,
     .value = &job.o.device,
     .arg = "NAME",
     .help = "where nets are trained: cpu, cuda (the first GPU) or cuda:I; of several GPUs, the first"},
    {.name = "seed",
     .type = CLI_INT,
     .value = &job.o.seed,
     .arg = "N",
     .help = "seed of split, initialisation and order",
     .max = 9e15},
    {.name = "threads", .type = CLI_INT, .value = &job.o.threads, .arg = "N", .help = THREADS_HELP, .max = 4096},
    {.name = "save-every",
     .type = CLI_FLOAT,
     .value = &job.o.save_every,
     .arg = "S",
     .help = "seconds between the states that a killed training resumes from",
     .max = 1e9},
    {.name = "predictions",
     .type = CLI_STR,
     .value = &job.o.predictions,
     .arg = "FILE.h5",
     .help = "write the predictions of the test part, and the rows of the store that are for training and test"},
    {.name = "curve",
     .type = CLI_STR,
     .value = &job.o.curve,
     .arg = "FILE.csv",
     .help = "write the loss of every epoch"},
    {.name = "metrics",
     .type = CLI_STR,
     .value = &job.o.metrics,
     .arg = "FILE.csv",
     .help = "write the numbers of the table, costs and the overlaps at 10..90 %, of the predictor and, in rows of "
             "their own, "
             "of the mean of the training part (static_mean), that of its examples of the same task (task_mean) and "
             "the norm "
             "of the layer's input (input_norm)"},
    {.name = "estimate", .type = CLI_FLAG, .value = &job.o.estimate, .help = "print what it will cost, and stop"},
    {.name = "out",
     .type = CLI_STR,
     .value = &job.o.out,
     .arg = "FILE",
     .help = "predictor file to make, to finish or to extend",
     .required = true},
    {0}};

typedef struct {
    progress bar;
    long done;
} ticker;
static void tick(void *ctx, long steps) {
    ticker *t = ctx;
    progress_at(&t->bar, t->done += steps);
}

static bool finished(const train_job *j, int c) {
    char *part = xasprintf("%s/%s.h5", j->work, j->criteria[c]);
    const bool done = train_done(j, j->o.out, j->criteria[c]) || train_done(j, part, j->criteria[c]);
    free(part);
    return done;
}

static void print_plan(const train_job *j) {
    const predictor_info *a = &j->about;
    printf("%d examples; documents for training, validation, test: %d, %d, %d examples", j->ex.n,
           j->n_row[UNIT_HEADS][0], j->n_row[UNIT_HEADS][1], j->n_row[UNIT_HEADS][2]);
    if (a->mode == MODE_COMPAT)
        printf(" (neurons %d, %d, %d)", j->n_row[UNIT_NEURONS][0], j->n_row[UNIT_NEURONS][1],
               j->n_row[UNIT_NEURONS][2]);
    printf("\n%d criteria:", j->n_criteria);
    for (int c = 0; c < j->n_criteria; c++) {
        const char *only = j->has[c][UNIT_HEADS] ? " (heads)" : " (neurons)";
        printf(" %s%s", j->criteria[c], j->has[c][UNIT_HEADS] && j->has[c][UNIT_NEURONS] ? "" : only);
    }
    printf("\nnets of %s: %d per criterion and kind, hidden %d for heads, %d for neurons, %d and %d epochs of batches "
           "of %d and %d\n",
           predictor_design_names[a->design], a->per_layer ? a->L - a->lag : 1, a->hidden[UNIT_HEADS],
           a->hidden[UNIT_NEURONS], j->epochs[UNIT_HEADS], j->epochs[UNIT_NEURONS], j->batch[UNIT_HEADS],
           j->batch[UNIT_NEURONS]);
    if (a->design == PREDICTOR_LOWRANK)
        printf("dejavu-lowrank departs from DejaVu: features at the end of the context and the top %g %% of the "
               "criterion's scores as labels, not every token's activations\n",
               j->o.top);
}

// Bytes of the host: the nets of a criterion, what trains them, and the means that they are measured against.
static double host_memory(const train_job *j, int c) {
    double weights = 0, most = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        net n;
        predictor_shape(&n, &j->about, k);
        const double bytes = 4.0 * (double)n.floats;
        most = bytes > most ? bytes : most;
        weights += bytes * (j->about.per_layer ? j->about.L - j->about.lag : 1);
    }
    // the mean of all training examples and those of the tasks, in double precision
    const double means = 8.0 * (1 + j->n_tasks) * j->about.L * ((double)j->about.H + j->about.F);
    return weights + means + (j->device->host ? train_bytes(j, c) : most);
}

// From the first criterion that is not finished, whose targets are streamed for it.
static int estimate(train_job *j, int first, int left) {
    double seconds, start = clock_s();
    if (train_features(j)) return -1;
    const double features = clock_s() - start;
    start = clock_s();
    if (train_targets(j, first)) return -1;
    const double targets = clock_s() - start;
    start = clock_s();
    if (train_estimate(j, first, &seconds)) return -1;
    long steps = 0;
    for (int c = 0; c < j->n_criteria; c++) steps += finished(j, c) ? 0 : train_steps(j, c);
    const double scale = (double)steps / (double)train_steps(j, first);
    const double disk = 4.0 * (double)(j->features.floats + j->targets.floats);
    printf("about %.1f s for %d criteria%s (%.1f s of reading included), memory %.0f MiB, scratch on disk %.0f MiB",
           seconds * scale + features + targets * left, left, j->o.early_stop ? " if none stops early" : "",
           features + targets * left, host_memory(j, first) / 1048576 + 40, disk / 1048576);
    if (j->device->host)
        printf("\n");
    else
        printf(", of %s (%s) %.0f MiB\n", j->device->device, j->device->about, train_bytes(j, first) / 1048576);
    fflush(stdout);
    return 0;
}

static int run(train_job *j) {
    int left = 0, first = -1;
    for (int c = 0; c < j->n_criteria; c++)
        if (!finished(j, c)) {
            left++;
            first = first < 0 ? c : first;
        }
    if (!left) return 0;
    if (estimate(j, first, left)) return -1;
    if (j->o.estimate) return 0;
    ticker t = {.done = 0};
    long total = 0;
    for (int c = 0; c < j->n_criteria; c++) total += finished(j, c) ? 0 : train_steps(j, c);
    progress_begin(&t.bar, "steps", total);
    for (int c = first; c < j->n_criteria; c++) {
        if (finished(j, c)) continue;
        if (c != first && train_targets(j, c)) return -1;
        if (train_criterion(j, c, tick, &t)) {
            progress_end(&t.bar);
            return -1;
        }
    }
    progress_end(&t.bar);
    return 0;
}

static int report(train_job *j) {
    store *s = store_open_as(j->o.out, PREDICTOR_FORMAT, "bin/train");
    if (!s) return -1;
    int bad = 0;
    train_print_head(j);
    for (int c = 0; !bad && c < j->n_criteria; c++) bad = train_print_row(j, s, j->criteria[c]);
    fflush(stdout);
    if (!bad && *j->o.curve) bad = train_curve(j, s);
    if (!bad && *j->o.metrics) bad = train_metrics(j, s);
    if (!bad && *j->o.predictions) {
        if (j->features.fd < 0) bad = train_features(j);
        if (!bad) bad = train_predictions(j, s);
    }
    store_close(s);
    return bad;
}

// OUT.work and what a run leaves in it.
static void clean(const train_job *j) {
    for (int c = 0; c < j->n_criteria; c++) {
        char *part = xasprintf("%s/%s.h5", j->work, j->criteria[c]);
        unlink(part);
        free(part);
    }
    char *plan = xasprintf("%s/plan", j->work);
    unlink(plan);
    free(plan);
    rmdir(j->work);
}

int main(int argc, char **argv) {
    train_job *j = &job;
    cli_parse(argc, argv,
              "trains nets that predict the scores of heads and neurons for each input, and measures them on held-out "
              "documents",
              options);
    if (j->o.valid + j->o.test > 0.9)
        die(2, "--valid %g and --test %g leave less than a tenth for training", j->o.valid, j->o.test);
    if (j->o.threads) omp_set_num_threads((int)j->o.threads);
    const double start = clock_s();
    char *resolved = cli_resolved(options);
    j->command = cli_command(argc, argv);
    printf("train: %s\n", resolved);
    if (!(j->device = ops_open(j->o.device))) die(1, "%s", err_get());
    if (model_load(&j->m, j->o.model) || ckpt_check_values(&j->m.file) || model_check_mode(&j->m.c, j->o.mode))
        die(1, "%s", err_get());
    if (j->o.design == PREDICTOR_SEQUENCE && model_move_embeddings(&j->m, j->device)) die(1, "%s", err_get());
    const int lock = store_lock(j->o.out);
    if (lock < 0) die(1, "%s", err_get());
    int bad = train_plan(j);
    if (!bad) {
        print_plan(j);
        fflush(stdout);
        bad = run(j);
    }
    bool merge = false;
    for (int c = 0; !bad && c < j->n_criteria; c++) merge |= !train_done(j, j->o.out, j->criteria[c]);
    if (!bad && !j->o.estimate) {
        if (merge)
            bad = train_merge(j);
        else
            printf("%s: complete, nothing to train\n", j->o.out);
        if (!bad) clean(j);
        if (!bad) bad = report(j);
    }
    char *why = bad ? xstrdup(err_get()) : NULL;
    store_unlock(j->o.out, lock);
    if (bad) die(1, "%s", why);
    if (!j->o.estimate) {
        printf("%s: %.1f s", j->o.out, clock_s() - start);
        if (j->train_s > 0) printf(", %.0f examples/s in training", (double)j->trained / j->train_s);
        printf(", peak memory %.0f MiB\n", peak_memory_mib());
    }
    train_free(j);
    free(j->command);
    free(resolved);
    stdout_end();
    return 0;
}
