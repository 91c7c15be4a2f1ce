// aggregate - from a store: aggregates per task and over all, ranks, correlations between criteria and with exact
// removal.
//
//   /aggregates[_compat]/<task or all>/<criterion>/{heads [L, H], neurons [L, F]}  float64. Sound: mean over examples,
//                                                                                  all = mean of the task
//       means. Compat: sum over examples, all = mean of the task sums. Task-level scores are taken as they are; all is
//       over the tasks that have the score. Pooled criteria (flap) take all from the moments of all tasks pooled; the
//       moments are beside the scores (moments.h)
//   /ranks[_compat]/<task or all>/<criterion>/{heads, neurons}_{mean, variance}  of a unit's average rank (1 = least
//                                                                                important) among all
//       units of its kind, over examples (all: of every task); variance: sample variance / U^2, absent for a single
//       example
//   /correlation[_compat]/{heads, neurons} [C, C] Spearman of the aggregates over all, their names in {heads,
//   neurons}_criteria; NaN: a
//       constant score
//   /removal[_compat]/{heads, neurons}/<criterion>: attributes, agreement with the exact loss change
// The units that a compacted model has lost are NaN in the store and in every plane here, and count nowhere.
#include "aggregate.h"
#include "cli.h"
#include "documents.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int aggregate_put(job *j, const char *group, const char *task, const char *crit, const char *name, int U,
                  const double *x) {
    char *path = xasprintf("/%s%s/%s/%s/%s", group, mode_suffixes[j->mode], task, crit, name);
    long dim[2] = {j->L, U};
    int bad = store_put_doubles(j->out, path, 2, dim, x);
    free(path);
    return bad;
}

// ---------------------------------------------------------------- aggregates and ranks
static void csv_plane(job *j, const char *task, const char *crit, unit_kind kind, const double *score,
                      const stats_moments *m) {
    char a[32], b[32];
    int U = j->U[kind];
    double n2 = (double)j->n_units[kind] * (double)j->n_units[kind];
    for (int l = 0; m && j->ranks_csv.f && l < j->L; l++) {
        double mean = 0, variance = 0;
        const int here = units_of(j, kind, l);
        for (int u = 0; u < here; u++) {
            mean += m[l * U + u].mean / here;
            variance += stats_variance(&m[l * U + u]) / n2 / here;
        }
        if (here)
            fprintf(j->ranks_csv.f, "%s,%s,%s,%s,%d,%.9g,%s,%ld\n", mode_names[j->mode], task, crit, unit_names[kind],
                    l, mean, number(a, variance), m[0].n);
    }
    for (int i = 0; kind == UNIT_HEADS && j->heads_csv.f && i < j->L * U; i++)
        if (i % U < units_of(j, kind, i / U))
            fprintf(j->heads_csv.f, "%s,%s,%s,%d,%d,%.9g,%s,%s\n", mode_names[j->mode], task, crit, i / U, i % U,
                    score[i], number(a, m ? m[i].mean : NAN), number(b, m ? stats_variance(&m[i]) / n2 : NAN));
    aggregate_spread(j, task, crit, kind, score);
}

static int put_ranks(job *j, const char *task, const char *crit, unit_kind kind, const stats_moments *m,
                     double *mean_variance) {
    const size_t n = (size_t)j->L * (size_t)j->U[kind];
    const double units = (double)j->n_units[kind];
    double *x = xmalloc(n * sizeof *x), sum = 0;
    char *name = xasprintf("%s_mean", unit_names[kind]);
    for (size_t i = 0; i < n; i++) x[i] = m[i].mean;
    int bad = aggregate_put(j, "ranks", task, crit, name, j->U[kind], x);
    free(name);
    if (!bad && m[0].n > 1) {
        name = xasprintf("%s_variance", unit_names[kind]);
        for (size_t i = 0; i < n; i++) x[i] = stats_variance(&m[i]) / (units * units);
        for (size_t k = 0; k < j->n_units[kind]; k++) sum += x[j->place[kind][k]];
        bad = aggregate_put(j, "ranks", task, crit, name, j->U[kind], x);
        free(name);
    }
    if (mean_variance) *mean_variance = m[0].n > 1 ? sum / units : NAN;
    free(x);
    return bad;
}

int64_t *aggregate_examples(const job *j, const char *dataset, long *rows, int *bad) {
    long dim[3];
    *bad = store_shape(j->in, dataset, dim) == 3
               ? 0
               : err_set("%s: %s is not [examples, layers, units]", store_path(j->in), dataset);
    *rows = dim[0];
    if (*bad || dim[0] == j->n) return NULL;
    char *name = xasprintf("%.*sindex", (int)(strrchr(dataset, '/') + 1 - dataset), dataset);
    int64_t *index = xmalloc((size_t)dim[0] * sizeof *index);
    *bad = store_read_int64(j->in, name, 0, dim[0], index);
    for (long i = 0; !*bad && i < dim[0]; i++)
        if (index[i] < 0 || index[i] >= j->n)
            *bad = err_set("%s: %s: row %lld is not in the store", store_path(j->in), name, (long long)index[i]);
    free(name);
    return index;
}

// One dataset of scores per example: its sums per task, its ranks, and what they give.
static int aggregate_rows(job *j, summary *c, unit_kind kind, const char *dataset) {
    const int U = j->U[kind];
    const size_t n = (size_t)j->L * (size_t)U;
    long rows, block = (long)((8u << 20) / (n * sizeof(double))) + 1,
               *count = xcalloc((size_t)j->n_task, sizeof *count);
    int bad, tasks = 0;
    int64_t *index = aggregate_examples(j, dataset, &rows, &bad);
    double *sum = xcalloc((size_t)j->n_task * n, sizeof *sum), *rank = xmalloc((size_t)block * n * sizeof *rank),
           *all = xcalloc(n, sizeof *all);
    float *x = xmalloc((size_t)block * n * sizeof *x);
    stats_moments *m = xcalloc(((size_t)j->n_task + 1) * n, sizeof *m);
    for (long row = 0; !bad && row < rows; row += block) {
        const long got = row + block < rows ? block : rows - row;
        if ((bad = store_read(j->in, dataset, row, got, x))) break;
        for (size_t i = 0; i < (size_t)got * n; i++)
            if (!isfinite(x[i]) && (int)(i % (size_t)U) < units_of(j, kind, (int)(i % n / (size_t)U)))
                bad = err_set("%s: %s: row %ld holds a value that is not finite", store_path(j->in), dataset,
                              row + (long)(i / n));
        if (bad) break;
#pragma omp parallel for schedule(dynamic)
        for (long r = 0; r < got; r++) {
            const size_t units = j->n_units[kind], *place = j->place[kind];
            double *wide = xmalloc(2 * (units + 1) * sizeof *wide), *order = wide + units, *to = rank + (size_t)r * n;
            for (size_t k = 0; k < units; k++) wide[k] = x[(size_t)r * n + place[k]];
            stats_ranks(order, wide, units);
            for (size_t i = 0; units < n && i < n; i++) to[i] = NAN;
            for (size_t k = 0; k < units; k++) to[place[k]] = order[k];
            free(wide);
        }
        for (long r = 0; r < got; r++) {
            const int t = j->task_of[index ? index[row + r] : row + r];
            count[t]++;
            for (size_t i = 0; i < n; i++) {
                sum[(size_t)t * n + i] += x[(size_t)r * n + i];
                stats_add(&m[(size_t)t * n + i], rank[(size_t)r * n + i]);
                stats_add(&m[(size_t)j->n_task * n + i], rank[(size_t)r * n + i]);
            }
        }
    }
    for (int t = 0; !bad && t < j->n_task; t++) {
        double *s = sum + (size_t)t * n;
        if (!count[t]) continue;
        tasks++;
        for (size_t i = 0; i < n; i++) all[i] += s[i] /= j->mode == MODE_COMPAT ? 1.0 : (double)count[t];
        csv_plane(j, j->task[t], c->name, kind, s, m + (size_t)t * n);
        bad = aggregate_put(j, "aggregates", j->task[t], c->name, unit_names[kind], U, s) ||
              put_ranks(j, j->task[t], c->name, kind, m + (size_t)t * n, NULL);
    }
    for (size_t i = 0; i < n; i++) all[i] /= tasks ? tasks : 1;
    if (!bad && tasks) {
        stats_moments *over_all = m + (size_t)j->n_task * n;
        csv_plane(j, "all", c->name, kind, all, over_all);
        bad = aggregate_put(j, "aggregates", "all", c->name, unit_names[kind], U, all) ||
              put_ranks(j, "all", c->name, kind, over_all, &c->variance[kind]);
        c->all[kind] = all;
        all = NULL;
    }
    free(m);
    free(x);
    free(all);
    free(rank);
    free(sum);
    free(index);
    free(count);
    return bad ? -1 : 0;
}

// A criterion that exists per task only.
static int aggregate_tasks(job *j, summary *c, unit_kind kind) {
    const int U = j->U[kind];
    const size_t n = (size_t)j->L * (size_t)U;
    double *x = xmalloc(n * sizeof *x), *all = xcalloc(n, sizeof *all);
    int bad = 0, tasks = 0;
    for (int t = 0; !bad && t < j->n_task; t++) {
        char *name =
            xasprintf("/task_scores%s/%s/%s/%s", mode_suffixes[j->mode], j->task[t], c->name, unit_names[kind]);
        if (store_has(j->in, name)) {
            tasks++;
            bad = store_read_double(j->in, name, 0, j->L, x);
            for (size_t i = 0; !bad && i < n; i++) all[i] += x[i];
            if (!bad) csv_plane(j, j->task[t], c->name, kind, x, NULL);
            if (!bad) bad = aggregate_put(j, "aggregates", j->task[t], c->name, unit_names[kind], U, x);
        }
        free(name);
    }
    for (size_t i = 0; i < n; i++) all[i] /= tasks ? tasks : 1;
    if (!bad && tasks && aggregate_is_pooled(j, c->name)) {
        free(all);
        bad = (all = aggregate_pooled_all(j, c->name, kind)) ? 0 : -1;
    }
    if (!bad && tasks) {
        csv_plane(j, "all", c->name, kind, all, NULL);
        bad = aggregate_put(j, "aggregates", "all", c->name, unit_names[kind], U, all);
        c->all[kind] = all;
        all = NULL;
    }
    free(all);
    free(x);
    return bad;
}

// ---------------------------------------------------------------- a mode
static void add_criteria(job *j, char **names, int n) {
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < j->n_crit && strcmp(j->crit[k].name, names[i]) != 0) k++;
        if (k < j->n_crit) continue;
        j->crit = xrealloc(j->crit, (size_t)(j->n_crit + 1) * sizeof *j->crit);
        j->crit[j->n_crit++] = (summary){.name = xstrdup(names[i]), .variance = {NAN, NAN}};
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const summary *)a)->name, ((const summary *)b)->name);
}

static void free_criteria(job *j) {
    for (int k = 0; k < j->n_crit; k++) {
        free(j->crit[k].name);
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) free(j->crit[k].all[kind]);
    }
    free(j->crit);
    j->crit = NULL;
    j->n_crit = 0;
}

// truth: removal over all of each kind, from the first mode that has it.
static int run_mode(job *j, double *truth[UNIT_KINDS]) {
    int n, bad = 0;
    char *group = xasprintf("/scores%s", mode_suffixes[j->mode]), **names = store_list(j->in, group, &n);
    add_criteria(j, names, n);
    free(names);
    for (int t = 0; t < j->n_task; t++) {
        char *tasks = xasprintf("/task_scores%s/%s", mode_suffixes[j->mode], j->task[t]);
        names = store_list(j->in, tasks, &n);
        add_criteria(j, names, n);
        free(names);
        free(tasks);
    }
    if (j->n_crit) qsort(j->crit, (size_t)j->n_crit, sizeof *j->crit, by_name);
    for (int k = 0; !bad && k < j->n_crit; k++)
        if (aggregate_is_pooled(j, j->crit[k].name)) bad = aggregate_moments(j, j->crit[k].name);
    for (int k = 0; !bad && k < j->n_crit; k++)
        for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++) {
            char *name = xasprintf("%s/%s/%s", group, j->crit[k].name, unit_names[kind]);
            bad = store_has(j->in, name) ? aggregate_rows(j, &j->crit[k], kind, name)
                                         : aggregate_tasks(j, &j->crit[k], kind);
            free(name);
            if (!bad && strcmp(j->crit[k].name, "removal") == 0 && !truth[kind] && j->crit[k].all[kind]) {
                size_t bytes = (size_t)j->L * (size_t)j->U[kind] * sizeof(double);
                truth[kind] = memcpy(xmalloc(bytes), j->crit[k].all[kind], bytes);
            }
        }
    if (!bad && j->n_crit) {
        printf("\n%s: mean rank variance of a unit over all examples (0: the same rank everywhere; 1/12: "
               "random)\n%-10s %9s %9s\n",
               mode_names[j->mode], "", "heads", "neurons");
        for (int k = 0; k < j->n_crit; k++) {
            printf("%-10s", j->crit[k].name);
            for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
                if (isnan(j->crit[k].variance[kind]))
                    printf(" %9s", "-");
                else
                    printf(" %9.5f", j->crit[k].variance[kind]);
            printf("\n");
        }
    }
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++) bad = aggregate_correlate(j, kind);
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++)
        bad = aggregate_against_removal(j, kind, truth[kind]);
    free_criteria(j);
    free(group);
    return bad;
}

// ---------------------------------------------------------------- files
static const char *const made_here[] = {"aggregates", "ranks", "correlation", "removal"};

static bool is_made_here(const char *name) {
    for (size_t i = 0; i < sizeof made_here / sizeof *made_here; i++)
        if (strncmp(name, made_here[i], strlen(made_here[i])) == 0) return true;
    return false;
}

// The new file holds the store, too, if it takes the store's place.
static int begin(job *j, const char *path, bool same) {
    int n, bad = 0;
    if (!same && file_exists(path)) {  // do not write over what is no file of ours
        store *there = store_open(path);
        bool holds_scores = there && store_has(there, "/examples");
        store_close(there);
        if (!there) return -1;
        if (holds_scores)
            return err_set("%s: is a store of its own; give its name to --store too, or another --out", path);
    }
    if (!(j->out = store_create(path))) return -1;
    bad = store_copy_attrs(j->out, j->in, "/");
    char **names = store_list(j->in, "/", &n);
    for (int i = 0; !bad && same && i < n; i++)
        if (!is_made_here(names[i])) bad = store_copy(j->out, j->in, names[i]);
    free(names);
    if (!bad && !same) bad = documents_copy(j->out, j->in);
    return bad;
}

static int csv_open(file_out *o, const char *dir, const char *name, const char *columns, const char *command,
                    const job *j) {
    char *path = xasprintf("%s/%s", dir, name), *model_name = store_attr(j->in, "/", "model"),
         *hash = store_attr(j->in, "/", "model_hash");
    int bad = file_out_open(o, path);
    if (!bad)
        fprintf(o->f, "# %s\n# code %s, model %s, %s\n%s\n", command, code_version(), model_name ? model_name : "?",
                hash ? hash : "?", columns);
    free(hash);
    free(model_name);
    free(path);
    return bad;
}

static int csv_begin(job *j, const char *dir, const char *command) {
    if (!*dir) return 0;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return err_set("%s: cannot make the folder: %s", dir, strerror(errno));
    return csv_open(&j->ranks_csv, dir, "rank_variance.csv",
                    "mode,task,criterion,units,layer,mean_rank,rank_variance,examples", command, j) ||
                   csv_open(&j->heads_csv, dir, "head_scores.csv",
                            "mode,task,criterion,layer,head,score,mean_rank,rank_variance", command, j) ||
                   csv_open(&j->stats_csv, dir, "score_stats.csv", aggregate_spread_columns, command, j) ||
                   csv_open(&j->correlation_csv, dir, "correlation.csv", "mode,units,criterion,with,spearman", command,
                            j) ||
                   csv_open(&j->removal_csv, dir, "removal.csv",
                            "mode,units,criterion,over,measure,sparsity,value,examples", command, j)
               ? -1
               : 0;
}

static int csv_end(job *j, bool keep) {
    file_out *all[] = {&j->ranks_csv, &j->heads_csv, &j->correlation_csv, &j->removal_csv, &j->stats_csv};
    int bad = 0;
    for (int i = 0; i < 5; i++)
        if (all[i]->f && (!keep || bad || file_out_close(all[i]) != 0)) {
            bad = -1;
            file_out_abandon(all[i]);
        }
    return keep ? bad : 0;
}

static int number_of(const store *s, const char *key) {
    char *text = store_attr(s, "/", key);
    int x = text ? atoi(text) : 0;
    free(text);
    return x;
}

static int read_layout(job *j, store_examples *e) {
    j->L = number_of(j->in, "layers");
    j->U[UNIT_HEADS] = number_of(j->in, "heads");
    j->U[UNIT_NEURONS] = number_of(j->in, "neurons");
    if (j->L < 1 || j->U[UNIT_HEADS] < 1 || j->U[UNIT_NEURONS] < 1 || !store_has(j->in, "/examples"))
        return err_set("%s: holds no scores; give a store made by bin/score", store_path(j->in));
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        if (store_read_units(j->in, kind == UNIT_HEADS ? "heads_per_layer" : "neurons_per_layer", j->L, j->U[kind],
                             &j->units[kind]))
            return -1;
        j->place[kind] = xmalloc((size_t)j->L * (size_t)j->U[kind] * sizeof *j->place[kind]);
        for (int l = 0; l < j->L; l++)
            for (int u = 0; u < units_of(j, kind, l); u++)
                j->place[kind][j->n_units[kind]++] = (size_t)l * (size_t)j->U[kind] + (size_t)u;
    }
    if (store_read_examples(j->in, e)) return -1;
    j->n = e->n;
    j->task_of = xcalloc((size_t)e->n, sizeof *j->task_of);
    j->task = xcalloc((size_t)e->n, sizeof *j->task);
    for (int i = 0; i < e->n; i++) {
        int t = 0;
        while (t < j->n_task && strcmp(j->task[t], e->task[i]) != 0) t++;
        if (t == j->n_task) j->task[j->n_task++] = e->task[i];
        j->task_of[i] = t;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *in = "", *out = "", *csv = "";
    long dense = 1;
    job j = {0};
    const cli_option options[] = {
        {.name = "store", .type = CLI_STR, .value = &in, .arg = "STORE", .help = "made by bin/score", .required = true},
        {.name = "out",
         .type = CLI_STR,
         .value = &out,
         .arg = "FILE",
         .help = "HDF5 file to write; may be the store itself",
         .required = true},
        {.name = "csv",
         .type = CLI_STR,
         .value = &csv,
         .arg = "DIR",
         .help = "also rank_variance.csv, head_scores.csv, score_stats.csv, correlation.csv, removal.csv there"},
        {.name = "dense-layers",
         .type = CLI_INT,
         .value = &dense,
         .arg = "N",
         .help = "first layers that are never pruned, left out of top-k overlaps",
         .max = 1000},
        {0}};
    cli_parse(argc, argv, "aggregates, rank statistics and correlations of the scores of a store", options);
    char *resolved = cli_resolved(options), *command = cli_command(argc, argv);
    printf("aggregate: %s\n", resolved);
    int lock = store_lock(out), bad = lock < 0 ? -1 : 0;
    store_examples e = {0};
    double *truth[UNIT_KINDS] = {NULL, NULL};
    struct stat a, b;
    bool same = stat(in, &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    if (!bad) bad = (j.in = store_open(in)) ? 0 : -1;
    j.dense = (int)dense;
    if (!bad) bad = read_layout(&j, &e);
    if (!bad && j.dense >= j.L) log_info("--dense-layers %ld leaves no layer of %d to compare", dense, j.L);
    if (!bad) bad = begin(&j, out, same) || csv_begin(&j, csv, command) ? -1 : 0;
    if (!bad)
        printf("%s: %d examples of %d tasks, %d layers, %d heads and %d neurons each\n", in, j.n, j.n_task, j.L,
               j.U[UNIT_HEADS], j.U[UNIT_NEURONS]);
    for (mode_kind m = MODE_SOUND; !bad && m < MODES; m++) {
        j.mode = m;
        bad = run_mode(&j, truth);
    }
    if (!bad) bad = store_put_text(j.out, "/", "aggregated", command);
    if (!bad) {
        bad = store_commit(j.out);
        j.out = NULL;
    }
    char *why = bad ? xstrdup(err_get()) : NULL;
    store_close(j.out);
    if (csv_end(&j, !bad) && !why) why = xstrdup(err_get());
    if (lock >= 0) store_unlock(out, lock);
    if (why) die(1, "%s", why);
    store_close(j.in);
    store_examples_free(&e);
    free(j.task);
    free(j.task_of);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        free(truth[kind]);
        free(j.units[kind]);
        free(j.place[kind]);
    }
    free(command);
    free(resolved);
    stdout_end();
    return 0;
}
