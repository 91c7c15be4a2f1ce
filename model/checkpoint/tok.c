// tok - GPT-2's byte-level BPE, from vocab.json and merges.txt. Contract in tok.h.
// Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword units"; Radford et al. 2019
// (bytes). A piece of the split starts as one id per byte; a heap holds the adjacent pairs that have a merge, by rank
// and then by position; the symbols are a linked list. So a piece of n bytes costs n log n. Pieces that end as one id
// are found in a table made at the start.
#include "tok.h"
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "split.h"
#include "table.h"

enum { MAX_ID = 1 << 24 };  // far beyond any vocabulary; keeps a wrong number from asking for all memory

static const char *const specials[] = {"<s>", "<pad>", "</s>", "<unk>"};

typedef struct {
    const char *key;    // symbols as in vocab.json; NULL: no such id
    const char *bytes;  // what they stand for
    int n;
    bool special;
} symbol;

struct tok {
    int size;  // of sym
    symbol *sym;
    char *text;        // the block that keys and bytes point into
    str_table by_key;  // key -> id
    str_table whole;   // piece -> id, for the pieces that are merged to one id
    u64_table ranks;   // pair of ids -> rank
    int32_t *result;   // of each rank
    int32_t byte_id[256];
    split_rule *rule;
    char hash[33];
};

static bool is_special(const char *key) {
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
        if (strcmp(key, specials[i]) == 0) return true;
    return false;
}

static uint64_t pair_key(int32_t a, int32_t b) { return (uint64_t)(uint32_t)a << 32 | (uint32_t)b; }

// ---------------------------------------------------------------- merging one piece
typedef struct {
    int32_t *id, *prev, *next;  // [cap] a linked list of symbols; id -1: merged into its left neighbour
    uint64_t *heap;             // [3 cap] rank << 32 | position of the left symbol
    int cap, n_heap;
} scratch;

static void scratch_free(scratch *s) {
    free(s->id);
    free(s->prev);
    free(s->next);
    free(s->heap);
}

static void heap_push(scratch *s, uint64_t x) {
    int i = s->n_heap++;
    for (; i > 0 && s->heap[(i - 1) / 2] > x; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = x;
}

static uint64_t heap_pop(scratch *s) {
    uint64_t top = s->heap[0], x = s->heap[--s->n_heap];
    int i = 0;
    for (int k; (k = 2 * i + 1) < s->n_heap; i = k) {
        if (k + 1 < s->n_heap && s->heap[k + 1] < s->heap[k]) k++;
        if (s->heap[k] >= x) break;
        s->heap[i] = s->heap[k];
    }
    s->heap[i] = x;
    return top;
}

// Rank of the pair that begins at list entry i, -1: none.
static int32_t rank_at(const tok *t, const scratch *s, int i) {
    if (i < 0 || s->id[i] < 0 || s->next[i] < 0) return -1;
    return u64_get(&t->ranks, pair_key(s->id[i], s->id[s->next[i]]));
}

static void offer(const tok *t, scratch *s, int i) {
    int32_t rank = rank_at(t, s, i);
    if (rank >= 0) heap_push(s, (uint64_t)rank << 32 | (uint32_t)i);
}

// Leaves the merged ids of a piece in the list that begins at entry 0.
static void merge_piece(const tok *t, scratch *s, const char *piece, int n) {
    if (n > s->cap) {
        s->cap = n < 256 ? 256 : n;
        s->id = xrealloc(s->id, (size_t)s->cap * sizeof *s->id);
        s->prev = xrealloc(s->prev, (size_t)s->cap * sizeof *s->prev);
        s->next = xrealloc(s->next, (size_t)s->cap * sizeof *s->next);
        // n - 1 pairs at the start and two more per merge
        s->heap = xrealloc(s->heap, 3 * (size_t)s->cap * sizeof *s->heap);
    }
    for (int i = 0; i < n; i++) {
        s->id[i] = t->byte_id[(unsigned char)piece[i]];
        s->prev[i] = i - 1;
        s->next[i] = i + 1 < n ? i + 1 : -1;
    }
    s->n_heap = 0;
    for (int i = 0; i + 1 < n; i++) offer(t, s, i);
    while (s->n_heap) {
        uint64_t top = heap_pop(s);
        int i = (int)(uint32_t)top;
        int32_t rank = (int32_t)(top >> 32);
        if (rank_at(t, s, i) != rank) continue;  // one of its symbols has been merged since
        int j = s->next[i];
        s->id[i] = t->result[rank];
        s->id[j] = -1;
        s->next[i] = s->next[j];
        if (s->next[i] >= 0) s->prev[s->next[i]] = i;
        offer(t, s, s->prev[i]);
        offer(t, s, i);
    }
}

// ---------------------------------------------------------------- reading
// Line of the k-th member of a JSON object of numbers that is known to be well-formed.
static int member_line(const char *json, size_t bytes, int k) {
    int line = 1;
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = json[i];
        line += c == '\n';
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (c == ':' && !quoted && k-- == 0)
            break;
    }
    return line;
}

static int read_vocab(tok *t, const char *json, size_t bytes, const char *path, int vocab) {
    json_error_t why;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &why), *value;
    int k = 0, rc = -1;
    const char *key;
    if (!root) return err_set("%s/vocab.json:%d: %s", path, why.line, why.text);
    if (!json_is_object(root) || json_object_size(root) == 0) {
        err_set("%s/vocab.json:1: one JSON object of symbols and their ids is wanted, {\"symbol\": id, ...}", path);
        goto done;
    }
    int limit = vocab > 0 ? vocab : MAX_ID;
    json_object_foreach(root, key, value) {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0) {
            err_set("%s/vocab.json:%d: the id of \"%.60s\" must be a whole number of at least 0", path,
                    member_line(json, bytes, k), key);
            goto done;
        }
        if (id >= limit) {
            err_set("%s/vocab.json:%d: \"%.60s\" has id %lld, but %s %d; is this the tokenizer of another model?", path,
                    member_line(json, bytes, k), key, (long long)id,
                    vocab > 0 ? "the embedding has rows 0 to" : "ids may reach", limit - 1);
            goto done;
        }
        if (id >= t->size) t->size = (int)id + 1;
        k++;
    }
    t->sym = xcalloc((size_t)t->size, sizeof *t->sym);
    // a key and its zero are shorter than the key in quotes; its bytes no longer than it
    char *at = t->text = xmalloc(2 * bytes);
    k = 0;
    json_object_foreach(root, key, value) {
        symbol *s = &t->sym[json_integer_value(value)];
        size_t len = strlen(key);
        if (s->key) {
            err_set("%s/vocab.json:%d: \"%.60s\" and \"%.60s\" have the same id %d", path, member_line(json, bytes, k),
                    s->key, key, (int)(s - t->sym));
            goto done;
        }
        s->key = memcpy(at, key, len + 1);
        s->special = is_special(key);
        str_put(&t->by_key, s->key, len, (int32_t)(s - t->sym));
        at += len + 1;
        s->n = symbols_read(at, key);
        // a token added by hand, with characters that are no symbols: it stands for itself and is never encoded
        if (s->n < 0) {
            memcpy(at, key, len);
            s->n = (int)len;
        }
        s->bytes = at;
        at[s->n] = 0;
        at += s->n + 1;
        k++;
    }
    for (int b = 0; b < 256; b++) {
        char name[3], byte = (char)b;
        t->byte_id[b] = str_get(&t->by_key, name, symbols_write(name, &byte, 1));
        if (t->byte_id[b] < 0) {
            err_set(
                "%s/vocab.json:%d: the symbol \"%s\" of byte 0x%02x is missing; a byte-level vocabulary has all 256",
                path, member_line(json, bytes, k - 1), name, b);
            goto done;
        }
    }
    rc = 0;
done:
    json_decref(root);
    return rc;
}

static int read_merges(tok *t, const char *text, size_t bytes, const char *path) {
    int line = 0, n = 0, cap = 0;
    char *joined = xmalloc(bytes + 1);
    for (const char *p = text, *end = text + bytes, *eol; p < end; p = eol + 1) {
        line++;
        eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol) eol = end;
        size_t len = (size_t)(eol - p);
        if (len && p[len - 1] == '\r') len--;
        if ((len >= 8 && memcmp(p, "#version", 8) == 0) || (len == 0 && eol + 1 >= end)) continue;
        const char *space = memchr(p, ' ', len);
        size_t left = space ? (size_t)(space - p) : 0, right = space ? len - left - 1 : 0;
        if (!left || !right || memchr(space + 1, ' ', right) || memchr(p, 0, len)) {
            err_set("%s/merges.txt:%d: two symbols with one space between them are wanted", path, line);
            goto fail;
        }
        memcpy(joined, p, left);
        memcpy(joined + left, space + 1, right);
        joined[left + right] = 0;
        int32_t a = str_get(&t->by_key, p, left), b = str_get(&t->by_key, space + 1, right),
                ab = str_get(&t->by_key, joined, left + right);
        if (a < 0 || b < 0 || ab < 0) {
            const char *missing = joined;
            size_t m = left + right;
            if (b < 0) missing = space + 1, m = right;
            if (a < 0) missing = p, m = left;
            err_set("%s/merges.txt:%d: \"%.*s\" is not in vocab.json; do the two files belong together?", path, line,
                    m < 60 ? (int)m : 60, missing);
            goto fail;
        }
        if (u64_get(&t->ranks, pair_key(a, b)) >= 0) {
            err_set("%s/merges.txt:%d: this pair is also on an earlier line", path, line);
            goto fail;
        }
        u64_put(&t->ranks, pair_key(a, b), n);
        VEC_PUSH(t->result, n, cap, ab);
    }
    free(joined);
    return 0;
fail:
    free(joined);
    return -1;
}

tok *tok_parse(const char *vocab_json, size_t n_vocab, const char *merges, size_t n_merges, const char *path,
               int vocab) {
    tok *t = xcalloc(1, sizeof *t);
    scratch s = {0};
    if (read_vocab(t, vocab_json, n_vocab, path, vocab) != 0 || read_merges(t, merges, n_merges, path) != 0) {
        tok_close(t);
        return NULL;
    }
    t->rule = split_rule_new();
    for (int id = 0; id < t->size; id++) {
        symbol *y = &t->sym[id];
        if (!y->key || y->special || y->n == 0) continue;
        merge_piece(t, &s, y->bytes, y->n);
        if (s.id[0] == id && s.next[0] < 0) str_put(&t->whole, y->bytes, (size_t)y->n, id);
    }
    scratch_free(&s);
    char both[66];
    hash_bytes(both, vocab_json, n_vocab);
    hash_bytes(both + 32, merges, n_merges);
    hash_bytes(t->hash, both, 64);
    return t;
}

tok *tok_open(const char *dir, int vocab) {
    char *path[2] = {xasprintf("%s/vocab.json", dir), xasprintf("%s/merges.txt", dir)};
    size_t n_vocab = 0, n_merges = 0;
    char *v = file_read(path[0], &n_vocab), *m = v ? file_read(path[1], &n_merges) : NULL;
    tok *t = m ? tok_parse(v, n_vocab, m, n_merges, dir, vocab) : NULL;
    free(v);
    free(m);
    free(path[0]);
    free(path[1]);
    return t;
}

void tok_close(tok *t) {
    if (!t) return;
    str_free(&t->by_key);
    str_free(&t->whole);
    u64_free(&t->ranks);
    split_rule_free(t->rule);
    free(t->sym);
    free(t->text);
    free(t->result);
    free(t);
}

// ---------------------------------------------------------------- use
int tok_encode(const tok *t, const char *text, size_t bytes, int32_t **ids, int *n, int *cap) {
    if (bytes > INT_MAX / 4)
        return err_set("a text of %zu bytes is too long for one call of the tokenizer (limit %d)", bytes, INT_MAX / 4);
    scratch s = {0};
    split walk;
    split_begin(&walk, t->rule, text, bytes);
    for (size_t begin, end; split_next(&walk, &begin, &end);) {
        int32_t id = str_get(&t->whole, text + begin, end - begin);
        if (id >= 0) {
            VEC_PUSH(*ids, *n, *cap, id);
            continue;
        }
        merge_piece(t, &s, text + begin, (int)(end - begin));
        for (int i = 0; i >= 0; i = s.next[i]) VEC_PUSH(*ids, *n, *cap, s.id[i]);
    }
    split_end(&walk);
    scratch_free(&s);
    return 0;
}

const char *tok_bytes(const tok *t, int32_t id, size_t *n) {
    const symbol *s = id >= 0 && id < t->size && t->sym[id].key ? &t->sym[id] : NULL;
    *n = s ? (size_t)s->n : 0;
    return s ? s->bytes : "";
}

char *tok_decode(const tok *t, const int32_t *ids, int n) {
    size_t total = 0, len;
    for (int i = 0; i < n; i++) {
        tok_bytes(t, ids[i], &len);
        total += len;
    }
    char *out = xmalloc(total + 1), *p = out;
    for (int i = 0; i < n; i++) {
        const char *b = tok_bytes(t, ids[i], &len);
        if (ids[i] < 0 || ids[i] >= t->size || t->sym[ids[i]].special) continue;
        memcpy(p, b, len);
        p += len;
    }
    *p = 0;
    return out;
}

int32_t tok_id(const tok *t, const char *symbol_text) { return str_get(&t->by_key, symbol_text, strlen(symbol_text)); }
int tok_size(const tok *t) { return t->size; }
const char *tok_hash(const tok *t) { return t->hash; }
