// fused - taking tensors apart and putting them together. Contract in fused.h.
#include "fused.h"
#include "arch.h"
#include <stdlib.h>
#include <string.h>

// What a name of a layer has after "layers.N." and the stem: ".weight", ".bias"; NULL: another stem.
static const char *after_stem(const char *name, const char *stem) {
    const char *at = strstr(name, stem);
    return at ? at + strlen(stem) : NULL;
}

static bool is_fused(const tensor *t, const tensor_fused *f) {
    const char *end = after_stem(t->name, f->name);
    return end && t->rank > 0 && (strcmp(end, ".weight") == 0 || strcmp(end, ".bias") == 0);
}

// The name of a fused tensor's part, or of a part's fused tensor. Caller frees.
static char *renamed(const char *name, const char *from, const char *to) {
    const char *at = strstr(name, from);
    return xasprintf("%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
}

static size_t row_bytes(const tensor *t) { return (t->rank > 1 ? (size_t)t->dim[1] : 1) * dtype_bytes(t->type); }

// ---------------------------------------------------------------- apart
static void split(ckpt *c, tensor *t, const tensor_fused *f, tensor part[3]) {
    const size_t D = (size_t)c->config.D, rows = (size_t)t->dim[0] / 3, head = D * row_bytes(t);
    const size_t heads = t->foreign || head == 0 ? 0 : rows / D;  // what is no tensor of this model is refused later
    for (size_t k = 0; k < 3; k++) {
        struct ckpt_map copy = {.base = xaligned(rows * row_bytes(t)), .bytes = rows * row_bytes(t), .owned = true};
        for (size_t h = 0; h < heads; h++)
            memcpy((char *)copy.base + h * head, (const char *)t->data + (3 * h + k) * head, head);
        part[k] = *t;
        part[k].name = renamed(t->name, f->name, f->part[k]);
        part[k].dim[0] = (int64_t)rows;
        part[k].data = copy.base;
        part[k].made = NULL;
        VEC_PUSH(c->maps, c->n_maps, c->cap_maps, copy);
    }
    free(t->name);
    free(t->made);
}

void fused_split(ckpt *c) {
    const tensor_fused *f = arch_of(&c->config).family->fused;
    if (!f) return;
    tensor *out = xmalloc((3 * (size_t)c->n_tensors + 1) * sizeof *out);
    int n = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        tensor *t = &c->tensors[i];
        if (is_fused(t, f) && t->dim[0] % (3 * c->config.D) == 0) {
            split(c, t, f, out + n);
            n += 3;
        } else
            out[n++] = *t;
    }
    free(c->tensors);
    c->tensors = out;
    c->n_tensors = n;
}

// ---------------------------------------------------------------- together
static const tensor *named(const tensor *t, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0) return &t[i];
    return NULL;
}

// The parts of the tensor that t is the first part of; false: it is none.
static bool parts_of(const tensor *part[3], const tensor_fused *f, const tensor *t, const tensor *all, int n) {
    if (!after_stem(t->name, f->part[0])) return false;
    for (int k = 0; k < 3; k++) {
        char *name = renamed(t->name, f->part[0], f->part[k]);
        part[k] = named(all, n, name);
        free(name);
        ASSERT(part[k]);
    }
    return true;
}

void fused_begin(fused *f, const model_config *c, const tensor *t, int n_t, tensor_fill *fill, void *ctx) {
    const tensor_fused *of = arch_of(c).family->fused;
    *f = (fused){.fill = fill, .ctx = ctx, .D = (size_t)c->D};
    f->t = xcalloc((size_t)n_t + 1, sizeof *f->t);
    f->part = xcalloc((size_t)n_t + 1, sizeof *f->part);
    for (int i = 0; i < n_t; i++) {
        tensor *to = &f->t[f->n];
        if (of && (after_stem(t[i].name, of->part[1]) || after_stem(t[i].name, of->part[2]))) continue;
        *to = t[i];
        to->made = NULL;
        if (of && parts_of(f->part[f->n], of, &t[i], t, n_t)) {
            to->name = renamed(t[i].name, of->part[0], of->name);
            to->dim[0] *= 3;
            to->data = NULL;
        } else
            to->name = xstrdup(t[i].name);
        f->n++;
    }
}

const void *fused_data(fused *f, int i) {
    const tensor *t = &f->t[i], **part = f->part[i];
    if (!part[0]) return f->fill ? f->fill(f->ctx, t) : t->data;
    const size_t head = f->D * row_bytes(t);
    f->data = xrealloc(f->data, tensor_bytes(t) + 1);
    for (size_t k = 0; k < 3; k++) {
        const char *from = f->fill ? f->fill(f->ctx, part[k]) : part[k]->data;
        if (!from) return NULL;
        for (size_t h = 0; h < tensor_bytes(part[k]) / head; h++)
            memcpy((char *)f->data + (3 * h + k) * head, from + h * head, head);
    }
    return f->data;
}

void fused_end(fused *f) {
    tensors_free(f->t, f->n);
    free(f->part);
    free(f->data);
    *f = (fused){0};
}
