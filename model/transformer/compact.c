// compact - a model without the units that a mask drops. Contract in compact.h.
#include "compact.h"
#include "convert.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const ckpt *from;
    const mask *keep;
    const double *const *means;  // or NULL
    bool zeroed;                 // dropped units stay, as zeros
    void *data;                  // of the tensor in work
    int *row, *col;              // kept rows and columns of it
    void *cells;                 // a row's kept columns
    float *wide, *whole;
    tensor back;  // turned_back
} job;

static const uint8_t *kept(const job *j, unit_kind kind, int layer) {
    const model_config *c = &j->from->config;
    return kind == UNIT_HEADS ? j->keep->heads + (size_t)layer * (size_t)c->H
                              : j->keep->neurons + (size_t)layer * (size_t)c->F;
}

// KV head g of a layer stays while one of the query heads that read it does.
static bool kv_kept(const job *j, int layer, int g) {
    const model_config *c = &j->from->config;
    bool any = false;
    for (int h = 0; h < model_units(c, layer, UNIT_HEADS); h++)
        any |= model_kv_head(c, layer, h) == g && kept(j, UNIT_HEADS, layer)[h];
    return any;
}

static int count_kept(const job *j, unit_kind kind, int layer) {
    int n = 0;
    for (int u = 0; u < model_units(&j->from->config, layer, kind); u++) n += kept(j, kind, layer)[u] != 0;
    return n;
}

// Whether index i of a side is that of a kept unit, or belongs to none.
static bool stays(const job *j, tensor_dim dim, int layer, int i) {
    const unit_owner owner = arch_owner(dim);
    const int kind = arch_owner_kind(owner), values = kind == UNIT_HEADS ? j->from->config.D : 1;
    if (owner == OWNER_NONE) return true;
    return owner == OWNER_KV_HEAD ? kv_kept(j, layer, i / values) : kept(j, kind, layer)[i / values];
}

// The indices of `size` that are written.
static int list_kept(const job *j, int *out, int64_t size, tensor_dim dim, int layer) {
    int n = 0;
    for (int i = 0; i < size; i++)
        if (j->zeroed || stays(j, dim, layer, i)) out[n++] = i;
    return n;
}

// A row in another type; what float16 cannot hold is refused.
static int convert(void *to, dtype type, const float *x, size_t n) {
    for (size_t i = 0; i < n && type == DT_F16; i++)
        if (!(fabsf(x[i]) < 65520))
            return err_set("a weight is %g, outside the range of float16; use bf16 or fp32", (double)x[i]);
    dtype_narrow(to, type, x, n);
    return 0;
}

// The matrix that a bias goes with, or NULL.
static const tensor *matrix_of(const job *j, const char *bias) {
    const size_t n = strlen(bias);
    if (n < 5 || strcmp(bias + n - 5, ".bias") != 0) return NULL;
    char *name = xasprintf("%.*s.weight", (int)n - 5, bias);
    const tensor *w = ckpt_find(j->from, name);
    free(name);
    return w;
}

// The same if its columns belong to units that put out means.
static const tensor *reader_of(const job *j, const char *bias, unit_kind *kind, int *layer) {
    const tensor *w = j->means ? matrix_of(j, bias) : NULL;
    const tensor_spec *spec = w ? arch_find(arch_of(&j->from->config).family, w->name, layer) : NULL;
    const unit_owner owner = spec ? arch_owner(spec->cols) : OWNER_NONE;
    if (owner == OWNER_NONE) return NULL;
    *kind = arch_owner_kind(owner);
    return w;
}

// A tensor whose data hold the transpose, in fp32 as it is; good until the next.
static const tensor *turned_back(job *j, const tensor *t) {
    if (!t || !t->turned) return t;
    const size_t rows = (size_t)t->dim[0], cols = (size_t)t->dim[1], line = dtype_size(t->type, rows);
    j->whole = xrealloc(j->whole, (rows * cols + rows) * sizeof *j->whole);
    float *column = j->whole + rows * cols;
    for (size_t c = 0; c < cols; c++) {
        dtype_widen(column, (const char *)t->data + c * line, t->type, rows);
        for (size_t r = 0; r < rows; r++) j->whole[r * cols + c] = column[r];
    }
    j->back = *t;
    j->back.type = DT_F32, j->back.data = j->whole, j->back.turned = false;
    return &j->back;
}

// A bias (from NULL: 0) and what the means of dropped units add to it, in j->data; NULL and err_set.
static const void *fill_bias(job *j, const tensor *t, const tensor *from, const tensor *w, unit_kind kind, int layer) {
    const int rows = (int)w->dim[0], cols = (int)w->dim[1], D = kind == UNIT_HEADS ? j->from->config.D : 1;
    const double *mean = j->means[kind] + (size_t)layer * (size_t)(model_all_units(&j->from->config, kind) * D);
    float *b = xcalloc((size_t)rows + (size_t)cols, sizeof *b), *row = b + rows;
    if (from) dtype_widen(b, from->data, from->type, (size_t)rows);
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        dtype_widen(row, (const char *)w->data + (size_t)r * dtype_size(w->type, (size_t)cols), w->type, (size_t)cols);
        for (int i = 0; i < cols; i++) sum += kept(j, kind, layer)[i / D] ? 0 : mean[i] * (double)row[i];
        b[r] = (float)((double)b[r] + sum);
    }
    j->data = xrealloc(j->data, tensor_bytes(t) + 1);
    const int bad = convert(j->data, t->type, b, (size_t)rows);
    free(b);
    if (bad) err_prefix("%s", t->name);
    return bad ? NULL : j->data;
}

// Zeros of a bias that came with those that hold means.
static const void *no_bias(job *j, const tensor *t) {
    j->data = xrealloc(j->data, tensor_bytes(t) + 1);
    return memset(j->data, 0, tensor_bytes(t));
}

// Zeros in place of what belongs to dropped units: a tensor of the source's shape, in j->data.
static void clear_dropped(job *j, const tensor *t, const tensor_spec *spec, int layer) {
    const int rows = (int)t->dim[0], cols = t->rank > 1 ? (int)t->dim[1] : 1;
    const size_t width = dtype_bytes(t->type);
    int n = 0;
    for (int k = 0; k < cols; k++)
        if (!stays(j, spec->cols, layer, k)) j->col[n++] = k;
    for (int r = 0; r < rows; r++) {
        char *row = (char *)j->data + (size_t)r * (size_t)cols * width;
        if (!stays(j, spec->rows, layer, r))
            memset(row, 0, (size_t)cols * width);
        else
            for (int k = 0; k < n; k++) memset(row + (size_t)j->col[k] * width, 0, width);
    }
}

static bool of_units(const tensor_spec *spec) {
    return arch_owner(spec->rows) != OWNER_NONE || arch_owner(spec->cols) != OWNER_NONE;
}

static const void *fill(void *ctx, const tensor *t) {
    job *j = ctx;
    const tensor *from = ckpt_find(j->from, t->name);
    int layer;
    unit_kind kind;
    const tensor *reader = reader_of(j, t->name, &kind, &layer);
    if (reader) return fill_bias(j, t, from, turned_back(j, reader), kind, layer);
    if (!from) return no_bias(j, t);
    const bool shared = !from->turned;
    from = turned_back(j, from);
    const tensor_spec *spec = arch_find(arch_of(&j->from->config).family, t->name, &layer);
    const bool same = t->type == from->type;
    const bool clear = j->zeroed && of_units(spec);
    if (shared && same && !clear && !memcmp(t->dim, from->dim, (size_t)t->rank * sizeof *t->dim)) return from->data;
    const int64_t from_cols = from->rank > 1 ? from->dim[1] : 1;
    const size_t width = same ? dtype_bytes(t->type) : sizeof(float), line = dtype_size(from->type, (size_t)from_cols);
    j->row = xrealloc(j->row, ((size_t)from->dim[0] + 1) * sizeof *j->row);
    j->col = xrealloc(j->col, ((size_t)from_cols + 1) * sizeof *j->col);
    j->data = xrealloc(j->data, tensor_bytes(t) + 1);
    j->cells = xrealloc(j->cells, ((size_t)from_cols + 1) * sizeof(float));
    j->wide = xrealloc(j->wide, ((size_t)from_cols + 1) * sizeof *j->wide);
    const int rows = list_kept(j, j->row, from->dim[0], spec->rows, layer),
              cols = list_kept(j, j->col, from_cols, spec->cols, layer);
    for (int r = 0; r < rows; r++) {
        const char *cells = (const char *)from->data + (size_t)j->row[r] * line;
        char *to = (char *)j->data + (size_t)r * (size_t)cols * dtype_bytes(t->type),
             *kept_cells = same ? to : j->cells;
        if (!same) {
            dtype_widen(j->wide, cells, from->type, (size_t)from_cols);
            cells = (const char *)j->wide;
        }
        for (int k = 0; k < cols; k++)
            if (width == 4)
                memcpy(kept_cells + 4 * (size_t)k, cells + 4 * (size_t)j->col[k], 4);
            else
                memcpy(kept_cells + 2 * (size_t)k, cells + 2 * (size_t)j->col[k], 2);
        if (same) continue;
        if (convert(to, t->type, j->cells, (size_t)cols)) {
            err_prefix("%s", t->name);
            return NULL;
        }
    }
    if (clear) clear_dropped(j, t, spec, layer);
    return j->data;
}

// The counts of one kind; NULL where no layer has lost any.
static int *counts(const job *j, unit_kind kind) {
    const model_config *c = &j->from->config;
    const int all = model_all_units(c, kind);
    int *n = xcalloc((size_t)c->L, sizeof *n);
    bool whole = true;
    for (int l = 0; l < c->L; l++) whole &= (n[l] = count_kept(j, kind, l)) == all;
    if (!whole) return n;
    free(n);
    return NULL;
}

// Which KV heads the query heads that stay read, counted among those that stay; NULL where no list is needed.
static int *reads_left(const job *j, const model_config *left) {
    const model_config *c = &j->from->config;
    if (!left->heads || arch_of(c).kv_heads == c->H) return NULL;
    int *reads = xcalloc((size_t)c->L * (size_t)c->H, sizeof *reads);
    for (int l = 0; l < c->L; l++) {
        int n = 0, index = -1, last = -1;
        for (int h = 0; h < model_units(c, l, UNIT_HEADS); h++) {
            if (!kept(j, UNIT_HEADS, l)[h]) continue;
            index += model_kv_head(c, l, h) != last;
            last = model_kv_head(c, l, h);
            reads[l * c->H + n++] = index;
        }
    }
    return reads;
}

// The number that all layers have, above 0; or 0.
static int same_everywhere(const int *list, int L) {
    for (int l = 1; l < L; l++)
        if (list[l] != list[0]) return 0;
    return list[0];
}

// Whether n heads in every layer read KV heads in equal groups, as many everywhere: *K. Of an OPT or a GPT-NeoX all
// heads must be there, since their size is E/H.
static bool in_groups(const model_config *c, int n, int *K) {
    if (c->type == MODEL_OPT || c->type == MODEL_NEOX) {
        *K = c->H;
        return !c->heads;
    }
    *K = model_kv_units(c, 0);
    bool even = n && n % *K == 0;
    for (int l = 0; l < c->L && even; l++)
        for (int h = 0; h < n && even; h++) even = model_kv_head(c, l, h) == h / (n / *K);
    return even;
}

// Where the layers of a model have the same widths, the lists become the fields that other software reads; where only
// its neurons or only its heads have, that software cannot read it, and the lists stay. transformers wants a Llama's E
// to be a multiple of its heads; without biases it is a Mistral, of which it does not.
static void standardise(model_config *c) {
    int K = 0;
    const int F = c->neurons ? same_everywhere(c->neurons, c->L) : c->F,
              H = c->heads ? same_everywhere(c->heads, c->L) : c->H;
    if (!F || !in_groups(c, H, &K)) return;
    if (c->type == MODEL_LLAMA && c->E % H) {
        if (c->llama.bias_qkv || c->llama.bias_ffn) return;
        c->type = MODEL_MISTRAL;
    }
    c->F = F, c->H = H;
    if (c->type != MODEL_OPT) c->llama.K = K;
    model_config_free(c);
}

// Means need biases to be in. A family's configuration names several at once, so that all of those come.
static void add_biases(model_config *c) {
    if (c->type == MODEL_OPT) {
        c->bias = true;
        return;
    }
    c->llama.bias_out = c->llama.bias_ffn = true;
    if (c->type != MODEL_MISTRAL && c->type != MODEL_QWEN2) c->llama.bias_qkv = true;
}

// What is left of blocks is whole in other rows only, so it is widened.
static dtype plain_type(dtype t) { return dtype_in_blocks(t) ? DT_F32 : t; }

static int *same_list(const int *list, int n) {
    if (!list) return NULL;
    int *own = xmalloc((size_t)n * sizeof *own);
    return memcpy(own, list, (size_t)n * sizeof *own);
}

// Configuration and tensors (no data) of what is left; plain: as a checkpoint has it.
static tensor *list_tensors(const job *j, model_config *c, int type, bool plain, int *n) {
    *c = j->from->config;
    if (j->zeroed) {
        c->heads = same_list(c->heads, c->L);
        c->neurons = same_list(c->neurons, c->L);
        c->reads = same_list(c->reads, c->L * c->H);
    } else {
        c->heads = counts(j, UNIT_HEADS);
        c->neurons = counts(j, UNIT_NEURONS);
        c->reads = reads_left(j, c);
    }
    if (j->means) add_biases(c);
    if (plain && !j->zeroed) standardise(c);
    if (type != COMPACT_AS_STORED) c->declared = (dtype)type;
    tensor *t = arch_tensor_list(c, n);
    for (int i = 0; i < *n; i++) {
        const tensor *of = ckpt_find(j->from, t[i].name);
        if (!of) of = matrix_of(j, t[i].name);
        t[i].type = type == COMPACT_AS_STORED ? plain_type(of->type) : (dtype)type;
    }
    return t;
}

static void free_job(job *j) {
    void *blocks[] = {j->data, j->row, j->col, j->cells, j->wide, j->whole};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

int compact_save(const char *dir, const ckpt *from, const mask *keep, const double *const *means, int type,
                 compact_form form) {
    job j = {.from = from, .keep = keep, .means = means, .zeroed = form == COMPACT_ZEROED};
    model_config c;
    int n;
    tensor *t = list_tensors(&j, &c, type, true, &n);
    const int bad = ckpt_save_from(dir, &c, t, n, fill, &j);
    tensors_free(t, n);
    model_config_free(&c);
    free_job(&j);
    return bad;
}

// ---------------------------------------------------------------- in memory
void compact_make(compact_model *out, const ckpt *from, const mask *keep, const double *const *means) {
    job j = {.from = from, .keep = keep, .means = means};
    model_config c;
    *out = (compact_model){0};
    out->t = list_tensors(&j, &c, COMPACT_AS_STORED, false, &out->n);
    for (int i = 0; i < out->n; i++) {
        unit_kind kind;
        int layer;
        if (reader_of(&j, out->t[i].name, &kind, &layer)) out->t[i].type = DT_F32;
        out->t[i].data = fill(&j, &out->t[i]);
        if (out->t[i].data != j.data) continue;
        VEC_PUSH(out->owned, out->n_owned, out->cap_owned, j.data);
        j.data = NULL;
    }
    free_job(&j);
    const int bad = model_from_tensors(&out->m, &c, out->t, out->n);
    ASSERT(!bad);  // names and shapes are of its own making
}

typedef struct {
    const model *m;
    tensor *t;
    int n, cap;
} held;

static int list_held(void *ctx, const tensor_at *at) {
    held *h = ctx;
    const weight *w = model_slot((model *)(uintptr_t)h->m, at->spec, at->layer);
    const bool vector = at->spec->cols == DIM_NONE;
    const tensor t = {.name = xstrdup(at->name),
                      .type = w->type,
                      .rank = vector ? 1 : 2,
                      .dim = {at->rows, vector ? 1 : at->cols},
                      .data = w->data,
                      .turned = w->turned};
    VEC_PUSH(h->t, h->n, h->cap, t);
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

void compact_make_of(compact_model *out, const model *m, const mask *keep, const double *const *means) {
    if (!m->changed) {
        compact_make(out, &m->file, keep, means);
        return;
    }
    held h = {.m = m};
    arch_each_tensor(&m->c, list_held, &h);
    qsort(h.t, (size_t)h.n, sizeof *h.t, by_name);
    const ckpt as = {.config = m->c, .tensors = h.t, .n_tensors = h.n};
    compact_make(out, &as, keep, means);
    tensors_free(h.t, h.n);
}

void compact_free(compact_model *c) {
    model_config lists = c->m.c;
    model_free(&c->m);
    model_config_free(&lists);
    for (int i = 0; i < c->n_owned; i++) free(c->owned[i]);
    free(c->owned);
    tensors_free(c->t, c->n);
    *c = (compact_model){0};
}

size_t compact_bytes(const ckpt *from, const mask *keep) {
    job j = {.from = from, .keep = keep};
    model_config c;
    int n;
    size_t bytes = 0;
    tensor *t = list_tensors(&j, &c, COMPACT_AS_STORED, false, &n);
    for (int i = 0; i < n; i++) bytes += tensor_bytes(&t[i]) + (t[i].type == DT_F32 ? 0 : tensor_bytes(&t[i]) * 2);
    tensors_free(t, n);
    model_config_free(&c);
    return bytes;
}
