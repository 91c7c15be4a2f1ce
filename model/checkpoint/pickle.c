// pickle - a stack machine for the opcodes of protocols 2 to 5 that a dict of tensors needs (Python's
// Lib/pickletools.py). Contract in pickle.h.
#include "pickle_impl.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PICKLE (64 << 20)  // OPT-66b's is below a megabyte; keeps every count in an int

const char *const pickle_kind_names[] = {"None",   "a bool", "a number", "a text",    "a tuple",  "a dict",
                                         "a list", "a mark", "a class",  "a storage", "a tensor", "an object"};

typedef pickle machine;

// ---------------------------------------------------------------- bytes and values
void pickle_complain(const machine *m, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    err_set("%s: data.pkl, byte %zu: %s; only a dict of plain tensors can be read, and nothing is executed: "
            "torch.save(model.state_dict(), FILE)",
            m->path, (size_t)(m->at - m->begin), what);
}
#define bad(m, ...) (pickle_complain(m, __VA_ARGS__), -1)  // a visible -1, from which the compiler sees what is set

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

static int push_new(machine *m, kind k) { return push(m, (value){.kind = k, .x = m->n_dicts++}); }

static int pop_any(machine *m, value *v) {
    if (!m->n_stack) return bad(m, "its stack is empty");
    *v = m->stack[--m->n_stack];
    return 0;
}

static int pop(machine *m, kind want, value *v) {
    if (pop_any(m, v)) return -1;
    return v->kind == want ? 0 : bad(m, "%s where %s should be", pickle_kind_names[v->kind], pickle_kind_names[want]);
}

static const value *item(const machine *m, const value *tuple, size_t i) { return &m->items[(size_t)tuple->x + i]; }

// The tuple starts with items of these kinds.
static int want_items(const machine *m, const value *tuple, const kind *kinds, size_t n, const char *what) {
    if (tuple->n < n) return bad(m, "%s of %zu items instead of %zu", what, tuple->n, n);
    for (size_t i = 0; i < n; i++) {
        kind is = item(m, tuple, i)->kind;
        if (is != kinds[i])
            return bad(m, "item %zu of %s is %s, not %s", i, what, pickle_kind_names[is], pickle_kind_names[kinds[i]]);
    }
    return 0;
}

bool pickle_is_text(const value *v, const char *s) {
    return v->kind == TEXT && v->n == strlen(s) && !memcmp(v->text, s, v->n);
}

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

// ---------------------------------------------------------------- classes
static int push_global(machine *m, const char *name) {
    const int global = pickle_global(name);
    if (global >= 0) return push(m, (value){.kind = GLOBAL, .x = global});
    return global == GLOBAL_HARMLESS ? push(m, (value){.kind = OPAQUE}) : bad(m, "it calls for %s", name);
}

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
    return push_global(m, name);
}

static int op_stack_global(machine *m) {
    value class, module;
    char name[208];
    if (pop(m, TEXT, &class) || pop(m, TEXT, &module)) return -1;
    if (class.n > 100 || module.n > 100) return bad(m, "a name that does not end");
    snprintf(name, sizeof name, "%.*s.%.*s", (int)module.n, (const char *)module.text, (int)class.n,
             (const char *)class.text);
    return push_global(m, name);
}

// A storage from ('storage', class, key, device, elements).
static int op_persistent(machine *m) {
    static const kind kinds[] = {TEXT, GLOBAL, TEXT, TEXT, INT};
    value id;
    if (pop(m, TUPLE, &id) || want_items(m, &id, kinds, 5, "a persistent id")) return -1;
    const value *class = item(m, &id, 1), *key = item(m, &id, 2);
    const int64_t count = item(m, &id, 4)->x;
    if (!pickle_is_text(item(m, &id, 0), "storage")) return bad(m, "a persistent id that is no storage");
    if (class->x < N_CALLS) return bad(m, "a storage of class %s", pickle_global_name(class->x));
    if (key->n > 200) return bad(m, "a storage's key of %zu bytes", key->n);
    if (count < 0) return bad(m, "a storage of %lld elements", (long long)count);
    size_t width;
    const char *type = pickle_storage_type(class->x, &width);
    const pickle_storage s = {
        .key = (const char *)key->text, .n_key = key->n, .count = (size_t)count, .width = width, .type = type};
    VEC_PUSH(m->storages, m->n_storages, m->cap_storages, s);
    return push(m, (value){.kind = STORAGE, .x = m->n_storages - 1});
}

// ---------------------------------------------------------------- tensors
int64_t pickle_elements(const view *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(n, t->dim[i], &n)) return -1;
    return n;
}

// The place after the last element, from the offset; -1: strides that step back, or too many elements.
static int64_t reach(const view *t) {
    int64_t last = 0, step;
    if (pickle_elements(t) < 0) return -1;
    if (pickle_elements(t) == 0) return 0;
    for (int i = 0; i < t->rank; i++)
        if (t->stride[i] < 0 || __builtin_mul_overflow(t->dim[i] - 1, t->stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return -1;
    return last < INT64_MAX ? last + 1 : -1;
}

// _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks[, metadata]); _rebuild_tensor has the first
// four.
static int rebuild_tensor(machine *m, const value *args, bool v2) {
    static const kind kinds[] = {STORAGE, INT, TUPLE, TUPLE, BOOL, DICT};
    static const kind ints[] = {INT, INT, INT, INT};
    if (want_items(m, args, kinds, v2 ? 6 : 4, "a tensor's description")) return -1;
    const value *sizes = item(m, args, 2), *strides = item(m, args, 3);
    if (sizes->n > 4 || strides->n != sizes->n)
        return bad(m, "a tensor of %zu sizes and %zu strides", sizes->n, strides->n);
    if (want_items(m, sizes, ints, sizes->n, "a shape") || want_items(m, strides, ints, sizes->n, "the strides"))
        return -1;
    view t = {.storage = (int)item(m, args, 0)->x, .rank = (int)sizes->n, .offset = item(m, args, 1)->x};
    for (int i = 0; i < t.rank; i++) {
        t.dim[i] = item(m, sizes, (size_t)i)->x;
        t.stride[i] = item(m, strides, (size_t)i)->x;
    }
    const size_t count = m->storages[t.storage].count;
    const int64_t end = reach(&t);
    if (t.offset < 0 || (uint64_t)t.offset > count || end < 0 || (uint64_t)end > count - (size_t)t.offset)
        return bad(m, "a tensor that reaches beyond its storage of %zu elements", count);
    VEC_PUSH(m->views, m->n_views, m->cap_views, t);
    return push(m, (value){.kind = TENSOR, .x = m->n_views - 1});
}

static int op_reduce(machine *m) {
    static const kind from_type[] = {GLOBAL, OPAQUE, TUPLE};
    value args, f;
    if (pop(m, TUPLE, &args) || pop_any(m, &f)) return -1;
    if (f.kind == OPAQUE) return push(m, f);
    if (f.kind != GLOBAL) return bad(m, "%s where %s should be", pickle_kind_names[f.kind], pickle_kind_names[GLOBAL]);
    switch (f.x) {
    case REBUILD_V1: return rebuild_tensor(m, &args, false);
    case REBUILD_V2: return rebuild_tensor(m, &args, true);
    case PARAMETER:
    case PARAMETER_STATE:
        return want_items(m, &args, (kind[]){TENSOR}, 1, "a parameter") ? -1 : push(m, *item(m, &args, 0));
    case FROM_TYPE:
        if (want_items(m, &args, from_type, 3, "a tensor of a class")) return -1;
        if (item(m, &args, 0)->x != REBUILD_V2) return bad(m, "a call of %s", pickle_global_name(f.x));
        return rebuild_tensor(m, item(m, &args, 2), true);
    case DEFAULT_DICT: return push_new(m, DICT);
    case ORDERED_DICT:
        if (args.n == 0) return push_new(m, DICT);
    }
    return bad(m, "a call of %s", pickle_global_name(f.x));
}

// cls.__new__(cls, ..): an object that nothing looks at.
static int op_new(machine *m, int n_args) {
    value v;
    for (int i = 0; i <= n_args; i++)
        if (pop_any(m, &v)) return -1;
    if (v.kind != OPAQUE && v.kind != GLOBAL) return bad(m, "%s where a class should be", pickle_kind_names[v.kind]);
    return push(m, (value){.kind = OPAQUE});
}

// ---------------------------------------------------------------- dicts and lists
// The topmost n values are keys and items for the dict below them, or items for the list.
static int set_items(machine *m, int n, bool pairs) {
    const int first = m->n_stack - n, dict = first - 1;
    const kind want = pairs ? DICT : LIST;
    if ((pairs && n % 2) || dict < 0 || (m->stack[dict].kind != want && m->stack[dict].kind != OPAQUE))
        return bad(m, "items without a %s to put them into", pairs ? "dict" : "list");
    for (int i = first; i < m->n_stack && m->stack[dict].kind == want; i += pairs ? 2 : 1) {
        const setting s = {m->stack[dict].x, pairs ? m->stack[i] : (value){.kind = NONE}, m->stack[pairs ? i + 1 : i]};
        VEC_PUSH(m->settings, m->n_settings, m->cap_settings, s);
    }
    m->n_stack = first;
    return 0;
}

static int drop_mark(machine *m, int n) {
    memmove(&m->stack[m->n_stack - n - 1], &m->stack[m->n_stack - n], (size_t)n * sizeof *m->stack);
    m->n_stack--;
    return n;
}

static int op_setitems(machine *m, bool pairs) {
    int n = above_mark(m);
    return n < 0 ? -1 : set_items(m, drop_mark(m, n), pairs);
}

static int op_tuple(machine *m) {
    int n = above_mark(m);
    if (n < 0 || make_tuple(m, n)) return -1;
    drop_mark(m, 1);
    return 0;
}

static int op_pop_mark(machine *m) {
    int n = above_mark(m);
    if (n < 0) return -1;
    m->n_stack -= n + 1;
    return 0;
}

static int op_set(machine *m) { return op_pop_mark(m) ? -1 : push(m, (value){.kind = OPAQUE}); }

// Attributes (a state_dict's _metadata, the state of an object); nothing of them is needed.
static int op_build(machine *m) {
    value state;
    if (pop_any(m, &state)) return -1;
    if (state.kind != DICT && state.kind != TUPLE && state.kind != OPAQUE && state.kind != LIST)
        return bad(m, "%s where a dict should be", pickle_kind_names[state.kind]);
    const kind of = m->n_stack ? m->stack[m->n_stack - 1].kind : NONE;
    return of == DICT || of == OPAQUE || of == TENSOR || of == LIST ? 0
                                                                    : bad(m, "attributes of something that is no dict");
}

// ---------------------------------------------------------------- the machine
static int memo_put(machine *m, uint64_t i) {
    if (!m->n_stack) return bad(m, "its stack is empty");
    // each takes a byte at least
    if (i >= (uint64_t)(m->end - m->begin)) return bad(m, "memo number %llu", (unsigned long long)i);
    while (m->n_memo <= (int)i) VEC_PUSH(m->memo, m->n_memo, m->cap_memo, (value){.kind = MARK});
    m->memo[i] = m->stack[m->n_stack - 1];
    return 0;
}

static int op_put(machine *m, int width) {
    uint64_t i;
    return take_uint(m, width, &i) ? -1 : memo_put(m, i);
}

static int op_get(machine *m, int width) {
    uint64_t i;
    if (take_uint(m, width, &i)) return -1;
    if (i >= (uint64_t)m->n_memo || m->memo[i].kind == MARK)
        return bad(m, "memo number %llu was never set", (unsigned long long)i);
    return push(m, m->memo[i]);
}

// width bytes of a length, then so many bytes.
static int op_text(machine *m, int width, kind as) {
    uint64_t n;
    value v = {.kind = as};
    if (take_uint(m, width, &n) || take(m, n, &v.text)) return -1;
    v.n = n;
    return push(m, v);
}

static int op_skip(machine *m, size_t n) {
    const uint8_t *p;
    return take(m, n, &p);
}

// width bytes, little endian; is_signed: in two's complement.
static int op_int(machine *m, int width, bool is_signed) {
    uint64_t x;
    if (width > 8) return op_skip(m, (size_t)width) ? -1 : push(m, (value){.kind = OPAQUE});
    if (take_uint(m, width, &x)) return -1;
    if (is_signed && width > 0 && width < 8 && x >> (8 * width - 1)) x -= (uint64_t)1 << 8 * width;
    return push(m, (value){.kind = INT, .x = (int64_t)x});
}

static int op_long1(machine *m) {
    uint64_t width;
    return take_uint(m, 1, &width) ? -1 : op_int(m, (int)width, true);
}

static int step(machine *m, uint8_t op) {
    value v;
    switch (op) {
    case 'c': return op_global(m);
    case 0x93: return op_stack_global(m);
    case 'R': return op_reduce(m);
    case 0x81: return op_new(m, 1);
    case 0x92: return op_new(m, 2);
    case 'Q': return op_persistent(m);
    case 'b': return op_build(m);
    case '}': return push_new(m, DICT);
    case ']': return push_new(m, LIST);
    case 0x8f: return push(m, (value){.kind = OPAQUE});
    case 's': return set_items(m, 2, true);
    case 'u': return op_setitems(m, true);
    case 'a': return set_items(m, 1, false);
    case 'e': return op_setitems(m, false);
    case 0x90: return op_setitems(m, false);
    case 0x91: return op_set(m);
    case '(': return push(m, (value){.kind = MARK});
    case '0': return pop_any(m, &v);
    case '1': return op_pop_mark(m);
    case '2': return m->n_stack ? push(m, m->stack[m->n_stack - 1]) : bad(m, "its stack is empty");
    case ')': return make_tuple(m, 0);
    case 't': return op_tuple(m);
    case 0x85:
    case 0x86:
    case 0x87: return make_tuple(m, op - 0x84);
    case 'X': return op_text(m, 4, TEXT);
    case 0x8c: return op_text(m, 1, TEXT);
    case 0x8d: return op_text(m, 8, TEXT);
    case 'U': return op_text(m, 1, TEXT);
    case 'T': return op_text(m, 4, TEXT);
    case 'C': return op_text(m, 1, OPAQUE);
    case 'B': return op_text(m, 4, OPAQUE);
    case 0x8e: return op_text(m, 8, OPAQUE);
    case 'K': return op_int(m, 1, false);
    case 'M': return op_int(m, 2, false);
    case 'J': return op_int(m, 4, true);
    case 0x8a: return op_long1(m);
    case 'G': return op_skip(m, 8) ? -1 : push(m, (value){.kind = OPAQUE});  // a float
    case 'N': return push(m, (value){.kind = NONE});
    case 0x88:
    case 0x89: return push(m, (value){.kind = BOOL, .x = op == 0x88});
    case 'q': return op_put(m, 1);
    case 'r': return op_put(m, 4);
    case 0x94: return memo_put(m, (uint64_t)m->n_memo);
    case 'h': return op_get(m, 1);
    case 'j': return op_get(m, 4);
    case 0x95: return op_skip(m, 8);  // a frame's length
    default: return bad(m, "opcode 0x%02x is not known here", op);
    }
}

static int run(machine *m) {
    if (m->end - m->at < 2 || m->at[0] != 0x80 || m->at[1] < 2 || m->at[1] > 5)
        return bad(m, "it is no pickle of protocol 2 to 5 (torch.save's default is 2)");
    m->at += 2;
    for (;;) {
        const uint8_t *op;
        if (take(m, 1, &op)) return -1;
        if (*op == '.') return pop_any(m, &m->result);
        if (step(m, *op)) return -1;
    }
}

pickle *pickle_run(const uint8_t *bytes, size_t n, const char *path) {
    pickle *p = xcalloc(1, sizeof *p);
    *p = (pickle){.path = path, .begin = bytes, .at = bytes, .end = bytes + n};
    if (n > MAX_PICKLE) p->end = bytes + MAX_PICKLE;
    if (run(p) == 0) return p;
    pickle_free(p);
    return NULL;
}

void pickle_free(pickle *p) {
    if (!p) return;
    free(p->stack);
    free(p->memo);
    free(p->items);
    free(p->storages);
    free(p->views);
    free(p->settings);
    free(p);
}

size_t pickle_length(const pickle *p) { return (size_t)(p->at - p->begin); }

pickle_storage *pickle_storages(const pickle *p, int *n) {
    *n = p->n_storages;
    return p->storages;
}

int pickle_text(const pickle *p, int i, const char **text) {
    for (int k = 0; p->result.kind == LIST && k < p->n_settings; k++) {
        const setting *s = &p->settings[k];
        if (s->dict != p->result.x || i-- > 0) continue;
        *text = (const char *)s->item.text;
        return s->item.kind == TEXT && s->item.n <= 200 ? (int)s->item.n : -1;
    }
    return -1;
}
