// tok - encoding and decoding with a tokenizer (contract in tok.h), and what its files fill. Sennrich, Haddow and Birch
// 2016, "Neural machine translation of rare words with subword units"; Radford et al. 2019 (bytes); Kudo and Richardson
// 2018 (SentencePiece). Pieces that end as one id are found in a table made at the start.
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "tok_impl.h"

// ---------------------------------------------------------------- filling
tok *tok_new(char *path, char *merges_path) {
    tok *t = xcalloc(1, sizeof *t);
    t->path = path;
    t->merges_path = merges_path;
    t->unk = t->bos = t->eos = t->begin = -1;
    return t;
}

void tok_close(tok *t) {
    if (!t) return;
    for (int i = 0; i < t->size; i++) free(t->sym[i].key);
    free(t->sym);
    str_free(&t->by_key);
    str_free(&t->whole);
    u64_free(&t->ranks);
    free(t->result);
    tok_steps_free(t);
    free(t->path);
    free(t->merges_path);
    free(t);
}

void tok_reserve(tok *t, int size) {
    if (size <= t->size) return;
    if (size > t->cap) {
        t->cap = size < 2 * t->cap ? 2 * t->cap : size;
        t->sym = xrealloc(t->sym, (size_t)t->cap * sizeof *t->sym);
    }
    memset(t->sym + t->size, 0, (size_t)(size - t->size) * sizeof *t->sym);
    t->size = size;
}

// The bytes of "<0x00>".."<0xFF>", as SentencePiece names them; -1: another key.
static int byte_of_key(const char *key, size_t n) {
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(key, "<0x", 3) || key[5] != '>') return -1;
    const char *high = memchr(digits, key[3], 16), *low = memchr(digits, key[4], 16);
    return high && low ? (int)(16 * (high - digits) + (low - digits)) : -1;
}

// SentencePiece writes U+2581 for a space.
static int bytes_of_piece(char *out, const char *key, size_t n) {
    int m = 0;
    for (size_t i = 0; i < n; m++) {
        const bool space = n - i >= 3 && memcmp(key + i, "\xe2\x96\x81", 3) == 0;
        out[m] = space ? ' ' : key[i];
        i += space ? 3 : 1;
    }
    return m;
}

int tok_put(tok *t, int32_t id, const char *key, size_t n) {
    ASSERT(id >= 0 && id < t->size);
    symbol *s = &t->sym[id];
    if (s->key) return err_set("\"%.60s\" and \"%.*s\" have the same id %d", s->key, n < 60 ? (int)n : 60, key, id);
    if (str_get(&t->by_key, key, n) >= 0)
        return err_set("\"%.*s\" has two ids, %d and %d", n < 60 ? (int)n : 60, key, str_get(&t->by_key, key, n), id);
    // the key, a zero, what it stands for (no longer than the key), a zero
    s->key = xmalloc(2 * n + 2);
    memcpy(s->key, key, n);
    s->key[n] = 0;
    s->n_key = (int)n;
    str_put(&t->by_key, s->key, n, id);
    char *bytes = s->key + n + 1;
    const int b = byte_of_key(key, n);
    if (t->byte_level) {
        s->n = strlen(s->key) == n ? symbols_read(bytes, s->key) : -1;
    } else if (b >= 0) {
        *bytes = (char)b;
        s->n = 1;
        s->alone = true;
    } else {
        s->n = bytes_of_piece(bytes, key, n);
    }
    // a token added by hand, with characters that are no symbols: it stands for itself and is never merged
    if (s->n < 0) {
        memcpy(bytes, key, n);
        s->n = (int)n;
        s->alone = true;
    }
    s->bytes = bytes;
    bytes[s->n] = 0;
    return 0;
}

void tok_special(tok *t, int32_t id, bool special) {
    t->sym[id].special = special;
    t->sym[id].alone = true;
}

int tok_put_merge(tok *t, const char *a, size_t n_a, const char *b, size_t n_b) {
    char *joined = xmalloc(n_a + n_b + 1);
    memcpy(joined, a, n_a);
    memcpy(joined + n_a, b, n_b);
    const int32_t left = str_get(&t->by_key, a, n_a), right = str_get(&t->by_key, b, n_b),
                  both = str_get(&t->by_key, joined, n_a + n_b);
    const char *missing = joined;
    size_t n = n_a + n_b;
    if (right < 0) missing = b, n = n_b;
    if (left < 0) missing = a, n = n_a;
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    int bad = 0;
    if (left < 0 || right < 0 || both < 0)
        bad = err_set("\"%.*s\" is not in the vocabulary; do the two belong together?", n < 60 ? (int)n : 60, missing);
    else if (u64_get(&t->ranks, pair) >= 0)
        bad = err_set("this pair has an earlier merge");
    free(joined);
    if (bad) return -1;
    u64_put(&t->ranks, pair, t->n_merges);
    VEC_PUSH(t->result, t->n_merges, t->cap_merges, both);
    return 0;
}

// ---------------------------------------------------------------- pieces to ids
typedef struct {
    const tok *t;
    merge_scratch s;
    int32_t **ids;
    int *n, *cap;
    bool marked;  // bytes that are not UTF-8 are marked (mark_bytes)
} encoder;

// The 128 bytes that may be no UTF-8 are the last characters of the private planes while a text is cut: neither letter,
// digit nor space. A text that has bytes to be marked and these characters has the characters' bytes marked, too.
enum { MARK = 0x10ff00 };

static bool is_mark(const char *p) { return memcmp(p, "\xf4\x8f\xbe", 3) == 0 || memcmp(p, "\xf4\x8f\xbf", 3) == 0; }

static char *mark_bytes(const char *text, size_t bytes, size_t *n) {
    char *out = xmalloc(4 * bytes + 1), *p = out;
    for (size_t i = 0, len; i < bytes; i += len) {
        len = utf8_length(text + i, bytes - i);
        if (len && !(len == 4 && is_mark(text + i))) {
            memcpy(p, text + i, len);
            p += len;
            continue;
        }
        const int c = MARK + (unsigned char)text[i];
        len = 1;
        *p++ = (char)(0xf0 | c >> 18);
        *p++ = (char)(0x80 | (c >> 12 & 0x3f));
        *p++ = (char)(0x80 | (c >> 6 & 0x3f));
        *p++ = (char)(0x80 | (c & 0x3f));
    }
    *n = (size_t)(p - out);
    return out;
}

static int marked_byte(const char *p) {
    return (((unsigned char)p[2] & 0x3f) << 6 | ((unsigned char)p[3] & 0x3f)) & 0xff;
}

// The bytes of a piece, in place of marks.
static size_t unmark(char *out, const char *piece, size_t bytes) {
    char *p = out;
    for (size_t i = 0; i < bytes;) {
        if (bytes - i >= 4 && is_mark(piece + i)) {
            *p++ = (char)marked_byte(piece + i);
            i += 4;
        } else {
            *p++ = piece[i++];
        }
    }
    return (size_t)(p - out);
}

static int byte_symbols(encoder *e, const char *piece, size_t bytes) {
    const tok *t = e->t;
    int n = 0;
    bool was_unknown = false;
    merge_reserve(&e->s, (int)bytes);
    for (size_t i = 0; i < bytes; i++) {
        const int32_t id = t->byte_id[(unsigned char)piece[i]];
        if (id >= 0)
            e->s.id[n++] = id;
        else if (t->unk >= 0 && !(t->fuse_unk && was_unknown))
            e->s.id[n++] = t->unk;
        was_unknown = id < 0;
    }
    return n;
}

static int character_symbols(encoder *e, const char *piece, size_t bytes) {
    const tok *t = e->t;
    int n = 0;
    bool was_unknown = false;
    merge_reserve(&e->s, (int)bytes);
    for (size_t i = 0, len; i < bytes; i += len) {
        len = utf8_length(piece + i, bytes - i);
        const bool mark = e->marked && len == 4 && is_mark(piece + i);
        const int32_t id = mark ? -1 : str_get(&t->by_key, piece + i, len);
        const bool unknown = id < 0 && !t->byte_fallback;
        if (id >= 0)
            e->s.id[n++] = id;
        else if (mark && t->byte_fallback)
            e->s.id[n++] = t->byte_id[marked_byte(piece + i)];
        else if (t->byte_fallback)
            for (size_t k = 0; k < len; k++) e->s.id[n++] = t->byte_id[(unsigned char)piece[i + k]];
        else if (t->unk >= 0 && !(t->fuse_unk && was_unknown))
            e->s.id[n++] = t->unk;
        was_unknown = unknown;
    }
    return n;
}

static void encode_piece(encoder *e, const char *piece, size_t bytes) {
    const tok *t = e->t;
    const int32_t id = str_get(&t->whole, piece, bytes);
    if (id >= 0) {
        VEC_PUSH(*e->ids, *e->n, *e->cap, id);
        return;
    }
    const int n = (t->byte_level ? byte_symbols : character_symbols)(e, piece, bytes);
    if (n == 0) return;
    merge_symbols(t, &e->s, n);
    for (int i = 0; i >= 0; i = e->s.next[i]) VEC_PUSH(*e->ids, *e->n, *e->cap, e->s.id[i]);
}

static int take_piece(void *ctx, const char *piece, size_t bytes, int32_t id) {
    encoder *e = ctx;
    if (id >= 0) {
        VEC_PUSH(*e->ids, *e->n, *e->cap, id);
    } else if (e->marked && e->t->byte_level) {
        char *plain = xmalloc(bytes + 1);
        encode_piece(e, plain, unmark(plain, piece, bytes));
        free(plain);
    } else {
        encode_piece(e, piece, bytes);
    }
    return 0;
}

int tok_encode(const tok *t, const char *text, size_t bytes, int32_t **ids, int *n, int *cap) {
    const size_t limit = INT_MAX / 32;
    if (bytes > limit)
        return err_set("a text of %zu bytes is too long for one call of the tokenizer (limit %zu)", bytes, limit);
    encoder e = {.t = t, .ids = ids, .n = n, .cap = cap};
    for (size_t i = 0, len; i < bytes && !e.marked; i += len) {
        len = utf8_length(text + i, bytes - i);
        e.marked = len == 0;
    }
    char *copy = e.marked ? mark_bytes(text, bytes, &bytes) : NULL;
    const int bad = tok_pieces(t, copy ? copy : text, bytes, take_piece, &e);
    free(copy);
    merge_free(&e.s);
    return bad;
}

// ---------------------------------------------------------------- what a vocabulary must be
// Some vocabularies (SmolLM2's) lack the symbols of bytes that no text has; letters of ASCII are not among them.
static bool may_lack(const tok *t, int byte) {
    return t->byte_level && !t->all_bytes && !(byte >= 0x20 && byte < 0x7f) && byte != '\n';
}

static int find_bytes(tok *t) {
    for (int b = 0; b < 256; b++) {
        char name[8], byte = (char)b;
        size_t n = t->byte_level ? symbols_write(name, &byte, 1) : (size_t)snprintf(name, sizeof name, "<0x%02X>", b);
        t->byte_id[b] = str_get(&t->by_key, name, n);
        if (t->byte_id[b] >= 0)
            t->sym[t->byte_id[b]].alone = true;
        else if (!may_lack(t, b))
            return err_set("%s: the symbol \"%s\" of byte 0x%02x is missing; %s has all 256", t->path, name, b,
                           t->byte_level ? "a byte-level vocabulary" : "one with byte_fallback");
    }
    return 0;
}

// <s>, [PAD], <|endoftext|>, and what fairseq pads a vocabulary with: names of tokens that no merge makes.
bool tok_looks_special(const char *key, size_t n) {
    const char first = n ? key[0] : 0, last = n ? key[n - 1] : 0;
    return (first == '<' && last == '>') || (first == '[' && last == ']') ||
           (n > 10 && memcmp(key, "madeupword", 10) == 0);
}

int tok_check_id(const char *key, size_t n, int64_t id, int rows) {
    const int limit = rows > 0 ? rows : TOK_MAX_ID, shown = n < 60 ? (int)n : 60;
    if (id < 0) return err_set("the id of \"%.*s\" must be a whole number of at least 0", shown, key);
    if (id < limit) return 0;
    if (rows > 0 && id < (int64_t)rows + 1024 && tok_looks_special(key, n)) return 1;
    return err_set("\"%.*s\" has id %lld, but %s %d; is this the tokenizer of another model?", shown, key,
                   (long long)id, rows > 0 ? "the embedding has rows 0 to" : "ids may reach", limit - 1);
}

// Every symbol of several characters must be what a merge makes.
static int check_merged(const tok *t) {
    bool *made = xcalloc((size_t)t->size, sizeof *made);
    int missing = 0, several = 0;
    const symbol *example = NULL;
    for (int i = 0; i < t->n_merges; i++) made[t->result[i]] = true;
    for (int i = 0; i < t->size; i++) {
        const symbol *s = &t->sym[i];
        if (!s->key || !s->n_key || s->alone || tok_looks_special(s->key, (size_t)s->n_key) ||
            utf8_length(s->key, (size_t)s->n_key) == (size_t)s->n_key)
            continue;
        several++;
        if (made[i]) continue;
        missing++;
        if (!example) example = s;
    }
    free(made);
    // with ignore_merges a symbol is found without them; most have merges all the same
    if (missing == 0 || (t->ignore_merges && missing < several / 4)) return 0;
    return err_set(
        "%s: %d of the %d symbols of several characters, such as \"%.60s\" (id %d), are made by no merge; the "
        "merges are cut short or those of another model (tokens of their own belong into added_tokens.json)",
        t->merges_path, missing, several, example->key, (int)(example - t->sym));
}

int tok_finish(tok *t) {
    tok_order_added(&t->raw);
    tok_order_added(&t->normalized);
    if ((t->byte_level || t->byte_fallback) && find_bytes(t)) return -1;
    if (check_merged(t)) return -1;
    int32_t *ids = NULL;
    int n = 0, cap = 0;
    encoder e = {.t = t, .ids = &ids, .n = &n, .cap = &cap};
    for (int id = 0; id < t->size; id++) {
        const symbol *s = &t->sym[id];
        const char *piece = t->byte_level ? s->bytes : s->key;
        const size_t bytes = (size_t)(t->byte_level ? s->n : s->n_key);
        if (!s->key || bytes == 0 || s->outside) continue;
        n = 0;
        if (!t->ignore_merges && !s->special) encode_piece(&e, piece, bytes);
        if (t->ignore_merges || (n == 1 && ids[0] == id)) str_put(&t->whole, piece, bytes, id);
    }
    merge_free(&e.s);
    free(ids);
    return 0;
}

// ---------------------------------------------------------------- special tokens in a text
// The special token whose name is longest at p; -1: none.
static int32_t special_at(const tok *t, const char *p, size_t left) {
    int32_t best = -1;
    for (int32_t id = 0; id < t->size; id++) {
        const symbol *s = &t->sym[id];
        if (!s->special || !s->n_key || (size_t)s->n_key > left || memcmp(s->key, p, (size_t)s->n_key) != 0) continue;
        if (best < 0 || s->n_key > t->sym[best].n_key) best = id;
    }
    return best;
}

// Whether a special token's name begins with each byte.
static void special_begins(const tok *t, bool begins[256]) {
    memset(begins, 0, 256 * sizeof *begins);
    for (int32_t id = 0; id < t->size; id++)
        if (t->sym[id].special && t->sym[id].n_key) begins[(unsigned char)*t->sym[id].key] = true;
}

int tok_encode_special(const tok *t, const char *text, size_t bytes, int32_t **ids, int *n, int *cap) {
    bool begins[256];
    special_begins(t, begins);
    size_t from = 0;
    for (size_t at = 0; at < bytes; at++) {
        const int32_t id = begins[(unsigned char)text[at]] ? special_at(t, text + at, bytes - at) : -1;
        if (id < 0) continue;
        if (at > from && tok_encode(t, text + from, at - from, ids, n, cap)) return -1;
        VEC_PUSH(*ids, *n, *cap, id);
        from = at + (size_t)t->sym[id].n_key;
        at = from - 1;
    }
    return bytes > from || bytes == 0 ? tok_encode(t, text + from, bytes - from, ids, n, cap) : 0;
}

// ---------------------------------------------------------------- use
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
    bool first = true;
    for (int i = 0; i < n; i++) {
        const char *b = tok_bytes(t, ids[i], &len);
        if (ids[i] < 0 || ids[i] >= t->size || t->sym[ids[i]].special) continue;
        if (t->drops_space && first && len && *b == ' ') b++, len--;
        first = false;
        memcpy(p, b, len);
        p += len;
    }
    *p = 0;
    return out;
}

int32_t tok_id(const tok *t, const char *key) { return str_get(&t->by_key, key, strlen(key)); }
int tok_size(const tok *t) { return t->size; }
int32_t tok_bos(const tok *t) { return t->bos; }
int32_t tok_eos(const tok *t) { return t->eos; }
int32_t tok_begin(const tok *t) { return t->begin; }
const char *tok_hash(const tok *t) { return t->hash; }
