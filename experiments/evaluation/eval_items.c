// eval_items - documents and texts made into items: chosen, tokenised, cut where they are too long. Contract in eval.h.
#include "eval.h"
#include <stdlib.h>
#include <string.h>

static void hash_pair(char out[33], const char *a, const char *b) {
    char both[80];
    int n = snprintf(both, sizeof both, "%s %s", a, b);
    hash_bytes(out, both, (size_t)n);
}

// ---------------------------------------------------------------- tasks
// The tokens of one candidate as a sequence; e is consumed. 1: kept whole, 0: cut, -1: too long and not to be cut.
static int make_seq(eval_item *it, int j, task_example *e, const harness *h, over_long over, int positions) {
    const bool whole = e->n <= positions + 1;
    const int cut = !whole && over == OVER_LONG_CUT ? harness_cut(e, h, positions + 1) : 0;
    it->seq[j].tokens = e->tokens;
    it->seq[j].n = e->n - 1;
    it->seq[j].from = e->context_length - 1;
    if (whole) return 1;
    return cut > 0 ? 0 : -1;
}

static int common_tokens(const eval_item *it) {
    int n = it->seq[0].from;
    if (it->n_seqs == 1) return 0;
    for (int j = 1; j < it->n_seqs; j++) {
        int same = 0;
        while (same < n && same < it->seq[j].from && it->seq[j].tokens[same] == it->seq[0].tokens[same]) same++;
        n = same;
    }
    return n;
}

static void free_item(eval_item *it) {
    for (int j = 0; j < it->n_seqs; j++) free((void *)it->seq[j].tokens);
}

// One document. 1 and its item, 0: left out, -1 and err_set.
static int make_doc(eval_task *t, int doc, const eval_options *o, const harness *h, const tok *tk,
                    const model_config *c, long *too_long) {
    const task_doc *d = &t->split.docs[doc];
    eval_item it = {.gold = d->gold};
    char *prefix = task_prefix(t->pool.docs ? &t->pool : &t->split, &t->split, doc, o->shots, o->seed, o->mode);
    bool cut = false, fits = true;
    if (!prefix) return -1;
    for (int j = 0; j < d->n_choices; j++) {
        task_example e;
        if (harness_encode(&e, h, tk, d, j, prefix, MODE_SOUND)) {
            err_prefix("%s: document %s", t->name, d->id);
            free(prefix);
            free_item(&it);
            return -1;
        }
        it.n_seqs++;
        const int state = make_seq(&it, j, &e, h, o->over, c->positions);
        cut |= state == 0;
        fits &= state >= 0;
    }
    if (!fits) {
        ++*too_long;
        free(prefix);
        free_item(&it);
        return 0;
    }
    it.shared = common_tokens(&it);
    t->cut += cut;
    t->item[t->n] = it;
    t->prefix[t->n] = prefix;
    t->doc[t->n++] = doc;
    return 1;
}

int eval_task_open(eval_task *t, const char *name, const eval_options *o, const tok *tk, const model_config *c) {
    *t = (eval_task){.name = name};
    long too_long = 0;
    int32_t *order = NULL;
    harness h;
    if (harness_of(&h, o->harness, o->bos, tk, tok_first(tk, c))) return err_set("--bos: %s", tok_no_first);
    if (task_open(&t->split, o->data, name, o->split, false)) return -1;
    if (task_keep_part(&t->split, o->part)) goto fail;
    if (!t->split.labelled) {
        err_set("%s: split %s has no labels, so nothing can be scored; name another with --split", name,
                t->split.split);
        goto fail;
    }
    if (o->shots > 0 && !task_pool_open(&t->pool, o->data, &t->split)) goto fail;
    harness_spaces(&h, &t->split);
    if (t->pool.docs) harness_spaces(&h, &t->pool);
    hash_pair(t->hash, t->split.hash, t->pool.docs ? t->pool.hash : "");
    const int n = o->limit > 0 && o->limit < t->split.n ? (int)o->limit : t->split.n;
    t->item = xcalloc((size_t)n, sizeof *t->item);
    t->doc = xcalloc((size_t)n, sizeof *t->doc);
    t->prefix = xcalloc((size_t)n, sizeof *t->prefix);
    if (h.kind == HARNESS_2022) order = task_order(&t->split, o->seed);
    for (int i = 0; i < n; i++)
        if (make_doc(t, order ? order[i] : i, o, &h, tk, c, &too_long) < 0) goto fail;
    if (too_long && o->over != OVER_LONG_SKIP) {
        err_set("%s: %ld of %d documents are longer than the model's %d positions%s", name, too_long, n, c->positions,
                o->over == OVER_LONG_CUT
                    ? " in the candidate alone; --over-long skip leaves them out"
                    : "; --over-long skip leaves them out, --over-long cut shortens their contexts from the left");
        goto fail;
    }
    t->skipped = (int)too_long;
    if (t->n == 0) {
        err_set("%s: split %s has no document to score", name, t->split.split);
        goto fail;
    }
    free(order);
    return 0;
fail:
    free(order);
    eval_task_close(t);
    return -1;
}

void eval_task_close(eval_task *t) {
    for (int i = 0; i < t->n; i++) {
        free_item(&t->item[i]);
        if (t->prefix) free(t->prefix[i]);
    }
    free(t->item);
    free(t->doc);
    free(t->prefix);
    task_close(&t->split);
    task_close(&t->pool);
    *t = (eval_task){0};
}

// ---------------------------------------------------------------- texts
typedef struct {
    int32_t *id;
    int n, cap;
} stream;

static int encode(stream *s, const tok *tk, int32_t first, int32_t begin, const char *text, size_t bytes) {
    if (first >= 0) VEC_PUSH(s->id, s->n, s->cap, first);
    if (begin >= 0) VEC_PUSH(s->id, s->n, s->cap, begin);
    return tok_encode(tk, text, bytes, &s->id, &s->n, &s->cap);
}

// Windows over the stream at `tokens`; each is its own group, or all belong to the page `page`.
static void add_windows(eval_text *t, int *cap, const int32_t *tokens, const text_window *w, int n, int page) {
    for (int i = 0; i < n; i++) {
        eval_item it = {.n_seqs = 1, .window = true};
        it.seq[0].tokens = tokens + w[i].start;
        it.seq[0].n = w[i].n;
        it.seq[0].from = w[i].n - w[i].predicted;
        if (t->n == *cap) {
            *cap = *cap ? 2 * *cap : 64;
            t->item = xrealloc(t->item, (size_t)*cap * sizeof *t->item);
            t->group = xrealloc(t->group, (size_t)*cap * sizeof *t->group);
        }
        t->group[t->n] = page < 0 ? i : page;
        t->item[t->n++] = it;
    }
}

// Today's harness also puts before a page what the tokenizer puts before a text, and predicts it.
static int read_pages(eval_text *t, const wikitext *w, stream *s, const tok *tk, const harness *h, int most) {
    int cap = 0, bad = 0, *base = xcalloc((size_t)w->n + 1, sizeof *base);
    t->count = xcalloc((size_t)w->n, sizeof *t->count);
    t->n_groups = w->n;
    for (int p = 0; p < w->n && !bad; p++) {
        bad = encode(s, tk, h->first, h->kind == HARNESS_TODAY ? h->begin : -1, w->pages[p].text,
                     strlen(w->pages[p].text));
        base[p + 1] = s->n;
    }
    for (int p = 0; p < w->n && !bad; p++) {  // after all are read: a growing stream moves
        const int tokens = base[p + 1] - base[p] - 1;
        text_window *win = NULL;
        const int n = text_windows_rolling(tokens, most, &win);
        add_windows(t, &cap, s->id + base[p], win, n, p);
        free(win);
        t->count[p].page = w->pages[p].number;
        t->count[p].words = w->pages[p].words;
        t->count[p].bytes = w->pages[p].bytes;
        t->count[p].tokens = tokens;
    }
    free(base);
    return bad;
}

static int read_stream(eval_text *t, const wikitext *w, stream *s, const tok *tk, const harness *h, int most) {
    const bool gptq = t->kind == TEXT_GPTQ;
    char *text = gptq ? wikitext_gptq_text(w) : NULL;
    text_window *win = NULL;
    int cap = 0,
        bad = encode(s, tk, gptq ? -1 : h->first, -1, gptq ? text : w->raw, gptq ? strlen(text) : w->raw_bytes);
    if (!bad) t->n_groups = text_windows_disjoint(gptq ? s->n : s->n - 1, most, gptq, &win);
    t->count = xcalloc((size_t)t->n_groups, sizeof *t->count);
    for (int i = 0; i < t->n_groups; i++) t->count[i].tokens = win[i].predicted;
    add_windows(t, &cap, s->id, win, t->n_groups, -1);
    free(win);
    free(text);
    return bad;
}

int eval_text_open(eval_text *t, const text_file *from, text_kind kind, const eval_options *o, const tok *tk,
                   const model_config *c) {
    *t = (eval_text){.kind = kind};
    const char *file = from->path;
    wikitext w;
    stream s = {0};
    harness h;
    if (tok_first(tk, c) < 0 || harness_of(&h, o->harness, o->bos, tk, tok_first(tk, c)))
        return err_set("%s: windows of a text begin with a token for that; %s", from->path, tok_no_first);
    const bool today = o->harness == HARNESS_TODAY;
    const int most = c->positions < 2048 || (today && kind == TEXT_PAGES) ? c->positions : 2048;
    if (wikitext_parse(&w, from->text, from->bytes)) return err_prefix("%s", file);
    int bad = wikitext_keep(&w, o->part, o->limit, today ? NULL : &o->seed) ? err_prefix("%s", file) : 0;
    if (!bad && o->page_words) wikitext_cut(&w, o->page_words);
    if (!bad) bad = (kind == TEXT_PAGES ? read_pages : read_stream)(t, &w, &s, tk, &h, most);
    memcpy(t->hash, w.hash, sizeof t->hash);
    wikitext_close(&w);
    t->tokens = s.id;
    if (!bad && t->n == 0) bad = err_set("%s: its text is shorter than one window of %d tokens", file, most);
    if (bad) eval_text_close(t);
    return bad;
}

void eval_text_close(eval_text *t) {
    free(t->item);
    free(t->group);
    free(t->count);
    free(t->tokens);
    *t = (eval_text){0};
}
