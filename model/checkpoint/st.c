// st - the safetensors format: 8 bytes of header length (little endian), a JSON header, one block of tensor data.
// Format: https://huggingface.co/docs/safetensors, "Format". Offsets count from the end of the header; together the
// tensors cover the block exactly, without gap or overlap, as the reference implementation demands, too.
#include "ckpt.h"
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000  // the reference implementation's limit

typedef struct {
    tensor t;
    uint64_t begin, end;
} entry;

static size_t bytes_of(const tensor *t, size_t width) {
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(width, (size_t)t->dim[i], &width)) return SIZE_MAX;
    return width;
}

size_t tensor_numbers(const tensor *t) { return bytes_of(t, 1); }

size_t tensor_bytes(const tensor *t) {
    if (!dtype_in_blocks(t->type)) return bytes_of(t, dtype_bytes(t->type));
    const size_t n = tensor_numbers(t);
    return n == SIZE_MAX ? n : dtype_size(t->type, n);
}

void tensors_free(tensor *tensors, int n) {
    for (int i = 0; tensors && i < n; i++) {
        free(tensors[i].name);
        free(tensors[i].made);
    }
    free(tensors);
}

// Types that no weight here has, by their bytes.
static const struct {
    const char *code;
    size_t bytes;
} others[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2},
              {"U16", 2},  {"I32", 4}, {"U32", 4}, {"I64", 8},     {"U64", 8},     {"F64", 8}};

// Its bytes, 0: err_set.
static size_t read_type(const json_t *v, const char *path, const char *name, tensor *t) {
    static const char *const codes[] = {[DT_F32] = "F32", [DT_F16] = "F16", [DT_BF16] = "BF16"};
    const char *s = json_string_value(v);
    for (int k = DT_F32; s && k <= DT_BF16; k++)
        if (!strcmp(s, codes[k])) {
            t->type = (dtype)k;
            return dtype_bytes(t->type);
        }
    for (size_t k = 0; s && k < sizeof others / sizeof *others; k++)
        if (!strcmp(s, others[k].code)) {
            t->foreign = others[k].code;
            return others[k].bytes;
        }
    err_set("%s: tensor %s: type %.20s; only F32, F16 and BF16 can be read", path, name,
            s ? s : "is missing or not a text");
    return 0;
}

static int read_entry(const json_t *v, const char *path, const char *name, uint64_t block, entry *e) {
    const json_t *shape = json_object_get(v, "shape"), *span = json_object_get(v, "data_offsets");
    tensor *t = &e->t;
    if (!json_is_object(v)) return err_set("%s: tensor %s: its header entry is not a JSON object", path, name);
    const size_t width = read_type(json_object_get(v, "dtype"), path, name, t);
    if (!width) return -1;
    if (!json_is_array(shape) || json_array_size(shape) > 4)
        return err_set("%s: tensor %s: shape is not a list of at most 4 sizes", path, name);
    t->rank = (int)json_array_size(shape);
    for (int i = 0; i < t->rank; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set("%s: tensor %s: shape holds something that is no size", path, name);
        t->dim[i] = json_integer_value(d);
    }
    for (size_t i = 0; i < 2; i++)
        if (!json_is_integer(json_array_get(span, i)) || json_integer_value(json_array_get(span, i)) < 0 ||
            json_array_size(span) != 2)
            return err_set("%s: tensor %s: data_offsets are not two offsets", path, name);
    e->begin = (uint64_t)json_integer_value(json_array_get(span, 0));
    e->end = (uint64_t)json_integer_value(json_array_get(span, 1));
    size_t want = bytes_of(t, width);
    if (e->begin > e->end || e->end > block)
        return err_set("%s: tensor %s: bytes %llu..%llu lie outside the file's %llu bytes of data; the file is "
                       "truncated or damaged, fetch it again",
                       path, name, (unsigned long long)e->begin, (unsigned long long)e->end, (unsigned long long)block);
    if (want == SIZE_MAX || want != e->end - e->begin)
        return err_set("%s: tensor %s: its shape does not fill its %llu bytes", path, name,
                       (unsigned long long)(e->end - e->begin));
    return 0;
}

static int by_place(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

// The tensors, sorted by place, cover [0, block) exactly.
static int check_cover(const entry *e, int n, const char *path, uint64_t block) {
    uint64_t at = 0;
    for (int i = 0; i < n; at = e[i++].end) {
        if (e[i].begin < at)
            return err_set("%s: tensors %s and %s overlap; the file is damaged, fetch it again", path, e[i - 1].t.name,
                           e[i].t.name);
        if (e[i].begin > at)
            return err_set("%s: %llu bytes before tensor %s belong to no tensor; the file is damaged, fetch it again",
                           path, (unsigned long long)(e[i].begin - at), e[i].t.name);
    }
    if (at != block)
        return err_set("%s: %llu bytes after the last tensor belong to none; the file is damaged, fetch it again", path,
                       (unsigned long long)(block - at));
    return 0;
}

static int read_header(const json_t *root, const uint8_t *data, uint64_t block, const char *path, tensor **tensors,
                       int *n_tensors) {
    entry *es = xcalloc(json_object_size(root) + 1, sizeof *es);
    const char *name;
    json_t *v;
    int n = 0, bad = 0;
    json_object_foreach((json_t *)root, name, v) {
        if (!strcmp(name, "__metadata__")) continue;
        entry *e = &es[n++];
        e->t.name = xstrdup(name);
        if ((bad = read_entry(v, path, name, block, e))) break;
        e->t.data = e->t.foreign ? NULL : data + e->begin;
    }
    if (!bad) {
        qsort(es, (size_t)n, sizeof *es, by_place);
        bad = check_cover(es, n, path, block);
    }
    *tensors = xcalloc((size_t)n + 1, sizeof **tensors);
    for (int i = 0; i < n; i++) (*tensors)[i] = es[i].t;
    *n_tensors = n;
    free(es);
    if (!bad) return 0;
    tensors_free(*tensors, n);
    *tensors = NULL;
    *n_tensors = 0;
    return -1;
}

// Whether these are printable characters, such as a web page has in place of a length.
static bool is_text(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isprint(bytes[i]) && !isspace(bytes[i])) return false;
    return true;
}

int st_parse(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors) {
    uint64_t header = 0;
    json_error_t e;
    *tensors = NULL;
    *n_tensors = 0;
    if (n < 8) return err_set("%s: %zu bytes are too few for a safetensors file; fetch it again", path, n);
    for (int i = 7; i >= 0; i--) header = header << 8 | bytes[i];
    if (is_text(bytes, 8))
        return err_set("%s: a text that begins with \"%.8s\", no safetensors file; fetch it again", path,
                       (const char *)bytes);
    if (header > MAX_HEADER || header > n - 8)
        return err_set(
            "%s: a header of %llu bytes does not fit the file of %zu; it is truncated or no safetensors file", path,
            (unsigned long long)header, n);
    json_t *root = json_loadb((const char *)bytes + 8, header, JSON_REJECT_DUPLICATES, &e);
    if (!root) return err_set("%s: header, line %d: not valid JSON: %s", path, e.line, e.text);
    int bad = json_is_object(root) ? read_header(root, bytes + 8 + header, n - 8 - header, path, tensors, n_tensors)
                                   : err_set("%s: its header is not a JSON object", path);
    json_decref(root);
    return bad;
}
