// config_json - values of a config.json by key. Contract in config_json.h.
#include "config_json.h"
#include <stdlib.h>
#include <string.h>

int config_int(const json_t *root, const char *path, const char *key, int preset, int min, int max, int *out) {
    const json_t *v = json_object_get(root, key);
    if (!v || json_is_null(v)) {
        *out = preset;
        return preset >= min ? 0 : err_set("%s: \"%s\" is missing; the configuration must have it", path, key);
    }
    if (!json_is_integer(v)) return err_set("%s: \"%s\" is not a whole number", path, key);
    json_int_t x = json_integer_value(v);
    if (x < min || x > max) return err_set("%s: \"%s\" is %lld, outside %d..%d", path, key, (long long)x, min, max);
    *out = (int)x;
    return 0;
}

int config_positive(const json_t *root, const char *path, const char *key, double preset, double *out) {
    const json_t *v = json_object_get(root, key);
    *out = preset;
    if (!v || json_is_null(v))
        return preset > 0 ? 0 : err_set("%s: \"%s\" is missing; the configuration must have it", path, key);
    if (!json_is_number(v)) return err_set("%s: \"%s\" is not a number", path, key);
    *out = json_number_value(v);
    return *out > 0 && *out < 1e30 ? 0 : err_set("%s: \"%s\" is %g, which is not above 0", path, key, *out);
}

int config_bool(const json_t *root, const char *path, const char *key, bool preset, bool *out) {
    const json_t *v = json_object_get(root, key);
    *out = v ? json_is_true(v) : preset;
    return !v || json_is_boolean(v) ? 0 : err_set("%s: \"%s\" is neither true nor false", path, key);
}

int config_dtype(const json_t *root, const char *path, dtype *out) {
    const json_t *v = json_object_get(root, "torch_dtype");
    if (!v) v = json_object_get(root, "dtype");
    *out = DT_F32;
    if (!v || json_is_null(v)) return 0;
    for (int t = DT_F32; t <= DT_BF16; t++)
        if (json_is_string(v) && !strcmp(json_string_value(v), dtype_name((dtype)t))) {
            *out = (dtype)t;
            return 0;
        }
    return err_set("%s: \"torch_dtype\" is %.60s; only float32, float16 and bfloat16 can be read", path,
                   json_is_string(v) ? json_string_value(v) : "not a text");
}

int config_list(const json_t *root, const char *path, const char *key, int L, int max, int **out) {
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

void config_put_list(json_t *root, const char *key, const int *list, int n) {
    if (!list) return;
    json_t *v = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(v, json_integer(list[i]));
    json_object_set_new(root, key, v);
}

// ---------------------------------------------------------------- what several families have
int config_sizes(const json_t *root, const char *path, const char *ffn, model_config *c) {
    if (config_int(root, path, "num_hidden_layers", 0, 1, 1 << 12, &c->L)) return -1;
    if (config_int(root, path, "num_attention_heads", 0, 1, 1 << 12, &c->H)) return -1;
    if (config_int(root, path, "hidden_size", 0, 1, CONFIG_MOST, &c->E)) return -1;
    if (config_int(root, path, ffn, 0, 1, CONFIG_MOST, &c->F)) return -1;
    if (config_int(root, path, "vocab_size", 0, 1, CONFIG_MOST, &c->V)) return -1;
    if (config_int(root, path, "max_position_embeddings", 0, 1, CONFIG_MOST, &c->positions)) return -1;
    if (config_list(root, path, "num_attention_heads_per_layer", c->L, c->H, &c->heads)) return -1;
    char *each = xasprintf("%s_per_layer", ffn);
    const int bad = config_list(root, path, each, c->L, c->F, &c->neurons);
    free(each);
    return bad ? -1 : config_dtype(root, path, &c->declared);
}

json_t *config_begin(const model_config *c, const char *class, const char *ffn) {
    json_t *root = json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:s}", "architectures", class, "model_type",
                             model_type_names[c->type], "num_hidden_layers", c->L, "num_attention_heads", c->H,
                             "hidden_size", c->E, ffn, c->F, "vocab_size", c->V, "max_position_embeddings",
                             c->positions, "torch_dtype", dtype_name(c->declared));
    ASSERT(root);
    config_put_list(root, "num_attention_heads_per_layer", c->heads, c->L);
    char *each = xasprintf("%s_per_layer", ffn);
    config_put_list(root, each, c->neurons, c->L);
    free(each);
    return root;
}

void config_put(json_t *root, json_t *own) {
    ASSERT(own);
    json_object_update(root, own);
    json_decref(own);
}

int config_equal_heads(const char *path, model_config *c) {
    c->D = c->E / c->H;
    if (c->E % c->H == 0) return 0;
    return err_set("%s: \"hidden_size\" %d is no multiple of \"num_attention_heads\" %d", path, c->E, c->H);
}

// transformers 5 writes theta and the scaling as rope_parameters, older files as rope_theta and rope_scaling.
int config_rope(const json_t *root, const char *path, const char *theta, rope_config *r) {
    const json_t *v5 = json_object_get(root, "rope_parameters"), *older = json_object_get(root, "rope_scaling");
    const json_t *s = v5 && !json_is_null(v5) ? v5 : older;
    const char *where = s == v5 ? "rope_parameters" : "rope_scaling";
    if (config_positive(root, path, theta, 10000, &r->theta)) return -1;
    r->kind = ROPE_DEFAULT;
    if (!s || json_is_null(s)) return 0;
    if (!json_is_object(s)) return err_set("%s: \"%s\" is not an object", path, where);
    if (config_positive(s, path, "rope_theta", r->theta, &r->theta)) return -1;
    const json_t *kind = json_object_get(s, "rope_type");
    if (!kind) kind = json_object_get(s, "type");
    if (!kind && json_object_size(s) > (json_object_get(s, "rope_theta") != NULL))
        return err_set("%s: \"%s\" has no \"rope_type\"; one kind for all layers is implemented", path, where);
    if (kind && !json_is_string(kind)) return err_set("%s: \"rope_type\" is not a text", path);
    const char *name = kind ? json_string_value(kind) : "default";
    int k = 0;
    while (k < ROPE_KINDS && strcmp(name, rope_names[k])) k++;
    if (k == ROPE_KINDS)
        return err_set("%s: \"rope_type\" is \"%.60s\"; only default, linear and llama3 are implemented", path, name);
    r->kind = (rope_kind)k;
    if (k != ROPE_DEFAULT && config_positive(s, path, "factor", 0, &r->factor)) return -1;
    if (k != ROPE_LLAMA3) return 0;
    if (config_positive(s, path, "low_freq_factor", 0, &r->low) ||
        config_positive(s, path, "high_freq_factor", 0, &r->high) ||
        config_int(s, path, "original_max_position_embeddings", 0, 1, CONFIG_MOST, &r->old))
        return -1;
    return r->high > r->low
               ? 0
               : err_set("%s: \"high_freq_factor\" %g is not above \"low_freq_factor\" %g", path, r->high, r->low);
}

int config_activation(const json_t *root, const char *path, const char *key, const char *preset, activation *act) {
    const json_t *v = json_object_get(root, key);
    const char *name = json_is_string(v) ? json_string_value(v) : preset;
    if (v && !json_is_string(v)) return err_set("%s: \"%s\" is not a text", path, key);
    if (!strcmp(name, "gelu_new") || !strcmp(name, "gelu_fast")) name = activation_names[ACT_GELU_TANH];
    for (int a = 0; a < ACTIVATIONS; a++)
        if (!strcmp(name, activation_names[a])) {
            *act = (activation)a;
            return 0;
        }
    return err_set("%s: \"%s\" is \"%.60s\"; only relu, silu, gelu and gelu_pytorch_tanh are implemented", path, key,
                   name);
}

// A token id, or the first of a list of them; none (absent or null): -1.
static int read_token(const json_t *root, const char *path, const char *key, int V, int *out) {
    const json_t *v = json_object_get(root, key);
    *out = -1;
    if (json_is_array(v)) v = json_array_get(v, 0);
    if (!v || json_is_null(v)) return 0;
    if (!json_is_integer(v)) return err_set("%s: \"%s\" is not a whole number", path, key);
    if (json_integer_value(v) >= V)
        return err_set("%s: the special token \"%s\" %lld is not below \"vocab_size\" %d", path, key,
                       (long long)json_integer_value(v), V);
    *out = json_integer_value(v) < 0 ? -1 : (int)json_integer_value(v);
    return 0;
}

int config_special(const json_t *root, const char *path, model_config *c) {
    if (read_token(root, path, "bos_token_id", c->V, &c->bos)) return -1;
    if (read_token(root, path, "eos_token_id", c->V, &c->eos)) return -1;
    return read_token(root, path, "pad_token_id", c->V, &c->pad);
}

static void put_token(json_t *root, const char *key, int id) {
    json_object_set_new(root, key, id < 0 ? json_null() : json_integer(id));
}

void config_put_special(json_t *root, const model_config *c) {
    put_token(root, "bos_token_id", c->bos);
    put_token(root, "eos_token_id", c->eos);
    put_token(root, "pad_token_id", c->pad);
}

void config_put_rope(json_t *root, const char *theta, const rope_config *r) {
    json_object_set_new(root, theta, json_real(r->theta));
    if (r->kind == ROPE_DEFAULT) return;
    json_t *s = json_pack("{s:s, s:f}", "rope_type", rope_names[r->kind], "factor", r->factor);
    if (r->kind == ROPE_LLAMA3) {
        json_object_set_new(s, "low_freq_factor", json_real(r->low));
        json_object_set_new(s, "high_freq_factor", json_real(r->high));
        json_object_set_new(s, "original_max_position_embeddings", json_integer(r->old));
    }
    json_object_set_new(root, "rope_scaling", s);
}
