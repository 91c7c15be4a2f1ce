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
    {"model", CLI_STR, &arg.model, "DIR", "checkpoint directory with its tokenizer", false, NULL, 0, 0},
    {"data", CLI_STR, &arg.data, "DIR", "folder with one folder per task", false, NULL, 0, 0},
    {"tasks", CLI_STR, &arg.tasks, "a,b|all", "tasks whose accuracy is measured", false, NULL, 0, 0},
    {"wikitext", CLI_STR, &arg.wikitext, "FILE", "text whose perplexity is measured", false, NULL, 0, 0},
    {"mask", CLI_STR, &arg.mask, "a,b", "masks: none, random, static, contextual, oracle, file:PATH", false, NULL, 0,
     0},
    {"scores", CLI_STR, &arg.scores, "FILE", "aggregates (bin/aggregate) for static masks", false, NULL, 0, 0},
    {"criterion", CLI_STR, &arg.criterion, "a,b|all", "criteria of static and contextual masks", false, NULL, 0, 0},
    {"predictor", CLI_STR, &arg.predictor, "a,b",
     "predictor files (bin/train) for contextual masks; {seed} in a name stands for the seed", false, NULL, 0, 0},
    {"scope", CLI_STR, &arg.scope, "a,b", "where units compete: local, global, hybrid", false, NULL, 0, 0},
    {"local-counts", CLI_STR, &arg.local_counts, "HOW",
     "units each layer loses in a local scope: as many in all as in a global one, or the floor of its share", false,
     "spread|floor", 0, 0},
    {"units", CLI_STR, &arg.units, "UNITS", "what is pruned; oracle masks prune heads unless this is given", false,
     "heads|neurons|both", 0, 0},
    {"sparsity", CLI_STR, &arg.sparsity, "a,b", "percentages pruned", false, NULL, 0, 0},
    {"dense-layers", CLI_INT, &arg.dense_layers, "N", "first layers that are never pruned", false, NULL, 0, 1e6},
    {"mask-span", CLI_STR, &arg.mask_span, "SPAN",
     "where masks act: from the end of the context on (contextual ones, unless this is given) or everywhere (all "
     "others)",
     false, "decode|all", 0, 0},
    {"refresh", CLI_INT, &arg.refresh, "N",
     "running text in span decode: input positions that share a contextual mask; the first N run dense", false, NULL, 1,
     1e6},
    {"aggregate", CLI_STR, &arg.aggregate, "a,b",
     "static scores of a task: task: its own, all: those over all tasks, or both", false, NULL, 0, 0},
    {"shots", CLI_INT, &arg.shots, "K", "few-shot examples before each question", false, NULL, 0, 1000},
    {"split", CLI_STR, &arg.split, "SPLIT", "split of the tasks instead of the usual one", false, "train|val|test", 0,
     0},
    {"limit", CLI_INT, &arg.limit, "N",
     "documents per task, pages of the text, of a seeded order: more extend fewer; 0: all", false, NULL, 0, 1e9},
    {"part", CLI_STR, &arg.part, "i/n",
     "one of n disjoint parts of the documents (few-shot examples included) and pages, whatever the seed", false, NULL,
     0, 0},
    {"allow-overlap", CLI_FLAG, &arg.allow_overlap, NULL,
     "evaluate also documents that the scores or predictors have seen", false, NULL, 0, 0},
    {"seed", CLI_STR, &arg.seed, "a,b", "seeds: order of documents and pages, few-shot, random masks, bootstrap", false,
     NULL, 0, 0},
    {"over-long", CLI_STR, &arg.over_long, "WHAT", "documents longer than the model's positions", false,
     "stop|skip|cut", 0, 0},
    {"bos", CLI_FLAG, &arg.bos, NULL, "put </s> before the text of a task", false, NULL, 0, 0},
    {"token-perplexity", CLI_STR, &arg.token_windows, "WINDOWS", "definition of the text's token perplexity", false,
     "disjoint|gptq|none", 0, 0},
    {"mode", CLI_STR, &arg.mode, "MODE", "sound definitions, or those of the published code", false, "sound|compat", 0,
     0},
    {"details", CLI_STR, &arg.details, "FILE", "JSON lines, one per document and page (needs --out)", false, NULL, 0,
     0},
    {"out", CLI_STR, &arg.out, "FILE", "CSV file, appended; rows present are skipped. Without it: standard output",
     false, NULL, 0, 0},
    {"threads", CLI_INT, &arg.threads, "N", "threads; 0: as many as there are cores", false, NULL, 0, 1024},
    {"device", CLI_STR, &arg.device, "NAME", ops_devices, false, NULL, 0, 0},
    {"activations", CLI_STR, &arg.activations, "TYPE", ops_activations, false, "fp32|fp16|bf16", 0, 0},
    {"estimate", CLI_FLAG, &arg.estimate, NULL, "print how long it would take, and stop", false, NULL, 0, 0},
    {"list", CLI_FLAG, &arg.list, NULL, "print the names of tasks, masks, scopes and criteria", false, NULL, 0, 0},
    {0},
};

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
        int k = 0;
        while (k < 3 && strcmp(name[i], mask_scope_names[k]) != 0) k++;
        if (k == 3) die(2, "--scope %s: not one of local, global, hybrid", name[i]);
        if (w->n_scopes == 3) die(2, "--scope %s: a scope is named twice", arg.scope);
        w->scope[w->n_scopes++] = (mask_scope)k;
    }
    if (n == 0) die(2, "--scope names no scope; there are local, global, hybrid");
    free(name);
}

static void add_series(sweep *w, const char *kind, const criterion *crit, const char *path) {
    w->series = xrealloc(w->series, (size_t)(w->n_series + 1) * sizeof *w->series);
    w->series[w->n_series++] = (series){.kind = kind, .crit = crit, .path = path, .units = w->units};
}

static void add_static(sweep *w, const criterion *const *crit, int n_crit) {
    int n;
    char **name = cli_split(arg.aggregate, &n);
    if (n == 0 || n > 2) die(2, "--aggregate %s: task, all or task,all is wanted", arg.aggregate);
    w->both_aggregates = n == 2;
    for (int i = 0; i < n; i++) {
        const bool pooled = strcmp(name[i], "all") == 0;
        if ((!pooled && strcmp(name[i], "task") != 0) || (i > 0 && strcmp(name[0], name[1]) == 0))
            die(2, "--aggregate %s: task, all or task,all is wanted", arg.aggregate);
        for (int k = 0; k < n_crit; k++) {
            add_series(w, "static", crit[k], NULL);
            w->series[w->n_series - 1].pooled = pooled;
        }
    }
    free(name);
}

// Removing every neuron of every document in turn is for small models and on request only.
static unsigned oracle_units(const sweep *w) { return cli_given(options, "units") ? w->units : UNITS_HEADS; }

static const char masks[] = "none, random, static, contextual, oracle, file:PATH";

// Of a predictor file, all criteria that it has, or those named.
static void add_contextual(sweep *w, const criterion *const *crit, int n_crit) {
    int n = 0, n_there;
    char **file = arg.predictor ? cli_split(arg.predictor, &n) : NULL;
    if (n == 0) die(2, "--mask contextual needs --predictor FILE, written by bin/train");
    for (int i = 0; i < n; i++) {
        char *path = sweep_predictor_path(file[i], w->seed[0]), **there = predictor_criteria(path, &n_there);
        if (!there) die(1, "%s", err_get());
        for (int k = 0; k < n_crit; k++) {
            bool has = !w->all_criteria;
            for (int j = 0; j < n_there; j++) has |= strcmp(there[j], crit[k]->name) == 0;
            if (has) add_series(w, "contextual", crit[k], xstrdup(file[i]));
        }
        free(there);
        free(path);
    }
    free(file);
}

static void choose_masks(sweep *w) {
    int n, n_crit;
    char **name = cli_split(arg.mask, &n);
    const criterion **crit = crit_select(arg.criterion, &n_crit);
    if (!crit) die(2, "--criterion: %s", err_get());
    w->all_criteria = strcmp(arg.criterion, "all") == 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(name[i], "none") == 0)
            add_series(w, "none", NULL, NULL);
        else if (strcmp(name[i], "random") == 0)
            add_series(w, "random", NULL, NULL);
        else if (strcmp(name[i], "contextual") == 0)
            add_contextual(w, crit, n_crit);
        else if (strcmp(name[i], "oracle") == 0) {
            add_series(w, "oracle", NULL, NULL);
            w->series[w->n_series - 1].units = oracle_units(w);
        } else if (strncmp(name[i], "file:", 5) == 0 && name[i][5])
            add_series(w, "file", NULL, xstrdup(name[i] + 5));
        else if (strcmp(name[i], "static") != 0)
            die(2, "--mask %s: not one of %s", name[i], masks);
        else if (!arg.scores)
            die(2, "--mask static needs --scores FILE, written by bin/aggregate");
        else
            add_static(w, crit, n_crit);
    }
    if (n == 0) die(2, "--mask names no mask; there are %s", masks);
    free(crit);
    free(name);
}

// The published static masks know one scope and one kind of unit, the contextual ones one span; asking for another is a
// misunderstanding, not a wish to grant.
static void check_compat(sweep *w) {
    bool has_static = false;
    w->span = w->compat ? SPAN_COMPAT : strcmp(arg.mask_span, "all") == 0 ? SPAN_ALL : SPAN_DECODE;
    w->after = w->span == SPAN_DECODE && cli_given(options, "mask-span") ? (int)arg.refresh : 0;
    for (int i = 0; i < w->n_series; i++) has_static |= series_is(&w->series[i], "static");
    if (!w->compat) return;
    if (has_static && cli_given(options, "scope") && strcmp(arg.scope, "global") != 0)
        die(2,
            "--scope %s: published static masks are always global (their prune_style is ignored); use --mode sound for "
            "other scopes",
            arg.scope);
    if (has_static && cli_given(options, "units") && strcmp(arg.units, "heads") != 0)
        die(2,
            "--units %s: the published FFN mask never acted, so published static masks prune heads only; use --mode "
            "sound for neurons",
            arg.units);
    if (cli_given(options, "mask-span") && strcmp(arg.mask_span, "all") != 0)
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

static void open_targets(sweep *w) {
    w->targets = xcalloc((size_t)w->n_seeds, sizeof *w->targets);
    for (int s = 0; s < w->n_seeds; s++) {
        const eval_options o = {.part = w->part,
                                .data = arg.data,
                                .split = arg.split,
                                .shots = (int)arg.shots,
                                .limit = arg.limit,
                                .seed = w->seed[s],
                                .compat = w->compat,
                                .bos = arg.bos,
                                .over = arg.over_long[1] == 't'   ? OVER_LONG_STOP
                                        : arg.over_long[1] == 'k' ? OVER_LONG_SKIP
                                                                  : OVER_LONG_CUT};
        int n = 0;
        for (int k = 0; k < w->n_tasks; k++) {
            target *t = &w->targets[s][n++];
            t->name = w->task[k];
            if (eval_task_open(&t->task, w->task[k], &o, w->tok, &w->model.c)) die(1, "%s", err_get());
            if (s == 0)
                log_info("%s: %d documents of %s (%s)", t->name, t->task.n, t->task.split.split, t->task.split.file);
            if (t->task.skipped) log_info("%s: %d over-long documents are left out", t->name, t->task.skipped);
            if (t->task.cut) log_info("%s: %d over-long documents are cut from the left", t->name, t->task.cut);
        }
        const text_kind kinds[] = {TEXT_PAGES, strcmp(arg.token_windows, "gptq") == 0 ? TEXT_GPTQ : TEXT_DISJOINT};
        for (int k = 0; arg.wikitext && k < (strcmp(arg.token_windows, "none") == 0 ? 1 : 2); k++) {
            target *t = &w->targets[s][n++];
            t->name = "wikitext";
            t->is_text = true;
            if (eval_text_open(&t->text, arg.wikitext, kinds[k], &o, w->tok, &w->model.c)) die(1, "%s", err_get());
            if (s == 0 && k == 0) log_info("%s: %d pages", arg.wikitext, t->text.n_groups);
        }
        w->n_targets = n;
    }
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
        if (series_is(&w->series[i], "oracle"))
            fprintf(f, "\noracle masks use the gold answer (the text itself, on text): a bound, not a method");
    fclose(f);
    free(command);
    free(resolved);
    return text;
}

// What several processes of this command must agree on.
static char *plan_of(const sweep *w) {
    char *resolved = cli_resolved(options), *text = xasprintf("options=%s\ncode=%s\nmodel=%s\npoints=%ld\n", resolved,
                                                              code_version(), w->model.file.hash, w->point);
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
static double measure_speed(sweep *w) {
    const mask_source none = {0};
    double tokens = 0, start = clock_s();
    for (int k = -1; k < w->n_targets && (k < 1 || clock_s() - start < 1); k++) {
        int n;
        const eval_item *item = sweep_items(&w->targets[0][k < 0 ? 0 : k], &n);
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

static void announce(sweep *w) {
    sweep_count(w);
    if (w->rows_present + w->rows_missing == 0)
        die(1, "nothing to evaluate: %s has no scores that fit",
            arg.scores      ? arg.scores
            : arg.predictor ? arg.predictor
                            : arg.mask);
    if (w->rows_missing == 0) {
        log_info("%ld values, all of them present in %s", w->rows_present, w->out.path);
        return;
    }
    if (w->rank) return;
    const double speed = measure_speed(w) * w->ranks, seconds = w->tokens_missing / speed;
    log_info("%ld values present, %ld to compute: %.3g million dense tokens, about %.0f %s at %.0f tokens/s",
             w->rows_present, w->rows_missing, w->tokens_missing / 1e6, seconds < 600 ? seconds : seconds / 60,
             seconds < 600 ? "s" : "min", speed);
    w->tokens_done = 0;
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
    w.compat = strcmp(arg.mode, "compat") == 0;
    w.counts = strcmp(arg.local_counts, "floor") == 0 ? COUNTS_FLOOR : COUNTS_SPREAD;
    w.units = strcmp(arg.units, "heads") == 0 || (w.compat && !cli_given(options, "units")) ? UNITS_HEADS
              : strcmp(arg.units, "neurons") == 0                                           ? UNITS_NEURONS
                                                                                            : UNITS_BOTH;
    w.rank = rank_number();
    w.ranks = rank_count();
    if (w.ranks > 1 && !arg.out) die(2, "several processes need --out FILE, which process 0 writes");
    if (w.rank && !freopen("/dev/null", "w", stdout)) die(1, "/dev/null: cannot open");
    if (w.rank == 0 && w.ranks > 1 && !arg.estimate && sweep_lead(&w)) die(1, "%s", err_get());
    if (arg.threads) omp_set_num_threads((int)arg.threads);
    if (doc_part_parse(&w.part, arg.part)) die(2, "--part %s", err_get());
    choose_tasks(&w);
    choose_scopes(&w);
    choose_seeds(&w);
    choose_masks(&w);
    check_compat(&w);
    if (!(w.sparsity = mask_parse_sparsities(arg.sparsity, &w.n_sparsities))) die(2, "%s", err_get());

    if (arg.scores) {
        store *scores = store_open(arg.scores);
        if (!scores) die(1, "%s", err_get());
        store_close(scores);
    }
    const ops *o = ops_open_as(arg.device, arg.activations);
    if (!o || model_load_on(&w.model, arg.model, o)) die(1, "%s", err_get());
    if (arg.dense_layers > w.model.c.L)
        die(2, "--dense-layers %ld: the model has %d layers", arg.dense_layers, w.model.c.L);
    if (!(w.tok = tok_open(arg.model, w.model.c.V))) die(1, "%s", err_get());
    char *name = realpath(arg.model, NULL);
    if (!name) die(1, "%s: cannot be resolved", arg.model);
    w.model_name = strcmp(arg.activations, "fp32") == 0
                       ? basename(name)
                       : xasprintf("%s, %s activations", basename(name), arg.activations);
    w.out.fd = w.details.fd = -1;
    open_targets(&w);
    if (sweep_overlap(&w)) die(1, "%s", err_get());
    char *lines = provenance(&w, argc, argv);
    if (w.rank || (arg.estimate && arg.out) ? results_read(&w.out, arg.out, sweep_columns, N_COLUMNS)
                                            : results_open(&w.out, arg.out, sweep_columns, N_COLUMNS, lines))
        die(1, "%s", err_get());
    free(lines);
    if (arg.details && w.rank == 0 && !arg.estimate && details_open(&w.details, arg.details, &w.out))
        die(1, "%s", err_get());
    w.eval = eval_new(&w.model, w.compat, tick, &w);

    announce(&w);
    if (arg.estimate) return 0;
    progress_begin(&w.bar, "sweep, tokens", (long)(w.tokens_missing / w.ranks));
    char *plan = plan_of(&w);
    const bool share = w.rows_missing && sweep_shares(&w, plan);
    if (share && sweep_share(&w, plan)) die(1, "%s", err_get());
    if (w.rank == 0) sweep_visit(&w, false);
    progress_end(&w.bar);
    if (share && w.rank == 0)
        sweep_share_end(&w);
    else if (w.rank == 0 && arg.out)
        sweep_share_rest(&w, plan);
    free(plan);

    details_close(&w.details);
    results_close(&w.out);
    oracle_free(w.oracle);
    eval_free(w.eval);
    for (int s = 0; s < w.n_seeds; s++)
        for (int k = 0; k < w.n_targets; k++) {
            free(w.targets[s][k].dense);
            eval_task_close(&w.targets[s][k].task);
            eval_text_close(&w.targets[s][k].text);
        }
    for (int i = 0; i < w.n_series; i++) free((void *)w.series[i].path);
    free(w.targets);
    free(w.series);
    free(w.sparsity);
    free(w.seed);
    free(w.task);
    free(name);
    tok_close(w.tok);
    model_free(&w.model);
    stdout_end();
    return 0;
}
