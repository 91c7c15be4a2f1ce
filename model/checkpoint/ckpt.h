// ckpt - a checkpoint directory as Hugging Face publishes OPT, the Llama family and GPT-NeoX: config.json and its
// tensors, validated and mmapped read-only.
//
// Tensors come from (first that is there) model.safetensors; the shards that model.safetensors.index.json names;
// pytorch_model.bin (a zip of raw tensors and a pickle, read by a restricted reader that executes nothing); the shards
// that pytorch_model.bin.index.json names; or, with the configuration, from a GGUF file that the folder holds or that
// is named in its place (gguf.h). fp32, fp16, bf16, and blocks of GGUF. Names lose what their family puts before them:
// "model.decoder.layers.0.fc1.weight" is "layers.0.fc1.weight".
#pragma once
#include "base.h"
#include "mode.h"

// Types of numbers. From DT_Q8_0 on: llama.cpp's blocks of 32 numbers (Q4_K: 256) of a row that share scales (gguf.h);
// only matrices have them, whose rows are whole blocks.
typedef enum { DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q4_K, DTYPES } dtype;
static inline bool dtype_in_blocks(dtype t) { return t >= DT_Q8_0; }
static inline size_t dtype_bytes(dtype t) {  // of a number, of the first three types
    ASSERT(!dtype_in_blocks(t));
    return t == DT_F32 ? 4 : 2;
}
size_t dtype_block(dtype t);                    // numbers of a block; of the first three types 1
size_t dtype_size(dtype t, size_t n);           // bytes of n numbers: whole blocks
const char *dtype_name(dtype t);                // "float32", "float16", "bfloat16", "Q8_0", ...
extern const char *const dtype_options[];       // "fp32", "fp16", "bf16", NULL: as options and tables name them
int dtype_of_option(const char *name);          // or -1
extern const char *const activation_options[];  // --activations, --predictor-weights: and "q8_0"
// The types that a checkpoint's matrices can be turned into on loading: dtype_options, "q8_0", "q4_0", NULL.
extern const char *const weight_options[];

// Special tokens as config.json names them; the ids are bos, eos and pad below.
enum { TOKEN_BOS, TOKEN_EOS, TOKEN_PAD, TOKEN_KINDS };
enum { MAX_ENDS = 16 };
typedef struct {
    bool named[TOKEN_KINDS];     // it has the key; else the family's preset
    int ends[MAX_ENDS], n_ends;  // all ids of a list of "eos_token_id"; none: eos alone
} config_tokens;

typedef enum { MODEL_OPT, MODEL_LLAMA, MODEL_MISTRAL, MODEL_QWEN2, MODEL_QWEN3, MODEL_NEOX, MODEL_TYPES } model_type;
extern const char *const model_type_names[MODEL_TYPES];  // "opt", "llama", ..: config.json's "model_type"

typedef enum { ACT_RELU, ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACTIVATIONS } activation;
extern const char *const activation_names[ACTIVATIONS];  // "relu", "silu", "gelu", "gelu_pytorch_tanh": "hidden_act"

// Frequencies of rotary positions: f_i = theta^(-2i/D), i < D/2, D the numbers of a head that are turned. Linear: f /
// factor. Llama3: f / factor where the wavelength 2 pi / f is over old / low, f where it is under old / high, between
// them linear in old / wavelength; old: the positions that the model was first trained on.
typedef enum { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_KINDS } rope_kind;
typedef struct {
    rope_kind kind;
    double theta, factor, low, high;
    int old;
} rope_config;
extern const char *const rope_names[ROPE_KINDS];  // "default", "linear", "llama3": "rope_type"

// What OPT's configurations do not have, but for the activation; of GPT-NeoX K is H.
typedef struct {
    int K;  // KV heads; H is a multiple of it
    activation act;
    double norm_eps;
    rope_config rope;
    bool bias_qkv, bias_out, bias_ffn;  // biases of q, k, v; of the output projection; of gate, up, down
    bool qk_norm;                       // q and k of each head go through a norm (Qwen3)
    int window;                         // a sliding window that is shorter than the positions; 0: none
} llama_config;

// What config.json says. Letters as in the whole project: L layers, H heads, E hidden size, F FFN neurons, D values of
// a head (OPT: E/H), P width of the token embedding (OPT: word_embed_proj_dim; P != E brings project_in/out), V rows of
// the token embedding.
//
// A compacted model (bin/prune) has lost heads and neurons, another number in every layer. H and F stay those of the
// model that it was made from; "num_attention_heads_per_layer" and "ffn_dim_per_layer" say how many
// each layer has, 0 allowed. Arrays [L, H] and [L, F] over units keep their shape: units of layer l are the first
// model_units(c, l, kind) of its row; masks are 0 after them, scores NaN. Where query heads share KV heads, a layer
// keeps a KV head while one of its query heads is left, and "key_value_head_per_head" lists for each layer which KV
// head each of its query heads reads.
typedef struct {
    model_type type;
    // without OPT's offset of 2; with a sliding window no more than that, so that no text is longer
    int L, H, E, F, D, P, V, positions;
    bool pre_ln;         // do_layer_norm_before; false: OPT-350m
    bool final_ln;       // pre_ln and not _remove_final_layer_norm
    bool bias;           // OPT: enable_bias
    llama_config llama;  // unless OPT
    // tie_word_embeddings: a checkpoint without lm_head.weight is whole; one with it must hold the embedding there
    bool tied;
    bool parallel;      // GPT-NeoX: attention and FFN both read what enters the layer (use_parallel_residual)
    int rotary;         // GPT-NeoX: numbers of a head that are turned, the first ones; 0: all
    bool plain_norms;   // OPT: norms have no gains and biases (layer_norm_elementwise_affine false)
    bool own_head;      // OPT: not tied, and the checkpoint's lm_head.weight is another matrix than the embedding
    int bos, eos, pad;  // token ids; -1: none (Llama family)
    config_tokens tokens;
    dtype declared;  // torch_dtype
    // [L] of a compacted model; NULL: H, F in every layer. Owned by whoever parsed it (a ckpt); copies of the struct
    // share them
    int *heads, *neurons;
    int *reads;  // [L, H] likewise, where heads are compacted and K < H: the KV head that a query head reads; else NULL
} model_config;

typedef enum { UNIT_HEADS, UNIT_NEURONS, UNIT_KINDS } unit_kind;
extern const char *const unit_names[UNIT_KINDS];         // "heads", "neurons": in options, stores and tables
extern const char *const unit_names_of_one[UNIT_KINDS];  // "head", "neuron"
// Units of a layer that lost none, as many in every layer; and of the layers of a compacted model, NULL: all of them.
static inline int model_all_units(const model_config *c, unit_kind kind) { return kind == UNIT_HEADS ? c->H : c->F; }
static inline const int *model_units_left(const model_config *c, unit_kind kind) {
    return kind == UNIT_HEADS ? c->heads : c->neurons;
}
static inline int model_units(const model_config *c, int layer, unit_kind kind) {
    const int *left = model_units_left(c, kind);
    return left ? left[layer] : model_all_units(c, kind);
}
// The KV head that query head h of a layer reads, and KV heads of a layer. As many as query heads, but in the Llama
// family, where some share one.
static inline int model_kv_head(const model_config *c, int layer, int h) {
    if (c->reads) return c->reads[layer * c->H + h];
    return c->type == MODEL_OPT ? h : h / (c->H / c->llama.K);
}
static inline int model_kv_units(const model_config *c, int layer) {
    const int H = model_units(c, layer, UNIT_HEADS);
    return H ? model_kv_head(c, layer, H - 1) + 1 : 0;
}
static inline bool model_compacted(const model_config *c) { return c->heads || c->neurons; }
void model_config_free(model_config *c);  // the lists; safe on {0}
bool model_ends_text(const model_config *c, int id);
// 0, or -1 and err_set: the published code, which --mode compat follows, has OPT alone.
int model_check_mode(const model_config *c, mode_kind mode);

typedef struct {
    char *name;  // without what the family's files put before it
    dtype type;
    int rank;
    int64_t dim[4];  // row major
    // little endian; of a ckpt: aligned to the element, not more (a tensor that the file places otherwise is copied;
    // blocks have any place)
    const void *data;
    bool turned;          // of a matrix in blocks that we made: data hold the transpose (ops.h, weight)
    void *made;           // a copy of ours that data points to; freed with the tensor
    const char *foreign;  // the name of its type in the file where it is none of the three (a buffer of a module): such
                          // a tensor has no data, and no place in a model
} tensor;

typedef struct {
    char *dir;
    model_config config;
    tensor *tensors;  // sorted by name
    int n_tensors;
    // what ckpt_close unmaps; owned: a copy of ours, freed
    struct ckpt_map {
        void *base;
        size_t bytes;
        bool owned;
    } * maps;
    int n_maps, cap_maps;
    int n_files;   // of weights
    size_t bytes;  // of all tensors
    // of the config's sizes and switches and every tensor's name, type, shape and data, so that it does not depend on
    // the file form; made on demand by ckpt_hash
    char hash[33];
} ckpt;

// Opens and validates everything that can be checked without reading the weights: every offset, shape and dtype against
// the file size and the config; overlapping or out-of-file tensors, missing, wrongly shaped or duplicate tensors, and
// those that another configuration would have, are refused with one line. dir may also be a folder of the Hugging Face
// hub's cache (folder.h). A tied lm_head.weight (which must equal the embedding, or is there in its place) and
// fairseq's "version" and frequencies of rotary positions are dropped; so is, with a warning, what no model of the
// family has, where nothing is missing. The rows of the embedding are V, whatever the config says. All data stay valid
// until ckpt_close. 0, or -1 and err_set. ckpt_close is safe on {0} and twice.
int ckpt_open(ckpt *c, const char *dir);
void ckpt_close(ckpt *c);
// The tensor, or NULL.
const tensor *ckpt_find(const ckpt *c, const char *name);
// Reads all weights once: fills c->hash; -1 with the tensor's name if a weight, or the scale of a block, is NaN or
// infinite.
int ckpt_check_values(ckpt *c);
// Fills c->hash without looking at values.
const char *ckpt_hash(ckpt *c);

// Writes DIR/model.safetensors and DIR/config.json (created whole, then renamed), as transformers loads them. Tensors
// are given with names as in struct tensor; data in `type` each. 0 or -1 and err_set.
int ckpt_save(const char *dir, const model_config *config, const tensor *tensors, int n);
// The same with the data of one tensor at a time, in any order: fill returns them, good until its next call, or NULL
// and err_set.
typedef const void *tensor_fill(void *ctx, const tensor *t);
int ckpt_save_from(const char *dir, const model_config *config, const tensor *tensors, int n, tensor_fill *fill,
                   void *ctx);

// config.json of a configuration, as transformers writes it; caller frees.
char *model_config_text(const model_config *c);

// The parts, each on bytes in memory so that they can be fuzzed. Names are as in the file. The tensors' data point into
// `bytes` at any alignment (two tensors of a .bin may share them); caller frees names and array with tensors_free. On
// failure *tensors is NULL.
int st_parse(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors);  // safetensors
// torch.save zip
int pt_parse(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors);
// caller: model_config_free
int model_config_parse(const char *json, size_t n, const char *path, model_config *config);
void tensors_free(tensor *tensors, int n);
enum { CKPT_SHAPE = 96 };
void ckpt_shape_text(char out[CKPT_SHAPE], const tensor *t);  // "[256, 64]"
size_t tensor_bytes(const tensor *t);                         // SIZE_MAX: the product of the sizes overflows
size_t tensor_numbers(const tensor *t);                       // likewise
