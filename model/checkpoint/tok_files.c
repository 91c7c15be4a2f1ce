// tok_files - opening a folder's tokenizer, and the older form of its files: vocab.json and merges.txt. Contract in
// tok.h.
#include <stdlib.h>
#include <string.h>
#include "folder.h"
#include "gguf.h"
#include "json_read.h"
#include "tok_impl.h"

static const char *const specials[] = {"<s>", "<pad>", "</s>", "<unk>"};

// ---------------------------------------------------------------- vocab.json
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

static int check_id(const json_t *value, const char *key, int vocab) {
    return tok_check_id(key, strlen(key), json_is_integer(value) ? json_integer_value(value) : -1, vocab);
}

static int read_vocab(tok *t, const char *json, size_t bytes, int vocab) {
    const size_t mark = bom_length(json, bytes);
    json_error_t why;
    json_t *root = json_loadb(json + mark, bytes - mark, JSON_REJECT_DUPLICATES, &why), *value;
    int k = 0, bad = 0;
    const char *key;
    if (!root) return err_set("%s:%d: %s", t->path, why.line, why.text);
    if (!json_is_object(root) || json_object_size(root) == 0) {
        json_decref(root);
        return err_set("%s:1: one JSON object of symbols and their ids is wanted, {\"symbol\": id, ...}", t->path);
    }
    json_object_foreach(root, key, value) {
        const int beyond = check_id(value, key, vocab);
        const int32_t id = (int32_t)json_integer_value(value);
        if ((bad = beyond < 0 ? -1 : 0)) break;
        if (!beyond) {
            tok_reserve(t, id + 1);
            if ((bad = tok_put(t, id, key, strlen(key)))) break;
        }
        k++;
    }
    if (bad) err_prefix("%s:%d", t->path, member_line(json, bytes, k));
    json_decref(root);
    for (size_t i = 0; i < sizeof specials / sizeof *specials && !bad; i++)
        if (tok_id(t, specials[i]) >= 0) tok_special(t, tok_id(t, specials[i]), true);
    return bad;
}

// ---------------------------------------------------------------- merges.txt
static int read_merge(tok *t, const char *p, size_t len) {
    const char *space = memchr(p, ' ', len);
    size_t left = space ? (size_t)(space - p) : 0, right = space ? len - left - 1 : 0;
    if (!left || !right || memchr(space + 1, ' ', right) || memchr(p, 0, len))
        return err_set("two symbols with one space between them are wanted");
    return tok_put_merge(t, p, left, space + 1, right);
}

static int read_merges(tok *t, const char *text, size_t bytes) {
    int line = 0;
    for (const char *p = text + bom_length(text, bytes), *end = text + bytes, *eol; p < end; p = eol + 1) {
        line++;
        eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol) eol = end;
        size_t len = (size_t)(eol - p);
        if (len && p[len - 1] == '\r') len--;
        if ((len >= 8 && memcmp(p, "#version", 8) == 0) || (len == 0 && eol + 1 >= end)) continue;
        if (read_merge(t, p, len)) return err_prefix("%s:%d", t->merges_path, line);
    }
    return 0;
}

// ---------------------------------------------------------------- what stands beside them
// A JSON object in a file of the folder; NULL: there is no such file, or (*bad) it is none.
static json_t *read_object(const char *dir, const char *name, int *bad) {
    char *path = xasprintf("%s/%s", dir, name);
    json_error_t why;
    json_t *root = NULL;
    size_t n;
    char *text = path_there(path) ? file_read(path, &n) : NULL;
    if (text) {
        root = json_read(text, n, &why);
        if (!root)
            *bad = err_set("%s:%d: not valid JSON: %s", path, why.line, why.text);
        else if (!json_is_object(root))
            *bad = err_set("%s: not a JSON object", path);
    } else if (path_there(path)) {
        *bad = -1;
    }
    free(text);
    free(path);
    if (*bad) json_decref(root);
    return *bad ? NULL : root;
}

// Tokens that were added to a vocabulary: {"token": id, ...}.
static int read_added(tok *t, const char *dir, int vocab) {
    int bad = 0;
    json_t *root = read_object(dir, "added_tokens.json", &bad), *value;
    const char *key;
    json_object_foreach(root, key, value) {
        if (bad) break;
        const int beyond = check_id(value, key, vocab);
        const int32_t id = (int32_t)json_integer_value(value);
        if (beyond > 0) continue;
        if (!beyond) tok_reserve(t, id + 1);
        if (beyond || (tok_id(t, key) != id && tok_put(t, id, key, strlen(key))))
            bad = err_prefix("%s/added_tokens.json", dir);
        else
            tok_special(t, id, true);
    }
    json_decref(root);
    return bad;
}

// The id of the token that a key names, as a text or as {"content": text}.
static int read_name(const tok *t, const json_t *root, const char *file, const char *key, int32_t *id) {
    const json_t *v = json_object_get(root, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (!json_is_string(v)) return 0;
    *id = tok_id(t, json_string_value(v));
    return *id >= 0 ? 0
                    : err_set("%s: \"%s\" is \"%.60s\", which the vocabulary does not hold; is this the tokenizer of "
                              "another model?",
                              file, key, json_string_value(v));
}

static int read_names(tok *t, const char *dir) {
    static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json"};
    int bad = 0;
    for (int i = 0; i < 2 && !bad; i++) {
        char *path = xasprintf("%s/%s", dir, files[i]);
        json_t *root = read_object(dir, files[i], &bad);
        if (t->bos < 0) bad = bad || read_name(t, root, path, "bos_token", &t->bos);
        if (t->eos < 0) bad = bad || read_name(t, root, path, "eos_token", &t->eos);
        if (t->begin < 0 && json_is_true(json_object_get(root, "add_bos_token"))) t->begin = t->bos;
        json_decref(root);
        free(path);
    }
    // what GPT-2's form of files leaves unsaid: OPT's </s> begins a text and ends it
    if (t->bos < 0 && t->eos < 0 && strcmp(t->path, t->merges_path)) t->bos = t->eos = tok_id(t, "</s>");
    if (t->bos >= 0) tok_special(t, t->bos, true);
    if (t->eos >= 0) tok_special(t, t->eos, true);
    return bad;
}

// ---------------------------------------------------------------- opening
static tok *read_files(const char *vocab_json, size_t n_vocab, const char *merges, size_t n_merges, const char *dir,
                       const char *added_dir, int vocab) {
    tok *t = tok_new(xasprintf("%s/vocab.json", dir), xasprintf("%s/merges.txt", dir));
    t->byte_level = t->all_bytes = true;
    tok_cut_as_gpt2(t, NULL);
    if (read_vocab(t, vocab_json, n_vocab, vocab) || (added_dir && read_added(t, added_dir, vocab)) ||
        read_merges(t, merges, n_merges) || tok_finish(t)) {
        tok_close(t);
        return NULL;
    }
    char both[66];
    hash_bytes(both, vocab_json, n_vocab);
    hash_bytes(both + 32, merges, n_merges);
    hash_bytes(t->hash, both, 64);
    return t;
}

tok *tok_parse(const char *vocab_json, size_t n_vocab, const char *merges, size_t n_merges, const char *path,
               int vocab) {
    return read_files(vocab_json, n_vocab, merges, n_merges, path, NULL, vocab);
}

static bool files_there(const char *dir) {
    static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt"};
    bool there = false;
    for (int i = 0; i < 3; i++) {
        char *path = xasprintf("%s/%s", dir, names[i]);
        there = there || path_there(path);
        free(path);
    }
    return there;
}

bool tok_there(const char *dir) {
    int bad;
    char *file = gguf_find(dir, &bad);
    const bool there = file || files_there(dir);
    free(file);
    return there;
}

// A vocab.json beside the tokenizer.json that is read must say the same.
static int compare_vocab(const tok *t, const char *dir) {
    int bad = 0;
    json_t *root = read_object(dir, "vocab.json", &bad), *value;
    const char *key;
    json_object_foreach(root, key, value) {
        const int32_t id = tok_id(t, key);
        if (bad || json_integer_value(value) == id || tok_looks_special(key, strlen(key))) continue;
        bad = err_set("%s: \"%.60s\" has id %lld in vocab.json and %d in tokenizer.json; one of the two is of another "
                      "model",
                      dir, key, (long long)json_integer_value(value), id);
    }
    json_decref(root);
    return bad;
}

// dir: where the files are.
static tok *open_folder(const char *dir, int vocab) {
    char *path[3] = {xasprintf("%s/vocab.json", dir), xasprintf("%s/merges.txt", dir),
                     xasprintf("%s/tokenizer.json", dir)};
    size_t n_vocab = 0, n_merges = 0;
    tok *t = NULL;
    if (!files_there(dir)) {
        err_set("%s: no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is there", dir);
    } else if (path_there(path[2])) {
        char *json = file_read(path[2], &n_vocab);
        t = json ? tok_parse_json(json, n_vocab, dir, vocab) : NULL;
        free(json);
    } else {
        char *v = file_read(path[0], &n_vocab), *m = v ? file_read(path[1], &n_merges) : NULL;
        t = m ? read_files(v, n_vocab, m, n_merges, dir, dir, vocab) : NULL;
        free(v);
        free(m);
    }
    if (t && ((path_there(path[2]) && compare_vocab(t, dir)) || read_names(t, dir))) {
        tok_close(t);
        t = NULL;
    }
    for (int i = 0; i < 3; i++) free(path[i]);
    return t;
}

tok *tok_open(const char *dir, int vocab) {
    int bad = 0;
    char *folder = model_folder(dir), *file = folder && !files_there(folder) ? gguf_find(folder, &bad) : NULL;
    tok *t = NULL;
    if (file)
        t = gguf_tok_open(file, vocab);
    else if (folder && !bad)
        t = open_folder(folder, vocab);
    free(file);
    free(folder);
    return t;
}
