// pt - pytorch_model.bin: torch.save's zip of one pickle (names, shapes) and one raw entry per storage, or the form
// before torch 1.6: four pickles (a magic number, the protocol, the machine, the dict), a list of keys, the raw
// storages. Nothing is executed (pickle.h). Layout: torch/serialization.py, _save and _legacy_save.
#include "pickle.h"
#include "zip.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- zip
static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

// ROOT/data.pkl names storages by the KEY of entries ROOT/data/KEY.
static int find_storages(pickle *p, const zip_entry *pkl, const zip_entry *entries, int n_entries, const char *path) {
    int n, fail = 0;
    pickle_storage *s = pickle_storages(p, &n);
    const int root = (int)(strlen(pkl->name) - strlen("/data.pkl"));
    for (int i = 0; i < n && !fail; i++) {
        char *name = xasprintf("%.*s/data/%.*s", root, pkl->name, (int)s[i].n_key, s[i].key);
        const zip_entry *e = zip_find(entries, n_entries, name);
        if (!e)
            fail = err_set("%s: zip entry %s is missing, but data.pkl names it; the file is damaged, fetch it again",
                           path, name);
        else if (s[i].count != e->bytes / s[i].width || e->bytes % s[i].width)
            fail = err_set("%s: zip entry %s has %zu bytes, but data.pkl says %zu elements of %s; the file is damaged, "
                           "fetch it again",
                           path, name, e->bytes, s[i].count, s[i].type);
        else
            s[i].data = e->data;
        free(name);
    }
    return fail;
}

static int read_archive(const zip_entry *entries, int n_entries, const char *path, tensor **tensors, int *n) {
    const zip_entry *pkl = NULL;
    for (int i = 0; i < n_entries; i++) {
        const zip_entry *e = &entries[i];
        if (ends_with(e->name, "/byteorder") && (e->bytes != 6 || memcmp(e->data, "little", 6)))
            return err_set("%s: its tensors are not little endian; save it again on a little-endian machine", path);
        if (!ends_with(e->name, "/data.pkl")) continue;
        if (pkl) return err_set("%s: holds two pickles, %.100s and %.100s", path, pkl->name, e->name);
        pkl = e;
    }
    if (!pkl) return err_set("%s: holds no data.pkl; it is no file of torch.save", path);
    pickle *p = pickle_run(pkl->data, pkl->bytes, path);
    const int fail = !p || find_storages(p, pkl, entries, n_entries, path) || pickle_tensors(p, tensors, n) ? -1 : 0;
    pickle_free(p);
    return fail;
}

static int read_zip(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors) {
    zip_entry *entries;
    int n_entries;
    if (zip_parse(bytes, n, path, &entries, &n_entries)) return -1;
    const int fail = read_archive(entries, n_entries, path, tensors, n_tensors);
    zip_free(entries, n_entries);
    return fail;
}

// ---------------------------------------------------------------- the form before torch 1.6
static const uint8_t magic[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
enum { N_MAGIC = sizeof magic - 1 };

static bool is_legacy(const uint8_t *bytes, size_t n) { return n > N_MAGIC && memcmp(bytes, magic, N_MAGIC) == 0; }

// The storages follow in the order of the keys, each with its number of elements before it.
static int place_storages(pickle *p, const pickle *keys, const uint8_t *at, const uint8_t *end, const char *path) {
    int n, n_key;
    const char *key;
    pickle_storage *s = pickle_storages(p, &n);
    for (int k = 0; (n_key = pickle_text(keys, k, &key)) >= 0; k++) {
        pickle_storage *found = NULL;
        uint64_t count = 0;
        for (int i = 0; i < n; i++) {
            if (s[i].n_key != (size_t)n_key || memcmp(s[i].key, key, s[i].n_key)) continue;
            if (found && (s[i].count != found->count || s[i].width != found->width))
                return err_set("%s: storage %.*s is described in two ways; the file is damaged", path, n_key, key);
            if (!found) found = &s[i];
        }
        if (!found) return err_set("%s: storage %.*s is no tensor's; the file is damaged", path, n_key, key);
        for (int b = 7; b >= 0 && end - at >= 8; b--) count = count << 8 | at[b];
        if (end - at < 8 || count != found->count || count > (uint64_t)(end - at - 8) / found->width)
            return err_set(
                "%s: storage %.*s: its %zu elements are not there; the file is truncated or damaged, fetch it "
                "again",
                path, n_key, key, found->count);
        for (int i = 0; i < n; i++)
            if (s[i].n_key == (size_t)n_key && !memcmp(s[i].key, key, s[i].n_key)) s[i].data = at + 8;
        at += 8 + count * found->width;
    }
    for (int i = 0; i < n; i++)
        if (!s[i].data) return err_set("%s: a storage is missing; the file is truncated or damaged", path);
    return 0;
}

static int read_legacy(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors) {
    const uint8_t *at = bytes + N_MAGIC, *end = bytes + n;
    pickle *p[4] = {0};  // the protocol, the machine, the dict, the keys
    int fail = 0;
    for (int i = 0; i < 4 && !fail; i++) {
        fail = (p[i] = pickle_run(at, (size_t)(end - at), path)) ? 0 : -1;
        if (!fail) at += pickle_length(p[i]);
    }
    fail = fail || place_storages(p[2], p[3], at, end, path) || pickle_tensors(p[2], tensors, n_tensors) ? -1 : 0;
    for (int i = 0; i < 4; i++) pickle_free(p[i]);
    return fail;
}

int pt_parse(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors) {
    *tensors = NULL;
    *n_tensors = 0;
    if ((is_legacy(bytes, n) ? read_legacy : read_zip)(bytes, n, path, tensors, n_tensors) == 0) return 0;
    tensors_free(*tensors, *n_tensors);
    *tensors = NULL;
    *n_tensors = 0;
    return -1;
}
