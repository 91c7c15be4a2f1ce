// model_config - config.json: reading and writing it. Here what concerns all families, and OPT's keys.
// Keys and defaults as transformers' OPTConfig; what the forward pass does not implement is refused by name.
#include "config_json.h"
#include "config_tokens.h"
#include "json_read.h"
#include <stdlib.h>
#include <string.h>

const char *const model_type_names[] = {[MODEL_OPT] = "opt",     [MODEL_LLAMA] = "llama", [MODEL_MISTRAL] = "mistral",
                                        [MODEL_QWEN2] = "qwen2", [MODEL_QWEN3] = "qwen3", [MODEL_NEOX] = "gpt_neox"};
const char *const activation_names[] = {
    [ACT_RELU] = "relu", [ACT_SILU] = "silu", [ACT_GELU] = "gelu", [ACT_GELU_TANH] = "gelu_pytorch_tanh"};
const char *const rope_names[] = {[ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3"};

// ---------------------------------------------------------------- reading
static int read_opt(const json_t *root, const char *path, model_config *c) {
    bool affine, remove_final;
    if (config_activation(root, path, "activation_function", "relu", &c->llama.act)) return -1;
    if (config_sizes(root, path, "ffn_dim", c) || config_equal_heads(path, c)) return -1;
    if (config_int(root, path, "word_embed_proj_dim", c->E, 1, CONFIG_MOST, &c->P)) return -1;
    if (config_int(root, path, "bos_token_id", 2, 0, CONFIG_MOST, &c->bos)) return -1;
    if (config_int(root, path, "eos_token_id", 2, 0, CONFIG_MOST, &c->eos)) return -1;
    if (config_int(root, path, "pad_token_id", 1, 0, CONFIG_MOST, &c->pad)) return -1;
    if (c->bos >= c->V || c->eos >= c->V || c->pad >= c->V)
        return err_set("%s: a special token (bos %d, eos %d, pad %d) is not below \"vocab_size\" %d", path, c->bos,
                       c->eos, c->pad, c->V);
    if (config_bool(root, path, "do_layer_norm_before", true, &c->pre_ln)) return -1;
    if (config_bool(root, path, "_remove_final_layer_norm", false, &remove_final)) return -1;
    if (config_bool(root, path, "enable_bias", true, &c->bias)) return -1;
    if (config_bool(root, path, "tie_word_embeddings", true, &c->tied)) return -1;
    if (config_bool(root, path, "layer_norm_elementwise_affine", true, &affine)) return -1;
    c->plain_norms = !affine;
    c->final_ln = c->pre_ln && !remove_final;
    return 0;
}

static int config_read(const json_t *root, const char *path, model_config *c) {
    if (!json_is_object(root)) return err_set("%s: not a JSON object", path);
    const json_t *type = json_object_get(root, "model_type");
    if (!type) return err_set("%s: \"model_type\" is missing; the configuration must have it", path);
    if (!json_is_string(type)) return err_set("%s: \"model_type\" is not a text", path);
    for (int t = 0; t < MODEL_TYPES; t++) {
        if (strcmp(json_string_value(type), model_type_names[t])) continue;
        c->type = (model_type)t;
        if (t == MODEL_OPT) return read_opt(root, path, c);
        return t == MODEL_NEOX ? config_read_neox(root, path, c) : config_read_llama(root, path, c);
    }
    return err_set("%s: \"model_type\" is \"%.60s\"; only opt, llama, mistral, qwen2, qwen3 and gpt_neox can be read",
                   path, json_string_value(type));
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

int model_check_mode(const model_config *c, mode_kind mode) {
    const bool relu = c->llama.act == ACT_RELU;
    if (mode == MODE_SOUND || (c->type == MODEL_OPT && relu)) return 0;
    if (c->type == MODEL_OPT)
        return err_set("--mode %s follows published code that has ReLU alone, and this OPT has %s; take --mode sound",
                       mode_names[mode], activation_names[c->llama.act]);
    return err_set("--mode %s follows published code that has OPT models alone, and this one is %s; take --mode sound",
                   mode_names[mode], model_type_names[c->type]);
}

void model_config_free(model_config *c) {
    free(c->heads);
    free(c->neurons);
    free(c->reads);
    c->heads = c->neurons = c->reads = NULL;
}

// ---------------------------------------------------------------- writing
static json_t *write_opt(const model_config *c) {
    json_t *root = config_begin(c, "OPTForCausalLM", "ffn_dim");
    json_t *own =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:b, s:b, s:f, s:f, s:f, s:f}", "activation_function",
                  activation_names[c->llama.act], "word_embed_proj_dim", c->P, "bos_token_id", c->bos, "eos_token_id",
                  c->eos, "pad_token_id", c->pad, "do_layer_norm_before", c->pre_ln, "_remove_final_layer_norm",
                  c->pre_ln && !c->final_ln, "enable_bias", c->bias, "layer_norm_elementwise_affine", !c->plain_norms,
                  "tie_word_embeddings", !c->own_head, "dropout", 0.0, "attention_dropout", 0.0, "layerdrop", 0.0,
                  "init_std", 0.02);
    config_put(root, own);
    return root;
}

// Layers that differ are not what the class of transformers expects: it loads them by the file modeling_pruned.py,
// which bin/prune writes, and which does not know GPT-NeoX.
static void name_own_class(json_t *root) {
    const char *class = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
    char *own = xasprintf("Pruned%s", class), *place = xasprintf("modeling_pruned.%s", own);
    json_object_set_new(root, "architectures", json_pack("[s]", own));
    json_object_set_new(root, "auto_map", json_pack("{s:s}", "AutoModelForCausalLM", place));
    free(own);
    free(place);
}

char *model_config_text(const model_config *c) {
    json_t *root = c->type == MODEL_OPT ? write_opt(c) : NULL;
    if (!root) root = c->type == MODEL_NEOX ? config_write_neox(c) : config_write_llama(c);
    if (model_compacted(c) && c->type != MODEL_NEOX) name_own_class(root);
    char *body = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)), *text = xasprintf("%s\n", body);
    free(body);
    json_decref(root);
    return text;
}
