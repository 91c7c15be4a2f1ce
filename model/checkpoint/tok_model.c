// tok_model - ids of config.json against names of the vocabulary. Contract in tok_model.h.
#include "tok_model.h"
#include "tok_impl.h"
#include <string.h>

enum { EOS = 1 };

// Whether a name is that of a token which cannot end a text. What begins one is not looked at so closely: files of the
// Llama family often keep another model's number, and tokenizer.json's own counts.
static bool ends_nothing(const char *key) {
    static const char *const names[] = {
        "<s>", "<bos>", "<|begin_of_text|>", "<pad>", "[PAD]", "<|padding|>", "<unk>", "[UNK]", "<mask>", "[MASK]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i]) == 0) return true;
    return false;
}

static int check_token(const tok *t, const char *dir, const char *name, int kind, int id) {
    const symbol *s = id < t->size && t->sym[id].key ? &t->sym[id] : NULL;
    if (!s)
        return err_set("%s: config.json's \"%s\" is %d, but the tokenizer has no such id; is this the tokenizer of "
                       "another model?",
                       dir, name, id);
    if (kind == EOS && ends_nothing(s->key))
        return err_set(
            "%s: config.json's \"%s\" is %d, which the tokenizer calls \"%s\"; is this the tokenizer of another "
            "model?",
            dir, name, id, s->key);
    if (s->special || s->outside || tok_looks_special(s->key, (size_t)s->n_key)) return 0;
    return err_set(
        "%s: config.json's \"%s\" is %d, which is \"%.60s\" to the tokenizer, no special token such as </s>; is "
        "this the tokenizer of another model?",
        dir, name, id, s->key);
}

tok *tok_open_model(const char *dir, const model_config *c) {
    static const char *const names[TOKEN_KINDS] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    const int ids[TOKEN_KINDS] = {c->bos, c->eos, c->pad};
    tok *t = tok_open(dir, c->V);
    for (int k = 0; k < TOKEN_KINDS && t; k++) {
        if (!c->tokens.named[k] || ids[k] < 0 || check_token(t, dir, names[k], k, ids[k]) == 0) continue;
        tok_close(t);
        t = NULL;
    }
    return t;
}

const char tok_no_first[] = "neither the tokenizer nor config.json names a token that begins or ends a text";

int32_t tok_first(const tok *t, const model_config *c) {
    if (t->bos >= 0) return t->bos;
    if (t->eos >= 0) return t->eos;
    return c->bos >= 0 ? c->bos : c->eos;
}
