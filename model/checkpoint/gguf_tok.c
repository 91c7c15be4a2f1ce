// gguf_tok - the tokenizer of a GGUF file, tokenizer.ggml.*: "gpt2", byte-level BPE with the pre-tokenizers gpt-2,
// llama-bpe, qwen2 and smollm, and "llama", SentencePiece's BPE, whose merges follow from the tokens' scores as
// transformers makes them (convert_slow_tokenizer.py, generate_merges). Contract in gguf.h.
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gguf.h"
#include "tok_impl.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, BYTE = 6 };  // tokenizer.ggml.token_type
enum { TYPE_I32 = 5, TYPE_F32 = 6, TYPE_TEXT = 8 };                         // of GGUF

const char gguf_llama3_regex[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                                 "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char gguf_qwen2_regex[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                                "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// An array of the metadata of n items of a type; NULL and err_set, or (optional) NULL alone.
static const gguf_entry *array_of(const gguf *g, const char *key, int item, uint64_t n, bool optional) {
    const gguf_entry *e = gguf_entry_of(g, key);
    if (!e && optional) return NULL;
    if (e && gguf_is_array(e) && e->item == item && (n == 0 || e->count == n)) return e;
    err_set("%s: metadata \"%s\" is missing, or no array of one item for each token", g->path, key);
    return NULL;
}

static int token_type(const gguf_entry *types, uint64_t i) {
    int32_t x = NORMAL;
    if (types) memcpy(&x, types->at + 4 * i, 4);
    return x;
}

static bool well_formed(const char *text, size_t n) {
    for (size_t i = 0, length; i < n; i += length)
        if ((length = utf8_length(text + i, n - i)) == 0) return false;
    return true;
}

static int read_tokens(tok *t, const gguf_entry *tokens, const gguf_entry *types) {
    const uint8_t *at = tokens->at;
    const bool byte_level = t->byte_level;
    tok_reserve(t, (int)tokens->count);
    for (uint64_t i = 0; i < tokens->count; i++) {
        size_t n;
        const char *text = gguf_next_text(&at, &n);
        const int type = token_type(types, i);
        if (type < 0 || type > BYTE)
            return err_set("%s: token %llu is of type %d, which GGUF does not know", t->path, (unsigned long long)i,
                           type);
        // the text of an added token is what it says, not symbols of bytes
        t->byte_level = byte_level && type != CONTROL && type != USER_DEFINED;
        const int bad = tok_put(t, (int32_t)i, text, n);
        t->byte_level = byte_level;
        if (bad) return err_prefix("%s: token %llu", t->path, (unsigned long long)i);
        if (type != NORMAL) tok_special(t, (int32_t)i, type == CONTROL || type == UNKNOWN);
        if (type == UNKNOWN) t->unk = (int32_t)i;
        const bool added = (type == CONTROL || type == USER_DEFINED || type == UNKNOWN) && n;
        if ((added || !byte_level) && !well_formed(text, n))
            return err_set("%s: token %llu is looked for in texts, but is no UTF-8", t->path, (unsigned long long)i);
        if (added) tok_look_for(&t->raw, (added_token){.text = xstrndup(text, n), .bytes = n, .id = (int32_t)i});
    }
    return 0;
}

// ---------------------------------------------------------------- gpt2
static void add_split(tok *t, const char *expression, cut_kind cut) {
    piece_step *s = tok_add_step(t);
    s->rule = split_rule_parse(expression);
    s->cut = cut;
    ASSERT(s->rule);
}

static int set_pre_tokenizer(tok *t, const gguf *g) {
    char *pre = gguf_text(g, "tokenizer.ggml.pre");
    const char *name = pre ? pre : "missing";
    int bad = 0;
    if (strcmp(name, "gpt-2") == 0) {
        tok_cut_as_gpt2(t, NULL);
    } else if (strcmp(name, "smollm") == 0) {
        add_split(t, "\\p{N}", CUT_ISOLATED);
        tok_cut_as_gpt2(t, NULL);
    } else if (strcmp(name, "llama-bpe") == 0) {
        add_split(t, gguf_llama3_regex, CUT_ISOLATED);
        t->ignore_merges = true;
    } else if (strcmp(name, "qwen2") == 0) {
        tok_add_norm(t, NORM_NFC);
        add_split(t, gguf_qwen2_regex, CUT_ISOLATED);
    } else {
        bad = err_set("%s: pre-tokenizer \"%.60s\" is not implemented; gpt-2, llama-bpe, qwen2 and smollm are", g->path,
                      name);
    }
    free(pre);
    return bad;
}

static int read_merges(tok *t, const gguf_entry *merges) {
    const uint8_t *at = merges->at;
    for (uint64_t i = 0; i < merges->count; i++) {
        size_t n;
        const char *text = gguf_next_text(&at, &n), *space = n > 1 ? memchr(text + 1, ' ', n - 1) : NULL;
        if (!space || space + 1 == text + n)
            return err_set("%s: merge %llu: two symbols are wanted", t->path, (unsigned long long)i);
        if (tok_put_merge(t, text, (size_t)(space - text), space + 1, (size_t)(text + n - space - 1)))
            return err_prefix("%s: merge %llu", t->path, (unsigned long long)i);
    }
    return 0;
}

// ---------------------------------------------------------------- llama
typedef struct {
    float score;
    int32_t token, left, right, order;
    int cut, n_left, n_right;  // bytes of the left part, characters of both
} split_token;

static int by_ids(const void *a, const void *b) {
    const split_token *x = a, *y = b;
    return x->left != y->left ? (x->left > y->left) - (x->left < y->left)
                              : (x->right > y->right) - (x->right < y->right);
}

static int by_score(const void *a, const void *b) {
    const split_token *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->n_left != y->n_left) return x->n_left > y->n_left ? -1 : 1;
    if (x->n_right != y->n_right) return x->n_right > y->n_right ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int characters(const char *text, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) count += (text[i] & 0xc0) != 0x80;
    return count;
}

// Scores can be ordered.
static int check_scores(const tok *t, const gguf_entry *scores) {
    for (uint64_t i = 0; i < scores->count; i++) {
        float score;
        memcpy(&score, scores->at + 4 * i, 4);
        if (isnan(score)) return err_set("%s: token %llu has a score of NaN", t->path, (unsigned long long)i);
    }
    return 0;
}

// Every cut of a token into two tokens is a merge; the token with the highest score is merged first.
static int merges_of_scores(tok *t, const gguf_entry *scores) {
    split_token *s = NULL;
    int n = 0, cap = 0, bad = 0;
    for (int32_t id = 0; id < t->size; id++) {
        const symbol *y = &t->sym[id];
        const int first = n;
        for (int at = 1; at < y->n_key; at++) {
            if ((y->key[at] & 0xc0) == 0x80) continue;
            split_token x = {.token = id,
                             .cut = at,
                             .left = str_get(&t->by_key, y->key, (size_t)at),
                             .right = str_get(&t->by_key, y->key + at, (size_t)(y->n_key - at)),
                             .n_left = characters(y->key, at),
                             .n_right = characters(y->key + at, y->n_key - at)};
            memcpy(&x.score, scores->at + 4 * (size_t)id, 4);
            if (x.left >= 0 && x.right >= 0) VEC_PUSH(s, n, cap, x);
        }
        if (n > first) qsort(s + first, (size_t)(n - first), sizeof *s, by_ids);
    }
    for (int i = 0; i < n; i++) s[i].order = i;
    if (n) qsort(s, (size_t)n, sizeof *s, by_score);
    for (int i = 0; i < n && !bad; i++) {
        const symbol *y = &t->sym[s[i].token];
        bad = tok_put_merge(t, y->key, (size_t)s[i].cut, y->key + s[i].cut, (size_t)(y->n_key - s[i].cut));
    }
    free(s);
    return bad;
}

static void set_spaces(tok *t, bool prefix) {
    if (prefix) tok_add_norm(t, NORM_PREPEND)->by = xstrdup("\xe2\x96\x81");
    norm_step *s = tok_add_norm(t, NORM_REPLACE);
    s->what = split_rule_text(" ");
    s->by = xstrdup("\xe2\x96\x81");
    t->drops_space = prefix;
}

// ---------------------------------------------------------------- the whole
static void hash_texts(const gguf_entry *e, char out[33]) {
    const uint8_t *at = e->at;
    size_t n;
    for (uint64_t i = 0; i < e->count; i++) gguf_next_text(&at, &n);
    hash_bytes(out, e->at, (size_t)(at - e->at));
}

static int read_ids(tok *t, const gguf *g) {
    int64_t bos, eos;
    bool begins;
    if (gguf_int(g, "tokenizer.ggml.bos_token_id", -1, -1, t->size - 1, &bos) ||
        gguf_int(g, "tokenizer.ggml.eos_token_id", -1, -1, t->size - 1, &eos))
        return -1;
    t->bos = (int32_t)bos;
    t->eos = (int32_t)eos;
    if (gguf_bool(g, "tokenizer.ggml.add_bos_token", !t->byte_level, &begins)) return -1;
    if (begins) t->begin = t->bos;
    return 0;
}

static int read_gpt2(tok *t, const gguf *g, const gguf_entry *tokens, const gguf_entry *types) {
    const gguf_entry *merges = array_of(g, "tokenizer.ggml.merges", TYPE_TEXT, 0, false);
    char both[66];
    t->byte_level = true;
    if (!merges || set_pre_tokenizer(t, g) || read_tokens(t, tokens, types) || read_merges(t, merges)) return -1;
    hash_texts(tokens, both);
    hash_texts(merges, both + 32);
    hash_bytes(t->hash, both, 64);
    return 0;
}

static int read_llama(tok *t, const gguf *g, const gguf_entry *tokens, const gguf_entry *types) {
    const gguf_entry *scores = array_of(g, "tokenizer.ggml.scores", TYPE_F32, tokens->count, false);
    bool prefix;
    if (gguf_bool(g, "tokenizer.ggml.add_space_prefix", true, &prefix)) return -1;
    t->byte_fallback = t->fuse_unk = true;
    set_spaces(t, prefix);
    if (!scores || check_scores(t, scores) || read_tokens(t, tokens, types) || merges_of_scores(t, scores)) return -1;
    hash_texts(tokens, t->hash);
    return 0;
}

static int read_all(tok *t, const gguf *g, int vocab) {
    const gguf_entry *tokens = array_of(g, "tokenizer.ggml.tokens", TYPE_TEXT, 0, false);
    if (!tokens) return -1;
    const gguf_entry *types = array_of(g, "tokenizer.ggml.token_type", TYPE_I32, tokens->count, true);
    if (!types && gguf_entry_of(g, "tokenizer.ggml.token_type")) return -1;
    if (vocab > 0 && tokens->count > (uint64_t)vocab)
        return err_set("%s: its tokenizer has %llu tokens, but the embedding only %d rows", g->path,
                       (unsigned long long)tokens->count, vocab);
    char *model = gguf_text(g, "tokenizer.ggml.model");
    int bad;
    if (model && strcmp(model, "gpt2") == 0)
        bad = read_gpt2(t, g, tokens, types);
    else if (model && strcmp(model, "llama") == 0)
        bad = read_llama(t, g, tokens, types);
    else
        bad = err_set("%s: tokenizer \"%.60s\" is not implemented; gpt2 and llama are", g->path, model ? model : "?");
    free(model);
    return bad || read_ids(t, g) ? -1 : tok_finish(t);
}

tok *gguf_tok(const gguf *g, int vocab) {
    tok *t = tok_new(xstrdup(g->path), xstrdup(g->path));
    if (read_all(t, g, vocab) == 0) return t;
    tok_close(t);
    return NULL;
}

tok *gguf_tok_named(const char *file, int vocab, char **pre) {
    struct stat st;
    tok *t = NULL;
    gguf g = {0};
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_open(file);
        return NULL;
    }
    void *base = fstat(fd, &st) == 0 && st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
                                                       : MAP_FAILED;
    close(fd);
    if (base == MAP_FAILED) {
        err_set("%s: cannot be mapped", file);
        return NULL;
    }
    if (check_lfs(file, base, (size_t)st.st_size) == 0 && gguf_parse(&g, base, (size_t)st.st_size, file) == 0)
        t = gguf_tok(&g, vocab);
    if (t) *pre = gguf_text(&g, "tokenizer.ggml.pre");
    if (t && !*pre) *pre = xstrdup("");
    gguf_free(&g);
    munmap(base, (size_t)st.st_size);
    return t;
}

tok *gguf_tok_open(const char *file, int vocab) {
    char *pre;
    tok *t = gguf_tok_named(file, vocab, &pre);
    if (t) free(pre);
    return t;
}
