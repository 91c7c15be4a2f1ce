// model_config - config.json of an OPT checkpoint: reading and writing it.
// Keys and defaults as transformers' OPTConfig; what the forward pass does not implement is refused by name.
#include "ckpt.h"
#include "config_tokens.h"
#include "json_read.h"
#include <stdlib.h>
#include <string.h>

#define MAX_DIM (1 << 24)  // a product of two sizes and an element still fits int64 with room to spare

// ---------------------------------------------------------------- reading
static const char *const dtype_names[] = {[DT_F32] = "float32", [DT_F16] = "float16", [DT_BF16] = "bfloat16"};

const char *dtype_name(dtype t) {
    ASSERT(t <= DT_BF16);
    return dtype_names[t];
}

const char *const dtype_options[] = {[DT_F32] = "fp32", [DT_F16] = "fp16", [DT_BF16] = "bf16", NULL};
int dtype_of_option(const char *name) {
    for (int t = 0; dtype_options[t]; t++)
        if (strcmp(dtype_options[t], name) == 0) return t;
    return -1;
}

// One whole number in [min, max]; an absent key (or null) gives `preset`, and is an error where preset is below min.
static int get_int(const json_t *root, const char *path, const char *key, int preset, int min, int max, int *out) {
    const json_t *v = json_object_get(root, key);
    if (!v || json_is_null(v)) {
        *out = preset;
        return preset >= min ? 0 : err_set("%s: \"%s\" is missing; an OPT config has it", path, key);
    }
    if (!json_is_integer(v)) return err_set("%s: \"%s\" is not a whole number", path, key);
    json_int_t x = json_integer_value(v);
    if (x < min || x > max) return err_set("%s: \"%s\" is %lld, outside %d..%d", path, key, (long long)x, min, max);
    *out = (int)x;
    return 0;
}

static int get_bool(const json_t *root, const char *path, const char *key, bool preset, bool *out) {
    const json_t *v = json_object_get(root, key);
    *out = v ? json_is_true(v) : preset;
    return !v || json_is_boolean(v) ? 0 : err_set("%s: \"%s\" is neither true nor false", path, key);
}

// A text key must hold `want` (NULL: may hold anything); an absent one counts as `want`.
static int want_text(const json_t *root, const char *path, const char *key, const char *want, const char *why) {
    const json_t *v = json_object_get(root, key);
    if (!v) return 0;
    if (!json_is_string(v)) return err_set("%s: \"%s\" is not a text", path, key);
    if (strcmp(json_string_value(v), want))
        return err_set("%s: \"%s\" is \"%.60s\"; %s", path, key, json_string_value(v), why);
    return 0;
}

// transformers 5 renamed torch_dtype to dtype.
static int get_dtype(const json_t *root, const char *path, dtype *out) {
    const json_t *v = json_object_get(root, "torch_dtype");
    if (!v) v = json_object_get(root, "dtype");
    *out = DT_F32;
    if (!v || json_is_null(v)) return 0;
    for (int t = DT_F32; t <= DT_BF16; t++)
        if (json_is_string(v) && !strcmp(json_string_value(v), dtype_names[t])) {
            *out = (dtype)t;
            return 0;
        }
    return err_set("%s: \"torch_dtype\" is %.60s; only float32, float16 and bfloat16 can be read", path,
                   json_is_string(v) ? json_string_value(v) : "not a text");
}

// A list of L whole numbers in [0, max]; absent: NULL.
static int get_list(const json_t *root, const char *path, const char *key, int L, int max, int **out) {
    const json_t *v = json_object_get(root, key);
    if (!v || json_is_null(v)) return 0;
    if (!json_is_array(v) || json_array_size(v) != (size_t)L)
        return err_set("%s: \"%s\" is not a list of %d numbers, one per layer", path, key, L);
    *out = xcalloc((size_t)L, sizeof **out);
    for (int l = 0; l < L; l++) {
        const json_t *x = json_array_get(v, (size_t)l);
        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > max)
            return err_set("%s: \"%s\": layer %d is no whole number in 0..%d", path, key, l, max);
        (*out)[l] = (int)json_integer_value(x);
    }
    return 0;
}

static int config_read(const json_t *root, const char *path, model_config *c) {
    bool affine, remove_final;
    if (!json_is_object(root)) return err_set("%s: not a JSON object", path);
    if (!json_object_get(root, "model_type"))
        return err_set("%s: \"model_type\" is missing; an OPT config has it", path);
    if (want_text(root, path, "model_type", "opt", "only OPT models can be read")) return -1;
    if (want_text(root, path, "activation_function", "relu", "only relu is implemented")) return -1;
    if (get_int(root, path, "num_hidden_layers", 0, 1, 1 << 12, &c->L)) return -1;
    if (get_int(root, path, "num_attention_heads", 0, 1, 1 << 12, &c->H)) return -1;
    if (get_int(root, path, "hidden_size", 0, 1, MAX_DIM, &c->E)) return -1;
    if (get_int(root, path, "ffn_dim", 0, 1, MAX_DIM, &c->F)) return -1;
    if (get_int(root, path, "vocab_size", 0, 1, MAX_DIM, &c->V)) return -1;
    if (get_int(root, path, "max_position_embeddings", 0, 1, MAX_DIM, &c->positions)) return -1;
    if (get_int(root, path, "word_embed_proj_dim", c->E, 1, MAX_DIM, &c->P)) return -1;
    if (c->E % c->H)
        return err_set("%s: \"hidden_size\" %d is no multiple of \"num_attention_heads\" %d", path, c->E, c->H);
    c->D = c->E / c->H;
    if (get_list(root, path, "num_attention_heads_per_layer", c->L, c->H, &c->heads)) return -1;
    if (get_list(root, path, "ffn_dim_per_layer", c->L, c->F, &c->neurons)) return -1;
    if (get_int(root, path, "bos_token_id", 2, 0, MAX_DIM, &c->bos)) return -1;
    if (get_int(root, path, "eos_token_id", 2, 0, MAX_DIM, &c->eos)) return -1;
    if (get_int(root, path, "pad_token_id", 1, 0, MAX_DIM, &c->pad)) return -1;
    if (c->bos >= c->V || c->eos >= c->V || c->pad >= c->V)
        return err_set("%s: a special token (bos %d, eos %d, pad %d) is not below \"vocab_size\" %d", path, c->bos,
                       c->eos, c->pad, c->V);
    if (get_bool(root, path, "do_layer_norm_before", true, &c->pre_ln)) return -1;
    if (get_bool(root, path, "_remove_final_layer_norm", false, &remove_final)) return -1;
    if (get_bool(root, path, "enable_bias", true, &c->bias)) return -1;
    if (get_bool(root, path, "tie_word_embeddings", true, &c->tied)) return -1;
    if (get_bool(root, path, "layer_norm_elementwise_affine", true, &affine)) return -1;
    if (!affine)
        return err_set("%s: \"layer_norm_elementwise_affine\" is false; norms without weights are not implemented",
                       path);
    c->final_ln = c->pre_ln && !remove_final;
    return get_dtype(root, path, &c->declared);
}

int model_config_parse(const char *json, size_t n, const char *path, model_config *config) {
    json_error_t e;
    *config = (model_config){0};
    json_t *root = json_read(json, n, &e);
    if (!root) return err_set("%s: line %d: not valid JSON: %s", path, e.line, e.text);
    int bad = config_read_tokens(root, path, config) || config_read(root, path, config) ? -1 : 0;
    json_decref(root);
    if (bad) model_config_free(config);
    return bad;
}

void model_config_free(model_config *c) {
    free(c->heads);
    free(c->neurons);
    c->heads = c->neurons = NULL;
}

// ---------------------------------------------------------------- writing
static void put_list(json_t *root, const char *key, const int *list, int n) {
    if (!list) return;
    json_t *v = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(v, json_integer(list[i]));
    json_object_set_new(root, key, v);
}

char *model_config_text(const model_config *c) {
    json_t *root =
        json_pack("{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:b, s:b, s:f, "
                  "s:f, s:f, s:f, s:s}",
                  "architectures", "OPTForCausalLM", "model_type", "opt", "activation_function", "relu",
                  "num_hidden_layers", c->L, "num_attention_heads", c->H, "hidden_size", c->E, "ffn_dim", c->F,
                  "word_embed_proj_dim", c->P, "vocab_size", c->V, "max_position_embeddings", c->positions,
                  "bos_token_id", c->bos, "eos_token_id", c->eos, "pad_token_id", c->pad, "do_layer_norm_before",
                  c->pre_ln, "_remove_final_layer_norm", c->pre_ln && !c->final_ln, "enable_bias", c->bias,
                  "layer_norm_elementwise_affine", 1, "tie_word_embeddings", 1, "dropout", 0.0, "attention_dropout",
                  0.0, "layerdrop", 0.0, "init_std", 0.02, "torch_dtype", dtype_name(c->declared));
    ASSERT(root);
    put_list(root, "num_attention_heads_per_layer", c->heads, c->L);
    put_list(root, "ffn_dim_per_layer", c->neurons, c->L);
    char *body = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6)), *text = xasprintf("%s\n", body);
    free(body);
    json_decref(root);
    return text;
}
