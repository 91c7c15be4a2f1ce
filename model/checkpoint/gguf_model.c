// gguf_model - a GGUF file's metadata as a config.json and its tensors under Hugging Face's names (gguf-py's
// tensor_mapping.py and llama.cpp's convert_hf_to_gguf.py, read backwards). Contract in gguf.h.
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "gguf.h"

static const char *const architectures[] = {"llama", "qwen2", "qwen3"};

// ---------------------------------------------------------------- configuration
// What the numbers of an architecture are called: "llama.block_count".
typedef struct {
    const gguf *g;
    char *name;  // the architecture
    json_t *root;
} reading;

static int put_int(reading *c, const char *key, const char *as, int64_t preset, int64_t *out) {
    char *full = xasprintf("%s.%s", c->name, key);
    const int bad = gguf_int(c->g, full, preset, 1, 1 << 24, out);
    if (!bad) json_object_set_new(c->root, as, json_integer(*out));
    free(full);
    return bad;
}

static int get_float(reading *c, const char *key, double preset, double *out) {
    char *full = xasprintf("%s.%s", c->name, key);
    const int bad = gguf_float(c->g, full, preset, out);
    free(full);
    return bad;
}

static const gguf_tensor *tensor_named(const gguf *g, const char *name) {
    for (int i = 0; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i].name, name) == 0) return &g->tensors[i];
    return NULL;
}

// Llama 3.1's scaling as a tensor: each frequency is divided by its factor. The three numbers that its makers give are
// tried; other factors are refused.
static int read_factors(reading *c, const gguf_tensor *t, double theta) {
    const double low = 1, high = 4, old = 8192;
    const int n = (int)t->dim[0];
    float factor = 0;
    for (int i = 0; i < n && t->type == 0; i++) {
        float x;
        memcpy(&x, t->data + 4 * i, 4);
        if (x > factor) factor = x;
    }
    bool same = t->type == 0 && t->rank == 1 && n > 0 && isfinite(factor);
    for (int i = 0; i < n && same; i++) {
        float is;
        memcpy(&is, t->data + 4 * i, 4);
        const double wavelength = 2 * M_PI * pow(theta, 2.0 * i / (2 * n)),
                     part = (old / wavelength - low) / (high - low);
        double want = 1 / ((1 - part) / factor + part);
        if (wavelength < old / high) want = 1;
        if (wavelength > old / low) want = factor;
        same = fabs(is - want) <= 1e-4 * want;
    }
    if (!same)
        return err_set("%s: rope_freqs.weight holds other factors than Llama 3.1's, which is not implemented",
                       c->g->path);
    json_object_set_new(c->root, "rope_scaling",
                        json_pack("{s:s, s:f, s:f, s:f, s:f}", "rope_type", "llama3", "factor", (double)factor,
                                  "low_freq_factor", low, "high_freq_factor", high, "original_max_position_embeddings",
                                  old));
    json_object_set_new(json_object_get(c->root, "rope_scaling"), "original_max_position_embeddings",
                        json_integer(8192));
    return 0;
}

// The kind of scaling; as llama.cpp reads it, a factor alone is linear. NULL and err_set; caller frees.
static char *rope_kind_of(const reading *c, double factor) {
    char *key = xasprintf("%s.rope.scaling.type", c->name), *kind = gguf_text(c->g, key);
    if (!kind && gguf_entry_of(c->g, key))
        err_set("%s: metadata \"%s\" is no text", c->g->path, key);
    else if (!kind)
        kind = xstrdup(factor == 1 ? "none" : "linear");
    free(key);
    return kind;
}

static int read_rope(reading *c) {
    double theta, older, factor;
    if (get_float(c, "rope.freq_base", 10000, &theta) || get_float(c, "rope.scale_linear", 1, &older) ||
        get_float(c, "rope.scaling.factor", older, &factor))
        return -1;
    json_object_set_new(c->root, "rope_theta", json_real(theta));
    char *kind = rope_kind_of(c, factor);
    if (!kind) return -1;
    const gguf_tensor *factors = tensor_named(c->g, "rope_freqs.weight");
    int bad = 0;
    if (strcmp(kind, "none") == 0)
        bad = factors ? read_factors(c, factors, theta) : 0;
    else if (strcmp(kind, "linear") == 0 && !factors)
        json_object_set_new(c->root, "rope_scaling", json_pack("{s:s, s:f}", "rope_type", "linear", "factor", factor));
    else
        bad = err_set("%s: rope scaling \"%.60s\"%s is not implemented; linear and Llama 3.1's are", c->g->path, kind,
                      factors ? " together with rope_freqs.weight" : "");
    free(kind);
    return bad;
}

// Sizes that must be that of a head, where they are given.
static int check_head(reading *c, int64_t head) {
    static const char *const keys[] = {"rope.dimension_count", "attention.value_length"};
    for (int i = 0; i < 2; i++) {
        int64_t n;
        char *full = xasprintf("%s.%s", c->name, keys[i]);
        int bad = gguf_int(c->g, full, head, 0, 1 << 24, &n);
        if (!bad && n != head)
            bad = err_set("%s: metadata \"%s\" is %lld, but keys have %lld values; only whole heads of one size are "
                          "implemented",
                          c->g->path, full, (long long)n, (long long)head);
        free(full);
        if (bad) return -1;
    }
    return 0;
}

static int read_numbers(reading *c) {
    const gguf *g = c->g;
    int64_t layers, hidden, ffn, heads, kv, positions, head, id;
    double eps;
    if (put_int(c, "block_count", "num_hidden_layers", 0, &layers) ||
        put_int(c, "embedding_length", "hidden_size", 0, &hidden) ||
        put_int(c, "feed_forward_length", "intermediate_size", 0, &ffn) ||
        put_int(c, "attention.head_count", "num_attention_heads", 0, &heads) ||
        put_int(c, "attention.head_count_kv", "num_key_value_heads", heads, &kv) ||
        put_int(c, "context_length", "max_position_embeddings", 0, &positions) ||
        put_int(c, "attention.key_length", "head_dim", hidden / heads ? hidden / heads : 1, &head) ||
        get_float(c, "attention.layer_norm_rms_epsilon", -1, &eps) || check_head(c, head))
        return -1;
    if (eps == -1) return err_set("%s: no attention.layer_norm_rms_epsilon, which each norm needs", g->path);
    json_object_set_new(c->root, "rms_norm_eps", json_real(eps));
    static const char *const ids[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                         {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                                         {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    for (int i = 0; i < 3; i++) {
        if (gguf_int(g, ids[i][0], -1, -1, 1 << 24, &id)) return -1;
        json_object_set_new(c->root, ids[i][1], id >= 0 ? json_integer(id) : json_null());
    }
    return 0;
}

static int read_config(reading *c) {
    const gguf *g = c->g;
    const gguf_tensor *embed = tensor_named(g, "token_embd.weight");
    const bool bias = tensor_named(g, "blk.0.attn_q.bias") != NULL;
    int64_t experts, window;
    char *key = xasprintf("%s.expert_count", c->name), *sliding = xasprintf("%s.attention.sliding_window", c->name);
    int bad = gguf_int(g, key, 0, 0, 1 << 20, &experts) || gguf_int(g, sliding, 0, 0, INT32_MAX, &window) ? -1 : 0;
    free(key);
    free(sliding);
    if (bad || read_numbers(c) || read_rope(c)) return -1;
    if (experts) return err_set("%s: a mixture of %lld experts is not implemented", g->path, (long long)experts);
    if (!embed || embed->rank != 2) return err_set("%s: tensor token_embd.weight is missing", g->path);
    json_object_set_new(c->root, "vocab_size", json_integer(embed->dim[1]));
    json_object_set_new(c->root, "tie_word_embeddings", json_boolean(!tensor_named(g, "output.weight")));
    json_object_set_new(c->root, "hidden_act", json_string("silu"));
    if (strcmp(c->name, "qwen2")) json_object_set_new(c->root, "attention_bias", json_boolean(bias));
    if (strcmp(c->name, "llama") == 0)
        json_object_set_new(c->root, "mlp_bias", json_boolean(tensor_named(g, "blk.0.ffn_gate.bias") != NULL));
    // texts that are no longer than a window never meet its edge; that of a Mistral is in a file of architecture llama
    if (window && window < json_integer_value(json_object_get(c->root, "max_position_embeddings")))
        json_object_set_new(c->root, "max_position_embeddings", json_integer(window));
    json_object_set_new(c->root, "torch_dtype", json_string("float32"));
    return 0;
}

// The architecture, or NULL and err_set; caller frees.
static char *architecture(const gguf *g) {
    char *name = gguf_text(g, "general.architecture");
    for (int i = 0; i < 3 && name; i++)
        if (strcmp(name, architectures[i]) == 0) return name;
    err_set("%s: architecture \"%.60s\" is not implemented; llama, qwen2 and qwen3 are", g->path, name ? name : "?");
    free(name);
    return NULL;
}

char *gguf_config(const gguf *g) {
    reading c = {.g = g, .name = architecture(g)};
    if (!c.name) return NULL;
    c.root = json_pack("{s:s}", "model_type", c.name);
    char *text = read_config(&c) == 0 ? json_dumps(c.root, JSON_INDENT(1)) : NULL;
    json_decref(c.root);
    free(c.name);
    return text;
}

// ---------------------------------------------------------------- tensors
static const char *const names[][2] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
static const char *const in_layer[][2] = {{"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
                                          {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
                                          {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
                                          {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
                                          {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
                                          {"ffn_down", "mlp.down_proj"}};
enum { N_NAMES = sizeof names / sizeof *names, N_IN_LAYER = sizeof in_layer / sizeof *in_layer };

// "blk.3.attn_q.weight" is "model.layers.3.self_attn.q_proj.weight"; a name that is not known stays.
static char *long_name(const char *name) {
    int layer = -1, at = 0;
    const bool inside = sscanf(name, "blk.%4d.%n", &layer, &at) == 1 && at > 0;
    const char *rest = name + (inside ? at : 0), *dot = strrchr(rest, '.');
    const char *const(*list)[2] = inside ? in_layer : names;
    for (int i = 0; dot && i < (inside ? N_IN_LAYER : N_NAMES); i++) {
        if (strlen(list[i][0]) != (size_t)(dot - rest) || strncmp(list[i][0], rest, (size_t)(dot - rest))) continue;
        return inside ? xasprintf("model.layers.%d.%s%s", layer, list[i][1], dot) : xasprintf("%s%s", list[i][1], dot);
    }
    return xstrdup(name);
}

// Heads whose rows the converter moved, (2, D/2) to (D/2, 2) within each; 0: none.
static int moved_heads(const gguf_tensor *t, const char *arch, int heads, int kv) {
    int layer, at = 0;
    if (strcmp(arch, "llama") || sscanf(t->name, "blk.%4d.%n", &layer, &at) != 1 || at == 0) return 0;
    if (strncmp(t->name + at, "attn_q.", 7) == 0) return heads;
    return strncmp(t->name + at, "attn_k.", 7) == 0 ? kv : 0;
}

// The row of the file that holds row r of a tensor.
static size_t row_of(size_t r, size_t rows, int heads) {
    if (!heads) return r;
    const size_t size = rows / (size_t)heads, head = r / size, i = r % size;
    return head * size + (i % (size / 2)) * 2 + i / (size / 2);
}

static int make_tensor(tensor *to, const gguf *g, const gguf_tensor *t, int heads) {
    const char *name;
    int numbers, bytes;
    ASSERT(gguf_type(t->type, &name, &numbers, &bytes));
    const bool bias = t->rank == 1 && heads;  // its rows are single numbers
    const size_t cols = bias ? 1 : (size_t)t->dim[0];
    size_t rows = bias ? (size_t)t->dim[0] : 1;
    for (int i = 1; i < t->rank; i++) rows *= (size_t)t->dim[i];
    const int stays = numbers == 1 || t->rank == 2 ? gguf_dtype(t->type) : -1;  // vectors have no blocks
    *to = (tensor){
        .name = long_name(t->name), .type = stays < 0 ? DT_F32 : (dtype)stays, .rank = t->rank, .data = t->data};
    for (int i = 0; i < t->rank; i++) to->dim[i] = t->dim[t->rank - 1 - i];
    if (bias && numbers > 1) return err_set("%s: tensor %.100s is a quantised bias", g->path, t->name);
    if (heads && rows % (2 * (size_t)heads))
        return err_set("%s: tensor %.100s has %zu rows, no even number for each of %d heads", g->path, t->name, rows,
                       heads);
    if (stays >= 0 && !heads) return 0;
    const size_t line = cols / (size_t)numbers * (size_t)bytes, width = dtype_size(to->type, cols);
    char *made = to->made = xaligned(rows * width);
    to->data = made;
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *from = t->data + row_of(r, rows, heads) * line;
        if (stays >= 0)
            memcpy(made + r * width, from, line);
        else
            gguf_widen((float *)(void *)(made + r * width), from, t->type, cols);
    }
    return 0;
}

int gguf_tensors(const gguf *g, tensor **tensors, int *n) {
    int64_t heads = 0, kv = 0;
    char *arch = architecture(g);
    *tensors = NULL;
    *n = 0;
    if (!arch) return -1;
    char *key[2] = {xasprintf("%s.attention.head_count", arch), xasprintf("%s.attention.head_count_kv", arch)};
    int bad = gguf_int(g, key[0], 0, 1, 1 << 12, &heads) || gguf_int(g, key[1], heads, 1, 1 << 12, &kv) ? -1 : 0;
    *tensors = xcalloc((size_t)g->n_tensors + 1, sizeof **tensors);
    for (int i = 0; i < g->n_tensors && !bad; i++) {
        if (strcmp(g->tensors[i].name, "rope_freqs.weight") == 0) continue;
        bad =
            make_tensor(&(*tensors)[(*n)++], g, &g->tensors[i], moved_heads(&g->tensors[i], arch, (int)heads, (int)kv));
    }
    free(key[0]);
    free(key[1]);
    free(arch);
    if (!bad) return 0;
    tensors_free(*tensors, *n);
    *tensors = NULL;
    *n = 0;
    return -1;
}

int gguf_load(const uint8_t *bytes, size_t n, const char *path, model_config *config, tensor **tensors,
              int *n_tensors) {
    gguf g;
    int64_t parts = 0;
    if (gguf_parse(&g, bytes, n, path)) return -1;
    char *text = NULL;
    if (gguf_int(&g, "split.count", 0, 0, 65535, &parts) == 0 && parts <= 1)
        text = gguf_config(&g);
    else if (parts > 1)
        err_set("%s: one of %lld parts; join them with llama-gguf-split --merge", path, (long long)parts);
    const int bad =
        !text || model_config_parse(text, strlen(text), path, config) || gguf_tensors(&g, tensors, n_tensors) ? -1 : 0;
    free(text);
    gguf_free(&g);
    return bad;
}
