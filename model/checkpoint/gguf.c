// gguf - reading metadata and the list of tensors. Contract in gguf.h.
#include "gguf.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64, N_TYPES } value_type;
static const size_t widths[N_TYPES] = {[U8] = 1,  [I8] = 1,   [U16] = 2, [I16] = 2, [U32] = 4, [I32] = 4,
                                       [F32] = 4, [BOOL] = 1, [U64] = 8, [I64] = 8, [F64] = 8};
enum { MAX_KEY = 65535, MAX_ITEMS = 1 << 24 };

typedef struct {
    const uint8_t *begin, *at, *end;
    const char *path;
} cursor;

static uint64_t little(const uint8_t *p, size_t width) {
    uint64_t x = 0;
    for (size_t i = width; i-- > 0;) x = x << 8 | p[i];
    return x;
}

static void say_end(const cursor *c) {
    err_set("%s: ends within its metadata, at byte %zu; the file is truncated or damaged, fetch it again", c->path,
            (size_t)(c->at - c->begin));
}
#define ends(c) (say_end(c), -1)  // a visible -1, from which the compiler sees what is set on success

static int take(cursor *c, size_t width, uint64_t *x) {
    if ((size_t)(c->end - c->at) < width) return ends(c);
    *x = little(c->at, width);
    c->at += width;
    return 0;
}

static int take_text(cursor *c, const char **text, size_t *n) {
    uint64_t length;
    if (take(c, 8, &length)) return -1;
    if (length > (uint64_t)(c->end - c->at)) return ends(c);
    *text = (const char *)c->at;
    *n = length;
    c->at += length;
    return 0;
}

// ---------------------------------------------------------------- metadata
static int skip_items(cursor *c, int type, uint64_t count) {
    const char *text;
    size_t n;
    if (type == TEXT) {
        for (uint64_t i = 0; i < count; i++)
            if (take_text(c, &text, &n)) return -1;
        return 0;
    }
    if (count > (uint64_t)(c->end - c->at) / widths[type]) return ends(c);
    c->at += count * widths[type];
    return 0;
}

static int read_entry(cursor *c, gguf_entry *e) {
    uint64_t type, item;
    if (take_text(c, &e->key, &e->n_key) || take(c, 4, &type)) return -1;
    const int shown = e->n_key < 80 ? (int)e->n_key : 80;
    if (e->n_key > MAX_KEY || type >= N_TYPES)
        return err_set("%s: metadata \"%.*s\" has type %llu, which GGUF does not know; the file is damaged", c->path,
                       shown, e->key, (unsigned long long)type);
    e->type = (int)type;
    e->at = c->at;
    e->count = 1;
    if (type == TEXT) {
        if (take(c, 8, &e->count)) return -1;
        e->at = c->at;
        c->at -= 8;
    }
    if (type != ARRAY) return skip_items(c, e->type, 1);
    if (take(c, 4, &item) || take(c, 8, &e->count)) return -1;
    if (item >= N_TYPES || item == ARRAY || e->count > MAX_ITEMS)
        return err_set("%s: metadata \"%.*s\" is an array of %llu items of type %llu, which is not implemented",
                       c->path, shown, e->key, (unsigned long long)e->count, (unsigned long long)item);
    e->item = (int)item;
    e->at = c->at;
    return skip_items(c, e->item, e->count);
}

const gguf_entry *gguf_entry_of(const gguf *g, const char *key) {
    for (int i = 0; i < g->n_entries; i++)
        if (g->entries[i].n_key == strlen(key) && !memcmp(g->entries[i].key, key, strlen(key))) return &g->entries[i];
    return NULL;
}

bool gguf_is_array(const gguf_entry *e) { return e->type == ARRAY; }

int gguf_int(const gguf *g, const char *key, int64_t preset, int64_t min, int64_t max, int64_t *out) {
    const gguf_entry *e = gguf_entry_of(g, key);
    if (e && (widths[e->type] == 0 || e->type == F32 || e->type == F64))
        return err_set("%s: metadata \"%s\" is no whole number", g->path, key);
    const size_t width = e ? widths[e->type] : 0;
    uint64_t x = e ? little(e->at, width) : (uint64_t)preset;
    if (e && (e->type == I8 || e->type == I16 || e->type == I32) && x >> (8 * width - 1)) x -= (uint64_t)1 << 8 * width;
    *out = (int64_t)x;
    if (!e && preset < min) return err_set("%s: metadata \"%s\" is missing", g->path, key);
    if (*out < min || *out > max)
        return err_set("%s: metadata \"%s\" is %lld, outside %lld..%lld", g->path, key, (long long)*out, (long long)min,
                       (long long)max);
    return 0;
}

int gguf_float(const gguf *g, const char *key, double preset, double *out) {
    const gguf_entry *e = gguf_entry_of(g, key);
    float narrow;
    *out = preset;
    if (!e) return 0;
    if (e->type != F32 && e->type != F64) return err_set("%s: metadata \"%s\" is no number", g->path, key);
    if (e->type == F64) {
        memcpy(out, e->at, sizeof *out);
    } else {
        memcpy(&narrow, e->at, sizeof narrow);
        *out = narrow;
    }
    return isfinite(*out) ? 0 : err_set("%s: metadata \"%s\" is NaN or infinite", g->path, key);
}

int gguf_bool(const gguf *g, const char *key, bool preset, bool *out) {
    const gguf_entry *e = gguf_entry_of(g, key);
    *out = e && e->type == BOOL ? *e->at != 0 : preset;
    return !e || e->type == BOOL ? 0 : err_set("%s: metadata \"%s\" is neither true nor false", g->path, key);
}

char *gguf_text(const gguf *g, const char *key) {
    const gguf_entry *e = gguf_entry_of(g, key);
    return e && e->type == TEXT ? xstrndup((const char *)e->at, e->count) : NULL;
}

const char *gguf_next_text(const uint8_t **at, size_t *n) {
    const char *text = (const char *)*at + 8;
    *n = little(*at, 8);
    *at += 8 + *n;
    return text;
}

// ---------------------------------------------------------------- tensors
static int read_tensor(cursor *c, gguf_tensor *t, uint64_t *offset) {
    const char *name;
    size_t n;
    uint64_t rank, type, x;
    if (take_text(c, &name, &n) || take(c, 4, &rank)) return -1;
    t->name = xstrndup(name, n);
    if (rank < 1 || rank > 4)
        return err_set("%s: tensor %.100s has %llu dimensions; the file is damaged", c->path, t->name,
                       (unsigned long long)rank);
    t->rank = (int)rank;
    for (int i = 0; i < t->rank; i++) {
        if (take(c, 8, &x)) return -1;
        if (x > 1 << 30)
            return err_set("%s: tensor %.100s has a side of %llu", c->path, t->name, (unsigned long long)x);
        t->dim[i] = (int64_t)x;
    }
    if (take(c, 4, &type) || take(c, 8, offset)) return -1;
    t->type = type > 255 ? 255 : (int)type;
    return 0;
}

// The bytes of a tensor; SIZE_MAX and err_set.
static size_t bytes_of(const gguf *g, const gguf_tensor *t) {
    const char *name;
    int numbers, bytes;
    size_t n;
    if (!gguf_type(t->type, &name, &numbers, &bytes)) {
        err_set(
            "%s: tensor %.100s is quantised as type %d, which is not implemented; F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
            "Q5_0, Q5_1, Q4_K, Q5_K and Q6_K are",
            g->path, t->name, t->type);
        return SIZE_MAX;
    }
    n = (size_t)t->dim[0] / (size_t)numbers * (size_t)bytes;
    if (t->dim[0] % numbers) {
        err_set("%s: tensor %.100s has rows of %lld numbers, no multiple of the %d of a %s block", g->path, t->name,
                (long long)t->dim[0], numbers, name);
        return SIZE_MAX;
    }
    for (int i = 1; i < t->rank; i++)
        if (__builtin_mul_overflow(n, (size_t)t->dim[i], &n)) {
            err_set("%s: tensor %.100s is too large; the file is damaged", g->path, t->name);
            return SIZE_MAX;
        }
    return n;
}

static int by_place(const void *a, const void *b) {
    const gguf_tensor *const *x = a, *const *y = b;
    return ((*x)->data > (*y)->data) - ((*x)->data < (*y)->data);
}

static int check_overlap(const gguf *g) {
    const gguf_tensor **order = xcalloc((size_t)g->n_tensors + 1, sizeof *order);
    int bad = 0;
    for (int i = 0; i < g->n_tensors; i++) order[i] = &g->tensors[i];
    qsort(order, (size_t)g->n_tensors, sizeof *order, by_place);
    for (int i = 1; i < g->n_tensors && !bad; i++)
        if (order[i]->data < order[i - 1]->data + bytes_of(g, order[i - 1]))
            bad = err_set("%s: tensors %.100s and %.100s overlap; the file is damaged, fetch it again", g->path,
                          order[i - 1]->name, order[i]->name);
    free(order);
    return bad;
}

static int read_tensors(gguf *g, cursor *c, uint64_t count) {
    int64_t align;
    if (gguf_int(g, "general.alignment", 32, 1, 1 << 20, &align)) return -1;
    uint64_t *offset = xcalloc(count + 1, sizeof *offset);
    int bad = 0;
    g->tensors = xcalloc(count + 1, sizeof *g->tensors);
    for (uint64_t i = 0; i < count && !bad; i++) {
        g->n_tensors++;
        bad = read_tensor(c, &g->tensors[i], &offset[i]);
    }
    const size_t head = ((size_t)(c->at - c->begin) + (size_t)align - 1) / (size_t)align * (size_t)align;
    const size_t size = (size_t)(c->end - c->begin), data = head < size ? size - head : 0;
    for (int i = 0; i < g->n_tensors && !bad; i++) {
        gguf_tensor *t = &g->tensors[i];
        const size_t bytes = bytes_of(g, t);
        if (bytes == SIZE_MAX)
            bad = -1;
        else if (offset[i] % (uint64_t)align)
            bad = err_set("%s: tensor %.100s begins at byte %llu, no multiple of the alignment %lld", g->path, t->name,
                          (unsigned long long)offset[i], (long long)align);
        else if (offset[i] > data || bytes > data - offset[i])
            bad = err_set(
                "%s: tensor %.100s lies outside the file's %zu bytes of data; the file is truncated or damaged, "
                "fetch it again",
                g->path, t->name, data);
        else
            t->data = c->begin + head + offset[i];
    }
    free(offset);
    return bad || check_overlap(g) ? -1 : 0;
}

// ---------------------------------------------------------------- the file
static int read_file(gguf *g, cursor *c) {
    uint64_t magic, version, tensors, entries;
    if (take(c, 4, &magic) || take(c, 4, &version)) return -1;
    if (magic != 0x46554747) return err_set("%s: no GGUF file", c->path);
    if (version != 2 && version != 3)
        return err_set("%s: GGUF of version %llu; 2 and 3 (little endian) can be read", c->path,
                       (unsigned long long)version);
    if (take(c, 8, &tensors) || take(c, 8, &entries)) return -1;
    const uint64_t left = (uint64_t)(c->end - c->at);
    if (entries > left / 12 || tensors > left / 24)
        return err_set(
            "%s: %llu entries and %llu tensors do not fit its %zu bytes; the file is truncated or damaged, fetch "
            "it again",
            c->path, (unsigned long long)entries, (unsigned long long)tensors, (size_t)(c->end - c->begin));
    g->entries = xcalloc(entries + 1, sizeof *g->entries);
    for (uint64_t i = 0; i < entries; i++) {
        if (read_entry(c, &g->entries[i])) return -1;
        g->n_entries++;
    }
    return read_tensors(g, c, tensors);
}

int gguf_parse(gguf *g, const uint8_t *bytes, size_t n, const char *path) {
    cursor c = {bytes, bytes, bytes + n, path};
    *g = (gguf){.path = path};
    if (read_file(g, &c) == 0) return 0;
    gguf_free(g);
    return -1;
}

void gguf_free(gguf *g) {
    for (int i = 0; i < g->n_tensors; i++) free(g->tensors[i].name);
    free(g->tensors);
    free(g->entries);
    *g = (gguf){0};
}

static bool is_gguf(const char *name) {
    const size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".gguf") == 0;
}

char *gguf_find(const char *dir, int *bad) {
    struct stat st;
    *bad = 0;
    if (stat(dir, &st) == 0 && S_ISREG(st.st_mode)) return xstrdup(dir);
    char *config = xasprintf("%s/config.json", dir), *found = NULL;
    DIR *d = path_there(config) ? NULL : opendir(dir);
    free(config);
    for (struct dirent *e; d && !*bad && (e = readdir(d));) {
        if (!is_gguf(e->d_name)) continue;
        if (found) *bad = err_set("%s: several GGUF files, such as %s and %s; name one of them", dir, found, e->d_name);
        free(found);
        found = xasprintf("%s/%s", dir, e->d_name);
    }
    if (d) closedir(d);
    if (!*bad) return found;
    free(found);
    return NULL;
}
