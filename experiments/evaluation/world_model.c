// world_model - what a model makes of the written sets: how often it is right, and how often the candidate that it
// finds likeliest without the question is. A candidate without its question: </s>, the cue on the context's last line
// ("Answer:") if it has several lines, and the candidate; in winogrande, whose candidates are in the context, the
// option alone.
#include "eval.h"
#include "world_sets.h"
#include <stdlib.h>
#include <string.h>

// What candidate c of d is when the question is taken away: `cue` before it, and its own text.
static void without_question(const task_doc *d, int c, const char **cue, const char **text) {
    const char *line = strrchr(d->context[c], '\n');
    *cue = line ? line + 1 : "";
    *text = d->choice[c];
    if (d->context[0] == d->context[1]) return;
    size_t same = 0;
    while (d->context[0][same] && d->context[0][same] == d->context[1][same]) same++;
    while (same && d->context[0][same - 1] != ' ') same--;
    *cue = "";
    *text = d->context[c] + (same ? same - 1 : 0);  // with the space before it
}

// Accuracy on s of the likeliest candidate without its question.
static int blind_accuracy(double *out, eval *e, const task_split *s, const tok *tk, int bos) {
    eval_item *item = xcalloc((size_t)s->n, sizeof *item);
    double *ll = xcalloc((size_t)s->n * TASK_MAX_CHOICES, sizeof *ll), right = 0;
    eval_counts counts;
    const mask_source dense = {0};
    int bad = 0;
    for (int i = 0; i < s->n && !bad; i++) {
        item[i].n_seqs = s->docs[i].n_choices;
        for (int c = 0; c < s->docs[i].n_choices && !bad; c++) {
            const char *cue, *text;
            int32_t *ids = NULL, first = (int32_t)bos;
            int n = 0, cap = 0;
            without_question(&s->docs[i], c, &cue, &text);
            VEC_PUSH(ids, n, cap, first);
            bad = tok_encode(tk, cue, strlen(cue), &ids, &n, &cap);
            const int from = n;
            bad = bad || tok_encode(tk, text, strlen(text), &ids, &n, &cap);
            item[i].seq[c].tokens = ids;
            item[i].seq[c].n = n - 1;
            item[i].seq[c].from = from - 1;
        }
    }
    bad = bad || eval_run(e, item, s->n, &dense, NULL, 1, &ll, &counts);
    for (int i = 0; i < s->n; i++) {
        int best = 0;
        for (int c = 0; c < item[i].n_seqs; c++) {
            if (ll[i * TASK_MAX_CHOICES + c] > ll[i * TASK_MAX_CHOICES + best]) best = c;
            free((void *)(uintptr_t)item[i].seq[c].tokens);
        }
        right += best == s->docs[i].gold;
    }
    *out = right / s->n;
    free(item);
    free(ll);
    return bad ? -1 : 0;
}

static int check_set(const char *dir, const char *name, const model *m, const tok *tk, eval *e, world_model_report *r,
                     int set) {
    static const char *const splits[2] = {"train", "val"};
    for (int v = 0; v < 2; v++) {
        task_split s = {0};
        const int bad =
            task_open(&s, dir, name, splits[v], false) || blind_accuracy(&r->blind[set][v], e, &s, tk, m->c.bos);
        for (int i = 0; i < s.n && v; i++) r->chance[set] += 1.0 / s.docs[i].n_choices / s.n;
        task_close(&s);
        if (bad) return -1;
    }
    const eval_options o = {.data = dir, .split = "val"};
    const mask_source dense = {0};
    eval_task t;
    if (eval_task_open(&t, name, &o, tk, &m->c)) return -1;
    double *ll = xcalloc((size_t)t.n * TASK_MAX_CHOICES, sizeof *ll);
    eval_counts counts;
    eval_metric metric[EVAL_METRICS];
    const int bad = eval_run(e, t.item, t.n, &dense, NULL, 1, &ll, &counts);
    if (!bad) {
        eval_task_metrics(metric, &t, ll);
        r->accuracy[set] = metric[0].value;
    }
    free(ll);
    eval_task_close(&t);
    return bad ? -1 : 0;
}

int world_check_model(const char *dir, const char *model_dir, world_model_report *r) {
    *r = (world_model_report){0};
    model m = {0};
    if (model_load(&m, model_dir)) return -1;
    tok *tk = tok_open_model(model_dir, &m.c);
    eval *e = tk ? eval_new(&m, MODE_SOUND, NULL, NULL) : NULL;
    int bad = tk ? 0 : -1;
    for (int t = 0; t < WORLD_TASKS && !bad; t++) bad = check_set(dir, world_task_names[t], &m, tk, e, r, t);
    eval_free(e);
    if (tk) tok_close(tk);
    model_free(&m);
    return bad;
}
