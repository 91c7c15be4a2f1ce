// zip - reading stored entries. Format: PKWARE APPNOTE 6.3.9, sections 4.3 and 4.5.3 (zip64).
#include "zip.h"
#include <stdlib.h>
#include <string.h>

// Sizes of the fixed parts of records.
enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR64 = 20 };

typedef struct {
    const uint8_t *bytes;
    size_t n;
    const char *path;
} archive;
typedef struct {
    uint64_t at, size, count;
} directory;
typedef struct {
    const uint8_t *begin, *end;
} span;  // of one entry, its local header included

static uint64_t le(const uint8_t *p, int width) {
    uint64_t x = 0;
    for (int i = width - 1; i >= 0; i--) x = x << 8 | p[i];
    return x;
}

static bool is(const uint8_t *p, uint32_t signature) { return le(p, 4) == signature; }

// ---------------------------------------------------------------- where the central directory is
static int bad_end(const archive *a) {
    return err_set("%s: its zip directory is inconsistent; the file is damaged, fetch it again", a->path);
}

static int find_directory(const archive *a, directory *d) {
    if (a->n < END) return err_set("%s: %zu bytes are too few for a zip archive; fetch it again", a->path, a->n);
    size_t at = a->n - END, lowest = at > 0xffff ? at - 0xffff : 0;
    while (!(is(a->bytes + at, 0x06054b50) && at + END + le(a->bytes + at + 20, 2) == a->n)) {
        if (at-- == lowest)
            return err_set("%s: no zip directory at its end; it is truncated, or no file of torch.save; fetch it again",
                           a->path);
    }
    const uint8_t *e = a->bytes + at;
    if (le(e + 4, 2) || le(e + 6, 2))
        return err_set("%s: one part of a split zip archive; only whole ones can be read", a->path);
    *d = (directory){.at = le(e + 16, 4), .size = le(e + 12, 4), .count = le(e + 10, 2)};
    size_t end = at;
    if (at >= LOCATOR64 + END64 && is(e - LOCATOR64, 0x07064b50)) {
        uint64_t at64 = le(e - LOCATOR64 + 8, 8);
        if (at64 > at - LOCATOR64 - END64 || !is(a->bytes + at64, 0x06064b50)) return bad_end(a);
        const uint8_t *r = a->bytes + at64;
        directory wide = {.at = le(r + 48, 8), .size = le(r + 40, 8), .count = le(r + 32, 8)};
        if ((d->at != 0xffffffff && d->at != wide.at) || (d->size != 0xffffffff && d->size != wide.size) ||
            (d->count != 0xffff && d->count != wide.count))
            return bad_end(a);
        *d = wide;
        end = at64;
    }
    if (d->at > end || d->size != end - d->at || d->count > d->size / CENTRAL) return bad_end(a);
    return 0;
}

// ---------------------------------------------------------------- entries
static int bad_entry(const archive *a, const char *name, const char *what) {
    return err_set("%s: zip entry %.200s: %s", a->path, name, what);
}

// The zip64 extra field gives, in this order, those of the fields whose 32-bit form is saturated.
static int widen(const uint8_t *extra, size_t n, uint64_t **fields, int n_fields) {
    while (n >= 4) {
        size_t id = le(extra, 2), size = le(extra + 2, 2);
        if (size > n - 4) return -1;
        const uint8_t *p = extra + 4, *end = p + size;
        for (int i = 0; id == 1 && i < n_fields; i++) {
            if (*fields[i] != 0xffffffff) continue;
            if (end - p < 8) return -1;
            *fields[i] = le(p, 8);
            p += 8;
        }
        extra = end;
        n -= 4 + size;
    }
    return 0;
}

// One entry from its central header c (its name and extra field lie in the directory already).
static int read_entry(const archive *a, const directory *d, const uint8_t *c, zip_entry *e, span *where) {
    const size_t n_name = le(c + 28, 2);
    uint64_t packed = le(c + 20, 4), size = le(c + 24, 4), at = le(c + 42, 4);
    e->name = xstrndup((const char *)c + CENTRAL, n_name);
    if (strlen(e->name) != n_name) return bad_entry(a, e->name, "its name holds a zero byte");
    if (widen(c + CENTRAL + n_name, le(c + 30, 2), (uint64_t *[]){&size, &packed, &at}, 3))
        return bad_entry(a, e->name, "its extra field is damaged");
    if (le(c + 8, 2) & 1) return bad_entry(a, e->name, "it is encrypted, which no checkpoint is");
    if (le(c + 10, 2) != 0)
        return bad_entry(a, e->name, "it is compressed; torch.save stores, save the model again with torch");
    if (packed != size)
        return bad_entry(a, e->name, "its two sizes differ though it is not compressed; the file is damaged");
    if (at > d->at || d->at - at < LOCAL || !is(a->bytes + at, 0x04034b50))
        return bad_entry(a, e->name, "no local header where the directory says; the file is damaged");
    const uint8_t *l = a->bytes + at;
    const size_t skip = LOCAL + le(l + 26, 2) + le(l + 28, 2);
    if (d->at - at < skip || d->at - at - skip < size)
        return bad_entry(a, e->name, "its data do not fit the file; the file is truncated or damaged");
    if (le(l + 26, 2) != n_name || memcmp(l + LOCAL, e->name, n_name))
        return bad_entry(a, e->name, "its local header has another name; the file is damaged");
    uint64_t lpacked = le(l + 18, 4), lsize = le(l + 22, 4);
    const bool later = le(l + 6, 2) & 8;  // sizes follow the data; zeros stand here
    if (widen(l + LOCAL + n_name, le(l + 28, 2), (uint64_t *[]){&lsize, &lpacked}, 2))
        return bad_entry(a, e->name, "its extra field is damaged");
    if (le(l + 8, 2) != 0 || ((lpacked != size || lsize != size) && !(later && lpacked == 0 && lsize == 0)))
        return bad_entry(a, e->name, "its two headers disagree about its size; the file is damaged");
    e->data = l + skip;
    e->bytes = size;
    *where = (span){l, e->data + size};
    return 0;
}

static int by_place(const void *a, const void *b) {
    const span *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const zip_entry *)a)->name, ((const zip_entry *)b)->name);
}

static int read_entries(const archive *a, const directory *d, zip_entry *es, span *spans, int *n) {
    const uint8_t *c = a->bytes + d->at, *end = c + d->size;
    for (uint64_t i = 0; i < d->count; i++) {
        if (end - c < CENTRAL || !is(c, 0x02014b50)) return bad_end(a);
        size_t bytes = CENTRAL + le(c + 28, 2) + le(c + 30, 2) + le(c + 32, 2);
        if ((size_t)(end - c) < bytes) return bad_end(a);
        ++*n;
        if (read_entry(a, d, c, &es[i], &spans[i])) return -1;
        c += bytes;
    }
    if (c != end) return bad_end(a);
    qsort(spans, (size_t)*n, sizeof *spans, by_place);
    for (int i = 1; i < *n; i++)
        if (spans[i].begin < spans[i - 1].end)
            return err_set("%s: two zip entries overlap; the file is damaged, fetch it again", a->path);
    qsort(es, (size_t)*n, sizeof *es, by_name);
    for (int i = 1; i < *n; i++)
        if (!by_name(&es[i], &es[i - 1])) return bad_entry(a, es[i].name, "it is there twice");
    return 0;
}

int zip_parse(const uint8_t *bytes, size_t n, const char *path, zip_entry **entries, int *n_entries) {
    const archive a = {bytes, n, path};
    directory d = {0};
    *entries = NULL;
    *n_entries = 0;
    if (find_directory(&a, &d)) return -1;
    *entries = xcalloc(d.count + 1, sizeof **entries);
    span *spans = xcalloc(d.count + 1, sizeof *spans);
    int bad = read_entries(&a, &d, *entries, spans, n_entries);
    free(spans);
    if (!bad) return 0;
    zip_free(*entries, *n_entries);
    *entries = NULL;
    *n_entries = 0;
    return -1;
}

void zip_free(zip_entry *entries, int n) {
    for (int i = 0; i < n; i++) free(entries[i].name);
    free(entries);
}

const zip_entry *zip_find(const zip_entry *entries, int n, const char *name) {
    zip_entry key = {.name = (char *)name};
    return n ? bsearch(&key, entries, (size_t)n, sizeof key, by_name) : NULL;
}
