// harness - texts as the evaluation harness of 2022 and today's have them. Contract in harness.h; METHOD 3.6.
#include "harness.h"
#include <stdlib.h>
#include <string.h>
#include "text.h"

const char *const harness_names[] = {"2022", "today", NULL};
const char *const bos_names[] = {"auto", "on", "off", NULL};

int harness_of(harness *h, harness_kind kind, bos_choice bos, const tok *t, int32_t first) {
    *h = (harness){.kind = kind, .begin = -1, .first = first};
    const int32_t own = kind == HARNESS_TODAY ? tok_begin(t) : -1;
    if (bos == BOS_OFF || (bos == BOS_AUTO && own < 0)) return 0;
    h->begin = own >= 0 ? own : first;
    return h->begin >= 0 ? 0 : -1;
}

void harness_spaces(const harness *h, task_split *s) {
    if (h->kind != HARNESS_TODAY || strcmp(s->name, "copa") != 0) return;
    for (int i = 0; i < s->n; i++)
        for (int c = 0; c < s->docs[i].n_choices; c++) {
            char *wider = xasprintf(" %s", s->docs[i].choice[c]);
            free(s->docs[i].choice[c]);
            s->docs[i].choice[c] = wider;
        }
}

// ---------------------------------------------------------------- tokens
static void put_before(task_example *e, int32_t id) {
    e->tokens = xrealloc(e->tokens, (size_t)(e->n + 1) * sizeof *e->tokens);
    memmove(e->tokens + 1, e->tokens, (size_t)e->n * sizeof *e->tokens);
    e->tokens[0] = id;
    e->n++;
    e->context_length++;
}

// Bytes of a text without the white space at its end.
static size_t without_end(const char *text) {
    size_t end = 0, n;
    for (const char *p = text; *p; p += n ? n : 1) {
        n = text_space(p);
        if (!n) end = (size_t)(p - text) + 1;
    }
    return end;
}

static bool begins_with(const char *text, const tok *t, int32_t id) {
    size_t n;
    const char *name = tok_bytes(t, id, &n);
    return n > 0 && strncmp(text, name, n) == 0;
}

int harness_encode_pair(task_example *e, const harness *h, const tok *t, const char *context,
                        const char *continuation) {
    *e = (task_example){0};
    char *whole = xasprintf("%s%s", context, continuation);
    int32_t *alone = NULL;
    int n_alone = 0, cap = 0, cap_alone = 0;
    int bad = tok_encode_special(t, whole, strlen(whole), &e->tokens, &e->n, &cap) ||
              tok_encode_special(t, context, without_end(context), &alone, &n_alone, &cap_alone);
    e->context_length = n_alone;
    int32_t before = *context ? h->begin : h->first;
    if (*context && begins_with(context, t, h->first)) before = -1;
    const bool there = !*context && e->n > 0 && e->tokens[0] == before;  // the continuation has it as its first token
    if (!bad && there) e->context_length = 1;
    if (!bad && !there && before >= 0) put_before(e, before);
    if (!bad && (e->context_length == 0 || e->n <= e->context_length))
        bad = err_set("its %s is empty", e->context_length ? "continuation" : "context");
    free(alone);
    free(whole);
    if (!bad) return 0;
    free(e->tokens);
    *e = (task_example){0};
    return -1;
}

int harness_encode(task_example *e, const harness *h, const tok *t, const task_doc *d, int choice, const char *prefix,
                   mode_kind mode) {
    if (h->kind == HARNESS_2022) {
        if (task_encode(e, t, d, choice, prefix, mode)) return -1;
        if (h->begin >= 0) put_before(e, h->begin);
        return 0;
    }
    if (choice < 0 && d->gold < 0) return err_set("%s: has no label, so no gold continuation", d->id);
    if (choice < 0) choice = d->gold;
    char *context = xasprintf("%s%s", prefix, d->context[choice]);
    const int bad = harness_encode_pair(e, h, t, context, d->choice[choice]);
    free(context);
    return bad ? err_prefix("%s", d->id) : 0;
}

int harness_cut(task_example *e, const harness *h, int most) {
    const int over = e->n - most, kept = h->kind == HARNESS_2022 && h->begin >= 0;
    if (over <= 0) return 0;
    if (over >= e->context_length - kept) return -1;
    memmove(e->tokens + kept, e->tokens + kept + over, (size_t)(most - kept) * sizeof *e->tokens);
    e->n = most;
    e->context_length -= over;
    return 1;
}
