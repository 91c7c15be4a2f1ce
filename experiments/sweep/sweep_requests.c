// sweep_requests - `sweep --requests`: log-likelihoods of any pairs of texts under one mask, as JSON lines. Contract in
// sweep.h.
#include <stdlib.h>
#include "sweep.h"

static file_out lines;  // of this one run

static int write_lines(sweep *w, point *p, const double *ll) {
    const target *t = point_target(w, p);
    FILE *f = w->o->out ? lines.f : stdout;
    int n;
    const eval_item *item = target_items(t, &n);
    for (int i = 0; i < n; i++) {
        const double *of = ll + (size_t)i * TASK_MAX_CHOICES;
        fprintf(f, "{\"log_likelihood\": %.17g, \"is_greedy\": %s, \"tokens\": %d}\n", of[0],
                of[EVAL_MISSES] == 0 ? "true" : "false", item[i].seq[0].n - item[i].seq[0].from);
    }
    return 0;
}

int requests_open(sweep *w) {
    const eval_options o = {.bos = w->o->bos, .over = w->o->over};
    text_file from = {.path = w->o->requests};
    w->targets = xcalloc(1, sizeof *w->targets);
    w->n_targets = 1;
    target *t = &w->targets[0][0];
    t->name = "requests";
    if (!(from.text = file_read(from.path, &from.bytes))) return -1;
    const int bad = eval_requests_open(&t->task, &from, &o, w->tok, &w->model.c);
    free(from.text);
    if (!bad && t->task.cut) log_info("%s: %d contexts are cut from the left", from.path, t->task.cut);
    return bad;
}

int requests_run(sweep *w) {
    static const sweep_sink to_lines = {.point = write_lines};
    for (int i = 0; i < w->n_series; i++) w->series[i].pooled = true;  // no task has scores of its own here
    eval_ask_misses(w->eval);
    if (list_points(w)) return -1;
    if (w->n_points != 1)
        return err_set("--requests takes one mask, and %ld are named: give one --mask, --criterion, --scope, "
                       "--sparsity and --seed",
                       w->n_points);
    w->point->work = WORK_RUN;
    if (w->point->way == POINT_LEFT_OUT) return err_set("--requests: the mask has no scores");
    if (w->o->out && file_out_open(&lines, w->o->out)) return -1;
    int n;
    const eval_item *item = target_items(&w->targets[0][0], &n);
    progress_begin(&w->bar, "requests, tokens", (long)eval_tokens(item, n));
    const int bad = run_points(w, &to_lines);
    if (!bad) progress_end(&w->bar);
    if (!w->o->out) return bad;
    if (!bad) return file_out_close(&lines);
    file_out_abandon(&lines);
    return bad;
}
