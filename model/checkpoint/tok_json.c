// tok_json - tokenizer.json of the `tokenizers` library (its serialisation in tokenizer/serialization.rs and beside
// each part; version 1.0). A part that is not implemented is refused by its name. Contract in tok.h.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "json_read.h"
#include "tok_impl.h"

static const char *text_of(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_string(v) ? json_string_value(v) : NULL;
}

static const char *type_of(const json_t *o) { return text_of(o, "type") ? text_of(o, "type") : "?"; }

static bool flag(const json_t *o, const char *key, bool preset) {
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : preset;
}

static int no_such(const char *what, const json_t *o, const char *known) {
    return err_set("%s \"%.60s\" is not implemented; %s are", what, type_of(o), known);
}

// fn for a part, or for each of a Sequence of them.
typedef int part_fn(tok *t, const json_t *part);
static int each_part(tok *t, const json_t *part, const char *list, part_fn *fn) {
    const json_t *x;
    size_t i;
    if (!part || json_is_null(part)) return 0;
    if (strcmp(type_of(part), "Sequence")) return fn(t, part);
    json_array_foreach(json_object_get(part, list), i, x) if (each_part(t, x, list, fn)) return -1;
    return 0;
}

// {"String": text} or {"Regex": expression}.
static split_rule *read_pattern(const json_t *part) {
    const json_t *pattern = json_object_get(part, "pattern");
    if (text_of(pattern, "String") && *text_of(pattern, "String")) return split_rule_text(text_of(pattern, "String"));
    if (text_of(pattern, "Regex")) return split_rule_parse(text_of(pattern, "Regex"));
    err_set("the pattern of %s is neither a String nor a Regex", type_of(part));
    return NULL;
}

// ---------------------------------------------------------------- normalizer
static int read_normalizer(tok *t, const json_t *part) {
    const char *type = type_of(part);
    if (strcmp(type, "NFC") == 0) {
        tok_add_norm(t, NORM_NFC);
    } else if (strcmp(type, "Prepend") == 0 && text_of(part, "prepend")) {
        tok_add_norm(t, NORM_PREPEND)->by = xstrdup(text_of(part, "prepend"));
        t->drops_space = true;
    } else if (strcmp(type, "Replace") == 0 && text_of(part, "content")) {
        norm_step *s = tok_add_norm(t, NORM_REPLACE);
        s->by = xstrdup(text_of(part, "content"));
        if (!(s->what = read_pattern(part))) return -1;
    } else {
        return no_such("normalizer", part, "NFC, Prepend, Replace and Sequence");
    }
    return 0;
}

// ---------------------------------------------------------------- pre-tokenizer
static int read_split(tok *t, const json_t *part) {
    static const char *const cuts[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *behavior = text_of(part, "behavior");
    int k = 0;
    while (k < 5 && behavior && strcmp(cuts[k], behavior)) k++;
    if (!behavior || k == 5) return err_set("Split: behavior \"%.60s\" is not implemented", behavior ? behavior : "?");
    piece_step *s = tok_add_step(t);
    s->cut = (cut_kind)k;
    s->invert = flag(part, "invert", false);
    s->rule = read_pattern(part);
    return s->rule ? 0 : -1;
}

static int read_metaspace(tok *t, const json_t *part) {
    const char *mark = text_of(part, "replacement"), *scheme = text_of(part, "prepend_scheme");
    if (!scheme) scheme = flag(part, "add_prefix_space", true) ? "always" : "never";
    static const char *const schemes[] = {
        [PREFIX_NEVER] = "never", [PREFIX_FIRST] = "first", [PREFIX_ALWAYS] = "always"};
    int k = 0;
    while (k < 3 && strcmp(schemes[k], scheme)) k++;
    if (k == 3) return err_set("Metaspace: prepend_scheme \"%.60s\" is not implemented", scheme);
    if (!mark || !*mark) return err_set("Metaspace: \"replacement\" is missing");
    piece_step *s = tok_add_step(t);
    s->prefix = xstrdup(mark);
    s->when = (prefix_rule)k;
    s->space = split_rule_text(" ");
    s->cut = CUT_MERGED_WITH_NEXT;
    if (flag(part, "split", true)) s->rule = split_rule_text(mark);
    t->drops_space = t->drops_space || k != PREFIX_NEVER;
    return 0;
}

static int read_pre_tokenizer(tok *t, const json_t *part) {
    const char *type = type_of(part);
    if (t->byte_level) return err_set("pre-tokenizer \"%.60s\" after ByteLevel is not implemented", type);
    if (strcmp(type, "Split") == 0) return read_split(t, part);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(t, part);
    if (strcmp(type, "Digits") == 0) {
        piece_step *s = tok_add_step(t);
        s->rule = split_rule_parse("\\p{N}");
        s->cut = flag(part, "individual_digits", false) ? CUT_ISOLATED : CUT_CONTIGUOUS;
        return 0;
    }
    if (strcmp(type, "ByteLevel"))
        return no_such("pre-tokenizer", part, "Split, Digits, ByteLevel, Metaspace and Sequence");
    t->byte_level = true;
    piece_step *s = tok_add_step(t);
    if (flag(part, "add_prefix_space", true)) {
        s->prefix = xstrdup(" ");
        s->when = PREFIX_ALWAYS;
        t->drops_space = true;
    }
    if (flag(part, "use_regex", true)) s->rule = split_rule_new();
    return 0;
}

// ---------------------------------------------------------------- model
static int read_vocab(tok *t, const json_t *vocab, int rows) {
    const char *key;
    json_t *v;
    if (!json_is_object(vocab) || !json_object_size(vocab)) return err_set("its model has no \"vocab\"");
    json_object_foreach((json_t *)vocab, key, v) {
        const size_t n = json_object_iter_key_len(json_object_key_to_iter(key));
        const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        const int beyond = tok_check_id(key, n, id, rows);
        if (beyond < 0) return -1;
        if (beyond) continue;
        tok_reserve(t, (int)id + 1);
        if (tok_put(t, (int32_t)id, key, n)) return -1;
    }
    return 0;
}

// "left right" or ["left", "right"].
static int read_merge(tok *t, const json_t *v) {
    const json_t *a = json_array_get(v, 0), *b = json_array_get(v, 1);
    if (json_array_size(v) == 2 && json_is_string(a) && json_is_string(b))
        return tok_put_merge(t, json_string_value(a), json_string_length(a), json_string_value(b),
                             json_string_length(b));
    const char *text = json_string_value(v), *space = text ? strchr(text, ' ') : NULL;
    if (!space || space == text || !space[1] || strchr(space + 1, ' ')) return err_set("two symbols are wanted");
    return tok_put_merge(t, text, (size_t)(space - text), space + 1, strlen(space + 1));
}

static int read_merges(tok *t, const json_t *merges) {
    json_t *v;
    size_t i;
    if (!json_is_array(merges)) return err_set("its model has no \"merges\"");
    json_array_foreach(merges, i, v) if (read_merge(t, v)) return err_prefix("merge %zu", i + 1);
    return 0;
}

static int read_model(tok *t, const json_t *model, int rows) {
    static const char *const unsaid[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    // files before version 0.11 of the library do not name the type
    if (json_object_get(model, "type") && strcmp(type_of(model), "BPE"))
        return err_set("model \"%.60s\" is not implemented; BPE is", type_of(model));
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return err_set("a BPE with dropout is not implemented");
    for (int i = 0; i < 2; i++)
        if (text_of(model, unsaid[i]) && *text_of(model, unsaid[i]))
            return err_set("a BPE with %s \"%.60s\" is not implemented", unsaid[i], text_of(model, unsaid[i]));
    t->byte_fallback = flag(model, "byte_fallback", false) && !t->byte_level;
    t->ignore_merges = flag(model, "ignore_merges", false);
    t->fuse_unk = flag(model, "fuse_unk", false);
    if (read_vocab(t, json_object_get(model, "vocab"), rows)) return -1;
    const char *unk = text_of(model, "unk_token");
    if (unk && (t->unk = tok_id(t, unk)) < 0)
        return err_set("\"unk_token\" is \"%.60s\", which the vocabulary does not hold", unk);
    if (t->unk >= 0) tok_special(t, t->unk, true);
    return 0;
}

// ---------------------------------------------------------------- added tokens and template
static int read_added(tok *t, const json_t *v, int rows) {
    const char *text = text_of(v, "content");
    const json_t *id = json_object_get(v, "id");
    if (!text || !json_is_integer(id)) return err_set("an added token without \"content\" or \"id\"");
    if (!*text) return 0;
    const json_int_t n = json_integer_value(id);
    const int beyond = tok_check_id(text, strlen(text), n, rows);
    if (beyond) return beyond < 0 ? err_prefix("an added token") : 0;
    const int32_t known = tok_id(t, text);
    if (known >= 0 && known != n)
        return err_set("the added token \"%.60s\" has id %lld, but the vocabulary says %d", text, (long long)n, known);
    if (known < 0) {
        tok_reserve(t, (int)n + 1);
        if (tok_put(t, (int32_t)n, text, strlen(text))) return -1;
        t->sym[n].outside = true;
        // its text is what it says, not symbols of bytes
        memcpy((char *)(uintptr_t)t->sym[n].bytes, text, strlen(text) + 1);
        t->sym[n].n = (int)strlen(text);
    }
    tok_special(t, (int32_t)n, flag(v, "special", false));
    const bool normalized = flag(v, "normalized", true);
    tok_look_for(normalized ? &t->normalized : &t->raw, (added_token){.text = xstrdup(text),
                                                                      .bytes = strlen(text),
                                                                      .id = (int32_t)n,
                                                                      .single_word = flag(v, "single_word", false),
                                                                      .lstrip = flag(v, "lstrip", false),
                                                                      .rstrip = flag(v, "rstrip", false)});
    return 0;
}

static int read_all_added(tok *t, const json_t *list, int rows) {
    json_t *v;
    size_t i;
    if (list && !json_is_null(list) && !json_is_array(list)) return err_set("\"added_tokens\" is not a list");
    json_array_foreach(list, i, v) if (read_added(t, v, rows)) return -1;
    return 0;
}

// The template of one text, [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]: at most one token before it.
static int read_template(tok *t, const json_t *part) {
    const char *type = type_of(part);
    json_t *v;
    size_t i;
    bool text_seen = false;
    if (strcmp(type, "ByteLevel") == 0) return 0;  // only places in the text
    if (strcmp(type, "TemplateProcessing"))
        return no_such("post-processor", part, "TemplateProcessing, ByteLevel and Sequence");
    json_array_foreach(json_object_get(part, "single"), i, v) {
        const char *name = text_of(json_object_get(v, "SpecialToken"), "id");
        if (!name) {
            text_seen = true;
            continue;
        }
        if (text_seen || t->begin >= 0)
            return err_set("the post-processor puts \"%.60s\" %s, which is not implemented", name,
                           text_seen ? "after a text" : "before a text, after another token");
        const json_t *ids = json_object_get(json_object_get(json_object_get(part, "special_tokens"), name), "ids");
        const json_t *id = json_array_get(ids, 0);
        if (!json_is_integer(id) || tok_id(t, name) != json_integer_value(id))
            return err_set("the post-processor puts \"%.60s\" before a text, which the vocabulary does not hold", name);
        t->begin = (int32_t)json_integer_value(id);
    }
    return 0;
}

// ---------------------------------------------------------------- the whole
static int read_root(tok *t, const json_t *root, int rows) {
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(root) || !json_is_object(model)) return err_set("it holds no \"model\"");
    if (each_part(t, json_object_get(root, "normalizer"), "normalizers", read_normalizer) ||
        each_part(t, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer) ||
        read_model(t, model, rows) || read_all_added(t, json_object_get(root, "added_tokens"), rows) ||
        read_merges(t, json_object_get(model, "merges")) || tok_normalize_added(t))
        return -1;
    return each_part(t, json_object_get(root, "post_processor"), "processors", read_template);
}

tok *tok_parse_json(const char *json, size_t n, const char *path, int vocab) {
    const size_t mark = bom_length(json, n);
    json_error_t why;
    tok *t = tok_new(xasprintf("%s/tokenizer.json", path), xasprintf("%s/tokenizer.json", path));
    json_t *root = json_loadb(json + mark, n - mark, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    int bad = 0;
    if (!root)
        bad = err_set("%s:%d: not valid JSON: %s", t->path, why.line, why.text);
    else if ((bad = read_root(t, root, vocab)))
        err_prefix("%s", t->path);
    else
        bad = tok_finish(t);
    json_decref(root);
    if (bad) {
        tok_close(t);
        return NULL;
    }
    hash_bytes(t->hash, json, n);
    return t;
}
