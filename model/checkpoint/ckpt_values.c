// ckpt_values - whether a checkpoint's numbers are finite, and their hash. Contract in ckpt.h.
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "ckpt.h"
#include "gguf.h"

// Index of the first element whose exponent is all ones (NaN or infinity), or n.
static size_t first_bad(const tensor *t, size_t from, size_t to) {
    if (t->type == DT_F32) {
        const uint32_t *x = t->data;
        for (; from < to && (x[from] & 0x7f800000u) != 0x7f800000u; from++) {
        }
    } else {
        const uint16_t *x = t->data, exponent = t->type == DT_F16 ? 0x7c00 : 0x7f80;
        for (; from < to && (x[from] & exponent) != exponent; from++) {
        }
    }
    return from;
}

// Sizes and switches of a configuration, for the hash.
static char *config_words(const model_config *o) {
    const llama_config *f = &o->llama;
    const rope_config *r = &f->rope;
    if (o->type == MODEL_OPT && f->act == ACT_RELU && !o->plain_norms)
        return xasprintf("opt %d %d %d %d %d %d %d %d%d%d %d %d %d", o->L, o->H, o->E, o->F, o->P, o->V, o->positions,
                         o->pre_ln, o->final_ln, o->bias, o->bos, o->eos, o->pad);
    if (o->type == MODEL_OPT)
        return xasprintf("opt %d %d %d %d %d %d %d %d%d%d %d %d %d %s %d", o->L, o->H, o->E, o->F, o->P, o->V,
                         o->positions, o->pre_ln, o->final_ln, o->bias, o->bos, o->eos, o->pad,
                         activation_names[f->act], o->plain_norms);
    if (o->type == MODEL_NEOX)
        return xasprintf("gpt_neox %d %d %d %d %d %d %s %.9g %s %.9g %.9g %.9g %.9g %d %d %d%d%d %d %d %d", o->L, o->H,
                         o->E, o->F, o->V, o->positions, activation_names[f->act], f->norm_eps, rope_names[r->kind],
                         r->theta, r->factor, r->low, r->high, r->old, o->rotary, o->parallel, f->bias_qkv, o->tied,
                         o->bos, o->eos, o->pad);
    return xasprintf("%s %d %d %d %d %d %d %d %d %s %.9g %s %.9g %.9g %.9g %.9g %d %d%d%d%d%d %d %d %d",
                     model_type_names[o->type], o->L, o->H, f->K, o->D, o->E, o->F, o->V, o->positions,
                     activation_names[f->act], f->norm_eps, rope_names[r->kind], r->theta, r->factor, r->low, r->high,
                     r->old, f->bias_qkv, f->bias_out, f->bias_ffn, f->qk_norm, o->tied, o->bos, o->eos, o->pad);
}

enum { PIECE = 1 << 14 };  // numbers; whole blocks of any type

static int read_numbers(XXH3_state_t *st, const ckpt *c, const tensor *t, bool values) {
    const size_t width = dtype_bytes(t->type), n = tensor_numbers(t);
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t end = n - at < PIECE ? n : at + PIECE, where = values ? first_bad(t, at, end) : end;
        if (where < end)
            return err_set("%s: tensor %s holds NaN or infinity at element %zu; the model cannot be used", c->dir,
                           t->name, where);
        XXH3_128bits_update(st, (const char *)t->data + at * width, (end - at) * width);
    }
    return 0;
}

// Blocks are hashed as the fp32 numbers that they stand for: a model's hash names its numbers, not their form.
static int read_blocks(XXH3_state_t *st, const ckpt *c, const tensor *t, bool values) {
    const size_t n = tensor_numbers(t), block = n ? dtype_block(t->type) : 1;
    float *wide = xmalloc(PIECE * sizeof *wide);
    int bad = 0;
    for (size_t at = 0; at < n && !bad; at += PIECE) {
        const size_t some = n - at < PIECE ? n - at : PIECE;
        const uint8_t *from = (const uint8_t *)t->data + dtype_size(t->type, at);
        const size_t where = values ? gguf_bad_block(from, t->type, some) : some / block;
        if (where < some / block) {
            const size_t element = at + where * block;
            bad = err_set("%s: tensor %s: the scale of %s block %zu of row %zu is NaN or infinite; the model cannot be "
                          "used, fetch the file again",
                          c->dir, t->name, dtype_name(t->type), element % (size_t)t->dim[1] / block,
                          element / (size_t)t->dim[1]);
        }
        gguf_widen(wide, from, gguf_type_of(t->type), some);
        XXH3_128bits_update(st, wide, some * sizeof *wide);
    }
    free(wide);
    return bad;
}

// One pass over all data, piece by piece so that each is hashed while it is in the cache.
static int read_all(ckpt *c, bool values) {
    XXH3_state_t *st = XXH3_createState();
    XXH3_128bits_reset(st);
    char *text = config_words(&c->config);
    XXH3_128bits_update(st, text, strlen(text) + 1);
    free(text);
    const model_config *o = &c->config;
    for (int l = 0; o->reads && l < o->L; l++)
        XXH3_128bits_update(st, o->reads + l * o->H, (size_t)o->heads[l] * sizeof *o->reads);
    int bad = 0;
    for (int i = 0; i < c->n_tensors && !bad; i++) {
        const tensor *t = &c->tensors[i];
        const bool blocks = dtype_in_blocks(t->type);
        const char *type = dtype_name(blocks ? DT_F32 : t->type);
        char shape[CKPT_SHAPE];
        ckpt_shape_text(shape, t);
        XXH3_128bits_update(st, t->name, strlen(t->name) + 1);
        XXH3_128bits_update(st, type, strlen(type) + 1);
        XXH3_128bits_update(st, shape, strlen(shape) + 1);
        bad = (blocks ? read_blocks : read_numbers)(st, c, t, values);
    }
    XXH128_hash_t h = XXH3_128bits_digest(st);
    if (!bad)
        snprintf(c->hash, sizeof c->hash, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
    XXH3_freeState(st);
    return bad;
}

int ckpt_check_values(ckpt *c) { return read_all(c, true); }

const char *ckpt_hash(ckpt *c) {
    if (!*c->hash) read_all(c, false);
    return c->hash;
}
