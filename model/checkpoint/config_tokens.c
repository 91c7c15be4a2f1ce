// config_tokens - transformers writes a list where several tokens end a text. Contract in config_tokens.h.
#include "config_tokens.h"
#include <stdlib.h>
#include "json_read.h"

int config_read_tokens(json_t *root, const char *path, model_config *c) {
    static const char *const keys[TOKEN_KINDS] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    config_tokens *t = &c->tokens;
    for (int k = 0; k < TOKEN_KINDS; k++) {
        json_t *v = json_object_get(root, keys[k]), *x;
        size_t i;
        t->named[k] = v && !json_is_null(v);
        if (!json_is_array(v)) continue;
        if (json_array_size(v) == 0 || json_array_size(v) > MAX_ENDS)
            return err_set("%s: \"%s\" is a list of %zu ids; 1 to %d can be read", path, keys[k], json_array_size(v),
                           MAX_ENDS);
        json_array_foreach(v, i, x) {
            if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > 1 << 24)
                return err_set("%s: \"%s\": entry %zu of its list is no id", path, keys[k], i);
            if (k == TOKEN_EOS) t->ends[t->n_ends++] = (int)json_integer_value(x);
        }
        json_object_set(root, keys[k], json_array_get(v, 0));
    }
    return 0;
}

bool model_ends_text(const model_config *c, int id) {
    bool ends = id == c->eos;
    for (int i = 0; i < c->tokens.n_ends; i++) ends = ends || id == c->tokens.ends[i];
    return ends;
}

// What config.json of dir says of quantisation, as transformers and (compression_config) compressed-tensors write it;
// NULL: nothing. *root is to be freed.
static const json_t *quantisation(const char *dir, json_t **root) {
    char *path = xasprintf("%s/config.json", dir);
    size_t n = 0;
    json_error_t e;
    char *text = file_exists(path) ? file_read(path, &n) : NULL;
    *root = text ? json_read(text, n, &e) : NULL;
    const json_t *said = json_object_get(*root, "quantization_config");
    if (!json_is_object(said)) said = json_object_get(*root, "compression_config");
    free(text);
    free(path);
    return json_is_object(said) ? said : NULL;
}

bool config_says_quantised(const char *dir) {
    json_t *root;
    const bool said = quantisation(dir, &root) != NULL;
    json_decref(root);
    return said;
}

void config_blame_quantisation(const char *dir) {
    char *why = xstrdup(err_get());
    json_t *root;
    const json_t *said = quantisation(dir, &root);
    const char *method = json_string_value(json_object_get(said, "quant_method"));
    err_set("%s", why);
    if (said)
        err_prefix("%s/config.json: \"quantization_config\" (%s): quantised weights cannot be read, save the model in "
                   "fp16",
                   dir, method ? method : "no method");
    json_decref(root);
    free(why);
}
