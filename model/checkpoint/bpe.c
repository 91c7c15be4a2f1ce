// bpe - learns a byte-level BPE and writes vocab.json and merges.txt. Contract (order of merges, ties) in tok.h.
// Sennrich, Haddow and Birch 2016, algorithm 1, over the distinct pieces of the text with their counts. Pair counts are
// kept up to date: a merge visits only the pieces that hold its pair. A heap orders the pairs; counts only fall while a
// pair waits there (but for the pairs a merge has just touched, which are offered again), so an entry whose count is
// out of date is put back with the true one.
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "split.h"
#include "table.h"
#include "tok.h"

enum { N_SPECIAL = 4, N_BASE = N_SPECIAL + 256 };

typedef struct {
    size_t at;
    int n;
    int64_t count;
} word;  // symbols pool[at..at+n), occurrences in the text
typedef struct {
    int32_t left, right;
    int64_t count;
    bool done, touched;
    int32_t *where;  // words that hold it or once did
    int n_where, cap_where;
} pair;
typedef struct {
    int64_t count;
    int32_t left, right;
} entry;

typedef struct {
    char **text;  // bytes of each id; the special tokens by name
    int *bytes;
    int size;
    str_table ids;
    word *words;
    int n_words, cap_words;
    int32_t *pool;
    size_t n_pool, cap_pool;
    u64_table index;  // pair -> place in pairs
    pair *pairs;
    int n_pairs, cap_pairs;
    entry *heap;
    int n_heap, cap_heap;
    int32_t *fresh;  // pairs whose count the current merge raised
    int n_fresh, cap_fresh;
    struct {
        int32_t left, right;
    } * merges;
    int n_merges, cap_merges;
} trainer;

static bool before(const entry *a, const entry *b) {
    if (a->count != b->count) return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void push(trainer *t, const pair *p) {
    entry x = {p->count, p->left, p->right};
    VEC_PUSH(t->heap, t->n_heap, t->cap_heap, x);
    int i = t->n_heap - 1;
    for (; i > 0 && before(&x, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = x;
}

static entry pop(trainer *t) {
    entry top = t->heap[0], x = t->heap[--t->n_heap];
    int i = 0;
    for (int k; (k = 2 * i + 1) < t->n_heap; i = k) {
        if (k + 1 < t->n_heap && before(&t->heap[k + 1], &t->heap[k])) k++;
        if (!before(&t->heap[k], &x)) break;
        t->heap[i] = t->heap[k];
    }
    t->heap[i] = x;
    return top;
}

static pair *pair_of(trainer *t, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    int32_t k = u64_get(&t->index, key);
    if (k >= 0) return &t->pairs[k];
    u64_put(&t->index, key, t->n_pairs);
    VEC_PUSH(t->pairs, t->n_pairs, t->cap_pairs, ((pair){.left = left, .right = right}));
    return &t->pairs[t->n_pairs - 1];
}

static void raise_count(trainer *t, int32_t left, int32_t right, int32_t w) {
    pair *p = pair_of(t, left, right);
    p->count += t->words[w].count;
    if (p->n_where == 0 || p->where[p->n_where - 1] != w) VEC_PUSH(p->where, p->n_where, p->cap_where, w);
    if (!p->touched) VEC_PUSH(t->fresh, t->n_fresh, t->cap_fresh, (int32_t)(p - t->pairs));
    p->touched = true;
}

static void offer_fresh(trainer *t) {
    for (int i = 0; i < t->n_fresh; i++) {
        pair *p = &t->pairs[t->fresh[i]];
        p->touched = false;
        if (!p->done && p->count > 1) push(t, p);
    }
    t->n_fresh = 0;
}

// Replaces each (left, right) in word w by id, from left to right, and moves the counts of the neighbouring pairs.
static void merge_word(trainer *t, int32_t w, int32_t left, int32_t right, int32_t id) {
    word *x = &t->words[w];
    int32_t *s = t->pool + x->at;
    int out = 0;
    for (int i = 0; i < x->n; i++, out++) {
        if (i + 1 >= x->n || s[i] != left || s[i + 1] != right) {
            s[out] = s[i];
            continue;
        }
        if (out > 0) {
            pair_of(t, s[out - 1], left)->count -= x->count;
            raise_count(t, s[out - 1], id, w);
        }
        if (i + 2 < x->n) {
            pair_of(t, right, s[i + 2])->count -= x->count;
            raise_count(t, id, s[i + 2], w);
        }
        s[out] = id;
        i++;
    }
    x->n = out;
}

static int32_t add_id(trainer *t, char *text, int bytes) {
    t->text[t->size] = text;
    t->bytes[t->size] = bytes;
    str_put(&t->ids, text, (size_t)bytes, t->size);
    return t->size++;
}

static void read_text(trainer *t, const char *text, size_t bytes) {
    static const char *const special[N_SPECIAL] = {"<s>", "<pad>", "</s>", "<unk>"};
    int32_t of_byte[256];
    for (int k = 0; k < N_SPECIAL; k++) add_id(t, xstrdup(special[k]), (int)strlen(special[k]));
    for (int c = 0; t->size < N_BASE; c++) {  // by code point of the symbol
        int b = symbol_byte(c);
        if (b >= 0) of_byte[b] = add_id(t, xstrndup((char[]){(char)b}, 1), 1);
    }
    split_rule *rule = split_rule_new();
    str_table seen = {0};
    split walk;
    split_begin(&walk, rule, text, bytes);
    bool matched;
    for (size_t begin, end; split_next(&walk, &begin, &end, &matched);) {
        int32_t w = str_get(&seen, text + begin, end - begin);
        if (w >= 0) {
            t->words[w].count++;
            continue;
        }
        str_put(&seen, text + begin, end - begin, t->n_words);
        VEC_PUSH(t->words, t->n_words, t->cap_words, ((word){t->n_pool, (int)(end - begin), 1}));
        for (size_t i = begin; i < end; i++) VEC_PUSH(t->pool, t->n_pool, t->cap_pool, of_byte[(unsigned char)text[i]]);
    }
    split_end(&walk);
    str_free(&seen);
    split_rule_free(rule);
    for (int32_t w = 0; w < t->n_words; w++) {
        const int32_t *s = t->pool + t->words[w].at;
        for (int i = 0; i + 1 < t->words[w].n; i++) raise_count(t, s[i], s[i + 1], w);
    }
    offer_fresh(t);
}

static void learn(trainer *t, int size) {
    while (t->size < size && t->n_heap) {
        entry top = pop(t);
        pair *p = pair_of(t, top.left, top.right);
        if (p->done || p->count < 2) continue;
        if (p->count != top.count) {
            push(t, p);
            continue;
        }
        p->done = true;
        int bytes = t->bytes[top.left] + t->bytes[top.right];
        char *joined = xmalloc((size_t)bytes + 1);
        memcpy(joined, t->text[top.left], (size_t)t->bytes[top.left]);
        memcpy(joined + t->bytes[top.left], t->text[top.right], (size_t)t->bytes[top.right] + 1);
        int32_t id = str_get(&t->ids, joined, (size_t)bytes);
        if (id >= 0)
            free(joined);  // another pair has spelt the same symbol already
        else
            id = add_id(t, joined, bytes);
        ASSERT(id >= N_BASE);  // no piece spells a special token: the split keeps letters and punctuation apart
        if (t->n_merges == t->cap_merges)
            t->merges = xrealloc(t->merges, (size_t)(t->cap_merges += 1024) * sizeof *t->merges);
        t->merges[t->n_merges].left = top.left;
        t->merges[t->n_merges++].right = top.right;
        int32_t *where = p->where;  // pairs may move while words are merged
        int n_where = p->n_where;
        p->where = NULL;
        p->n_where = p->cap_where = 0;
        for (int i = 0; i < n_where; i++) merge_word(t, where[i], top.left, top.right, id);
        free(where);
        offer_fresh(t);
    }
}

static int write_files(const trainer *t, const char *dir) {
    char *path[2] = {xasprintf("%s/vocab.json", dir), xasprintf("%s/merges.txt", dir)};
    int longest = 0, rc = -1;
    for (int i = 0; i < t->size; i++) longest = t->bytes[i] > longest ? t->bytes[i] : longest;
    char *a = xmalloc(2 * (size_t)longest + 1), *b = xmalloc(2 * (size_t)longest + 1);
    file_out o;
    if (file_out_open(&o, path[0]) != 0) goto done;
    for (int i = 0; i < t->size; i++) {
        symbols_write(a, t->text[i], (size_t)t->bytes[i]);
        fputs(i ? ",\n\"" : "{\"", o.f);
        for (const char *p = a; *p; p++) {  // no symbol is a control character
            if (*p == '"' || *p == '\\') fputc('\\', o.f);
            fputc(*p, o.f);
        }
        fprintf(o.f, "\": %d", i);
    }
    fputs("}\n", o.f);
    if (file_out_close(&o) != 0 || file_out_open(&o, path[1]) != 0) goto done;
    fputs("#version: 0.2\n", o.f);
    for (int i = 0; i < t->n_merges; i++) {
        int32_t l = t->merges[i].left, r = t->merges[i].right;
        symbols_write(a, t->text[l], (size_t)t->bytes[l]);
        symbols_write(b, t->text[r], (size_t)t->bytes[r]);
        fprintf(o.f, "%s %s\n", a, b);
    }
    rc = file_out_close(&o);
done:
    free(a);
    free(b);
    free(path[0]);
    free(path[1]);
    return rc;
}

static void trainer_free(trainer *t) {
    for (int i = 0; i < t->size; i++) free(t->text[i]);
    for (int i = 0; i < t->n_pairs; i++) free(t->pairs[i].where);
    free(t->text);
    free(t->bytes);
    free(t->words);
    free(t->pool);
    free(t->pairs);
    free(t->heap);
    free(t->fresh);
    free(t->merges);
    str_free(&t->ids);
    u64_free(&t->index);
}

int bpe_train(const char *text, size_t bytes, int size, const char *dir) {
    if (size < N_BASE)
        return err_set("a byte-level vocabulary of %d ids is too small: at least %d are wanted", size, N_BASE);
    if (bytes > INT_MAX)
        return err_set("%zu bytes are too much text to learn a vocabulary from (limit %d)", bytes, INT_MAX);
    trainer t = {.text = xcalloc((size_t)size, sizeof *t.text), .bytes = xcalloc((size_t)size, sizeof *t.bytes)};
    read_text(&t, text, bytes);
    learn(&t, size);
    int rc = t.size < size ? err_set("%zu bytes of text give only %d ids, not %d; ask for fewer or give more text",
                                     bytes, t.size, size)
                           : write_files(&t, dir);
    trainer_free(&t);
    return rc;
}
