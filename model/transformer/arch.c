// arch - walking the table of a family's tensors. Contract in arch.h.
#include "arch.h"
#include "model.h"
#include <stdlib.h>
#include <string.h>

arch arch_of(const model_config *c) {
    static const family *const families[MODEL_TYPES] = {
        [MODEL_OPT] = &family_opt,     [MODEL_LLAMA] = &family_llama, [MODEL_MISTRAL] = &family_llama,
        [MODEL_QWEN2] = &family_llama, [MODEL_QWEN3] = &family_llama, [MODEL_NEOX] = &family_neox};
    return families[c->type]->describe(c);
}

bool arch_has(const model_config *c, const tensor_spec *s) {
    const arch a = arch_of(c);
    switch (s->when) {
    case IF_BIAS_QKV: return a.bias_qkv;
    case IF_BIAS_OUT: return a.bias_out;
    case IF_BIAS_FFN: return a.bias_ffn;
    case IF_QK_NORM: return a.qk_norm;
    case IF_PROJECTED: return c->P != c->E;
    case IF_NORM_AT_END: return a.norm_at_end && a.affine;
    case IF_OWN_HEAD: return !a.tied;
    case IF_AFFINE: return a.affine;
    default: return true;
    }
}

int arch_size(const model_config *c, int layer, tensor_dim dim) {
    const arch a = arch_of(c);
    switch (dim) {
    case DIM_HIDDEN: return c->E;
    case DIM_WORD: return c->P;
    case DIM_VOCABULARY: return c->V;
    case DIM_POSITIONS: return c->positions + a.position_offset;
    case DIM_HEADS: return model_units(c, layer, UNIT_HEADS) * a.head_size;
    case DIM_KV_HEADS: return model_kv_units(c, layer) * a.head_size;
    case DIM_HEAD_SIZE: return a.head_size;
    case DIM_NEURONS: return model_units(c, layer, UNIT_NEURONS);
    default: return 0;
    }
}

unit_owner arch_owner(tensor_dim dim) {
    switch (dim) {
    case DIM_HEADS: return OWNER_HEAD;
    case DIM_KV_HEADS: return OWNER_KV_HEAD;
    case DIM_NEURONS: return OWNER_NEURON;
    default: return OWNER_NONE;
    }
}

unit_kind arch_owner_kind(unit_owner owner) { return owner == OWNER_NEURON ? UNIT_NEURONS : UNIT_HEADS; }

const tensor_spec *arch_neuron_rows(const family *f, int k) {
    for (int i = 0; i < f->n_tensors; i++) {
        const tensor_spec *s = &f->tensors[i];
        if (s->place == IN_LAYER && s->rows == DIM_NEURONS && s->cols != DIM_NONE && k-- == 0) return s;
    }
    return NULL;
}

static int call(const model_config *c, const tensor_spec *s, int l, tensor_fn *fn, void *ctx) {
    if (!arch_has(c, s)) return 0;
    const int layer_of[] = {[AT_INPUT] = -1, [IN_LAYER] = l, [AT_OUTPUT] = c->L}, layer = layer_of[s->place];
    tensor_at t = {
        .spec = s, .layer = layer, .rows = arch_size(c, layer, s->rows), .cols = arch_size(c, layer, s->cols)};
    if (s->place == IN_LAYER)
        snprintf(t.name, sizeof t.name, "layers.%d.%s", layer, s->name);
    else
        snprintf(t.name, sizeof t.name, "%s", s->name);
    return fn(ctx, &t);
}

int arch_each_tensor(const model_config *c, tensor_fn *fn, void *ctx) {
    const family *f = arch_of(c).family;
    const tensor_spec *s = f->tensors, *end = s + f->n_tensors, *layer;
    int bad = 0;
    for (; s->place != IN_LAYER && !bad; s++) bad = call(c, s, 0, fn, ctx);
    for (layer = s; s < end && s->place == IN_LAYER; s++) {
    }
    for (int l = 0; l < c->L; l++)
        for (const tensor_spec *t = layer; t < s && !bad; t++) bad = call(c, t, l, fn, ctx);
    for (; s < end && !bad; s++) bad = call(c, s, 0, fn, ctx);
    return bad;
}

const tensor_spec *arch_find(const family *f, const char *name, int *layer) {
    int at = 0;
    *layer = -1;
    const bool in_layer = sscanf(name, "layers.%d.%n", layer, &at) == 1 && at > 0;
    for (int i = 0; i < f->n_tensors; i++) {
        const tensor_spec *s = &f->tensors[i];
        if ((s->place == IN_LAYER) == in_layer && strcmp(s->name, name + at) == 0) return s;
    }
    return NULL;
}

// ---------------------------------------------------------------- names and shapes
struct listing {
    tensor *t;
    int n, cap;
};

static int list_tensor(void *ctx, const tensor_at *at) {
    struct listing *list = ctx;
    const bool vector = at->spec->cols == DIM_NONE;
    tensor t = {
        .name = xstrdup(at->name), .type = DT_F32, .rank = vector ? 1 : 2, .dim = {at->rows, vector ? 1 : at->cols}};
    VEC_PUSH(list->t, list->n, list->cap, t);
    return 0;
}

tensor *arch_tensor_list(const model_config *c, int *n) {
    struct listing list = {0};
    arch_each_tensor(c, list_tensor, &list);
    *n = list.n;
    return list.t;
}

// ---------------------------------------------------------------- bytes and multiply-adds
void model_layer_bytes(const model *m, int layer, double of[OWNERS]) {
    const family *f = m->arch.family;
    for (int k = 0; k < OWNERS; k++) of[k] = 0;
    for (int i = 0; i < f->n_tensors; i++) {
        const tensor_spec *s = &f->tensors[i];
        if (s->place != IN_LAYER || !arch_has(&m->c, s)) continue;
        const unit_owner rows = arch_owner(s->rows);
        of[rows == OWNER_NONE ? arch_owner(s->cols) : rows] +=
            weight_bytes(model_slot((model *)(uintptr_t)m, s, layer));
    }
}

double model_outer_bytes(const model *m, int tokens) {
    const family *f = m->arch.family;
    double bytes = m->arch.tied ? weight_bytes(&m->head) : 0;  // else it is in the table
    for (int i = 0; i < f->n_tensors; i++) {
        const tensor_spec *s = &f->tensors[i];
        if (s->place == IN_LAYER || !arch_has(&m->c, s)) continue;
        const weight *w = model_slot((model *)(uintptr_t)m, s, -1);
        bytes += s->looked_up ? tokens * (double)dtype_size(w->type, (size_t)w->cols) : weight_bytes(w);
    }
    return bytes;
}

double model_layer_macs(const model_config *c, int layer) {
    const family *f = arch_of(c).family;
    double macs = 0;
    for (int i = 0; i < f->n_tensors; i++) {
        const tensor_spec *s = &f->tensors[i];
        if (s->place == IN_LAYER && s->cols != DIM_NONE)
            macs += (double)arch_size(c, layer, s->rows) * arch_size(c, layer, s->cols);
    }
    return macs;
}
