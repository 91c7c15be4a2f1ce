// arch - what kind of transformer a model is, as a value, and the tensors of a family of models, as a table. Everything
// that handles weights reads these two: loading, saving, compaction, random initialisation, transposed copies, bytes
// and multiply-adds. A family is a file arch_NAME.c: arch_opt.c, arch_llama.c, arch_neox.c.
#pragma once
#include "ckpt.h"
#include "norm_shape.h"

// What the code of a pass implements; a family that needs another kind adds it here and as operations (ops.h).
// Norms are those of norm_shape.h, which says how to add one; activations those of ckpt.h.
typedef enum { POSITIONS_LEARNED, POSITIONS_ROTARY } position_kind;
// Where neurons are scored: z, before the activation; or r, what enters the FFN's last matrix.
typedef enum { TAP_Z, TAP_R } neuron_tap;

typedef struct {
    const struct family *family;
    norm_kind norm;
    double norm_eps;
    bool norm_first;   // in a layer: y = x + f(N(x)); else y = N(x + f(x))
    bool norm_at_end;  // one more before the head
    bool qk_norm;      // q and k of each head go through a norm of their own over D values, before the rotation
    bool parallel;     // y = x + attention(N1(x)) + ffn(N2(x)); norms come first
    // Learned: a row of a table for each position, added to the embedding. Rotary: pairs of q and k are turned, in the
    // first `rotary` numbers of each head.
    position_kind positions;
    int rotary;
    int position_offset;             // rows of the table before that of position 0
    int heads, kv_heads, head_size;  // query head h reads K and V of head h / (heads / kv_heads)
    activation act;
    bool gated;  // the FFN's r is act(x Wg') * (x Wu'); else act(z), z = x W1'
    neuron_tap tap;
    bool bias_qkv, bias_out, bias_ffn;  // of q, k, v; of the output projection; of the FFN's matrices
    bool affine;                        // norms have gains (and biases)
    bool tied;                          // the head is the token embedding
} arch;
arch arch_of(const model_config *c);

// ---------------------------------------------------------------- the table of a family
// A size of a tensor. Heads, kv_heads and neurons are those of the layer, so the rows (columns) belong to these units:
// head_size to a head, one to a neuron.
typedef enum {
    DIM_NONE,
    DIM_HIDDEN,
    DIM_WORD,
    DIM_VOCABULARY,
    DIM_POSITIONS,
    DIM_HEADS,
    DIM_KV_HEADS,
    DIM_HEAD_SIZE,
    DIM_NEURONS
} tensor_dim;  // NONE: a vector has no columns
typedef enum { OWNER_NONE, OWNER_HEAD, OWNER_KV_HEAD, OWNER_NEURON, OWNERS } unit_owner;
typedef enum { AT_INPUT, IN_LAYER, AT_OUTPUT } tensor_place;  // where it is used
typedef enum {
    IF_ANY,
    IF_BIAS_QKV,
    IF_BIAS_OUT,
    IF_BIAS_FFN,
    IF_QK_NORM,
    IF_PROJECTED,
    IF_NORM_AT_END,
    IF_OWN_HEAD,
    IF_AFFINE
} tensor_condition;  // which models have it; projected: tokens are embedded in another width
// Before training: normal, of a smaller deviation in what is added to the residual (pretrain), gains 1, biases 0.
typedef enum { INIT_NORMAL, INIT_RESIDUAL, INIT_ONE, INIT_ZERO } tensor_init;

typedef struct {
    const char *name;  // in a checkpoint, "layers.%d." before it of those in a layer
    tensor_place place;
    size_t slot, transposed;  // offset of its weight in a model or model_layer; of its transposed copy, 0: none is made
    tensor_dim rows, cols;
    tensor_condition when;
    tensor_init init;
    bool looked_up;  // a token reads one row
} tensor_spec;

// Tensors of a layer that checkpoints hold as one, by turns: of each head its rows of the first, of the second, of the
// third (fused.h). Names without ".weight" and ".bias".
typedef struct {
    const char *name, *part[3];
} tensor_fused;

typedef struct family {
    arch (*describe)(const model_config *c);  // a configuration of one of its model types
    const char *const *prefixes;              // what a file may put before the names, NULL at the end
    const char *saved_prefix;                 // what is put before them on saving, but for the head's
    const char *embedding, *head;             // names of the token embedding, of the head in checkpoints that hold it
    const tensor_spec *tensors;               // in the order of files: those of layers stand together
    int n_tensors;
    const tensor_fused *fused;  // NULL: none
} family;
extern const family family_opt, family_llama, family_neox;

// A tensor of a model; layer: -1 at the input, L at the output.
typedef struct {
    const tensor_spec *spec;
    int layer, rows, cols;
    char name[80];
} tensor_at;
typedef int tensor_fn(void *ctx, const tensor_at *t);
// fn for every tensor of a configuration in the order of the table, until one returns nonzero; that.
int arch_each_tensor(const model_config *c, tensor_fn *fn, void *ctx);
// All tensor names and shapes of a configuration, in file order (arrays freed with tensors_free; data NULL).
tensor *arch_tensor_list(const model_config *c, int *n);
// The line of the table for a tensor by its name, and its layer; NULL: there is none.
const tensor_spec *arch_find(const family *f, const char *name, int *layer);
bool arch_has(const model_config *c, const tensor_spec *s);
int arch_size(const model_config *c, int layer, tensor_dim dim);
unit_owner arch_owner(tensor_dim dim);
unit_kind arch_owner_kind(unit_owner owner);  // whose mask says which of them are kept
// The k-th tensor of a layer whose row j holds weights that only make the input of neuron j: those that criteria of
// neurons read. NULL: there are fewer.
const tensor_spec *arch_neuron_rows(const family *f, int k);
