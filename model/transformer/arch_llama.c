// arch_llama - the Llama family: Llama (Touvron et al. 2023, arXiv:2302.13971; 3: Grattafiori et al. 2024,
// arXiv:2407.21783), Mistral (Jiang et al. 2023, arXiv:2310.06825), Qwen2 (Yang et al. 2024, arXiv:2407.10671), Qwen3
// (2025, arXiv:2505.09388), and those with ReLU. RMSNorm first and once more at the end (Zhang and Sennrich 2019,
// arXiv:1910.07467), rotary positions (Su et al. 2021, arXiv:2104.09864), query heads in groups that share K and V
// (Ainslie et al. 2023, arXiv:2305.13245), a gated FFN (Shazeer 2020, arXiv:2002.05202), own or tied head. Names as
// Hugging Face's (less "model.").
#include "arch.h"
#include "model.h"
#include <stddef.h>

static arch describe(const model_config *c) {
    const llama_config *f = &c->llama;
    return (arch){.family = &family_llama,
                  .norm = NORM_RMS,
                  .norm_eps = f->norm_eps,
                  .norm_first = true,
                  .norm_at_end = true,
                  .qk_norm = f->qk_norm,
                  .positions = POSITIONS_ROTARY,
                  .rotary = c->D,
                  .heads = c->H,
                  .kv_heads = f->K,
                  .head_size = c->D,
                  .act = f->act,
                  .gated = true,
                  .tap = TAP_R,
                  .bias_qkv = f->bias_qkv,
                  .bias_out = f->bias_out,
                  .bias_ffn = f->bias_ffn,
                  .affine = true,
                  .tied = c->tied};
}

#define OF_MODEL(member) offsetof(model, member)
#define OF_LAYER(member) offsetof(model_layer, member)
static const tensor_spec tensors[] = {
    {"embed_tokens.weight", AT_INPUT, OF_MODEL(embed), 0, DIM_VOCABULARY, DIM_WORD, IF_ANY, INIT_NORMAL, true},
    {"self_attn.q_proj.weight", IN_LAYER, OF_LAYER(wq), 0, DIM_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"self_attn.q_proj.bias", IN_LAYER, OF_LAYER(bq), 0, DIM_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"self_attn.k_proj.weight", IN_LAYER, OF_LAYER(wk), 0, DIM_KV_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"self_attn.k_proj.bias", IN_LAYER, OF_LAYER(bk), 0, DIM_KV_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"self_attn.v_proj.weight", IN_LAYER, OF_LAYER(wv), 0, DIM_KV_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"self_attn.v_proj.bias", IN_LAYER, OF_LAYER(bv), 0, DIM_KV_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"self_attn.q_norm.weight", IN_LAYER, OF_LAYER(q_norm), 0, DIM_HEAD_SIZE, DIM_NONE, IF_QK_NORM, INIT_ONE, false},
    {"self_attn.k_norm.weight", IN_LAYER, OF_LAYER(k_norm), 0, DIM_HEAD_SIZE, DIM_NONE, IF_QK_NORM, INIT_ONE, false},
    {"self_attn.o_proj.weight", IN_LAYER, OF_LAYER(wo), OF_LAYER(wo_t), DIM_HIDDEN, DIM_HEADS, IF_ANY, INIT_RESIDUAL,
     false},
    {"self_attn.o_proj.bias", IN_LAYER, OF_LAYER(bo), 0, DIM_HIDDEN, DIM_NONE, IF_BIAS_OUT, INIT_ZERO, false},
    {"input_layernorm.weight", IN_LAYER, OF_LAYER(ln1_g), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ONE, false},
    {"mlp.gate_proj.weight", IN_LAYER, OF_LAYER(w1), 0, DIM_NEURONS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"mlp.gate_proj.bias", IN_LAYER, OF_LAYER(b1), 0, DIM_NEURONS, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"mlp.up_proj.weight", IN_LAYER, OF_LAYER(wu), 0, DIM_NEURONS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"mlp.up_proj.bias", IN_LAYER, OF_LAYER(bu), 0, DIM_NEURONS, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"mlp.down_proj.weight", IN_LAYER, OF_LAYER(w2), OF_LAYER(w2_t), DIM_HIDDEN, DIM_NEURONS, IF_ANY, INIT_RESIDUAL,
     false},
    {"mlp.down_proj.bias", IN_LAYER, OF_LAYER(b2), 0, DIM_HIDDEN, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"post_attention_layernorm.weight", IN_LAYER, OF_LAYER(ln2_g), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ONE, false},
    {"norm.weight", AT_OUTPUT, OF_MODEL(lnf_g), 0, DIM_HIDDEN, DIM_NONE, IF_ANY, INIT_ONE, false},
    {"lm_head.weight", AT_OUTPUT, OF_MODEL(head), 0, DIM_VOCABULARY, DIM_WORD, IF_OWN_HEAD, INIT_NORMAL, false}};

static const char *const prefixes[] = {"model.", NULL};
const family family_llama = {.describe = describe,
                             .prefixes = prefixes,
                             .saved_prefix = "model.",
                             .embedding = "embed_tokens.weight",
                             .head = "lm_head.weight",
                             .tensors = tensors,
                             .n_tensors = sizeof tensors / sizeof *tensors};
