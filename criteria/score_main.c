// score - per-example scores of heads and neurons, and features, over few-shot tasks -> an HDF5 store (store.h).
//
// What is finished is kept in OUT.parts while the run lasts, so that the same command resumes after a kill; a finished
// OUT is extended. Under mpirun every process takes its share of the batches (by the launcher's variables, so that
// nothing needs MPI to build).
#include "score.h"
#include "ranks.h"
#include "tok_model.h"
#include "workers.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static score_options arg = {.data = "",
                            .model = "",
                            .tasks = "all",
                            .criteria = "all",
                            .modes = 1 << MODE_SOUND,
                            .weights = -1,
                            .device = {.name = "cpu"},
                            .out = "",
                            .split = "",
                            .shots = 5,
                            .examples = 100,
                            .seed = 1,
                            .removal_neurons = 8,
                            .part = ""};

static const char *const modes_names[] = {"sound", "compat", "both", NULL};
static const int modes_bits[] = {1 << MODE_SOUND, 1 << MODE_COMPAT, 1 << MODE_SOUND | 1 << MODE_COMPAT};
static const char *const store_types[] = {[DT_F32] = "fp32", [DT_F16] = "fp16", NULL};
static const char *const recompute_names[] = {
    [RECOMPUTE_AUTO] = "auto", [RECOMPUTE_ON] = "on", [RECOMPUTE_OFF] = "off", NULL};

static const cli_option options[] = {
    {.name = "model", .type = CLI_STR, .value = &arg.model, .arg = "DIR", .help = "checkpoint directory"},
    {.name = "data", .type = CLI_STR, .value = &arg.data, .arg = "DIR", .help = "folder of the task folders"},
    {.name = "tasks", .type = CLI_STR, .value = &arg.tasks, .arg = "NAME,...", .help = "tasks, or all"},
    {.name = "split",
     .type = CLI_STR,
     .value = &arg.split,
     .arg = "NAME",
     .help = "split to score; without it the first of train, val, test with labels",
     .names = split_names},
    {.name = "part",
     .type = CLI_STR,
     .value = &arg.part,
     .arg = "i/n",
     .help = "one of n disjoint parts of the documents, few-shot examples included: sweep evaluates another"},
    {.name = "shots",
     .type = CLI_INT,
     .value = &arg.shots,
     .arg = "K",
     .help = "few-shot examples before each text",
     .max = 1000},
    {.name = "examples",
     .type = CLI_INT,
     .value = &arg.examples,
     .arg = "N",
     .help = "examples per task, of a seeded order: more extend fewer",
     .min = 1,
     .max = 1e9},
    {.name = "criteria",
     .type = CLI_STR,
     .value = &arg.criteria,
     .arg = "NAME,...",
     .help = "criteria, or all (see --list); some only by name"},
    {.name = "removal-neurons",
     .type = CLI_INT,
     .value = &arg.removal_neurons,
     .arg = "N",
     .help = "examples per task whose neurons removal measures",
     .max = 1e9},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &arg.modes,
     .arg = "MODE",
     .help = "formulas: exact, as published, or both",
     .names = modes_names,
     .values = modes_bits},
    {.name = "harness",
     .type = CLI_CHOICE,
     .value = &arg.harness,
     .arg = "WHICH",
     .help =
         "conventions of texts: of the evaluation harness of 2022, or of today's, which also takes the first examples",
     .names = harness_names},
    {.name = "bos",
     .type = CLI_CHOICE,
     .value = &arg.bos,
     .arg = "WHEN",
     .help = "put the tokenizer's BOS (OPT: </s>) before every text; auto: 2022 never, today where the tokenizer does",
     .names = bos_names},
    {.name = "over-long",
     .type = CLI_CHOICE,
     .value = &arg.over,
     .arg = "WHAT",
     .help = "examples longer than the model's positions",
     .names = over_long_names},
    {.name = "store-type",
     .type = CLI_CHOICE,
     .value = &arg.store_type,
     .arg = "TYPE",
     .help = "type of the scores in the store",
     .names = store_types},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.seed,
     .arg = "N",
     .help = "seed of the examples, of random and of drawn rows",
     .max = 9e15},
    {.name = "batch-tokens",
     .type = CLI_INT,
     .value = &arg.batch_tokens,
     .arg = "N",
     .help = "tokens a batch; 0: as fit into 1 GiB; changes no result",
     .max = 1e6},
    {.group = weights_rows, .value = &arg.weights},
    {.group = device_rows, .value = &arg.device},
    {.name = "recompute",
     .type = CLI_CHOICE,
     .value = &arg.recompute,
     .arg = "WHEN",
     .help = "compute each layer's activations again instead of keeping them: less memory, more time, the same scores; "
             "auto: where a GPU has no room for them",
     .names = recompute_names},
    {.name = "out",
     .type = CLI_STR,
     .value = &arg.out,
     .arg = "STORE",
     .help = "HDF5 file to make, to finish or to extend"},
    {.name = "estimate", .type = CLI_FLAG, .value = &arg.estimate, .help = "print what it will cost, and stop"},
    {.name = "list", .type = CLI_FLAG, .value = &arg.list, .help = "print the criteria with their formulas, and stop"},
    {0}};

static void print_formula(const char *mode, const char *units, const char *doc) {
    if (doc) printf("    %-7s%-8s %s\n", mode, units, doc);
}

static void list_criteria(void) {
    for (int i = 0; crit_all[i]; i++) {
        const criterion *c = crit_all[i];
        printf("%s: %s%s\n", c->name, c->about, c->by_name_only ? " (by name only, not in all)" : "");
        for (mode_kind m = MODE_SOUND; m < MODES; m++) {
            const crit_mode *of = crit_mode_of(c, m);
            const char *mode = mode_names[m];
            if (of->heads) print_formula(mode, "heads", of->heads_doc);
            if (of->neurons) print_formula(mode, "neurons", of->neurons_doc);
            if (m == MODE_SOUND && c->pooled) {
                print_formula(mode, "heads", of->heads_doc);
                print_formula(mode, "neurons", of->neurons_doc);
            }
            if (of->task && of->task->heads) print_formula(mode, "heads", of->task->heads_doc);
            if (of->task && of->task->neurons) print_formula(mode, "neurons", of->task->neurons_doc);
        }
    }
}

static void print_tasks(const score_job *j) {
    for (int i = 0; i < j->n_task; i++) {
        const score_task *t = &j->task[i];
        printf("%s: %d examples (%d new) of the %s split", t->name, t->n, t->n - t->n_old, t->attr[0]);
        if (t->n) printf(", %.0f tokens each", (double)(j->ex.offset[t->first + t->n] - j->ex.offset[t->first]) / t->n);
        if (t->skipped) printf(", %d over-long ones skipped", t->skipped);
        if (t->cut) printf(", %d over-long ones cut", t->cut);
        printf("\n");
    }
}

// Something to write: rows to compute, or a criterion or task-level score that the old store lacks.
static bool anything_missing(const score_job *j) {
    bool missing = !j->old || j->n_order > 0;
    for (int i = 0; i < j->n_stage; i++) missing |= !j->stage[i].copy;
    for (int i = 0; i < j->n_field; i++) missing |= !j->field[i].old && !j->field[i].some;
    return missing;
}

// ---------------------------------------------------------------- several processes
// The store as it was before this process planned by it: process 0 puts another in its place when all is done.
typedef struct {
    const char *path;
    bool there;
    struct stat as;
} store_state;

static store_state state_of(const char *path) {
    store_state s = {.path = path};
    s.there = stat(path, &s.as) == 0;
    return s;
}

static bool has_changed(void *ctx) {
    const store_state *before = ctx, now = state_of(before->path);
    return now.there &&
           (!before->there || now.as.st_ino != before->as.st_ino ||
            now.as.st_mtim.tv_sec != before->as.st_mtim.tv_sec || now.as.st_mtim.tv_nsec != before->as.st_mtim.tv_nsec);
}

static int compute(score_job *j, const char *dir, const char *plan, int rank, int ranks, const char *command,
                   store_state *before) {
    parts p = {0};
    int lock = rank ? worker_begin(dir, plan, rank, has_changed, before) : -1;
    if (lock == WORKER_LATE) return 0;
    int bad = rank && lock < 0 ? -1 : parts_open(&p, dir, plan, j->ex.n);
    if (!bad) bad = score_run(j, &p, rank, ranks);
    if (rank) worker_end(dir, rank, lock);
    if (!bad && rank == 0 && ranks > 1) {
        workers_wait(dir, ranks);
        bad = parts_scan(&p) || score_run(j, &p, 0, 1) ? -1 : 0;  // what a worker that died has left
    }
    if (!bad && rank == 0) bad = score_merge(j, &p, command);
    parts_close(&p);
    if (!bad && rank == 0) bad = parts_remove(dir);
    return bad;
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "scores of attention heads and neurons over few-shot tasks, into an HDF5 store", options);
    score_job j = {.o = arg};
    const score_options *o = &j.o;
    if (o->list) {
        list_criteria();
        stdout_end();
        return 0;
    }
    const char *needed[] = {"model", "data", "out"};
    for (int i = 0; i < 3; i++)
        if (!cli_given(options, needed[i])) die(2, "--%s is required; see --help", needed[i]);
    if (dtype_in_blocks(o->device.activations))
        die(2, "--activations q8_0: scores need gradients, and rounding to 8 bits has none; leave it out");
    const ops *device = device_open(&o->device);
    if (!device) die(1, "%s", err_get());
    if (doc_part_parse(&j.part, o->part)) die(2, "--part %s", err_get());
    if (task_select(o->tasks, (bool[TASK_COUNT]){false}) < 0) die(2, "--tasks: %s", err_get());
    if (!(j.crit = crit_select(o->criteria, &j.n_crit))) die(2, "--criteria: %s", err_get());
    for (int k = 0; k < j.n_crit; k++)
        if (j.crit[k]->pooled && o->modes == 1u << MODE_COMPAT)
            die(2, "--criteria: %s has no compat formulas; use --mode sound or both", j.crit[k]->name);
    j.threads = omp_get_max_threads();
    for (mode_kind m = MODE_SOUND; m < MODES; m++) j.mode[m] = o->modes >> m & 1;
    j.texts = j.mode[MODE_SOUND] ? MODE_SOUND : MODE_COMPAT;
    if (o->harness == HARNESS_TODAY && j.texts == MODE_COMPAT)
        die(2, "--harness today: published texts are of the harness of 2022; use --mode sound or both");
    j.seed = (uint64_t)o->seed;
    for (int k = 0; k < j.n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++)
            if (j.mode[m] && crit_mode_of(j.crit[k], m)->needs_neurons & CRIT_REMOVAL)
                j.removal_neurons = (int)o->removal_neurons;

    int rank = rank_number(), ranks = rank_count(), lock = -1;
    char *resolved = cli_resolved(options), *command = cli_command(argc, argv), *dir = xasprintf("%s.parts", o->out);
    if (rank_quiet()) die(1, "%s", err_get());
    printf("score: %s\n", resolved);
    if (rank == 0 && ranks > 1 && !o->estimate && leader_begin(dir)) die(1, "%s", err_get());
    model m = {0};
    if (model_load_as(&m, o->model, device, o->weights) || ckpt_check_values(&m.file)) die(1, "%s", err_get());
    j.model = &m;
    for (mode_kind k = MODE_SOUND; k < MODES; k++)
        if (j.mode[k] && model_check_mode(&m.c, k)) die(1, "%s", err_get());
    if (!(j.tok = tok_open_model(o->model, &m.c))) die(1, "%s", err_get());
    if (harness_of(&j.harness, o->harness, o->bos, j.tok, tok_first(j.tok, &m.c))) die(1, "--bos: %s", tok_no_first);
    if (!o->estimate && rank == 0 && (lock = store_lock(o->out)) < 0) die(1, "%s", err_get());
    store_state before = state_of(o->out);
    int bad = score_plan(&j);
    if (!bad) {
        char *plan = xasprintf("%sbase=%s\n", j.plan_text, j.base_text ? j.base_text : "none");
        bool more = anything_missing(&j);
        score_cost cost;
        print_tasks(&j);
        if (rank == 0 && more) bad = score_estimate(&j, &cost);
        if (!bad && rank == 0 && more) score_print_cost(&j, &cost);
        fflush(stdout);
        double start = clock_s();
        if (!bad && more && !o->estimate)
            bad = compute(&j, dir, plan, rank, ranks, command, &before);
        else if (!bad && !more && !o->estimate && rank == 0)
            bad = parts_remove_rest(dir, j.plan_text);
        if (!bad && !more)
            printf("%s: complete, nothing to compute\n", o->out);
        else if (!bad && !o->estimate)
            printf("%s: %d examples, %d criteria; %.1f s, peak memory %.0f MiB\n", o->out, j.ex.n, j.n_crit,
                   clock_s() - start, peak_memory_mib());
        free(plan);
    }
    char *why = bad ? xstrdup(err_get()) : NULL;
    if (rank == 0 && !o->estimate) store_unlock(o->out, lock);
    if (bad) die(1, "%s", why);
    tok_close(j.tok);
    score_free(&j);
    model_free(&m);
    free(dir);
    free(command);
    free(resolved);
    stdout_end();
    return 0;
}
