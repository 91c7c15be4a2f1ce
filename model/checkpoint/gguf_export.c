// gguf_export - the tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json, so that a model made from it
// loads everywhere. Contract in gguf.h.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "gguf.h"
#include "tok_impl.h"

static json_t *text_of(const symbol *s) { return json_stringn(s->key, (size_t)s->n_key); }

static json_t *list_added(const tok *t) {
    json_t *list = json_array();
    for (int32_t id = 0; id < t->size; id++)
        for (int i = 0; i < t->raw.n; i++) {
            if (t->raw.t[i].id != id) continue;
            json_array_append_new(list, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (int)id, "content",
                                                  text_of(&t->sym[id]), "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                  "normalized", 0, "special", t->sym[id].special));
        }
    return list;
}

static json_t *vocabulary(const tok *t) {
    json_t *vocab = json_object();
    for (int32_t id = 0; id < t->size; id++)
        if (t->sym[id].key) json_object_setn_new(vocab, t->sym[id].key, (size_t)t->sym[id].n_key, json_integer(id));
    return vocab;
}

// The pairs by rank.
static json_t *merges(const tok *t) {
    json_t *list = json_array();
    uint64_t *pair = xcalloc((size_t)t->n_merges + 1, sizeof *pair);
    for (size_t i = 0; i < t->ranks.cap; i++)
        if (t->ranks.slot[i].used) pair[t->ranks.slot[i].value] = t->ranks.slot[i].key;
    for (int i = 0; i < t->n_merges; i++)
        json_array_append_new(
            list, json_pack("[o, o]", text_of(&t->sym[pair[i] >> 32]), text_of(&t->sym[pair[i] & UINT32_MAX])));
    free(pair);
    return list;
}

// ---------------------------------------------------------------- the steps
static json_t *byte_level(bool regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     regex);
}

static json_t *split_and_bytes(const char *regex) {
    return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split",
                     "pattern", "Regex", regex, "behavior", "Isolated", "invert", 0, byte_level(false));
}

static json_t *pre_tokenizer(const tok *t, const char *pre) {
    if (!t->byte_level) return json_null();
    if (strcmp(pre, "gpt-2") == 0) return byte_level(true);
    if (strcmp(pre, "llama-bpe") == 0) return split_and_bytes(gguf_llama3_regex);
    if (strcmp(pre, "qwen2") == 0) return split_and_bytes(gguf_qwen2_regex);
    return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Digits",
                     "individual_digits", 1, byte_level(true));
}

static json_t *normalizer(const tok *t, const char *pre) {
    if (t->byte_level) return strcmp(pre, "qwen2") == 0 ? json_pack("{s:s}", "type", "NFC") : json_null();
    json_t *list = json_array();
    if (t->drops_space)
        json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "\xe2\x96\x81"));
    json_array_append_new(
        list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", "\xe2\x96\x81"));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", list);
}

static json_t *decoder(const tok *t) {
    if (t->byte_level) return byte_level(true);
    json_t *list = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                             "\xe2\x96\x81", "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (t->drops_space)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

static json_t *post_processor(const tok *t) {
    if (t->begin < 0) return json_null();
    const char *name = t->sym[t->begin].key;
    return json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}], "
                     "s:{s:{s:s, s:[i], s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", name, "type_id", 0, "Sequence", "id",
                     "A", "type_id", 0, "pair", "SpecialToken", "id", name, "type_id", 0, "Sequence", "id", "A",
                     "type_id", 0, "Sequence", "id", "B", "type_id", 1, "special_tokens", name, "id", name, "ids",
                     (int)t->begin, "tokens", name);
}

static json_t *tokenizer(const tok *t, const char *pre) {
    json_t *unk = t->unk >= 0 ? text_of(&t->sym[t->unk]) : json_null();
    json_t *model =
        json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token", unk,
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", t->fuse_unk, "byte_fallback",
                  t->byte_fallback, "ignore_merges", t->ignore_merges, "vocab", vocabulary(t), "merges", merges(t));
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
                     "added_tokens", list_added(t), "normalizer", normalizer(t, pre), "pre_tokenizer",
                     pre_tokenizer(t, pre), "post_processor", post_processor(t), "decoder", decoder(t), "model", model);
}

static json_t *settings(const tok *t) {
    json_t *root = json_pack("{s:s, s:b, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "add_bos_token",
                             t->begin >= 0, "clean_up_tokenization_spaces", 0);
    if (t->bos >= 0) json_object_set_new(root, "bos_token", text_of(&t->sym[t->bos]));
    if (t->eos >= 0) json_object_set_new(root, "eos_token", text_of(&t->sym[t->eos]));
    return root;
}

// ---------------------------------------------------------------- files
static int write_json(const char *dir, const char *name, json_t *root) {
    ASSERT(root);
    char *text = json_dumps(root, JSON_INDENT(1)), *path = xasprintf("%s/%s", dir, name);
    file_out f;
    int bad = file_out_open(&f, path);
    if (!bad) {
        fputs(text, f.f);
        fputc('\n', f.f);
        bad = file_out_close(&f);
    }
    free(text);
    free(path);
    json_decref(root);
    return bad;
}

int gguf_export_tok(const char *file, const char *dir) {
    char *pre;
    tok *t = gguf_tok_named(file, 0, &pre);
    if (!t) return -1;
    const int bad =
        write_json(dir, "tokenizer.json", tokenizer(t, pre)) || write_json(dir, "tokenizer_config.json", settings(t))
            ? -1
            : 0;
    tok_close(t);
    free(pre);
    return bad;
}
