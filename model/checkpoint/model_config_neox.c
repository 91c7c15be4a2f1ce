// model_config_neox - config.json of GPT-NeoX. Keys and defaults as transformers' GPTNeoXConfig; what the forward pass
// does not implement is refused by name.
#include "config_json.h"
#include <math.h>

// The numbers of a head that are turned: a share of them, as rope_parameters (transformers 5) or rotary_pct says.
static int read_rotary(const json_t *root, const char *path, model_config *c) {
    const json_t *v5 = json_object_get(root, "rope_parameters");
    double share;
    if (config_positive(root, path, "rotary_pct", 0.25, &share)) return -1;
    if (json_is_object(v5) && config_positive(v5, path, "partial_rotary_factor", share, &share)) return -1;
    c->rotary = (int)(c->D * share);
    if (share <= 1 && c->rotary > 0 && c->rotary % 2 == 0) return 0;
    return err_set("%s: \"rotary_pct\" %g of heads of %d values; rotary positions turn pairs of them", path, share,
                   c->D);
}

int config_read_neox(const json_t *root, const char *path, model_config *c) {
    llama_config *f = &c->llama;
    c->pre_ln = c->final_ln = true;
    if (config_int(root, path, "num_hidden_layers", 0, 1, 1 << 12, &c->L)) return -1;
    if (config_int(root, path, "num_attention_heads", 0, 1, 1 << 12, &c->H)) return -1;
    if (config_int(root, path, "hidden_size", 0, 1, CONFIG_MOST, &c->E)) return -1;
    if (config_int(root, path, "intermediate_size", 0, 1, CONFIG_MOST, &c->F)) return -1;
    if (config_int(root, path, "vocab_size", 0, 1, CONFIG_MOST, &c->V)) return -1;
    if (config_int(root, path, "max_position_embeddings", 0, 1, CONFIG_MOST, &c->positions)) return -1;
    if (c->E % c->H)
        return err_set("%s: \"hidden_size\" %d is no multiple of \"num_attention_heads\" %d", path, c->E, c->H);
    c->P = c->E;
    c->D = c->E / c->H;
    f->K = c->H;
    if (config_activation(root, path, "hidden_act", "gelu", &f->act)) return -1;
    if (config_rope(root, path, "rotary_emb_base", &f->rope) || read_rotary(root, path, c)) return -1;
    if (config_positive(root, path, "layer_norm_eps", 1e-5, &f->norm_eps)) return -1;
    if (config_bool(root, path, "use_parallel_residual", true, &c->parallel)) return -1;
    if (config_bool(root, path, "attention_bias", true, &f->bias_qkv)) return -1;
    if (config_bool(root, path, "tie_word_embeddings", false, &c->tied)) return -1;
    f->bias_out = f->bias_qkv;
    f->bias_ffn = true;
    if (config_list(root, path, "num_attention_heads_per_layer", c->L, c->H, &c->heads)) return -1;
    if (config_list(root, path, "intermediate_size_per_layer", c->L, c->F, &c->neurons)) return -1;
    if (config_special(root, path, c)) return -1;
    return config_dtype(root, path, &c->declared);
}

json_t *config_write_neox(const model_config *c) {
    const llama_config *f = &c->llama;
    // never less than the fraction, whose product with D is rounded down by whoever reads it
    const double share = c->rotary ? ceil(1e12 * c->rotary / c->D) / 1e12 : 1;
    json_t *root =
        json_pack("{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:b, s:b, s:f, s:f, s:f, s:s}",
                  "architectures", "GPTNeoXForCausalLM", "model_type", "gpt_neox", "hidden_act",
                  activation_names[f->act], "num_hidden_layers", c->L, "num_attention_heads", c->H, "hidden_size", c->E,
                  "intermediate_size", c->F, "vocab_size", c->V, "max_position_embeddings", c->positions,
                  "layer_norm_eps", f->norm_eps, "rotary_pct", share, "use_parallel_residual", c->parallel,
                  "attention_bias", f->bias_qkv, "tie_word_embeddings", c->tied, "attention_dropout", 0.0,
                  "hidden_dropout", 0.0, "initializer_range", 0.02, "torch_dtype", dtype_name(c->declared));
    ASSERT(root);
    config_put_rope(root, "rotary_emb_base", &f->rope);
    config_put_special(root, c);
    config_put_list(root, "num_attention_heads_per_layer", c->heads, c->L);
    config_put_list(root, "intermediate_size_per_layer", c->neurons, c->L);
    return root;
}
