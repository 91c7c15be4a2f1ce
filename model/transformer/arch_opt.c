// arch_opt - the OPT family (Zhang et al. 2022, arXiv:2205.01068): LayerNorm, learned positions with offset 2, as
// many K and V heads as query heads, ReLU (Galactica, Taylor et al. 2022, arXiv:2211.09085: GELU), tied head. Norms
// come first and one more last; in OPT-350m they come last and tokens are embedded in another width. Names as
// Hugging Face's (less "model.decoder.").
#include "arch.h"
#include "model.h"
#include <stddef.h>

static arch describe(const model_config *c) {
    return (arch){.family = &family_opt,
                  .norm = NORM_LAYER,
                  .norm_eps = 1e-5,
                  .norm_first = c->pre_ln,
                  .norm_at_end = c->final_ln,
                  .positions = POSITIONS_LEARNED,
                  .position_offset = 2,
                  .heads = c->H,
                  .kv_heads = c->H,
                  .head_size = c->D,
                  .act = c->llama.act,
                  .gated = false,
                  .tap = TAP_Z,
                  .bias_qkv = c->bias,
                  .bias_out = c->bias,
                  .bias_ffn = c->bias,
                  .affine = !c->plain_norms,
                  .tied = !c->own_head};
}

#define OF_MODEL(member) offsetof(model, member)
#define OF_LAYER(member) offsetof(model_layer, member)
static const tensor_spec tensors[] = {
    {"embed_tokens.weight", AT_INPUT, OF_MODEL(embed), 0, DIM_VOCABULARY, DIM_WORD, IF_ANY, INIT_NORMAL, true},
    {"embed_positions.weight", AT_INPUT, OF_MODEL(pos), 0, DIM_POSITIONS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, true},
    {"project_in.weight", AT_INPUT, OF_MODEL(proj_in), 0, DIM_HIDDEN, DIM_WORD, IF_PROJECTED, INIT_NORMAL, false},
    {"project_out.weight", AT_OUTPUT, OF_MODEL(proj_out), 0, DIM_WORD, DIM_HIDDEN, IF_PROJECTED, INIT_NORMAL, false},
    {"self_attn.q_proj.weight", IN_LAYER, OF_LAYER(wq), 0, DIM_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"self_attn.q_proj.bias", IN_LAYER, OF_LAYER(bq), 0, DIM_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"self_attn.k_proj.weight", IN_LAYER, OF_LAYER(wk), 0, DIM_KV_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"self_attn.k_proj.bias", IN_LAYER, OF_LAYER(bk), 0, DIM_KV_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"self_attn.v_proj.weight", IN_LAYER, OF_LAYER(wv), 0, DIM_KV_HEADS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"self_attn.v_proj.bias", IN_LAYER, OF_LAYER(bv), 0, DIM_KV_HEADS, DIM_NONE, IF_BIAS_QKV, INIT_ZERO, false},
    {"self_attn.out_proj.weight", IN_LAYER, OF_LAYER(wo), OF_LAYER(wo_t), DIM_HIDDEN, DIM_HEADS, IF_ANY, INIT_RESIDUAL,
     false},
    {"self_attn.out_proj.bias", IN_LAYER, OF_LAYER(bo), 0, DIM_HIDDEN, DIM_NONE, IF_BIAS_OUT, INIT_ZERO, false},
    {"self_attn_layer_norm.weight", IN_LAYER, OF_LAYER(ln1_g), 0, DIM_HIDDEN, DIM_NONE, IF_AFFINE, INIT_ONE, false},
    {"self_attn_layer_norm.bias", IN_LAYER, OF_LAYER(ln1_b), 0, DIM_HIDDEN, DIM_NONE, IF_AFFINE, INIT_ZERO, false},
    {"fc1.weight", IN_LAYER, OF_LAYER(w1), 0, DIM_NEURONS, DIM_HIDDEN, IF_ANY, INIT_NORMAL, false},
    {"fc1.bias", IN_LAYER, OF_LAYER(b1), 0, DIM_NEURONS, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"fc2.weight", IN_LAYER, OF_LAYER(w2), OF_LAYER(w2_t), DIM_HIDDEN, DIM_NEURONS, IF_ANY, INIT_RESIDUAL, false},
    {"fc2.bias", IN_LAYER, OF_LAYER(b2), 0, DIM_HIDDEN, DIM_NONE, IF_BIAS_FFN, INIT_ZERO, false},
    {"final_layer_norm.weight", IN_LAYER, OF_LAYER(ln2_g), 0, DIM_HIDDEN, DIM_NONE, IF_AFFINE, INIT_ONE, false},
    {"final_layer_norm.bias", IN_LAYER, OF_LAYER(ln2_b), 0, DIM_HIDDEN, DIM_NONE, IF_AFFINE, INIT_ZERO, false},
    {"final_layer_norm.weight", AT_OUTPUT, OF_MODEL(lnf_g), 0, DIM_HIDDEN, DIM_NONE, IF_NORM_AT_END, INIT_ONE, false},
    {"final_layer_norm.bias", AT_OUTPUT, OF_MODEL(lnf_b), 0, DIM_HIDDEN, DIM_NONE, IF_NORM_AT_END, INIT_ZERO, false},
    {"lm_head.weight", AT_OUTPUT, OF_MODEL(head), 0, DIM_VOCABULARY, DIM_WORD, IF_OWN_HEAD, INIT_NORMAL, false}};

static const char *const prefixes[] = {"model.", "decoder.", NULL};
const family family_opt = {.describe = describe,
                           .prefixes = prefixes,
                           .saved_prefix = "model.decoder.",
                           .embedding = "embed_tokens.weight",
                           .head = "lm_head.weight",
                           .tensors = tensors,
                           .n_tensors = sizeof tensors / sizeof *tensors};
