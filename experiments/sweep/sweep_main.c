// sweep - accuracy of the tasks and perplexity of a text over sparsities, for masks none, random, static, contextual,
// oracle, reference, threshold and file.
//
// The model is loaded once and every task and text tokenised once (per seed); each point is a mask run over the same
// items. A point's rows are written when they are known, so a killed sweep resumes where it stopped.
#include <libgen.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "ranks.h"
#include "sweep.h"

// ---------------------------------------------------------------- set-up
static void print_list(void) {
    printf("tasks:");
    for (const char *const *t = task_names; *t; t++) printf(" %s", *t);
    char *masks = mask_kinds_named(MASKS_ALL);
    printf("\nmasks: %s\nscopes:", masks);
    free(masks);
    for (const char *const *scope = mask_scope_names; *scope; scope++) printf(" %s", *scope);
    printf("\ncriteria:");
    for (const criterion *const *c = crit_all; *c; c++) printf(" %s", (*c)->name);
    printf("\n");
}

static char *provenance(const sweep *w, int argc, char **argv) {
    const sweep_options *o = w->o;
    char date[UTC_DATE], *command = cli_command(argc, argv), *resolved = cli_resolved(sweep_table), *text;
    size_t bytes;
    utc_date(date);
    FILE *f = open_memstream(&text, &bytes);
    fprintf(f, "command: %s\noptions: %s\ncode: %s\ndate: %s\ndevice: %s, %d threads\nmodel: %s %s\ntokenizer: %s",
            command, resolved, code_version(), date, o->device.name, omp_get_max_threads(), o->model,
            w->model.file.hash, tok_hash(w->tok));
    for (int k = 0; k < w->n_targets; k++) {
        const target *t = &w->targets[0][k];
        if (!t->is_text)
            fprintf(f, "\n%s: %s %s, %d documents", t->name, t->task.split.file, t->task.hash, t->task.n);
        else if (t->text.kind == TEXT_PAGES)
            fprintf(f, "\nwikitext: %s %s, %d pages", o->wikitext, t->text.hash, t->text.n_groups);
    }
    if (o->masks.scores) fprintf(f, "\nscores: %s", o->masks.scores);
    if (o->masks.predictor) fprintf(f, "\npredictor: %s", o->masks.predictor);
    for (int by = 0, said = 0; by < THRESHOLDS && !said; by++)
        if ((said = w->calibrated[by].tokens > 0))
            fprintf(f, "\ncalibration: %s %s, %ld tokens", o->masks.calibrate, w->calibrated[by].hash,
                    w->calibrated[by].tokens);
    for (int i = 0; i < w->n_series; i++)
        if (w->series[i].kind == MASK_ORACLE || w->series[i].kind == MASK_REFERENCE)
            fprintf(f, "\n%s masks use the gold answer (the text itself, on text): no method",
                    mask_kind_names[w->series[i].kind]);
    fclose(f);
    free(command);
    free(resolved);
    return text;
}

// What several processes of this command must agree on.
static char *plan_of(const sweep *w) {
    char *resolved = cli_resolved(sweep_table),
         *text = xasprintf("options=%s\ncode=%s\nmodel=%s\npoints=%ld\n", resolved, code_version(), w->model.file.hash,
                           w->n_points);
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
        const mask_options *o = &w->o->masks;
        const char *source = o->scores ? o->scores : o->predictor;
        die(1, "nothing to evaluate: %s has no scores that fit", source ? source : o->mask);
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
    if (!bad && w->rank == 0 && !shared && w->o->out) bad = share_remove_rest(w, plan);
    free(plan);
    return bad;
}

// ---------------------------------------------------------------- the program
static void open_model(sweep *w) {
    const sweep_options *o = w->o;
    if (o->masks.scores) {
        store *scores = store_open(o->masks.scores);
        if (!scores) die(1, "%s", err_get());
        w->scored_shots = store_attr(scores, "/", "shots");
        store_close(scores);
    }
    const ops *device = device_open(&o->device);
    if (!device || model_load_as(&w->model, o->model, device, o->weights) || model_check_mode(&w->model.c, w->mode))
        die(1, "%s", err_get());
    if (o->masks.dense_layers > w->model.c.L)
        die(2, "--dense-layers %ld: the model has %d layers", o->masks.dense_layers, w->model.c.L);
    if (!(w->tok = tok_open_model(o->model, &w->model.c))) die(1, "%s", err_get());
    harness h;
    if (harness_of(&h, o->harness, o->bos, w->tok, tok_first(w->tok, &w->model.c))) die(1, "--bos: %s", tok_no_first);
    w->bos = h.begin >= 0;
    char *path = realpath(o->model, NULL);
    if (!path) die(1, "%s: cannot be resolved", o->model);
    const mask_model of = {.name = o->model, .hash = w->model.file.hash, .c = &w->model.c};
    if (o->masks.ablate == ABLATE_MEAN) {
        if (mask_options_means(&w->means, &o->masks, &of) != 0) die(1, "%s", err_get());
        w->put_out = model_means_new(&w->model, w->means.of[UNIT_HEADS], w->means.of[UNIT_NEURONS]);
    }
    for (int i = 0; i < w->n_series; i++) {
        if (w->series[i].kind != MASK_THRESHOLD) continue;
        const threshold_by by = threshold_named(w->series[i].path);
        if (!w->calibrated[by].tokens &&
            threshold_calibrate(&w->calibrated[by], &w->model, w->tok, o->masks.calibrate, by) != 0)
            die(1, "%s", err_get());
    }
    const dtype type = o->device.activations;
    const bool changed = w->model.changed, rounds = type != DT_F32 && (!changed || type == DT_Q8_0);
    w->model_name = xasprintf("%s%s%s%s", basename(path), changed ? ", weights " : "",
                              changed ? model_weights_name(&w->model) : "", rounds ? device_rounding(&o->device) : "");
    free(path);
}

static void open_results(sweep *w, int argc, char **argv) {
    const sweep_options *o = w->o;
    char *lines = provenance(w, argc, argv);
    const bool reads = w->rank || (o->estimate && o->out);
    w->out.fd = w->details.fd = -1;
    if (reads ? results_read(&w->out, o->out, sweep_columns, N_COLUMNS)
              : results_open(&w->out, o->out, sweep_columns, N_COLUMNS, lines))
        die(1, "%s", err_get());
    free(lines);
    if (rows_check_norms(w)) die(1, "%s", err_get());
    if (o->details && w->rank == 0 && !o->estimate && details_open(&w->details, o->details, &w->out))
        die(1, "%s", err_get());
}

static void close_all(sweep *w) {
    details_close(&w->details);
    results_close(&w->out);
    oracle_free(w->oracle);
    model_means_free(w->put_out);
    mask_means_free(&w->means);
    for (int by = 0; by < THRESHOLDS; by++) threshold_free(&w->calibrated[by]);
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
    free(w->scored_shots);
    tok_close(w->tok);
    model_free(&w->model);
}

static void run_requests(sweep *w) {
    w->out.fd = w->details.fd = -1;
    w->eval = eval_new(&w->model, w->mode, tick, w);
    if (requests_open(w) || requests_run(w)) die(1, "%s", err_get());
    close_all(w);
    stdout_end();
}

int main(int argc, char **argv) {
    static sweep w = {.token_share = 1};
    cli_parse(argc, argv,
              "accuracy and perplexity over sparsities, for masks none, random, static, contextual, oracle, reference, "
              "threshold and file",
              sweep_table);
    if (cli_given(sweep_table, "list")) {
        print_list();
        stdout_end();
        return 0;
    }
    w.rank = rank_number();
    w.ranks = rank_count();
    const int status = sweep_options_read(&w);
    if (status) die(status, "%s", err_get());
    if (w.ranks > 1 && !w.o->out) die(2, "several processes need --out FILE, which process 0 writes");
    if (rank_quiet()) die(1, "%s", err_get());
    if (w.rank == 0 && w.ranks > 1 && !w.o->estimate && share_lead(&w)) die(1, "%s", err_get());

    open_model(&w);
    if (w.o->requests) {
        run_requests(&w);
        return 0;
    }
    if (targets_open(&w) || sweep_overlap(&w)) die(1, "%s", err_get());
    open_results(&w, argc, argv);
    w.eval = eval_new(&w.model, w.mode, tick, &w);

    if (list_points(&w)) die(1, "%s", err_get());
    list_find_rows(&w);
    const sweep_size size = list_size(&w);
    announce(&w, &size);
    if (w.o->estimate) return 0;
    if (run_missing(&w, &size)) die(1, "%s", err_get());
    close_all(&w);
    stdout_end();
    return 0;
}
