// score_examples - which documents are scored, as which tokens, and what a store already holds of them. Contract in
// score.h.
#include "score.h"
#include "tok_model.h"
#include <stdlib.h>
#include <string.h>

static int open_task(score_job *j, score_task *t) {
    const score_options *o = &j->o;
    if (task_open(&t->split, o->data, t->name, *o->split ? o->split : NULL, true) != 0) return -1;
    if (task_keep_part(&t->split, j->part) != 0) return -1;
    if (!t->split.labelled)
        return err_set("%s: the %s split has no labels, so no gold continuation to score; give another --split",
                       t->split.file, t->split.split);
    t->pool = o->shots > 0 ? task_pool_open(&t->own_pool, o->data, &t->split) : &t->split;
    if (!t->pool) return -1;
    harness_spaces(&j->harness, &t->split);
    if (t->pool != &t->split) harness_spaces(&j->harness, &t->own_pool);
    t->attr[0] = xstrdup(t->split.split);
    t->attr[1] = xstrdup(t->split.file);
    t->attr[2] = xstrdup(t->split.hash);
    t->attr[3] = xstrdup(o->shots > 0 ? t->pool->hash : "none");
    t->seen = xcalloc((size_t)t->split.n, sizeof *t->seen);
    t->pool_seen = t->pool == &t->split ? t->seen : xcalloc((size_t)t->pool->n, sizeof *t->pool_seen);
    t->considered = o->examples < t->split.n ? (int)o->examples : t->split.n;
    if (o->examples > t->split.n)
        log_info("%s: %d examples in %sthe %s split, fewer than the %ld asked for", t->name, t->split.n,
                 j->part.n ? "the part of " : "", t->split.split, o->examples);
    return 0;
}

static const char *const task_keys[4] = {"split", "files", "hash", "few_shot_hash"};

// What the old store says of the task; its data must be the same.
static int join_old(score_job *j, score_task *t, const store_examples *old) {
    char *group = xasprintf("/tasks/%s", t->name);
    int considered = store_attr_int(j->old, group, "considered"), bad = 0;
    for (int i = 0; i < old->n; i++) t->n_old += strcmp(old->task[i], t->name) == 0;
    for (int k = 0; !bad && k < 4 && t->n_old; k++) {
        char *there = store_attr(j->old, group, task_keys[k]);
        if (!t->asked)
            t->attr[k] = xstrdup(there ? there : "");
        else if (k != 1 && (!there || strcmp(there, t->attr[k]) != 0))
            bad = err_set("%s: holds scores of another kind: %s of task %s is %s there, %s here; give another --out",
                          j->o.out, task_keys[k], t->name, there ? there : "missing", t->attr[k]);
        free(there);
    }
    if (considered > t->considered) t->considered = considered;
    if (!t->asked) {
        t->skipped = store_attr_int(j->old, group, "skipped");
        t->cut = store_attr_int(j->old, group, "cut");
    }
    free(group);
    return bad;
}

typedef struct {
    int cap_rows, cap_tokens, n_tokens;
} room;

static void add_row(score_job *j, room *r, const char *task, const char *id, const int32_t *tokens, int n, int context,
                    double loss, int64_t old_row) {
    store_examples *e = &j->ex;
    if (e->n + 1 >= r->cap_rows) {
        r->cap_rows = r->cap_rows ? 2 * r->cap_rows : 256;
        size_t rows = (size_t)r->cap_rows;
        e->id = xrealloc(e->id, rows * sizeof *e->id);
        e->task = xrealloc(e->task, rows * sizeof *e->task);
        e->offset = xrealloc(e->offset, (rows + 1) * sizeof *e->offset);
        e->context = xrealloc(e->context, rows * sizeof *e->context);
        e->loss = xrealloc(e->loss, rows * sizeof *e->loss);
        j->old_row = xrealloc(j->old_row, rows * sizeof *j->old_row);
    }
    for (int i = 0; i < n; i++) VEC_PUSH(e->tokens, r->n_tokens, r->cap_tokens, tokens[i]);
    e->offset[0] = 0;
    e->offset[e->n + 1] = r->n_tokens;
    e->id[e->n] = xstrdup(id);
    e->task[e->n] = xstrdup(task);
    e->context[e->n] = context;
    e->loss[e->n] = loss;
    j->old_row[e->n++] = old_row;
}

// Tokens of one document, cut from the left to what the model can see. 1: left out.
static int example_of(score_job *j, score_task *t, int doc, task_example *e, int *too_long) {
    char *prefix = task_prefix(t->pool, &t->split, doc, (int)j->o.shots, j->seed, j->texts);
    const int most = j->model->c.positions;
    int bad = prefix ? harness_encode(e, &j->harness, j->tok, &t->split.docs[doc], -1, prefix, j->texts) : -1;
    free(prefix);
    if (bad) return err_prefix("%s, example %s", t->name, t->split.docs[doc].id);
    if (e->n <= most) return 0;
    (*too_long)++;
    if (j->o.over != OVER_LONG_CUT) return 1;
    if (harness_cut(e, &j->harness, most) < 0)
        return err_set(
            "%s, example %s: its continuation alone fills the %d positions of the model; use --over-long skip", t->name,
            t->split.docs[doc].id, most);
    t->cut++;
    return 0;
}

static int add_task(score_job *j, room *r, score_task *t, const store_examples *old, int *too_long) {
    int at = 0, bad = 0;
    t->first = j->ex.n;
    while (at < old->n && strcmp(old->task[at], t->name) != 0) at++;
    if (!t->asked) {
        for (int i = at; i < at + t->n_old; i++)
            add_row(j, r, t->name, old->id[i], old->tokens + old->offset[i], (int)(old->offset[i + 1] - old->offset[i]),
                    old->context[i], old->loss[i], i);
        t->n = t->n_old;
        return 0;
    }
    int32_t *order = task_order(&t->split, j->seed);
    for (int k = 0; k < t->split.n && j->harness.kind == HARNESS_TODAY; k++) order[k] = k;
    for (int k = 0; !bad && k < t->considered; k++) {
        task_example e = {0};
        int out = example_of(j, t, order[k], &e, too_long), i = at + t->n;
        if (out == 0)
            out = task_mark(t->seen, t->pool_seen, t->pool, &t->split, order[k], (int)j->o.shots, j->seed, j->texts);
        if (out == 1)
            t->skipped++;
        else if (out != 0)
            bad = -1;
        else if (t->n < t->n_old) {  // a store of the same files holds the same tokens, or something else has changed
            size_t bytes = (size_t)e.n * sizeof *e.tokens;
            if (old->offset[i + 1] - old->offset[i] != e.n || old->context[i] != e.context_length ||
                memcmp(old->tokens + old->offset[i], e.tokens, bytes) != 0)
                bad = err_set(
                    "%s: holds scores of another kind: the tokens of task %s, example %s differ; give another --out",
                    j->o.out, t->name, old->id[i]);
            else
                add_row(j, r, t->name, old->id[i], e.tokens, e.n, e.context_length, old->loss[i], i);
            t->n++;
        } else {
            add_row(j, r, t->name, t->split.docs[order[k]].id, e.tokens, e.n, e.context_length, 0, -1);
            t->n++;
        }
        free(e.tokens);
    }
    free(order);
    return bad;
}

int score_choose_examples(score_job *j) {
    bool all = strcmp(j->o.tasks, "all") == 0, asked[TASK_COUNT] = {false};
    int too_long = 0, bad = task_select(j->o.tasks, asked) < 0;
    store_examples old = {0};
    if (!bad && j->old) bad = store_read_examples(j->old, &old);
    j->task = xcalloc(TASK_COUNT, sizeof *j->task);
    room r = {0};
    for (int k = 0; !bad && k < TASK_COUNT; k++) {
        score_task *t = &j->task[j->n_task];
        *t = (score_task){.name = task_names[k], .asked = asked[k]};
        if (all && !task_there(j->o.data, t->name)) {
            log_info("%s: not in %s, left out", t->name, j->o.data);
            t->asked = false;
        }
        if (t->asked) bad = open_task(j, t);
        if (!bad && j->old) bad = join_old(j, t, &old);
        if (t->asked || t->n_old) j->n_task++;
        if (!bad && (t->asked || t->n_old)) bad = add_task(j, &r, t, &old, &too_long);
    }
    store_examples_free(&old);
    if (!bad && too_long && j->o.over == OVER_LONG_STOP)
        bad = err_set(
            "%d examples are longer than the model's %d positions; use --over-long skip or cut, or fewer --shots",
            too_long, j->model->c.positions);
    if (!bad && j->ex.n == 0)
        bad = err_set("%s: no example to score; data/README.md says how the folder is laid out", j->o.data);
    return bad;
}
