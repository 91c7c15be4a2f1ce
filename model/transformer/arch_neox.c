// arch_neox - GPT-NeoX (Black et al. 2022, arXiv:2204.06745), as Pythia has it (Biderman et al. 2023,
// arXiv:2304.01373): LayerNorm first and once more at the end, attention and FFN side by side or in sequence, rotary
// positions in the first numbers of each head, as many K and V heads as query heads, GELU, own head. Names as
// Hugging Face's (less "gpt_neox."); q, k and v are one tensor there.
#include "arch.h"
#include "model.h"
#include <stddef.h>

static arch describe(const model_config *c) {
    return (arch){.family = &family_neox,
                  .norm = NORM_LAYER,
                  .norm_eps = c->llama.norm_eps,
                  .norm_first = true,
                  .norm_at_end = true,
                  .parallel = c->parallel,
                  .positions = POSITIONS_ROTARY,
                  .rotary = c->rotary ? c->rotary : c->D,
                  .heads = c->H,
                  .kv_heads = c->H,
                  .head_size = c->D,
                  .act = c->llama.act,
                  .tap = TAP_Z,
                  .bias_qkv = c->llama.bias_qkv,
                  .bias_out = c->llama.bias_out,
                  .bias_ffn = true,
                  .affine = true,
                  .tied = c->tied};
}

#define OF_MODEL(member) offsetof(model, member)
#define OF_LAYER(member) offsetof(model_layer, member)
static const tensor_spec tensors[] = {
    {"embed_in.weight", AT_INPUT, OF_MODEL(embed), 0, DIM_VOCABULARY, DIM_WORD, IF_ANY, INIT_NORMAL, true},
    {"attention.query.weight", IN_LAYER, OF_LAYER(wq), 0, DIM_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"attention.query.bias", IN_LAYER, OF_LAYER(bq), 0, DIM_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"attention.key.weight", IN_LAYER, OF_LAYER(wk), 0, DIM_KV_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"attention.key.bias", IN_LAYER, OF_LAYER(bk), 0, DIM_KV_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"attention.value.weight", IN_LAYER, OF_LAYER(wv), 0, DIM_KV_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"attention.value.bias", IN_LAYER, OF_LAYER(bv), 0, DIM_KV_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"attention.dense.weight", IN_LAYER, OF_LAYER(wo), OF_LAYER(wo_t), DIM_HIDDEN, DIM_HEADS, IF_ANY, INIT_RESIDUAL,
     false},
    {"attention.dense.bias", IN_LAYER, OF_LAYER(bo), 0, DIM_HIDDEN, DIM_NONE, IF_BIAS_OUT, INIT_ZERO, false},
    {"input_layernorm.weight", IN_LAYER, OF_LAYER(ln1_g), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ONE, false},
    {"input_layernorm.bias", IN_LAYER, OF_LAYER(ln1_b), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ZERO, false},
    {"mlp.dense_h_to_4h.weight", IN_LAYER, OF_LAYER(w1), 0, DIM_NEURONS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"mlp.dense_h_to_4h.bias", IN_LAYER, OF_LAYER(b1), 0, DIM_NEURONS, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"mlp.dense_4h_to_h.weight", IN_LAYER, OF_LAYER(w2), OF_LAYER(w2_t), DIM_HIDDEN, DIM_NEURONS, IF_ANY, INIT_RESIDUAL,
     false},
    {"mlp.dense_4h_to_h.bias", IN_LAYER, OF_LAYER(b2), 0, DIM_HIDDEN, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"post_attention_layernorm.weight", IN_LAYER, OF_LAYER(ln2_g), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ONE, false},
    {"post_attention_layernorm.bias", IN_LAYER, OF_LAYER(ln2_b), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ZERO, false},
    {"final_layer_norm.weight", AT_OUTPUT, OF_MODEL(lnf_g), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ONE, false},
    {"final_layer_norm.bias", AT_OUTPUT, OF_MODEL(lnf_b), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ZERO, false},
    {"embed_out.weight", AT_OUTPUT, OF_MODEL(head), 0, DIM_VOCABULARY, DIM_WORD, IF_OWN_HEAD, INIT_NORMAL, false}};

static const tensor_fused qkv = {"attention.query_key_value", {"attention.query", "attention.key", "attention.value"}};
static const char *const prefixes[] = {"gpt_neox.", NULL};
const family family_neox = {.describe = describe,
                            .prefixes = prefixes,
                            .saved_prefix = "gpt_neox.",
                            .embedding = "embed_in.weight",
                            .head = "embed_out.weight",
                            .tensors = tensors,
                            .n_tensors = sizeof tensors / sizeof *tensors,
                            .fused = &qkv};
