// model_config_llama - config.json of the Llama family: llama, mistral, qwen2, qwen3. Keys and defaults as
// transformers' LlamaConfig, MistralConfig, Qwen2Config and Qwen3Config; what the forward pass does not implement is
// refused by name. Ours alone: "attention_output_bias", and "mlp_bias" of others than llama, where bin/prune had means
// to write into biases.
#include "config_json.h"
#include <string.h>

static bool is_qwen(const model_config *c) { return c->type == MODEL_QWEN2 || c->type == MODEL_QWEN3; }

// ---------------------------------------------------------------- reading
// Keys that would make another model of it.
static int refuse_layers(const json_t *root, const char *path) {
    const json_t *layers = json_object_get(root, "layer_types");
    if (layers && !json_is_null(layers) && !json_is_array(layers))
        return err_set("%s: \"layer_types\" is not a list", path);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const char *type = json_string_value(json_array_get(layers, i));
        if (!type || strcmp(type, "full_attention"))
            return err_set("%s: \"layer_types\": layer %zu is \"%.60s\"; only full_attention is implemented", path, i,
                           type ? type : "not a text");
    }
    return 0;
}

// transformers 5 has the factor among the rope_parameters.
static int refuse_partial_rotation(const json_t *root, const char *path) {
    const json_t *of[] = {root, json_object_get(root, "rope_parameters"), json_object_get(root, "rope_scaling")};
    for (int i = 0; i < 3; i++) {
        const json_t *part = json_object_get(of[i], "partial_rotary_factor");
        if (part && !json_is_null(part) && json_number_value(part) != 1)
            return err_set("%s: \"partial_rotary_factor\" is not 1; only whole heads are rotated", path);
    }
    return 0;
}

// Texts that are no longer than a sliding window never meet its edge.
static int read_window(const json_t *root, const char *path, model_config *c) {
    bool used = true;
    int window;
    if (is_qwen(c) && config_bool(root, path, "use_sliding_window", false, &used)) return -1;
    if (config_int(root, path, "sliding_window", CONFIG_MOST, 1, CONFIG_MOST, &window)) return -1;
    if (c->type == MODEL_LLAMA || !used || window >= c->positions) return 0;
    c->llama.window = c->positions = window;
    return 0;
}

static int read_heads(const json_t *root, const char *path, model_config *c) {
    const json_t *given = json_object_get(root, "head_dim");
    if (config_int(root, path, "num_key_value_heads", c->H, 1, 1 << 12, &c->llama.K)) return -1;
    if (c->H % c->llama.K)
        return err_set("%s: \"num_attention_heads\" %d is no multiple of \"num_key_value_heads\" %d", path, c->H,
                       c->llama.K);
    if ((!given || json_is_null(given)) && c->type != MODEL_QWEN3) {
        if (config_equal_heads(path, c)) return -1;
    } else if (config_int(root, path, "head_dim", 128, 1, 1 << 12, &c->D))
        return -1;
    if (c->D % 2) return err_set("%s: heads of %d values; rotary positions turn pairs of them", path, c->D);
    return 0;
}

// Which KV head each query head reads, of a compacted model whose query heads share them: from 0 on, none left out.
static int read_reads(const json_t *root, const char *path, model_config *c) {
    static const char key[] = "key_value_head_per_head";
    const json_t *all = json_object_get(root, key);
    const bool wanted = c->heads && c->llama.K < c->H;
    if (wanted != (all && !json_is_null(all)))
        return err_set("%s: \"%s\" %s", path, key,
                       wanted ? "is missing, though heads that share KV heads were pruned" : "belongs to pruned heads");
    if (!wanted) return 0;
    if (!json_is_array(all) || json_array_size(all) != (size_t)c->L)
        return err_set("%s: \"%s\" is not a list of %d lists, one per layer", path, key, c->L);
    c->reads = xcalloc((size_t)c->L * (size_t)c->H, sizeof *c->reads);
    for (int l = 0; l < c->L; l++) {
        const json_t *one = json_array_get(all, (size_t)l);
        bool good = json_is_array(one) && json_array_size(one) == (size_t)c->heads[l];
        for (int h = 0, before = -1; good && h < c->heads[l]; h++) {
            const json_t *v = json_array_get(one, (size_t)h);
            const json_int_t k = json_is_integer(v) ? json_integer_value(v) : -1;
            good = k < c->llama.K && k >= before && k <= before + 1 && k >= 0;
            if (good) before = c->reads[l * c->H + h] = (int)k;
        }
        if (!good)
            return err_set("%s: \"%s\": layer %d: not %d numbers that rise from 0 to below %d, none left out", path,
                           key, l, c->heads[l], c->llama.K);
    }
    return 0;
}

int config_read_llama(const json_t *root, const char *path, model_config *c) {
    llama_config *f = &c->llama;
    if (refuse_layers(root, path) || refuse_partial_rotation(root, path)) return -1;
    if (config_sizes(root, path, "intermediate_size", c) || read_heads(root, path, c)) return -1;
    c->pre_ln = c->final_ln = true;
    c->P = c->E;
    if (config_activation(root, path, "hidden_act", "silu", &f->act)) return -1;
    if (config_rope(root, path, "rope_theta", &f->rope)) return -1;
    if (read_window(root, path, c)) return -1;
    if (config_positive(root, path, "rms_norm_eps", 1e-6, &f->norm_eps)) return -1;
    if (config_bool(root, path, "tie_word_embeddings", false, &c->tied)) return -1;
    if (c->type == MODEL_LLAMA || c->type == MODEL_QWEN3) {
        if (config_bool(root, path, "attention_bias", false, &f->bias_qkv)) return -1;
        f->bias_out = f->bias_qkv;
    }
    if (config_bool(root, path, "mlp_bias", false, &f->bias_ffn)) return -1;
    if (config_bool(root, path, "attention_output_bias", f->bias_out, &f->bias_out)) return -1;
    if (c->type == MODEL_QWEN2) f->bias_qkv = true;
    f->qk_norm = c->type == MODEL_QWEN3;
    return read_reads(root, path, c) || config_special(root, path, c) ? -1 : 0;
}

// ---------------------------------------------------------------- writing
json_t *config_write_llama(const model_config *c) {
    static const char *const classes[] = {[MODEL_LLAMA] = "LlamaForCausalLM",
                                          [MODEL_MISTRAL] = "MistralForCausalLM",
                                          [MODEL_QWEN2] = "Qwen2ForCausalLM",
                                          [MODEL_QWEN3] = "Qwen3ForCausalLM"};
    const llama_config *f = &c->llama;
    json_t *root = config_begin(c, classes[c->type], "intermediate_size");
    json_t *own = json_pack("{s:s, s:i, s:i, s:f, s:b, s:f, s:f}", "hidden_act", activation_names[f->act],
                            "num_key_value_heads", f->K, "head_dim", c->D, "rms_norm_eps", f->norm_eps,
                            "tie_word_embeddings", c->tied, "attention_dropout", 0.0, "initializer_range", 0.02);
    config_put(root, own);
    config_put_rope(root, "rope_theta", &f->rope);
    config_put_special(root, c);
    if (c->type == MODEL_LLAMA || c->type == MODEL_QWEN3)
        json_object_set_new(root, "attention_bias", json_boolean(f->bias_qkv));
    else if (f->bias_out)
        json_object_set_new(root, "attention_output_bias", json_true());
    if (c->type == MODEL_LLAMA || f->bias_ffn) json_object_set_new(root, "mlp_bias", json_boolean(f->bias_ffn));
    if (is_qwen(c)) json_object_set_new(root, "use_sliding_window", json_boolean(f->window > 0));
    if (f->window || c->type == MODEL_MISTRAL)
        json_object_set_new(root, "sliding_window", f->window ? json_integer(f->window) : json_null());
    json_t *reads = json_array();
    for (int l = 0; c->reads && l < c->L; l++) {
        json_t *one = json_array();
        for (int h = 0; h < c->heads[l]; h++) json_array_append_new(one, json_integer(c->reads[l * c->H + h]));
        json_array_append_new(reads, one);
    }
    if (c->reads)
        json_object_set_new(root, "key_value_head_per_head", reads);
    else
        json_decref(reads);
    return root;
}
