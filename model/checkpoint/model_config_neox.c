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
    if (config_sizes(root, path, "intermediate_size", c) || config_equal_heads(path, c)) return -1;
    c->pre_ln = c->final_ln = f->bias_ffn = true;
    c->P = c->E;
    f->K = c->H;
    if (config_activation(root, path, "hidden_act", "gelu", &f->act)) return -1;
    if (config_rope(root, path, "rotary_emb_base", &f->rope) || read_rotary(root, path, c)) return -1;
    if (config_positive(root, path, "layer_norm_eps", 1e-5, &f->norm_eps)) return -1;
    if (config_bool(root, path, "use_parallel_residual", true, &c->parallel)) return -1;
    if (config_bool(root, path, "attention_bias", true, &f->bias_qkv)) return -1;
    if (config_bool(root, path, "tie_word_embeddings", false, &c->tied)) return -1;
    f->bias_out = f->bias_qkv;
    return config_special(root, path, c);
}

json_t *config_write_neox(const model_config *c) {
    const llama_config *f = &c->llama;
    // never less than the fraction, whose product with D is rounded down by whoever reads it
    const double share = c->rotary ? ceil(1e12 * c->rotary / c->D) / 1e12 : 1;
    json_t *root = config_begin(c, "GPTNeoXForCausalLM", "intermediate_size");
    json_t *own = json_pack("{s:s, s:f, s:f, s:b, s:b, s:b, s:f, s:f, s:f}", "hidden_act", activation_names[f->act],
                            "layer_norm_eps", f->norm_eps, "rotary_pct", share, "use_parallel_residual", c->parallel,
                            "attention_bias", f->bias_qkv, "tie_word_embeddings", c->tied, "attention_dropout", 0.0,
                            "hidden_dropout", 0.0, "initializer_range", 0.02);
    config_put(root, own);
    config_put_rope(root, "rotary_emb_base", &f->rope);
    config_put_special(root, c);
    return root;
}
