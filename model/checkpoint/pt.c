// pt - pytorch_model.bin: torch.save's zip of one pickle (names, shapes) and one raw entry per storage.
// Nothing is executed: the pickle machine below knows the opcodes of protocol 2 that a dict of tensors needs and five
// names that stand for values of its own; any other name or opcode ends the reading. Opcodes: Python's
// Lib/pickletools.py; torch's layout: torch/serialization.py (_save) and torch/_utils.py (_rebuild_tensor_v2).
#include "ckpt.h"
#include "zip.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PICKLE (64 << 20)  // OPT-66b's is below a megabyte; keeps every count in an int

typedef enum { NONE, BOOL, INT, TEXT, TUPLE, DICT, MARK, GLOBAL, STORAGE, TENSOR } kind;
static const char *const kind_names[] = {"None",   "a bool", "a number", "a text",    "a tuple",
                                         "a dict", "a mark", "a class",  "a storage", "a tensor"};

typedef enum { ORDERED_DICT, REBUILD_TENSOR, FLOAT_STORAGE, HALF_STORAGE, BFLOAT16_STORAGE, N_GLOBALS } global;
static const char *const global_names[N_GLOBALS] = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
                                                    "torch.FloatStorage", "torch.HalfStorage", "torch.BFloat16Storage"};
static const dtype storage_types[N_GLOBALS] = {
    [FLOAT_STORAGE] = DT_F32, [HALF_STORAGE] = DT_F16, [BFLOAT16_STORAGE] = DT_BF16};

typedef struct {
    kind kind;
    // BOOL, INT; GLOBAL: which; DICT: its number; TUPLE, STORAGE, TENSOR: index of its first item, of itself
    int64_t x;
    const uint8_t *text;  // TEXT
    size_t n;             // bytes of TEXT, items of TUPLE
} value;

typedef struct {
    const uint8_t *data;
    size_t count;
    dtype type;
} storage;
typedef struct {
    int64_t dict;
    value key, item;
} setting;

typedef struct {
    const char *path;
    const uint8_t *begin, *at, *end;  // the pickle
    const zip_entry *entries;
    int n_entries;
    const char *root;             // the archive's folder: entries are ROOT/data.pkl, ROOT/data/KEY
    value *stack, *memo, *items;  // items: of all tuples
    int n_stack, cap_stack, n_memo, cap_memo, n_items, cap_items;
    storage *storages;
    int n_storages, cap_storages;
    tensor *tensors;  // not named yet
    int n_tensors, cap_tensors;
    setting *settings;  // every dict[key] = item, in order
    int n_settings, cap_settings;
    int64_t n_dicts;
} machine;

// ---------------------------------------------------------------- bytes and values
static void complain(const machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(const machine *m, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    err_set("%s: data.pkl, byte %zu: %s; only a dict of plain tensors can be read, and nothing is executed", m->path,
            (size_t)(m->at - m->begin), what);
}
#define bad(m, ...) (complain(m, __VA_ARGS__), -1)  // a visible -1, from which the compiler sees what is set on success

static int take(machine *m, size_t n, const uint8_t **p) {
    if ((size_t)(m->end - m->at) < n) return bad(m, "it ends within a value");
    *p = m->at;
    m->at += n;
    return 0;
}

static int take_uint(machine *m, int width, uint64_t *x) {
    const uint8_t *p;
    if (take(m, (size_t)width, &p)) return -1;
    *x = 0;
    for (int i = width - 1; i >= 0; i--) *x = *x << 8 | p[i];
    return 0;
}

static int push(machine *m, value v) {
    VEC_PUSH(m->stack, m->n_stack, m->cap_stack, v);
    return 0;
}

static int pop(machine *m, kind want, value *v) {
    if (!m->n_stack) return bad(m, "its stack is empty");
    *v = m->stack[--m->n_stack];
    return v->kind == want ? 0 : bad(m, "%s where %s should be", kind_names[v->kind], kind_names[want]);
}

static const value *item(const machine *m, const value *tuple, size_t i) { return &m->items[(size_t)tuple->x + i]; }

// The tuple starts with items of these kinds.
static int want_items(const machine *m, const value *tuple, const kind *kinds, size_t n, const char *what) {
    if (tuple->n < n) return bad(m, "%s of %zu items instead of %zu", what, tuple->n, n);
    for (size_t i = 0; i < n; i++) {
        kind is = item(m, tuple, i)->kind;
        if (is != kinds[i])
            return bad(m, "item %zu of %s is %s, not %s", i, what, kind_names[is], kind_names[kinds[i]]);
    }
    return 0;
}

static bool is_text(const value *v, const char *s) { return v->n == strlen(s) && !memcmp(v->text, s, v->n); }

// The topmost n values become a tuple.
static int make_tuple(machine *m, int n) {
    if (m->n_stack < n) return bad(m, "its stack is empty");
    const value t = {.kind = TUPLE, .x = m->n_items, .n = (size_t)n};
    for (int i = m->n_stack - n; i < m->n_stack; i++) {
        if (m->stack[i].kind == MARK) return bad(m, "a mark within a tuple");
        VEC_PUSH(m->items, m->n_items, m->cap_items, m->stack[i]);
    }
    m->n_stack -= n;
    return push(m, t);
}

// How many values lie above the topmost mark, or -1.
static int above_mark(const machine *m) {
    for (int i = m->n_stack - 1; i >= 0; i--)
        if (m->stack[i].kind == MARK) return m->n_stack - 1 - i;
    return bad(m, "no mark on its stack");
}

// ---------------------------------------------------------------- what the five names stand for
static int op_global(machine *m) {
    const uint8_t *line[2];
    int n[2];
    for (int i = 0; i < 2; i++) {
        line[i] = m->at;
        const uint8_t *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
        if (!end || end - m->at > 100) return bad(m, "a name that does not end");
        n[i] = (int)(end - m->at);
        m->at = end + 1;
    }
    char name[208];
    snprintf(name, sizeof name, "%.*s.%.*s", n[0], (const char *)line[0], n[1], (const char *)line[1]);
    for (int g = 0; g < N_GLOBALS; g++)
        if (!strcmp(name, global_names[g])) return push(m, (value){.kind = GLOBAL, .x = g});
    return bad(m, "it calls for %s", name);
}

// A storage from ('storage', class, key, device, elements).
static int op_persistent(machine *m) {
    static const kind kinds[] = {TEXT, GLOBAL, TEXT, TEXT, INT};
    value id;
    if (pop(m, TUPLE, &id) || want_items(m, &id, kinds, 5, "a persistent id")) return -1;
    const value *class = item(m, &id, 1), *key = item(m, &id, 2);
    const int64_t count = item(m, &id, 4)->x;
    if (!is_text(item(m, &id, 0), "storage")) return bad(m, "a persistent id that is no storage");
    if (class->x < FLOAT_STORAGE) return bad(m, "a storage of class %s", global_names[class->x]);
    if (key->n > 200) return bad(m, "a storage's key of %zu bytes", key->n);
    char *name = xasprintf("%s/data/%.*s", m->root, (int)key->n, (const char *)key->text);
    const zip_entry *e = zip_find(m->entries, m->n_entries, name);
    const dtype type = storage_types[class->x];
    int fail = 0;
    if (!e)
        fail = err_set("%s: zip entry %s is missing, but data.pkl names it; the file is damaged, fetch it again",
                       m->path, name);
    else if (count < 0 || (uint64_t)count != e->bytes / dtype_bytes(type) || e->bytes % dtype_bytes(type))
        fail = err_set("%s: zip entry %s has %zu bytes, but data.pkl says %lld elements of %s; the file is damaged, "
                       "fetch it again",
                       m->path, name, e->bytes, (long long)count, dtype_name(type));
    free(name);
    if (fail) return -1;
    const storage s = {e->data, (size_t)count, type};
    VEC_PUSH(m->storages, m->n_storages, m->cap_storages, s);
    return push(m, (value){.kind = STORAGE, .x = m->n_storages - 1});
}

static int want_row_major(const machine *m, const tensor *t, const value *strides) {
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && item(m, strides, (size_t)i)->x != step)
            return bad(
                m,
                "a tensor that is not contiguous (stride %lld of dimension %d, not %lld; save it after .contiguous())",
                (long long)item(m, strides, (size_t)i)->x, i, (long long)step);
        step *= t->dim[i];
    }
    return 0;
}

// _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks[, metadata]).
static int rebuild_tensor(machine *m, const value *args) {
    static const kind kinds[] = {STORAGE, INT, TUPLE, TUPLE, BOOL, DICT};
    static const kind ints[] = {INT, INT, INT, INT};
    if (want_items(m, args, kinds, 6, "a tensor's description")) return -1;
    const storage *s = &m->storages[item(m, args, 0)->x];
    const int64_t offset = item(m, args, 1)->x;
    const value *sizes = item(m, args, 2), *strides = item(m, args, 3);
    if (sizes->n > 4 || strides->n != sizes->n)
        return bad(m, "a tensor of %zu sizes and %zu strides", sizes->n, strides->n);
    if (want_items(m, sizes, ints, sizes->n, "a shape") || want_items(m, strides, ints, sizes->n, "the strides"))
        return -1;
    tensor t = {.type = s->type, .rank = (int)sizes->n};
    for (int i = 0; i < t.rank; i++) t.dim[i] = item(m, sizes, (size_t)i)->x;
    const size_t width = dtype_bytes(t.type), bytes = tensor_bytes(&t);
    if (offset < 0 || (uint64_t)offset > s->count || bytes == SIZE_MAX || bytes / width > s->count - (size_t)offset)
        return bad(m, "a tensor that reaches beyond its storage of %zu elements", s->count);
    if (want_row_major(m, &t, strides)) return -1;
    t.data = s->data + (size_t)offset * width;
    VEC_PUSH(m->tensors, m->n_tensors, m->cap_tensors, t);
    return push(m, (value){.kind = TENSOR, .x = m->n_tensors - 1});
}

static int op_reduce(machine *m) {
    value args, f;
    if (pop(m, TUPLE, &args) || pop(m, GLOBAL, &f)) return -1;
    if (f.x == REBUILD_TENSOR) return rebuild_tensor(m, &args);
    if (f.x == ORDERED_DICT && args.n == 0) return push(m, (value){.kind = DICT, .x = m->n_dicts++});
    return bad(m, "a call of %s", global_names[f.x]);
}

// ---------------------------------------------------------------- the machine
// The topmost n values are keys and items for the dict below them.
static int set_items(machine *m, int n) {
    const int first = m->n_stack - n, dict = first - 1;
    if (n % 2 || dict < 0 || m->stack[dict].kind != DICT) return bad(m, "items without a dict to put them into");
    for (int i = first; i < m->n_stack; i += 2) {
        const setting s = {m->stack[dict].x, m->stack[i], m->stack[i + 1]};
        VEC_PUSH(m->settings, m->n_settings, m->cap_settings, s);
    }
    m->n_stack = first;
    return 0;
}

static int op_setitems(machine *m) {
    int n = above_mark(m);
    if (n < 0) return -1;
    memmove(&m->stack[m->n_stack - n - 1], &m->stack[m->n_stack - n], (size_t)n * sizeof *m->stack);  // over the mark
    m->n_stack--;
    return set_items(m, n);
}

static int op_tuple(machine *m) {
    int n = above_mark(m);
    if (n < 0 || make_tuple(m, n)) return -1;
    m->stack[m->n_stack - 2] = m->stack[m->n_stack - 1];  // over the mark
    m->n_stack--;
    return 0;
}

// Attributes of the dict itself (state_dict's _metadata); nothing of them is needed.
static int op_build(machine *m) {
    value state;
    if (pop(m, DICT, &state)) return -1;
    return m->n_stack && m->stack[m->n_stack - 1].kind == DICT ? 0 : bad(m, "attributes of something that is no dict");
}

static int op_put(machine *m, int width) {
    uint64_t i;
    if (take_uint(m, width, &i)) return -1;
    if (!m->n_stack) return bad(m, "its stack is empty");
    // each takes a byte at least
    if (i >= (uint64_t)(m->end - m->begin)) return bad(m, "memo number %llu", (unsigned long long)i);
    while (m->n_memo <= (int)i) VEC_PUSH(m->memo, m->n_memo, m->cap_memo, (value){.kind = MARK});
    m->memo[i] = m->stack[m->n_stack - 1];
    return 0;
}

static int op_get(machine *m, int width) {
    uint64_t i;
    if (take_uint(m, width, &i)) return -1;
    if (i >= (uint64_t)m->n_memo || m->memo[i].kind == MARK)
        return bad(m, "memo number %llu was never set", (unsigned long long)i);
    return push(m, m->memo[i]);
}

static int op_text(machine *m) {
    uint64_t n;
    value v = {.kind = TEXT};
    if (take_uint(m, 4, &n) || take(m, n, &v.text)) return -1;
    v.n = n;
    return push(m, v);
}

// width bytes, little endian; is_signed: in two's complement.
static int op_int(machine *m, int width, bool is_signed) {
    uint64_t x;
    if (width > 8) return bad(m, "a number of %d bytes", width);
    if (take_uint(m, width, &x)) return -1;
    if (is_signed && width > 0 && width < 8 && x >> (8 * width - 1)) x -= (uint64_t)1 << 8 * width;
    return push(m, (value){.kind = INT, .x = (int64_t)x});
}

static int op_long1(machine *m) {
    uint64_t width;
    return take_uint(m, 1, &width) ? -1 : op_int(m, (int)width, true);
}

static int step(machine *m, uint8_t op) {
    switch (op) {
    case 'c': return op_global(m);
    case 'R': return op_reduce(m);
    case 'Q': return op_persistent(m);
    case 'b': return op_build(m);
    case '}': return push(m, (value){.kind = DICT, .x = m->n_dicts++});
    case 's': return set_items(m, 2);
    case 'u': return op_setitems(m);
    case '(': return push(m, (value){.kind = MARK});
    case ')': return make_tuple(m, 0);
    case 't': return op_tuple(m);
    case 0x85:
    case 0x86:
    case 0x87: return make_tuple(m, op - 0x84);
    case 'X': return op_text(m);
    case 'K': return op_int(m, 1, false);
    case 'M': return op_int(m, 2, false);
    case 'J': return op_int(m, 4, true);
    case 0x8a: return op_long1(m);
    case 'N': return push(m, (value){.kind = NONE});
    case 0x88:
    case 0x89: return push(m, (value){.kind = BOOL, .x = op == 0x88});
    case 'q': return op_put(m, 1);
    case 'r': return op_put(m, 4);
    case 'h': return op_get(m, 1);
    case 'j': return op_get(m, 4);
    default: return bad(m, "opcode 0x%02x is not known here", op);
    }
}

static int run(machine *m, value *result) {
    if (m->end - m->at < 2 || m->at[0] != 0x80 || m->at[1] != 2)
        return bad(m, "it is no pickle of protocol 2 (torch.save's default)");
    m->at += 2;
    for (;;) {
        const uint8_t *op;
        if (take(m, 1, &op)) return -1;
        if (*op == '.') return pop(m, DICT, result);
        if (step(m, *op)) return -1;
    }
}

// ---------------------------------------------------------------- result
// Names for the tensors of the dict that the pickle is.
static int collect(const machine *m, const value *dict, tensor **tensors, int *n) {
    int cap = 0;
    for (int i = 0; i < m->n_settings; i++) {
        const setting *s = &m->settings[i];
        if (s->dict != dict->x) continue;
        if (s->key.kind != TEXT || memchr(s->key.text, 0, s->key.n)) return bad(m, "a key that is no text");
        const int shown = s->key.n < 200 ? (int)s->key.n : 200;
        if (s->item.kind != TENSOR)
            return bad(m, "its entry %.*s is %s, not a tensor", shown, (const char *)s->key.text,
                       kind_names[s->item.kind]);
        tensor t = m->tensors[s->item.x];
        t.name = xstrndup((const char *)s->key.text, s->key.n);
        VEC_PUSH(*tensors, *n, cap, t);
    }
    return 0;
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
        if (tensor_bytes(&tensors[i])) ts[used++] = tensors[i];
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

static int read_pickle(const zip_entry *pickle, const zip_entry *entries, int n_entries, const char *path,
                       tensor **tensors, int *n) {
    machine m = {.path = path,
                 .begin = pickle->data,
                 .at = pickle->data,
                 .end = pickle->data + pickle->bytes,
                 .entries = entries,
                 .n_entries = n_entries};
    char *root = xstrndup(pickle->name, strlen(pickle->name) - strlen("/data.pkl"));
    value dict;
    m.root = root;
    int fail =
        pickle->bytes > MAX_PICKLE ? bad(&m, "%zu bytes are too many for a pickle", pickle->bytes) : run(&m, &dict);
    if (!fail) fail = collect(&m, &dict, tensors, n);
    if (!fail) fail = check_overlap(path, *tensors, *n);
    free(root);
    free(m.stack);
    free(m.memo);
    free(m.items);
    free(m.storages);
    free(m.tensors);
    free(m.settings);
    return fail;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

static int read_archive(const zip_entry *entries, int n_entries, const char *path, tensor **tensors, int *n) {
    const zip_entry *pickle = NULL;
    for (int i = 0; i < n_entries; i++) {
        const zip_entry *e = &entries[i];
        if (ends_with(e->name, "/byteorder") && (e->bytes != 6 || memcmp(e->data, "little", 6)))
            return err_set("%s: its tensors are not little endian; save it again on a little-endian machine", path);
        if (!ends_with(e->name, "/data.pkl")) continue;
        if (pickle) return err_set("%s: holds two pickles, %.100s and %.100s", path, pickle->name, e->name);
        pickle = e;
    }
    if (!pickle) return err_set("%s: holds no data.pkl; it is no file of torch.save", path);
    return read_pickle(pickle, entries, n_entries, path, tensors, n);
}

int pt_parse(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors) {
    zip_entry *entries;
    int n_entries;
    *tensors = NULL;
    *n_tensors = 0;
    if (zip_parse(bytes, n, path, &entries, &n_entries)) return -1;
    int fail = read_archive(entries, n_entries, path, tensors, n_tensors);
    zip_free(entries, n_entries);
    if (!fail) return 0;
    tensors_free(*tensors, *n_tensors);
    *tensors = NULL;
    *n_tensors = 0;
    return -1;
}
