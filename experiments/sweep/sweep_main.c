// sweep - accuracy of the tasks and perplexity of a text over sparsities, for masks none, random, static, contextual,
// oracle and file.
//
// The model is loaded once and every task and text tokenised once (per seed); each point is a mask run over the same
// items. A point's rows are written when they are known, so a killed sweep resumes where it stopped.
#include <libgen.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli.h"
#include "ops.h"
#include "ranks.h"
#include "store.h"
#include "sweep.h"

// ---------------------------------------------------------------- options
static sweep_options arg = {.mask = "none",
                            .criterion = "all",
                            .scope = "global",
                            .local_counts = "spread",
                            .units = "both",
                            .sparsity = "0,10,20,30,40,50,60,70,80,90",
                            .mask_span = "decode",
                            .aggregate = "task",
                            .seed = "0",
                            .part = "",
                            .over_long = "stop",
                            .token_windows = "disjoint",
                            .mode = "sound",
                            .device = "cpu",
                            .activations = "fp32",
                            .dense_layers = 1,
                            .refresh = 128};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory with its tokenizer"},
    {.name = "data", .type = CLI_STR, .value = &arg.data, .arg = "DIR", .help = "folder with one folder per task"},
    {.name = "tasks",
     .type = CLI_STR,
     .value = &arg.tasks,
     .arg = "a,b|all",
     .help = "tasks whose accuracy is measured"},
    {.name = "wikitext",
     .type = CLI_STR,
     .value = &arg.wikitext,
     .arg = "FILE",
     .help = "text whose perplexity is measured"},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.mask,
     .arg = "a,b",
     .help = "masks: none, random, static, contextual, oracle, file:PATH"},
    {.name = "scores",
     .type = CLI_STR,
     .value = &arg.scores,
     .arg = "FILE",
     .help = "aggregates (bin/aggregate) for static masks"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.criterion,
     .arg = "a,b|all",
     .help = "criteria of static and contextual masks"},
    {.name = "predictor",
     .type = CLI_STR,
     .value = &arg.predictor,
     .arg = "a,b",
     .help = "predictor files (bin/train) for contextual masks; {seed} in a name stands for the seed"},
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
     .help = "what is pruned; oracle masks prune heads unless this is given",
     .choices = "heads|neurons|both"},
    {.name = "sparsity", .type = CLI_STR, .value = &arg.sparsity, .arg = "a,b", .help = "percentages pruned"},
    {.name = "dense-layers",
     .type = CLI_INT,
     .value = &arg.dense_layers,
     .arg = "N",
     .help = "first layers that are never pruned",
     .min = 0,
     .max = 1e6},
    {.name = "mask-span",
     .type = CLI_STR,
     .value = &arg.mask_span,
     .arg = "SPAN",
     .help = "where masks act: from the end of the context on (contextual ones, unless this is given) or everywhere "
             "(all others)",
     .choices = "decode|all"},
    {.name = "refresh",
     .type = CLI_INT,
     .value = &arg.refresh,
     .arg = "N",
     .help = "running text in span decode: input positions that share a contextual mask; the first N run dense",
     .min = 1,
     .max = 1e6},
    {.name = "aggregate",
     .type = CLI_STR,
     .value = &arg.aggregate,
     .arg = "a,b",
     .help = "static scores of a task: task: its own, all: those over all tasks, or both"},
    {.name = "shots",
     .type = CLI_INT,
     .value = &arg.shots,
     .arg = "K",
     .help = "few-shot examples before each question",
     .min = 0,
     .max = 1000},
    {.name = "split",
     .type = CLI_STR,
     .value = &arg.split,
     .arg = "SPLIT",
     .help = "split of the tasks instead of the usual one",
     .choices = "train|val|test"},
    {.name = "limit",
     .type = CLI_INT,
     .value = &arg.limit,
     .arg = "N",
     .help = "documents per task, pages of the text, of a seeded order: more extend fewer; 0: all",
     .min = 0,
     .max = 1e9},
    {.name = "part",
     .type = CLI_STR,
     .value = &arg.part,
     .arg = "i/n",
     .help = "one of n disjoint parts of the documents (few-shot examples included) and pages, whatever the seed"},
    {.name = "allow-overlap",
     .type = CLI_FLAG,
     .value = &arg.allow_overlap,
     .help = "evaluate also documents that the scores or predictors have seen"},
    {.name = "seed",
     .type = CLI_STR,
     .value = &arg.seed,
     .arg = "a,b",
     .help = "seeds: order of documents and pages, few-shot, random masks, bootstrap"},
    {.name = "over-long",
     .type = CLI_STR,
     .value = &arg.over_long,
     .arg = "WHAT",
     .help = "documents longer than the model's positions",
     .choices = "stop|skip|cut"},
    {.name = "bos", .type = CLI_FLAG, .value = &arg.bos, .help = "put </s> before the text of a task"},
    {.name = "token-perplexity",
     .type = CLI_STR,
     .value = &arg.token_windows,
     .arg = "WINDOWS",
     .help = "definition of the text's token perplexity",
     .choices = "disjoint|gptq|none"},
    {.name = "mode",
     .type = CLI_STR,
     .value = &arg.mode,
     .arg = "MODE",
     .help = "sound definitions, or those of the published code",
     .choices = "sound|compat"},
    {.name = "details",
     .type = CLI_STR,
     .value = &arg.details,
     .arg = "FILE",
     .help = "JSON lines, one per document and page (needs --out)"},
    {.name = "out",
     .type = CLI_STR,
     .value = &arg.out,
     .arg = "FILE",
     .help = "CSV file, appended; rows present are skipped. Without it: standard output"},
    {.name = "threads",
     .type = CLI_INT,
     .value = &arg.threads,
     .arg = "N",
     .help = "threads; 0: as many as there are cores",
     .min = 0,
     .max = 1024},
    {.name = "device", .type = CLI_STR, .value = &arg.device, .arg = "NAME", .help = ops_devices},
    {.name = "activations",
     .type = CLI_STR,
     .value = &arg.activations,
     .arg = "TYPE",
     .help = ops_activations,
     .choices = "fp32|fp16|bf16"},
    {.name = "estimate", .type = CLI_FLAG, .value = &arg.estimate, .help = "print how long it would take, and stop"},
    {.name = "list",
     .type = CLI_FLAG,
     .value = &arg.list,
     .help = "print the names of tasks, masks, scopes and criteria"},
    {0},
};

// The place of an option's value among its choices, whose order is that of the enum it fills.
static int chosen(const char *name) {
    const cli_option *o = options;
    while (strcmp(o->name, name) != 0) o++;
    const char *value = *(char **)o->value, *at = o->choices;
    const size_t bytes = strlen(value);
    int place = 0;
    while (strncmp(at, value, bytes) != 0 || (at[bytes] && at[bytes] != '|')) {
        at += strcspn(at, "|") + 1;
        place++;
    }
    return place;
}

// The place of a name in a list of n; -1: it is not there.
static int place_of(const char *name, const char *const *names, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

// ---------------------------------------------------------------- set-up
static void print_list(void) {
    printf("tasks:");
    for (const char *const *t = task_names; *t; t++) printf(" %s", *t);
    printf("\nmasks: none random static contextual oracle file:PATH\nscopes: local global hybrid\ncriteria:");
    for (const criterion *const *c = crit_all; *c; c++) printf(" %s", (*c)->name);
    printf("\n");
}

static void choose_tasks(sweep *w) {
    bool take[TASK_COUNT] = {false};
    if (arg.tasks && task_select(arg.tasks, take) < 0) die(2, "--tasks: %s", err_get());
    w->task = xcalloc(TASK_COUNT, sizeof *w->task);
    for (int k = 0; k < TASK_COUNT; k++)
        if (take[k]) w->task[w->n_tasks++] = task_names[k];
    if (w->n_tasks && !arg.data) die(2, "--tasks needs --data DIR");
    if (w->n_tasks == 0 && !arg.wikitext) die(2, "nothing to measure: name --tasks, --wikitext or both");
}

static void choose_scopes(sweep *w) {
    int n;
    char **name = cli_split(arg.scope, &n);
    for (int i = 0; i < n; i++) {
        const int k = place_of(name[i], mask_scope_names, SCOPE_HYBRID + 1);
        if (k < 0) die(2, "--scope %s: not one of local, global, hybrid", name[i]);
        if (w->n_scopes == 3) die(2, "--scope %s: a scope is named twice", arg.scope);
        w->scope[w->n_scopes++] = (mask_scope)k;
    }
    if (n == 0) die(2, "--scope names no scope; there are local, global, hybrid");
    free(name);
}

static series *add_series(sweep *w, mask_kind kind, const criterion *crit, const char *path) {
    w->series = xrealloc(w->series, (size_t)(w->n_series + 1) * sizeof *w->series);
    w->series[w->n_series] = (series){.kind = kind, .crit = crit, .path = path, .units = w->units};
    return &w->series[w->n_series++];
}

static void add_static(sweep *w, const criterion *const *crit, int n_crit) {
    static const char *const kinds[] = {"task", "all"};
    enum { AGGREGATE_TASK, AGGREGATE_ALL };
    int n, kind[2] = {-1, -1};
    if (!arg.scores) die(2, "--mask static needs --scores FILE, written by bin/aggregate");
    char **name = cli_split(arg.aggregate, &n);
    for (int i = 0; i < n && i < 2; i++) kind[i] = place_of(name[i], kinds, 2);
    if (n < 1 || n > 2 || kind[0] < 0 || (n == 2 && (kind[1] < 0 || kind[1] == kind[0])))
        die(2, "--aggregate %s: task, all or task,all is wanted", arg.aggregate);
    w->both_aggregates = n == 2;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n_crit; k++) add_series(w, MASK_STATIC, crit[k], NULL)->pooled = kind[i] == AGGREGATE_ALL;
    free(name);
}

// Removing every neuron of every document in turn is for small models and on request only.
static unsigned oracle_units(const sweep *w) { return cli_given(options, "units") ? w->units : UNITS_HEADS; }

// Of a predictor file, all criteria that it has, or those named.
static void add_contextual(sweep *w, const criterion *const *crit, int n_crit) {
    int n = 0, n_there;
    char **file = arg.predictor ? cli_split(arg.predictor, &n) : NULL;
    if (n == 0) die(2, "--mask contextual needs --predictor FILE, written by bin/train");
    for (int i = 0; i < n; i++) {
        char *path = predictor_path(file[i], w->seed[0]), **there = predictor_criteria(path, &n_there);
        if (!there) die(1, "%s", err_get());
        for (int k = 0; k < n_crit; k++) {
            bool has = !w->all_criteria;
            for (int j = 0; j < n_there; j++) has |= strcmp(there[j], crit[k]->name) == 0;
            if (has) add_series(w, MASK_CONTEXTUAL, crit[k], xstrdup(file[i]));
        }
        free(there);
        free(path);
    }
    free(file);
}

static void add_masks(sweep *w, const char *name, const criterion *const *crit, int n_crit) {
    const bool is_file = strncmp(name, "file:", 5) == 0 && name[5];
    const int kind = is_file ? MASK_FILE : place_of(name, mask_kind_names, MASK_FILE + 1);
    switch (kind) {
    case MASK_NONE:
    case MASK_RANDOM: add_series(w, (mask_kind)kind, NULL, NULL); return;
    case MASK_STATIC: add_static(w, crit, n_crit); return;
    case MASK_CONTEXTUAL: add_contextual(w, crit, n_crit); return;
    case MASK_ORACLE: add_series(w, MASK_ORACLE, NULL, NULL)->units = oracle_units(w); return;
    case MASK_FILE:
        if (is_file) {
            add_series(w, MASK_FILE, NULL, xstrdup(name + 5));
            return;
        }
    }
    die(2, "--mask %s: not one of none, random, static, contextual, oracle, file:PATH", name);
}

static void choose_masks(sweep *w) {
    int n, n_crit;
    char **name = cli_split(arg.mask, &n);
    const criterion **crit = crit_select(arg.criterion, &n_crit);
    if (!crit) die(2, "--criterion: %s", err_get());
    w->all_criteria = strcmp(arg.criterion, "all") == 0;
    for (int i = 0; i < n; i++) add_masks(w, name[i], crit, n_crit);
    if (n == 0) die(2, "--mask names no mask; there are none, random, static, contextual, oracle, file:PATH");
    free(crit);
    free(name);
}

// The published static masks know one scope and one kind of unit, the contextual ones one span; asking for another is a
// misunderstanding, not a wish to grant.
static void check_compat(sweep *w) {
    bool has_static = false;
    w->span = w->mode == MODE_COMPAT ? SPAN_COMPAT : (mask_span)chosen("mask-span");
    w->after = w->span == SPAN_DECODE && cli_given(options, "mask-span") ? (int)arg.refresh : 0;
    for (int i = 0; i < w->n_series; i++) has_static |= w->series[i].kind == MASK_STATIC;
    if (w->mode == MODE_SOUND) return;
    if (has_static && cli_given(options, "scope") && strcmp(arg.scope, "global") != 0)
        die(2,
            "--scope %s: published static masks are always global (their prune_style is ignored); use --mode sound for "
            "other scopes",
            arg.scope);
    if (has_static && cli_given(options, "units") && w->units != UNITS_HEADS)
        die(2,
            "--units %s: the published FFN mask never acted, so published static masks prune heads only; use --mode "
            "sound for neurons",
            arg.units);
    if (cli_given(options, "mask-span") && chosen("mask-span") != SPAN_ALL)
        die(2, "--mask-span %s: published masks act at every position; use --mode sound for masks of decoding",
            arg.mask_span);
    if (w->units != UNITS_HEADS) log_info("the published FFN mask never acted: neurons all run in --mode compat");
}

static void choose_seeds(sweep *w) {
    char **name = cli_split(arg.seed, &w->n_seeds), *end;
    w->seed = xcalloc((size_t)w->n_seeds + 1, sizeof *w->seed);
    for (int i = 0; i < w->n_seeds; i++) {
        w->seed[i] = strtoull(name[i], &end, 10);
        if (*end || name[i][0] == '-') die(2, "--seed %s: a whole number from 0 is wanted", name[i]);
    }
    if (w->n_seeds == 0) die(2, "--seed names no seed");
    free(name);
}

static char *provenance(const sweep *w, int argc, char **argv) {
    char date[32], *command = cli_command(argc, argv), *resolved = cli_resolved(options), *text;
    const time_t now = time(NULL);
    size_t bytes;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    FILE *f = open_memstream(&text, &bytes);
    fprintf(f, "command: %s\noptions: %s\ncode: %s\ndate: %s\ndevice: %s, %d threads\nmodel: %s %s\ntokenizer: %s",
            command, resolved, code_version(), date, arg.device, omp_get_max_threads(), arg.model, w->model.file.hash,
            tok_hash(w->tok));
    for (int k = 0; k < w->n_targets; k++) {
        const target *t = &w->targets[0][k];
        if (!t->is_text)
            fprintf(f, "\n%s: %s %s, %d documents", t->name, t->task.split.file, t->task.hash, t->task.n);
        else if (t->text.kind == TEXT_PAGES)
            fprintf(f, "\nwikitext: %s %s, %d pages", arg.wikitext, t->text.hash, t->text.n_groups);
    }
    if (arg.scores) fprintf(f, "\nscores: %s", arg.scores);
    if (arg.predictor) fprintf(f, "\npredictor: %s", arg.predictor);
    for (int i = 0; i < w->n_series; i++)
        if (w->series[i].kind == MASK_ORACLE)
            fprintf(f, "\noracle masks use the gold answer (the text itself, on text): a bound, not a method");
    fclose(f);
    free(command);
    free(resolved);
    return text;
}

// What several processes of this command must agree on.
static char *plan_of(const sweep *w) {
    char *resolved = cli_resolved(options), *text = xasprintf("options=%s\ncode=%s\nmodel=%s\npoints=%ld\n", resolved,
                                                              code_version(), w->model.file.hash, w->n_points);
    free(resolved);
    return text;
}

// ---------------------------------------------------------------- running
static void tick(void *ctx, double tokens) {
    sweep *w = ctx;
    w->tokens_done += tokens * w->token_share;
    progress_at(&w->bar, (long)w->tokens_done);
}

// Tokens per second of the dense model, from at most about a second of the work itself. The first run, which touches
// the weights and the workspace for the first time, does not count.
static double measure_speed(const sweep *w) {
    const mask_source none = {0};
    double tokens = 0, start = clock_s();
    for (int k = -1; k < w->n_targets && (k < 1 || clock_s() - start < 1); k++) {
        int n;
        const eval_item *item = target_items(&w->targets[0][k < 0 ? 0 : k], &n);
        if (n > (k < 0 ? 1 : 16)) n = k < 0 ? 1 : 16;
        double *ll = xcalloc((size_t)n * TASK_MAX_CHOICES, sizeof *ll);
        eval_counts counts;
        if (eval_run(w->eval, item, n, &none, NULL, 1, &ll, &counts)) die(1, "%s", err_get());
        free(ll);
        tokens += eval_tokens(item, n);
        if (k < 0) {
            tokens = 0;
            start = clock_s();
        }
    }
    return tokens / (clock_s() - start);
}

// Says what there is to do.
static void announce(const sweep *w, const sweep_size *size) {
    if (size->rows_present + size->rows_missing == 0) {
        const char *source = arg.scores ? arg.scores : arg.predictor;
        die(1, "nothing to evaluate: %s has no scores that fit", source ? source : arg.mask);
    }
    if (size->rows_missing == 0) {
        log_info("%ld values, all of them present in %s", size->rows_present, w->out.path);
        return;
    }
    if (w->rank) return;
    const double speed = measure_speed(w) * w->ranks, seconds = size->tokens_missing / speed;
    log_info("%ld values present, %ld to compute: %.3g million dense tokens, about %.0f %s at %.0f tokens/s",
             size->rows_present, size->rows_missing, size->tokens_missing / 1e6, seconds < 600 ? seconds : seconds / 60,
             seconds < 600 ? "s" : "min", speed);
}

// Runs the points that have no rows. Several processes share them; process 0 makes the rows of all.
static int run_missing(sweep *w, const sweep_size *size) {
    static const sweep_sink to_rows = {.point = rows_write, .series = rows_write_means};
    char *plan = plan_of(w);
    const bool shared = size->rows_missing && share_exists(w, plan);
    progress_begin(&w->bar, "sweep, tokens", (long)(size->tokens_missing / w->ranks));
    w->tokens_done = 0;
    int bad = shared ? share_run(w, plan) : 0;
    if (!bad && w->rank == 0) bad = share_choose_rest(w);
    if (!bad && w->rank == 0) bad = run_points(w, &to_rows);
    if (!bad) progress_end(&w->bar);
    if (!bad && w->rank == 0 && shared) bad = share_end(w);
    if (!bad && w->rank == 0 && !shared && arg.out) bad = share_remove_rest(w, plan);
    free(plan);
    return bad;
}

// ---------------------------------------------------------------- the program
static void read_choices(sweep *w) {
    static const unsigned units[] = {UNITS_HEADS, UNITS_NEURONS, UNITS_BOTH};
    w->mode = (mode_kind)chosen("mode");
    w->counts = (mask_counts)chosen("local-counts");
    w->over = (over_long)chosen("over-long");
    w->windows = (token_windows)chosen("token-perplexity");
    w->units = w->mode == MODE_COMPAT && !cli_given(options, "units") ? UNITS_HEADS : units[chosen("units")];
    if (doc_part_parse(&w->part, arg.part)) die(2, "--part %s", err_get());
    choose_tasks(w);
    choose_scopes(w);
    choose_seeds(w);
    choose_masks(w);
    check_compat(w);
    if (!(w->sparsity = mask_parse_sparsities(arg.sparsity, &w->n_sparsities))) die(2, "%s", err_get());
}

static void open_model(sweep *w) {
    if (arg.scores) {
        store *scores = store_open(arg.scores);
        if (!scores) die(1, "%s", err_get());
        store_close(scores);
    }
    const ops *o = ops_open_as(arg.device, arg.activations);
    if (!o || model_load_on(&w->model, arg.model, o)) die(1, "%s", err_get());
    if (arg.dense_layers > w->model.c.L)
        die(2, "--dense-layers %ld: the model has %d layers", arg.dense_layers, w->model.c.L);
    if (!(w->tok = tok_open(arg.model, w->model.c.V))) die(1, "%s", err_get());
    char *path = realpath(arg.model, NULL);
    if (!path) die(1, "%s: cannot be resolved", arg.model);
    w->model_name = strcmp(arg.activations, "fp32") == 0
                        ? xstrdup(basename(path))
                        : xasprintf("%s, %s activations", basename(path), arg.activations);
    free(path);
}

static void open_results(sweep *w, int argc, char **argv) {
    char *lines = provenance(w, argc, argv);
    const bool reads = w->rank || (arg.estimate && arg.out);
    w->out.fd = w->details.fd = -1;
    if (reads ? results_read(&w->out, arg.out, sweep_columns, N_COLUMNS)
              : results_open(&w->out, arg.out, sweep_columns, N_COLUMNS, lines))
        die(1, "%s", err_get());
    free(lines);
    if (arg.details && w->rank == 0 && !arg.estimate && details_open(&w->details, arg.details, &w->out))
        die(1, "%s", err_get());
}

static void close_all(sweep *w) {
    details_close(&w->details);
    results_close(&w->out);
    oracle_free(w->oracle);
    eval_free(w->eval);
    targets_close(w);
    for (int i = 0; i < w->n_series; i++) free((void *)w->series[i].path);
    free(w->point);
    free(w->about);
    free(w->series);
    free(w->sparsity);
    free(w->seed);
    free(w->task);
    free(w->model_name);
    tok_close(w->tok);
    model_free(&w->model);
}

int main(int argc, char **argv) {
    static sweep w = {.o = &arg, .token_share = 1};
    cli_parse(argc, argv,
              "accuracy and perplexity over sparsities, for masks none, random, static, contextual, oracle and file",
              options);
    if (arg.list) {
        print_list();
        stdout_end();
        return 0;
    }
    if (!arg.model) die(2, "--model is required (checkpoint directory); see --help");
    if (arg.details && !arg.out) die(2, "--details needs --out: its lines name rows of that file");
    w.rank = rank_number();
    w.ranks = rank_count();
    if (w.ranks > 1 && !arg.out) die(2, "several processes need --out FILE, which process 0 writes");
    if (w.rank && !freopen("/dev/null", "w", stdout)) die(1, "/dev/null: cannot open");
    if (w.rank == 0 && w.ranks > 1 && !arg.estimate && share_lead(&w)) die(1, "%s", err_get());
    if (arg.threads) omp_set_num_threads((int)arg.threads);
    read_choices(&w);

    open_model(&w);
    if (targets_open(&w) || sweep_overlap(&w)) die(1, "%s", err_get());
    open_results(&w, argc, argv);
    w.eval = eval_new(&w.model, w.mode, tick, &w);

    if (list_points(&w)) die(1, "%s", err_get());
    list_find_rows(&w);
    const sweep_size size = list_size(&w);
    announce(&w, &size);
    if (arg.estimate) return 0;
    if (run_missing(&w, &size)) die(1, "%s", err_get());
    close_all(&w);
    stdout_end();
    return 0;
}
