// train_plan - which criteria, which rows of the store for what, which settings; features and targets to scratch.
#include "train.h"
#include "cli.h"
#include "registry.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---------------------------------------------------------------- criteria
// Scores of every example: a dataset [N, L, U] without an index beside it.
static bool has_scores(const train_job *j, const char *name, unit_kind kind) {
    char *group = xasprintf("/scores%s/%s", mode_suffixes[j->about.mode], name),
         *dataset = xasprintf("%s/%s", group, unit_names[kind]);
    long dim[3];
    const bool there = store_has(j->in, dataset) && store_shape(j->in, dataset, dim) == 3 && dim[0] == j->ex.n &&
                       dim[1] == j->m.c.L && dim[2] == predictor_units(&j->about, kind);
    free(dataset);
    free(group);
    return there;
}

// Whether the store has the criterion as scores of whole tasks.
static bool of_tasks(const train_job *j, const char *name) {
    int n;
    char *top = xasprintf("/task_scores%s", mode_suffixes[j->about.mode]), **task = store_list(j->in, top, &n);
    bool any = false;
    for (int i = 0; i < n && !any; i++) {
        char *group = xasprintf("%s/%s/%s", top, task[i], name);
        any = store_has(j->in, group);
        free(group);
    }
    free(task);
    free(top);
    return any;
}

static int choose_criteria(train_job *j) {
    char *top = xasprintf("/scores%s", mode_suffixes[j->about.mode]), text[512] = "";
    int n, wanted_n = 0;
    char **there = store_list(j->in, top, &n),
         **wanted = strcmp(j->o.criterion, "all") == 0 ? NULL : cli_split(j->o.criterion, &wanted_n);
    j->criteria = xcalloc((size_t)n + 1, sizeof *j->criteria);
    j->has = xcalloc((size_t)n + 1, sizeof *j->has);
    int bad = 0;
    for (int i = 0; i < n; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), " %s", there[i]);
        bool ask = !wanted;
        for (int k = 0; k < wanted_n; k++) ask |= strcmp(wanted[k], there[i]) == 0;
        bool *has = j->has[j->n_criteria];
        for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) has[k] = ask && has_scores(j, there[i], k);
        const criterion *c = crit_find(there[i]);
        if (c && has[UNIT_NEURONS] && crit_check_neurons(c, &j->m.c) != 0) {
            log_info("neurons are left out: %s", err_get());
            has[UNIT_NEURONS] = false;
        }
        if (ask && !has[UNIT_HEADS] && !has[UNIT_NEURONS])
            log_info("%s/%s: no scores of every example, left out", top, there[i]);
        if (has[UNIT_HEADS] || has[UNIT_NEURONS]) j->criteria[j->n_criteria++] = xstrdup(there[i]);
    }
    for (int k = 0; !bad && k < wanted_n; k++) {
        bool found = false;
        for (int i = 0; i < j->n_criteria; i++) found |= strcmp(j->criteria[i], wanted[k]) == 0;
        if (!found && of_tasks(j, wanted[k]))
            bad = err_set("%s has no scores of examples, only of tasks: it makes static masks, and is not predicted",
                          wanted[k]);
        else if (!found)
            bad = err_set("%s: no criterion %s with scores of every example in %s; there are:%s", store_path(j->in),
                          wanted[k], top, n ? text : " none");
    }
    if (!bad && !j->n_criteria) {
        char *other = xasprintf("/scores%s", mode_suffixes[mode_other(j->about.mode)]);
        if (store_has(j->in, other))
            bad = err_set("%s: only scores of --mode %s are there; score with --mode %s or both", store_path(j->in),
                          mode_names[mode_other(j->about.mode)], mode_names[j->o.mode]);
        else
            bad = err_set("%s: no scores of every example in %s", store_path(j->in), top);
        free(other);
    }
    free(wanted);
    free(there);
    free(top);
    return bad;
}

// ---------------------------------------------------------------- parts
// Sound: one split for both kinds. Compat: as published, no validation part, a fifth of the documents for the test of
// heads, a tenth for neurons'.
static int split(train_job *j) {
    static const double published_test[UNIT_KINDS] = {[UNIT_HEADS] = 0.2, [UNIT_NEURONS] = 0.1};
    const bool compat = j->about.mode == MODE_COMPAT;
    uint8_t *part = xmalloc((size_t)j->ex.n);
    int bad = 0;
    for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++) {
        const double test = compat ? published_test[k] : j->o.test, train = 1 - test - (compat ? 0 : j->o.valid);
        bad = split_documents(part, j->ex.task, j->ex.id, j->ex.n, train, test, (uint64_t)j->o.seed);
        j->row[k] = xmalloc((size_t)j->ex.n * sizeof *j->row[k]);
        for (int p = 0, n = 0; p < 3; p++)
            for (int i = 0; i < j->ex.n; i++)
                if (part[i] == p) {
                    j->row[k][n++] = i;
                    j->n_row[k][p]++;
                }
    }
    free(part);
    return bad ? err_prefix("%s", j->o.store) : 0;
}

// Numbers the tasks and counts their training rows.
static void number_tasks(train_job *j) {
    char **name = xcalloc((size_t)j->ex.n, sizeof *name);  // of the store's examples
    j->task = xmalloc((size_t)j->ex.n * sizeof *j->task);
    for (int i = 0; i < j->ex.n; i++) {
        int t = 0;
        while (t < j->n_tasks && strcmp(name[t], j->ex.task[i]) != 0) t++;
        if (t == j->n_tasks) name[j->n_tasks++] = j->ex.task[i];
        j->task[i] = t;
    }
    free(name);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        const int *row = train_rows(j, k, PART_TRAIN);
        j->task_rows[k] = xcalloc((size_t)j->n_tasks, sizeof *j->task_rows[k]);
        for (int i = 0; i < j->n_row[k][PART_TRAIN]; i++) j->task_rows[k][j->task[row[i]]]++;
    }
}

int train_without_task(const train_job *j, unit_kind k) {
    const int *row = train_rows(j, k, PART_TEST);
    int n = 0;
    for (int i = 0; i < j->n_row[k][PART_TEST]; i++) n += j->task_rows[k][j->task[row[i]]] == 0;
    return n;
}

// ---------------------------------------------------------------- settings
static char *examples_hash(const store_examples *e) {
    uint64_t h = 0;
    for (int i = 0; i < e->n; i++) {
        h = rng_hash(h, hash64(e->task[i], strlen(e->task[i])), hash64(e->id[i], strlen(e->id[i])));
        h = rng_hash(h, hash64(e->tokens + e->offset[i], (size_t)(e->offset[i + 1] - e->offset[i]) * sizeof *e->tokens),
                     (uint64_t)e->context[i]);
    }
    return xasprintf("%016llx", (unsigned long long)h);
}

static void describe(train_job *j) {
    const predictor_info *a = &j->about;
    char *examples = examples_hash(&j->ex);
    j->settings =
        xasprintf("model_hash=%s\nexamples=%d %s\nmode=%s\ndesign=%s\ntarget=%s\nfeatures=%s\nhidden=%d "
                  "%d\nepochs=%d %d\nbatch=%d %d\nlr=%g\nseed=%ld\n"
                  "split=%g %g\nearly_stop=%ld\ntop=%g\ndense_layers=%ld\nquality=%s,%s,%s,%s\n",
                  j->m.file.hash, j->ex.n, examples, mode_names[j->o.mode], predictor_design_names[a->design],
                  a->target_layer ? "layer" : "global", j->feature_name, a->hidden[UNIT_HEADS], a->hidden[UNIT_NEURONS],
                  j->epochs[UNIT_HEADS], j->epochs[UNIT_NEURONS], j->batch[UNIT_HEADS], j->batch[UNIT_NEURONS], j->o.lr,
                  j->o.seed, j->o.valid, j->o.test, j->o.early_stop, j->o.top, j->o.dense_layers,
                  train_by[BY_PREDICTOR], train_by[BY_STATIC], train_by[BY_TASK], train_by[BY_NORM]);
    free(examples);
}

// The first line that differs, into one message.
static int same_settings(const train_job *j, const char *where, const char *theirs) {
    const char *a = theirs, *b = j->settings;
    while (*a && *b) {
        const size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        if (n != m || memcmp(a, b, n) != 0)
            return err_set("%s: made with %.*s, not %.*s; give the same settings, or another --out", where, (int)n, a,
                           (int)m, b);
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
    return *a || *b ? err_set("%s: made by another version of this program; give another --out", where) : 0;
}

bool train_done(const train_job *j, const char *path, const char *name) {
    if (!file_exists(path)) return false;
    store *s = store_open_as(path, PREDICTOR_FORMAT, "bin/train");
    char *settings = s ? store_attr(s, "/", "settings") : NULL, *group = xasprintf("/predictors/%s", name);
    const bool done = settings && strcmp(settings, j->settings) == 0 && store_has(s, group);
    free(group);
    free(settings);
    store_close(s);
    return done;
}

// OUT and OUT.work of other settings are refused before anything is computed.
static int check_outputs(train_job *j) {
    if (file_exists(j->o.out)) {
        store *s = store_open_as(j->o.out, PREDICTOR_FORMAT, "bin/train");
        if (!s) return -1;
        char *settings = store_attr(s, "/", "settings");
        const int bad = settings ? same_settings(j, j->o.out, settings)
                                 : err_set("%s: attribute settings is missing; give another --out", j->o.out);
        free(settings);
        store_close(s);
        if (bad) return -1;
    }
    if ((*j->o.predictions && store_check_out(j->o.predictions, PREDICTIONS_FORMAT)) || check_out(j->o.curve) ||
        check_out(j->o.metrics))
        return -1;
    j->work = xasprintf("%s.work", j->o.out);
    if (j->o.estimate) return 0;
    if (mkdir(j->work, 0777) != 0 && errno != EEXIST)
        return err_set("%s: cannot make the folder: %s", j->work, strerror(errno));
    char *plan = xasprintf("%s/plan", j->work), *theirs = file_exists(plan) ? file_read(plan, NULL) : NULL;
    int bad = 0;
    if (theirs)
        bad = same_settings(j, j->work, theirs);
    else {
        file_out f = {0};
        bad = file_out_open(&f, plan);
        if (!bad) {
            fputs(j->settings, f.f);
            bad = file_out_close(&f);
        }
    }
    free(theirs);
    free(plan);
    return bad;
}

// ---------------------------------------------------------------- plan
static int smaller(int a, int b) { return a < b ? a : b; }

// The published sizes, 2048 for heads and 1024 for neurons, are E and E / 2 of OPT-1.3B; a model narrower than that
// gets its own E.
static void choose_sizes(train_job *j) {
    predictor_info *a = &j->about;
    static const int hidden[UNIT_KINDS] = {[UNIT_HEADS] = 2048, [UNIT_NEURONS] = 1024},
                     batch[UNIT_KINDS] = {[UNIT_HEADS] = 32, [UNIT_NEURONS] = 16},
                     epochs[UNIT_KINDS] = {[UNIT_HEADS] = 100, [UNIT_NEURONS] = 20};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        a->hidden[k] = j->o.hidden ? (int)j->o.hidden : smaller(hidden[k], a->E);
        j->batch[k] = j->o.batch ? (int)j->o.batch : batch[k];
        j->epochs[k] = j->o.epochs ? (int)j->o.epochs : epochs[k];
    }
}

static int choose_design(train_job *j) {
    predictor_info *a = &j->about;
    *a = (predictor_info){
        .L = j->m.c.L, .H = j->m.c.H, .E = j->m.c.E, .F = j->m.c.F, .mode = j->o.mode, .design = j->o.design};
    if (j->m.c.H * j->m.c.D != j->m.c.E) a->A = j->m.c.H * j->m.c.D;
    a->per_layer = a->design == PREDICTOR_DEJAVU || a->design == PREDICTOR_LOWRANK;
    a->target_layer = j->o.target < 0 ? a->per_layer : j->o.target == TARGET_LAYER;
    if (a->design == PREDICTOR_LOWRANK && !a->target_layer)
        return err_set("--target global: dejavu-lowrank learns the top of every layer; leave --target out");
    if (!a->per_layer && j->o.features >= 0)
        return err_set("--features: only dejavu and dejavu-lowrank have a choice; leave it out");
    static const char *const usual[] = {[PREDICTOR_DEJAVU] = "same",
                                        [PREDICTOR_LOWRANK] = "ahead",
                                        [PREDICTOR_SHADOW] = "early",
                                        [PREDICTOR_SEQUENCE] = "tokens"};
    j->feature_name = usual[a->design];
    if (j->o.features >= 0) j->feature_name = j->o.features == FEATURES_AHEAD ? "ahead" : "same";
    a->lag = strcmp(j->feature_name, "ahead") == 0;
    if (a->mode == MODE_COMPAT && a->lag)
        return err_set("--features ahead: the published features are those of the same layer; use --mode sound");
    if (a->lag && a->L < 2) return err_set("--features ahead: the model has one layer only");
    if (a->design == PREDICTOR_LOWRANK) {
        a->state[UNIT_HEADS] = STATE_RESIDUAL;
        a->state[UNIT_NEURONS] = STATE_MID;
    } else if (a->lag)
        a->state[UNIT_HEADS] = a->state[UNIT_NEURONS] = STATE_RESIDUAL;
    else
        a->state[UNIT_HEADS] = a->state[UNIT_NEURONS] = STATE_HEAD_OUTPUT;
    choose_sizes(j);
    return 0;
}

// The published 100 and 20 epochs are some 9,000 and 4,000 steps over the published 3,200 examples; a smaller store
// gets as many epochs as make LEAST_STEPS, because the best one on the validation part is kept anyway.
enum { LEAST_STEPS = 2000 };
static void choose_epochs(train_job *j) {
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        const int steps = (j->n_row[k][PART_TRAIN] + j->batch[k] - 1) / j->batch[k],
                  least = (LEAST_STEPS + steps - 1) / steps;
        if (!j->o.epochs && j->about.mode == MODE_SOUND && j->epochs[k] < least) j->epochs[k] = least;
    }
}

static int check_store(train_job *j) {
    char *hash = store_attr(j->in, "/", "model_hash");
    int bad = 0;
    if (!hash || strcmp(hash, j->m.file.hash) != 0)
        bad = err_set("%s: scored on another model (hash %.8s, not %.8s of %s); give that model, or score this one",
                      j->o.store, hash ? hash : "missing", j->m.file.hash, j->o.model);
    free(hash);
    const char *features[] = {"head_output", "residual", "residual_mid"};
    for (int i = 0; !bad && i < STATE_KINDS; i++) {
        char *dataset = xasprintf("/features%s/%s", mode_suffixes[j->about.mode], features[i]);
        const int width = predictor_width(&j->about, (model_state)i);
        long dim[3];
        if (!store_has(j->in, dataset))
            bad = err_set("%s: %s is missing: the store has no such features; score with --mode %s or both", j->o.store,
                          dataset, mode_names[j->o.mode]);
        else if (store_shape(j->in, dataset, dim) != 3 || dim[0] != j->ex.n || dim[1] != j->about.L || dim[2] != width)
            bad = err_set("%s: %s is not [%d, %d, %d]; score again", j->o.store, dataset, j->ex.n, j->about.L, width);
        free(dataset);
    }
    for (int i = 0; !bad && i < j->ex.n; i++)
        for (int64_t t = j->ex.offset[i]; !bad && t < j->ex.offset[i + 1]; t++)
            if (j->ex.tokens[t] < 0 || j->ex.tokens[t] >= j->m.c.V)
                bad = err_set("%s: /examples/tokens: %d is no token of the model", j->o.store, j->ex.tokens[t]);
    return bad;
}

int train_plan(train_job *j) {
    j->features.fd = j->targets.fd = -1;
    if (choose_design(j) || !(j->in = store_open(j->o.store)) || store_read_examples(j->in, &j->ex) || check_store(j) ||
        choose_criteria(j) || split(j))
        return -1;
    number_tasks(j);
    choose_epochs(j);
    describe(j);
    return check_outputs(j);
}

static void free_means(train_kind *t) {
    free(t->mean);
    free(t->task_mean);
    free(t->positive);
}

void train_free(train_job *j) {
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        free_means(&j->kind[k]);
        free(j->row[k]);
        free(j->task_rows[k]);
    }
    free(j->task);
    for (int i = 0; i < j->n_criteria; i++) free(j->criteria[i]);
    free(j->criteria);
    free(j->has);
    scratch_close(&j->features);
    scratch_close(&j->targets);
    store_examples_free(&j->ex);
    store_close(j->in);
    free(j->settings);
    free(j->work);
    model_free(&j->m);
}

// ---------------------------------------------------------------- scratch
// l2 norms of a feature's rows: [N] of L.
static int fill_norms(train_job *j, plane *to, const char *dataset) {
    const int L = j->about.L, E = j->about.E, N = j->ex.n;
    *to = scratch_plane(&j->features, L, N);
    float *x = xmalloc((size_t)L * (size_t)E * sizeof *x), *norm = xmalloc((size_t)L * sizeof *norm);
    int bad = 0;
    for (int i = 0; !bad && i < N; i++) {
        bad = store_read(j->in, dataset, i, 1, x);
        for (int l = 0; l < L; l++) {
            double sum = 0;
            for (int e = 0; e < E; e++)
                sum += (double)x[(size_t)l * (size_t)E + (size_t)e] * (double)x[(size_t)l * (size_t)E + (size_t)e];
            norm[l] = (float)sqrt(sum);
        }
        if (!bad) bad = plane_write(to, i, 1, norm);
    }
    free(norm);
    free(x);
    return bad;
}

int train_features(train_job *j) {
    if (scratch_open(&j->features, j->o.out)) return -1;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        const model_state s = j->about.state[k];
        char *read = xasprintf("/features%s/%s", mode_suffixes[j->about.mode], predictor_states[s]),
             *input = xasprintf("/features%s/%s", mode_suffixes[j->about.mode],
                                k == UNIT_HEADS ? "residual" : "residual_mid");
        int bad = fill_norms(j, &j->norm[k], input);
        if (!bad && j->about.design != PREDICTOR_SEQUENCE && !j->x[s].file) {
            long constant;
            const bool all = j->about.per_layer;
            bad = plane_fill(&j->x[s], &j->features, j->in, read, NULL, all ? 0 : j->about.from, all ? j->about.L : 1,
                             ROWS_LAYER, 0, &constant);
            if (!bad && constant) log_info("%s: %ld constant inputs became zeros", read, constant);
        }
        free(input);
        free(read);
        if (bad) return -1;
    }
    return 0;
}

// Means over the training part, whole and of each task.
static int fill_mean(train_job *j, int k) {
    train_kind *t = &j->kind[k];
    const int *row = train_rows(j, k, PART_TRAIN), n = j->n_row[k][PART_TRAIN], width = t->target.width;
    float *x = xmalloc((size_t)width * sizeof *x);
    t->mean = xcalloc((size_t)width, sizeof *t->mean);
    t->task_mean = xcalloc((size_t)j->n_tasks * (size_t)width, sizeof *t->task_mean);
    int bad = 0;
    for (int i = 0; !bad && i < n; i++) {
        const int task = j->task[row[i]], of_task = j->task_rows[k][task];
        double *task_mean = t->task_mean + (size_t)task * (size_t)width;
        bad = plane_read(&t->target, row[i], x);
        for (int u = 0; u < width; u++) {
            t->mean[u] += (double)x[u] / n;
            task_mean[u] += (double)x[u] / of_task;
        }
    }
    for (int task = 0; task < j->n_tasks; task++)
        if (!j->task_rows[k][task])
            memcpy(t->task_mean + (size_t)task * (size_t)width, t->mean, (size_t)width * sizeof *t->mean);
    const int L = j->about.L, U = width / L;
    t->positive = xcalloc((size_t)L, sizeof *t->positive);
    for (int i = 0; !bad && t->label.file && i < n; i++) {
        bad = plane_read(&t->label, row[i], x);
        for (int u = 0; u < width; u++)
            if (u % U < model_units(&j->m.c, u / U, k))
                t->positive[u / U] += (double)x[u] / ((double)n * model_units(&j->m.c, u / U, k));
    }
    free(x);
    return bad;
}

int train_targets(train_job *j, int c) {
    scratch_close(&j->targets);
    if (scratch_open(&j->targets, j->o.out)) return -1;
    const int L = j->about.L;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        train_kind *t = &j->kind[k];
        free_means(t);
        *t = (train_kind){0};
        if (!j->has[c][k]) continue;
        char *dataset = xasprintf("/scores%s/%s/%s", mode_suffixes[j->about.mode], j->criteria[c], unit_names[k]);
        long constant;
        const int *units = train_units(j, k);
        int bad = plane_fill(&t->target, &j->targets, j->in, dataset, units, 0, L,
                             j->about.target_layer ? ROWS_LAYER : ROWS_GLOBAL, 0, &constant);
        if (!bad && constant)
            log_info("%s: %ld constant %s became zeros", dataset, constant,
                     j->about.target_layer ? "layers of examples" : "examples");
        if (!bad && j->about.design == PREDICTOR_LOWRANK)
            bad = plane_fill(&t->label, &j->targets, j->in, dataset, units, 0, L, ROWS_TOP, j->o.top, &constant);
        if (!bad) bad = fill_mean(j, k);
        free(dataset);
        if (bad) return -1;
    }
    return 0;
}
