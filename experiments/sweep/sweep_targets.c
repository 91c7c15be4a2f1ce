// sweep_targets - what bin/sweep measures: the tasks, then the forms of a text, read and tokenised once per seed.
// Contract in sweep.h.
#include <stdlib.h>
#include <sys/stat.h>
#include "sweep.h"

static int open_task(target *t, const sweep *w, const char *name, const eval_options *o, bool tell) {
    t->name = name;
    if (eval_task_open(&t->task, name, o, w->tok, &w->model.c)) return -1;
    if (tell) log_info("%s: %d documents of %s (%s)", name, t->task.n, t->task.split.split, t->task.split.file);
    if (t->task.skipped) log_info("%s: %d over-long documents are left out", name, t->task.skipped);
    if (t->task.cut) log_info("%s: %d over-long documents are cut from the left", name, t->task.cut);
    return 0;
}

static int open_text(target *t, const sweep *w, text_kind kind, const eval_options *o, bool tell) {
    t->name = "wikitext";
    t->is_text = true;
    if (eval_text_open(&t->text, &w->text, kind, o, w->tok, &w->model.c)) return -1;
    if (tell && kind == TEXT_PAGES) log_info("%s: %d pages", w->o->wikitext, t->text.n_groups);
    return 0;
}

long target_limit(const sweep_options *o, bool text) {
    return text && o->pages != PAGES_AS_LIMIT ? o->pages : o->limit;
}

static int open_all(target *t, int *n, const sweep *w, const eval_options *o, bool tell) {
    *n = 0;
    for (int k = 0; k < w->n_tasks; k++)
        if (open_task(&t[(*n)++], w, w->task[k], o, tell)) return -1;
    if (!w->o->wikitext) return 0;
    eval_options of_text = *o;
    of_text.limit = target_limit(w->o, true);
    if (open_text(&t[(*n)++], w, TEXT_PAGES, &of_text, tell)) return -1;
    if (w->o->windows == WINDOWS_NONE) return 0;
    return open_text(&t[(*n)++], w, w->o->windows == WINDOWS_GPTQ ? TEXT_GPTQ : TEXT_DISJOINT, &of_text, tell);
}

// Every process reads the text: what can be read once only would be shared out among them.
static int read_text(sweep *w) {
    struct stat st;
    w->text.path = w->o->wikitext;
    if (w->ranks > 1 && stat(w->text.path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set("%s: not a file that several processes can read; name a regular file", w->text.path);
    w->text.text = file_read(w->text.path, &w->text.bytes);
    return w->text.text ? 0 : -1;
}

int targets_open(sweep *w) {
    if (w->o->wikitext && read_text(w)) return -1;
    w->targets = xcalloc((size_t)w->n_seeds, sizeof *w->targets);
    for (int s = 0; s < w->n_seeds; s++) {
        const eval_options o = {.part = w->part,
                                .data = w->o->data,
                                .split = w->o->split,
                                .shots = (int)w->o->shots,
                                .limit = w->o->limit,
                                .page_words = w->o->page_words,
                                .seed = w->seed[s],
                                .mode = w->mode,
                                .bos = w->o->bos,
                                .harness = w->o->harness,
                                .over = w->o->over};
        if (open_all(w->targets[s], &w->n_targets, w, &o, s == 0)) return -1;
    }
    free(w->text.text);
    return 0;
}

void targets_close(sweep *w) {
    for (int s = 0; s < w->n_seeds; s++)
        for (int k = 0; k < w->n_targets; k++) {
            free(w->targets[s][k].dense);
            eval_task_close(&w->targets[s][k].task);
            eval_text_close(&w->targets[s][k].text);
        }
    free(w->targets);
}

const eval_item *target_items(const target *t, int *n) {
    *n = t->is_text ? t->text.n : t->task.n;
    return t->is_text ? t->text.item : t->task.item;
}

int target_lls(const target *t) {
    int n;
    target_items(t, &n);
    return n * TASK_MAX_CHOICES;
}

int target_metrics(const target *t, const char *name[EVAL_METRICS]) {
    static const char *const of_pages[] = {"word_perplexity", "byte_perplexity"}, *const of_windows[] = {
                                                                                      "token_perplexity"};
    const bool pages = t->is_text && t->text.kind == TEXT_PAGES;
    const char *const *of_text = pages ? of_pages : of_windows;
    int n = EVAL_METRICS;
    if (t->is_text) n = pages ? 2 : 1;
    for (int k = 0; k < n; k++) name[k] = (t->is_text ? of_text : eval_task_metric_names)[k];
    return n;
}
