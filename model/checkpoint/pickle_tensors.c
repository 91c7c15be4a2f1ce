// pickle_tensors - the tensors that a pickle describes, from its dict and storages. Contract in pickle.h.
#include <stdlib.h>
#include <string.h>
#include "pickle_impl.h"

#define bad(m, ...) (pickle_complain(m, __VA_ARGS__), -1)

// The item of a dict that a key names; NULL: there is none.
static const value *entry(const pickle *m, int64_t dict, const char *key) {
    const value *found = NULL;
    for (int i = 0; i < m->n_settings; i++)
        if (m->settings[i].dict == dict && pickle_is_text(&m->settings[i].key, key)) found = &m->settings[i].item;
    return found;
}

static bool holds_tensors(const pickle *m, int64_t dict) {
    for (int i = 0; i < m->n_settings; i++)
        if (m->settings[i].dict == dict && m->settings[i].item.kind == TENSOR) return true;
    return false;
}

// The dict of tensors: the whole, or what training scripts call so within it.
static int64_t find_dict(const pickle *m) {
    static const char *const names[] = {"state_dict", "model_state_dict", "model", "module", "model_state", "weights"};
    int64_t dict = m->result.x;
    for (int depth = 0; depth < 4; depth++) {
        const value *inner = NULL;
        for (int k = 0; k < 6 && !inner; k++) {
            inner = entry(m, dict, names[k]);
            if (inner && (inner->kind != DICT || (holds_tensors(m, dict) && !holds_tensors(m, inner->x)))) inner = NULL;
        }
        if (!inner) break;
        dict = inner->x;
    }
    return dict;
}

// The elements in row-major order, as a copy.
static void *copy_view(const view *v, const pickle_storage *s) {
    const size_t n = (size_t)pickle_elements(v);
    char *made = xaligned(n * s->width);
    int64_t at[4] = {0};
    for (size_t k = 0; k < n; k++) {
        int64_t from = v->offset;
        for (int i = 0; i < v->rank; i++) from += at[i] * v->stride[i];
        memcpy(made + k * s->width, s->data + (size_t)from * s->width, s->width);
        for (int i = v->rank - 1; i >= 0 && ++at[i] == v->dim[i]; i--) at[i] = 0;
    }
    return made;
}

static bool row_major(const view *v) {
    int64_t step = 1;
    for (int i = v->rank - 1; i >= 0; i--) {
        if (v->dim[i] != 1 && v->stride[i] != step) return false;
        step *= v->dim[i];
    }
    return true;
}

static tensor make_tensor(const pickle *m, const view *v) {
    const pickle_storage *s = &m->storages[v->storage];
    tensor t = {.rank = v->rank};
    memcpy(t.dim, v->dim, sizeof t.dim);
    for (int k = DT_F32; k <= DT_BF16; k++)
        if (!strcmp(dtype_name((dtype)k), s->type)) t.type = (dtype)k;
    if (strcmp(dtype_name(t.type), s->type))
        t.foreign = s->type;
    else if (row_major(v) || pickle_elements(v) == 0)
        t.data = s->data + (size_t)v->offset * s->width;
    else
        t.data = t.made = copy_view(v, s);
    return t;
}

static int by_place(const void *a, const void *b) {
    const tensor *x = a, *y = b;
    if (x->data != y->data) return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
    return (tensor_bytes(x) > tensor_bytes(y)) - (tensor_bytes(x) < tensor_bytes(y));
}

// Tensors share all of their bytes (tied weights) or none.
static int check_overlap(const char *path, const tensor *tensors, int n) {
    tensor *ts = xcalloc((size_t)n + 1, sizeof *ts);
    int fail = 0, used = 0;
    for (int i = 0; i < n; i++)
        if (tensors[i].data && tensor_bytes(&tensors[i])) ts[used++] = tensors[i];
    qsort(ts, (size_t)used, sizeof *ts, by_place);
    for (int i = 1; i < used && !fail; i++) {
        const tensor *a = &ts[i - 1], *b = &ts[i];
        const bool same = a->data == b->data && tensor_bytes(a) == tensor_bytes(b);
        if (!same && (const uint8_t *)b->data < (const uint8_t *)a->data + tensor_bytes(a))
            fail = err_set("%s: tensors %s and %s overlap; save them as separate tensors", path, a->name, b->name);
    }
    free(ts);
    return fail;
}

// What copies of tensors may hold: as many elements as the storages have bytes, and some for those that are expanded
// (an element counts several times). A pickle that describes more is no checkpoint, and asks for all memory.
static int64_t room_for_copies(const pickle *m) {
    const uint8_t *first = NULL, *last = NULL;
    for (int i = 0; i < m->n_storages; i++) {
        const pickle_storage *s = &m->storages[i];
        if (!first || s->data < first) first = s->data;
        if (!last || s->data + s->count * s->width > last) last = s->data + s->count * s->width;
    }
    return (1 << 24) + (first ? last - first : 0);
}

int pickle_tensors(const pickle *m, tensor **tensors, int *n) {
    int cap = 0;
    if (m->result.kind != DICT) return bad(m, "%s where a dict should be", pickle_kind_names[m->result.kind]);
    const int64_t dict = find_dict(m);
    const bool any = holds_tensors(m, dict);
    int64_t room = room_for_copies(m);
    for (int i = 0; i < m->n_settings; i++) {
        const setting *s = &m->settings[i];
        if (s->dict != dict) continue;
        const bool text = s->key.kind == TEXT && !memchr(s->key.text, 0, s->key.n);
        if (s->item.kind != TENSOR && any) continue;
        if (!text) return bad(m, "a key that is no text");
        if (s->item.kind != TENSOR)
            return bad(m, "its entry %.*s is %s, not a tensor", s->key.n < 200 ? (int)s->key.n : 200,
                       (const char *)s->key.text, pickle_kind_names[s->item.kind]);
        const view *v = &m->views[s->item.x];
        if (!row_major(v) && (room -= pickle_elements(v)) < 0)
            return bad(m, "its tensors take more room than all storages");
        tensor t = make_tensor(m, v);
        t.name = xstrndup((const char *)s->key.text, s->key.n);
        VEC_PUSH(*tensors, *n, cap, t);
    }
    return check_overlap(m->path, *tensors, *n);
}
