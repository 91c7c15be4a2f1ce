// task_example - what is scored of a task's documents: their order, few-shot examples, token ids. Contract in task.h.
#include "task.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- order and few-shot examples
static uint64_t name_key(const char *name) { return hash64(name, strlen(name)); }

int32_t *task_order(const task_split *s, uint64_t seed) { return doc_order(s->name, s->n, seed); }

// Two documents that say the same; an unlabelled one stands for every answer to its question.
static bool same(const task_doc *shot, const task_doc *d) {
    for (int c = 0; c < d->n_choices; c++)
        if ((d->gold < 0 || c == d->gold) && !strcmp(shot->context[shot->gold], d->context[c]) &&
            (d->gold < 0 || !strcmp(shot->choice[shot->gold], d->choice[c])))
            return true;
    return false;
}

int32_t *task_shots(const task_split *pool, const task_split *target, int doc, int k, uint64_t seed, mode_kind mode) {
    if (!pool->labelled) {
        err_set("%s: few-shot examples need labels, but the %s split has none", pool->file, pool->split);
        return NULL;
    }
    const task_doc *d = &target->docs[doc];
    rng r = rng_make(rng_hash(seed, name_key(target->name), (uint64_t)doc + 1));  // 0 is doc_order's
    int32_t *left = xmalloc((size_t)pool->n * sizeof *left);
    int taken = 0;
    for (int i = 0; i < pool->n; i++) left[i] = i;
    for (int i = 0; i < pool->n && taken < k; i++) {  // what has been taken stands before i
        const int j = i + (int)rng_below(&r, (uint64_t)(pool->n - i)), shot = left[j];
        left[j] = left[i];
        if (mode == MODE_COMPAT || !same(&pool->docs[shot], d)) left[taken++] = shot;
    }
    if (taken == k) return left;
    free(left);
    err_set("%s: %d few-shot examples asked for, but only %d other rows can be used; use fewer --shots", pool->file, k,
            taken);
    return NULL;
}

char *task_prefix(const task_split *pool, const task_split *target, int doc, int k, uint64_t seed, mode_kind mode) {
    if (k == 0) return xstrdup("");
    int32_t *which = task_shots(pool, target, doc, k, seed, mode);
    char *text;
    size_t bytes;
    if (!which) return NULL;
    FILE *f = open_memstream(&text, &bytes);
    for (int i = 0; i < k; i++) {
        const task_doc *shot = &pool->docs[which[i]];
        fprintf(f, "%s%s\n\n", shot->context[shot->gold], shot->choice[shot->gold]);
    }
    fclose(f);
    free(which);
    return text;
}

int task_mark(bool *seen, bool *pool_seen, const task_split *pool, const task_split *target, int doc, int k,
              uint64_t seed, mode_kind mode) {
    int32_t *which = k > 0 ? task_shots(pool, target, doc, k, seed, mode) : NULL;
    if (k > 0 && !which) return -1;
    seen[doc] = true;
    for (int i = 0; i < k; i++) pool_seen[which[i]] = true;
    free(which);
    return 0;
}

// ---------------------------------------------------------------- tokens
int task_encode(task_example *e, const tok *t, const task_doc *d, int choice, const char *prefix, mode_kind mode) {
    *e = (task_example){0};
    bool gold = choice < 0;
    if (gold && d->gold < 0) return err_set("%s: has no label, so no gold continuation", d->id);
    if (gold) choice = d->gold;
    ASSERT(choice < d->n_choices);
    const char *continuation = gold && mode == MODE_COMPAT ? d->gold_compat : d->choice[choice];
    char *context = xasprintf("%s%s", prefix, d->context[choice]);
    int cap = 0, bad = tok_encode(t, context, strlen(context), &e->tokens, &e->n, &cap);
    e->context_length = e->n;
    if (!bad) bad = tok_encode(t, continuation, strlen(continuation), &e->tokens, &e->n, &cap);
    if (!bad && (e->context_length == 0 || e->n == e->context_length))
        bad = err_set("%s: its %s is empty", d->id, e->context_length ? "continuation" : "context");
    free(context);
    if (!bad) return 0;
    free(e->tokens);
    *e = (task_example){0};
    return -1;
}
