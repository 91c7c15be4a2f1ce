// model - a model's weights: loading, K/V caches. Contract in model.h; names and shapes are in the families' tables
// (arch.h), the passes in model_run.c and model_grad.c.
#include "model.h"
#include "convert.h"
#include "model_weights.h"
#include "rope.h"
#include <stdlib.h>
#include <string.h>

// 16-bit weights whose fp32 form takes at most this many bytes are widened once, for products that are bound by
// arithmetic; larger ones tile by tile in every product.
static const size_t widen_limit = (size_t)1 << 30;

// ---------------------------------------------------------------- loading
struct source {
    const tensor *t;
    int n, weights;  // a dtype, or -1
    size_t halves;   // numbers of 16 bits
    bool in_blocks;  // some matrix whose products take 8-bit numbers
    float *wide;
    model *m;
    const ops *o;
    size_t *layer_bytes, bytes[OPS_PARTS];
    char *block[OPS_PARTS];
    size_t most_turned;  // bytes of the largest matrix that is kept transposed
    void *whole[OPS_PARTS];
    model_fill_fn *fill;
    void *ctx;
};

static int bind_weight(void *ctx, const tensor_at *at) {
    struct source *s = ctx;
    model *m = s->m;
    const tensor *t = NULL;
    const bool vector = at->spec->cols == DIM_NONE;
    weight *where = model_slot(m, at->spec, at->layer);
    for (int i = 0; i < s->n && !t; i++)
        if (strcmp(s->t[i].name, at->name) == 0) t = &s->t[i];
    if (!t) return err_set("tensor %s is missing", at->name);
    if (t->dim[0] != at->rows || (vector ? t->rank != 1 : t->rank != 2 || t->dim[1] != at->cols))
        return err_set("tensor %s has another shape than the configuration says", at->name);
    const weight_form made_ours = {t->type, true},
                      form = t->turned ? made_ours : model_weight_form(&m->c, at->spec, t->type, s->weights, s->o);
    *where = (weight){t->data, form.type, at->rows, vector ? 1 : at->cols, NULL, NULL, form.turned};
    const dtype round = s->o->activations;
    const bool meets_bytes = round == DT_Q8_0 && dtype_in_blocks(form.type) && !form.turned;
    if (meets_bytes || (round != DT_F32 && round != DT_Q8_0 && !vector)) where->narrow = t->name;
    s->in_blocks |= meets_bytes;
    if (form.type == DT_F16 || form.type == DT_BF16) s->halves += (size_t)where->rows * (size_t)where->cols;
    if (form.type == t->type && form.turned == t->turned) return 0;
    void *made = model_make_weight(t, form);
    if (!made) return -1;
    where->data = made;
    m->changed |= form.type != DT_F32 && (!where->narrow || meets_bytes);
    VEC_PUSH(m->made, m->n_made, m->cap_made, made);
    return 0;
}

static int widen_weight(void *ctx, const tensor_at *at) {
    struct source *s = ctx;
    weight *w = model_slot(s->m, at->spec, at->layer);
    const size_t n = (size_t)w->rows * (size_t)w->cols;
    if (w->type != DT_F16 && w->type != DT_BF16) return 0;
    dtype_widen(s->wide, w->data, w->type, n);
    w->wide = s->wide;
    s->wide += n;
    return 0;
}

// Combinations that the passes do not have.
static void check_arch(const arch *a) {
    ASSERT(a->gated == (a->tap == TAP_R) && a->heads % a->kv_heads == 0 && (a->norm_first || !a->parallel));
    ASSERT(a->positions == POSITIONS_ROTARY || (a->position_offset == 2 && !a->qk_norm));
}

model model_unloaded(const model_config *c, const ops *o) {
    model m = {.c = *c, .arch = arch_of(c), .o = o, .parts = 1, .first = {0, c->L}};
    check_arch(&m.arch);
    return m;
}

static int bind(model *m, const tensor *t, int n, int weights) {
    struct source s = {.t = t, .n = n, .weights = weights, .m = m, .o = m->o};
    if (model_check_weights(&m->c, weights, m->o) != 0) return -1;
    m->weights = weights;
    m->layer = m->stored = xcalloc((size_t)m->c.L, sizeof *m->layer);
    if (arch_each_tensor(&m->c, bind_weight, &s) != 0) return -1;
    if (m->o->activations == DT_Q8_0 && !s.in_blocks)
        return err_set("--activations q8_0: no matrix is in blocks; take --weights q8_0 or q4_0, or a GGUF file");
    if (m->o->host && s.halves && s.halves * sizeof(float) <= widen_limit) {
        s.wide = m->wide = xaligned(s.halves * sizeof(float));
        arch_each_tensor(&m->c, widen_weight, &s);
    }
    if (m->arch.tied) m->head = m->embed;
    if (m->o->host) m->reads[0] = m->c.reads;
    if (m->arch.positions == POSITIONS_ROTARY) {
        m->turns = rope_table(&m->c);
        m->turn[0] = (weight){m->turns, DT_F32, m->c.positions, m->arch.rotary, NULL, NULL, false};
    }
    return 0;
}

// On another device matrices keep their type, those of one column too (W2 of a single neuron); vectors are fp32, so
// that kernels need one form of them.
static size_t device_bytes(const weight *w, bool vector) {
    const size_t n = (size_t)w->rows * (size_t)w->cols * (vector ? sizeof(float) : dtype_bytes(w->type));
    return (n + 255) / 256 * 256;
}

// Whether it is kept transposed only (weight.turned): live units read columns of it, and products of all units can read
// them as well.
static bool kept_turned(const tensor_at *at) { return at->spec->transposed && at->rows && at->cols; }

static int count_weight(void *ctx, const tensor_at *at) {
    struct source *s = ctx;
    const size_t bytes = device_bytes(model_slot(s->m, at->spec, at->layer), at->spec->cols == DIM_NONE);
    s->layer_bytes[at->layer + 1] += bytes;
    if (kept_turned(at) && bytes > s->most_turned) s->most_turned = bytes;
    return 0;
}

static void *next_place(struct source *s, const weight *w, bool vector, int part) {
    void *to = s->block[part] + s->bytes[part];
    s->bytes[part] += device_bytes(w, vector);
    return to;
}

static void put_at(struct source *s, const char *name, weight *w, bool vector, int part, void *to) {
    if (s->fill) {
        if (vector) w->type = DT_F32;
        s->o->use(part);
        s->fill(s->ctx, name, to, w->type, (size_t)w->rows * (size_t)w->cols);
    } else if (vector) {
        float *wide = xmalloc((size_t)w->rows * sizeof *wide);
        dtype_widen(wide, w->data, w->type, (size_t)w->rows);
        s->o->put(to, wide, (size_t)w->rows * sizeof *wide);
        free(wide);
        w->type = DT_F32;
    } else
        s->o->put(to, w->data, (size_t)w->rows * (size_t)w->cols * dtype_bytes(w->type));
    w->data = to;
}

static void put_one(struct source *s, const char *name, weight *w, bool vector, int part) {
    put_at(s, name, w, vector, part, next_place(s, w, vector, part));
}

static int put_weight(void *ctx, const tensor_at *at) {
    struct source *s = ctx;
    weight *w = model_slot(s->m, at->spec, at->layer);
    const int part = at->layer < 0 ? 0 : model_part(s->m, at->layer);
    const bool vector = at->spec->cols == DIM_NONE;
    if (!kept_turned(at)) {
        put_one(s, at->name, w, vector, part);
        return 0;
    }
    void *to = next_place(s, w, vector, part);
    put_at(s, at->name, w, vector, part, s->whole[part]);
    s->o->use(part);
    s->o->transpose(to, w);
    w->data = to, w->turned = true;
    return 0;
}

// Layers in order onto the parts, so that each has about the same bytes, and one layer at least. layer_bytes[1 + l];
// [0] and [L + 1]: what stands before and after them, head among the latter.
static void place(model *m, const size_t *layer_bytes, size_t bytes[OPS_PARTS]) {
    const int L = m->c.L;
    size_t all = 0, before = layer_bytes[0];
    for (int i = 0; i < L + 2; i++) all += layer_bytes[i];
    bytes[0] = before;
    for (int l = 0, p = 0; l < L; l++) {
        const int parts_left = m->parts - 1 - p;
        const bool full = before + layer_bytes[1 + l] / 2 > all / (size_t)m->parts * (size_t)(p + 1);
        if (parts_left > 0 && l > m->first[p] && (full || L - l <= parts_left)) m->first[++p] = l;
        bytes[p] += layer_bytes[1 + l];
        before += layer_bytes[1 + l];
    }
    m->first[m->parts] = L;
    bytes[m->parts - 1] += layer_bytes[L + 1];
}

// fill NULL: the numbers are copied from host memory.
static int upload(model *m, model_fill_fn *fill, void *ctx) {
    const ops *o = m->o;
    const int last = o->parts - 1;
    size_t bytes[OPS_PARTS] = {0};
    struct source s = {
        .m = m, .o = o, .layer_bytes = xcalloc((size_t)m->c.L + 2, sizeof *s.layer_bytes), .fill = fill, .ctx = ctx};
    if (m->c.L < o->parts) {
        free(s.layer_bytes);
        return err_set("%d layers do not share %d GPUs", m->c.L, o->parts);
    }
    m->parts = o->parts;
    m->layer = xmalloc((size_t)m->c.L * sizeof *m->layer);
    memcpy(m->layer, m->stored, (size_t)m->c.L * sizeof *m->layer);
    arch_each_tensor(&m->c, count_weight, &s);
    const weight turn = m->turn[0];
    const bool copied = m->arch.tied && last;
    if (m->arch.tied) m->head = m->embed;
    if (copied) s.layer_bytes[m->c.L + 1] += device_bytes(&m->head, false);
    place(m, s.layer_bytes, bytes);
    free(s.layer_bytes);
    for (int p = 0; p < m->parts && turn.data; p++) bytes[p] += device_bytes(&turn, false);
    if (ops_plan(o, bytes, "weights") != 0) return -1;
    for (int p = 0; p < m->parts; p++) {
        o->use(p);
        m->block[p] = s.block[p] = o->alloc(bytes[p]);
        s.whole[p] = o->alloc(s.most_turned);  // while the weights are put there
        if (m->parts > 1) log_info("layers %d to %d are on %s", m->first[p], m->first[p + 1] - 1, o->use(p));
    }
    arch_each_tensor(&m->c, put_weight, &s);
    for (int p = 0; p < m->parts; p++) o->release(s.whole[p]);
    if (copied)
        put_one(&s, m->arch.family->embedding, &m->head, false, last);
    else if (m->arch.tied)
        m->head = m->embed;
    s.fill = NULL;
    for (int p = 0; p < m->parts && turn.data; p++) {
        m->turn[p] = turn;
        put_one(&s, NULL, &m->turn[p], false, p);
    }
    const size_t reads = (size_t)m->c.L * (size_t)m->c.H * sizeof *m->c.reads;
    for (int p = 0; p < m->parts && m->c.reads; p++) {
        o->use(p);
        m->reads[p] = o->alloc(reads);
        o->put(m->reads[p], m->c.reads, reads);
    }
    return 0;
}

// Norms without gains and biases share ones and zeros.
static int plain_norms(model *m) {
    const int E = m->c.E;
    size_t bytes[OPS_PARTS] = {0};
    if (m->arch.affine) return 0;
    float *host = xcalloc(2 * (size_t)E, sizeof *host);
    for (int e = 0; e < E; e++) host[e] = 1;
    for (int p = 0; p < m->parts; p++) bytes[p] = 2 * (size_t)E * sizeof *host;
    const int bad = ops_reserve(m->o, bytes, "norms");
    for (int p = 0; p < m->parts && !bad; p++) {
        m->o->use(p);
        m->plain[p] = m->o->alloc(bytes[p]);
        m->o->put(m->plain[p], host, bytes[p]);
        const weight gain = {m->plain[p], DT_F32, E, 1, NULL, NULL, false},
                     bias = {m->plain[p] + E, DT_F32, E, 1, NULL, NULL, false};
        for (int l = m->first[p]; l < m->first[p + 1]; l++) {
            m->layer[l].ln1_g = m->layer[l].ln2_g = gain;
            m->layer[l].ln1_b = m->layer[l].ln2_b = bias;
        }
        m->lnf_g = gain, m->lnf_b = bias;  // of the last part in the end
    }
    free(host);
    return bad;
}

// Everything that is not an argument of bind, on the model's device.
static int make(model *m, const tensor *t, int n, int weights, model_fill_fn *fill, void *ctx) {
    return bind(m, t, n, weights) || (!m->o->host && upload(m, fill, ctx)) ? -1 : plain_norms(m);
}

int model_move_embeddings(model *m, const ops *o) {
    if (o->host) return 0;
    weight *moved[] = {&m->embed, &m->proj_in};
    size_t bytes[OPS_PARTS] = {device_bytes(&m->embed, false) + device_bytes(&m->proj_in, false)};
    if (ops_plan(o, bytes, "token embeddings") != 0) return -1;
    struct source s = {.o = o};
    m->o = o;
    m->block[0] = s.block[0] = o->alloc(bytes[0]);
    for (int i = 0; i < 2; i++) {
        moved[i]->wide = NULL;
        if (moved[i]->data) put_one(&s, NULL, moved[i], false, 0);
    }
    return 0;
}

int model_load(model *m, const char *dir) { return model_load_on(m, dir, ops_cpu()); }

int model_load_on(model *m, const char *dir, const ops *o) { return model_load_as(m, dir, o, -1); }

int model_load_as(model *m, const char *dir, const ops *o, int weights) {
    ckpt file;
    *m = (model){0};
    if (ckpt_open(&file, dir) != 0) return -1;
    if (ckpt_check_values(&file) != 0) {
        ckpt_close(&file);
        return -1;
    }
    *m = model_unloaded(&file.config, o);
    m->file = file;
    if (make(m, m->file.tensors, m->file.n_tensors, weights, NULL, NULL) == 0) return 0;
    err_prefix("%s", dir);
    model_free(m);
    return -1;
}

int model_from_tensors(model *m, const model_config *c, const tensor *tensors, int n) {
    return model_from_tensors_on(m, c, tensors, n, ops_cpu());
}

int model_from_tensors_on(model *m, const model_config *c, const tensor *tensors, int n, const ops *o) {
    return model_from_tensors_as(m, c, tensors, n, o, -1);
}

int model_from_tensors_as(model *m, const model_config *c, const tensor *tensors, int n, const ops *o, int weights) {
    *m = model_unloaded(c, o);
    if (make(m, tensors, n, weights, NULL, NULL) == 0) return 0;
    model_free(m);
    return -1;
}

int model_filled_on(model *m, const model_config *c, const tensor *tensors, int n, const ops *o, model_fill_fn *fill,
                    void *ctx) {
    ASSERT(!o->host);
    *m = model_unloaded(c, o);
    if (make(m, tensors, n, -1, fill, ctx) == 0) return 0;
    model_free(m);
    return -1;
}

void model_free(model *m) {
    for (int p = 0; p < OPS_PARTS; p++) {
        if (m->block[p]) m->o->release(m->block[p]);
        if (m->transposed[p]) m->o->release(m->transposed[p]);
        if (m->plain[p]) m->o->release(m->plain[p]);
        if (m->reads[p] && !m->o->host) m->o->release(m->reads[p]);
    }
    if (m->stored != m->layer) free(m->stored);
    free(m->layer);
    free(m->wide);
    for (int i = 0; i < m->n_made; i++) free(m->made[i]);
    free(m->made);
    free(m->turns);
    ckpt_close(&m->file);
    *m = (model){0};
}

const char *model_weights_name(const model *m) {
    if (!m->changed) return "as stored";
    return m->weights < 0 ? "in blocks" : weight_options[m->weights];
}

const weight *model_neuron_rows(const model *m, int layer, int k, bool stored) {
    const tensor_spec *s = arch_neuron_rows(m->arch.family, k);
    const char *at = (const char *)(stored ? &m->stored[layer] : &m->layer[layer]);
    return s ? (const weight *)(at + s->slot) : NULL;
}

// ---------------------------------------------------------------- K/V cache
const char *const kv_policy_names[] = {"compute", "repair", "skip", NULL};

kv_cache *kv_cache_new(const model *m, int cap) { return kv_cache_new_as(m, cap, KV_COMPUTE); }

kv_cache *kv_cache_new_as(const model *m, int cap, kv_policy kv) {
    kv_cache *c = xcalloc(1, sizeof *c);
    const int K = m->arch.kv_heads;
    *c = (kv_cache){.cap = cap, .L = m->c.L, .W = K * m->c.D, .E = m->c.E, .o = m->o, .kv = kv, .K = K};
    for (int p = 0; p < m->parts; p++) {
        const size_t rows = (size_t)(m->first[p + 1] - m->first[p]) * (size_t)cap;
        m->o->use(p);
        c->k[p] = m->o->alloc(rows * (size_t)c->W * sizeof(float));
        c->v[p] = m->o->alloc(rows * (size_t)c->W * sizeof(float));
        if (kv == KV_REPAIR) c->in[p] = m->o->alloc(rows * (size_t)c->E * sizeof(float));
    }
    if (kv != KV_COMPUTE) {
        c->has = xcalloc((size_t)m->c.L * (size_t)cap, (size_t)K);
        c->lack = xcalloc((size_t)m->c.L * (size_t)K, sizeof *c->lack);
    }
    return c;
}

void kv_cache_clear(kv_cache *c) {
    c->n = 0;
    c->writes++;
    if (c->lack) memset(c->lack, 0, (size_t)c->L * (size_t)c->K * sizeof *c->lack);
}

void kv_cache_free(kv_cache *c) {
    if (!c) return;
    for (int p = 0; p < OPS_PARTS; p++) {
        float *blocks[] = {c->k[p], c->v[p], c->in[p]};
        for (int i = 0; i < 3; i++)
            if (blocks[i]) c->o->release(blocks[i]);
    }
    free(c->has);
    free(c->lack);
    free(c);
}
