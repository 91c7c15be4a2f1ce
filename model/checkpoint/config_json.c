// config_json - values of a config.json by key. Contract in config_json.h.
#include "config_json.h"
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

int config_want_text(const json_t *root, const char *path, const char *key, const char *want, const char *why) {
    const json_t *v = json_object_get(root, key);
    if (!v) return 0;
    if (!json_is_string(v)) return err_set("%s: \"%s\" is not a text", path, key);
    if (strcmp(json_string_value(v), want))
        return err_set("%s: \"%s\" is \"%.60s\"; %s", path, key, json_string_value(v), why);
    return 0;
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
