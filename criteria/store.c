// store - the HDF5 file of scores: reading, and the lock. Contract and layout in store.h; store_write.c writes.
#include "simd.h"
#include "store_hdf5.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// ---------------------------------------------------------------- errors of the library
// of the last call that failed; calls that succeed afterwards would clear the library's own stack
static char reason[512];

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *ignored) {
    (void)ignored;
    if (n == 0) snprintf(reason, sizeof reason, "%s", e->desc ? e->desc : "");
    return 0;
}

static herr_t remember(hid_t stack, void *ignored) { return H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, ignored); }

// The library's innermost message; where it quotes the system's, only that.
int store_fail(const store *s, const char *what) {
    char text[sizeof reason], *mark = "error message = '", *from, *to;
    memcpy(text, reason, sizeof text);
    if ((from = strstr(text, mark)) && (to = strchr(from += strlen(mark), '\'')))
        *to = 0;
    else
        from = text;
    return err_set("%s: cannot %s %s: %s", s->tmp ? s->tmp : s->path, s->tmp ? "write" : "read", what,
                   *from ? from : "HDF5 gives no reason");
}

int store_filter_fail(const char *path, const char *dataset, hid_t d) {
    hid_t how = H5Dget_create_plist(d);
    int bad = 0;
    for (int i = 0; !bad && i < H5Pget_nfilters(how); i++) {
        unsigned flags;
        size_t values = 0;
        char name[64] = "";
        const H5Z_filter_t id = H5Pget_filter2(how, (unsigned)i, &flags, &values, NULL, sizeof name, name, NULL);
        if (id > 0 && H5Zfilter_avail(id) <= 0)
            bad = err_set("%s: %s is compressed by the filter %s (number %d), which the HDF5 library here lacks; write "
                          "the file again with gzip (h5py: compression=\"gzip\")",
                          path, dataset, *name ? name : "without a name", id);
    }
    H5Pclose(how);
    return bad;
}

void store_start(void) {
    static bool done;
    if (done) return;
    done = true;
    H5dont_atexit();  // after a full disk the library would try to write again at exit
    H5Eset_auto2(H5E_DEFAULT, remember, NULL);
}

bool store_exists(hid_t file, const char *object) {
    char *part = xstrdup(object);
    bool there = true;
    for (char *p = part + (*part == '/'); there && *p;) {
        p += strcspn(p, "/");
        char c = *p;
        *p = 0;
        there = H5Lexists(file, part, H5P_DEFAULT) > 0;
        *p = c;
        p += c == '/';
    }
    free(part);
    return there;
}

// ---------------------------------------------------------------- reading
hid_t store_half_type(void) {
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(t, 15, 10, 5, 0, 10);
    H5Tset_size(t, 2);
    H5Tset_ebias(t, 15);
    return t;
}

hid_t store_access(bool memory) {
    hid_t p = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(p, false, true);  // finished files never change, unfinished ones are behind store_lock
    if (memory) H5Pset_fapl_core(p, 1 << 12, false);
    return p;
}

store *store_open(const char *path) { return store_open_as(path, STORE_FORMAT, "bin/score or bin/aggregate"); }

store *store_open_as(const char *path, const char *format, const char *maker) {
    store_start();
    if (access(path, R_OK) != 0) {
        err_set("%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        err_set("%s: %s; give a file made by %s", path, S_ISDIR(st.st_mode) ? "a folder" : "not a regular file", maker);
        return NULL;
    }
    store *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(path);
    hid_t access_list = store_access(false);
    bool hdf5 = H5Fis_hdf5(path) > 0;
    s->file = hdf5 ? H5Fopen(path, H5F_ACC_RDONLY, access_list) : -1;
    H5Pclose(access_list);
    char *there = s->file >= 0 ? store_attr(s, "/", "format") : NULL;
    if (there && strcmp(there, format) == 0) {
        free(there);
        return s;
    }
    if (!hdf5)
        err_set("%s: not an HDF5 file; give a file made by %s", path, maker);
    else if (s->file < 0)
        store_fail(s, "the file (damaged?)");
    else
        err_set("%s: not made by %s (attribute format is %s)", path, maker, there ? there : "missing");
    free(there);
    store_close(s);
    return NULL;
}

void store_close(store *s) {
    if (!s) return;
    if (s->file >= 0) H5Fclose(s->file);
    if (s->tmp && !s->memory) unlink(s->tmp);
    free(s->path);
    free(s->tmp);
    free(s);
}

const char *store_path(const store *s) { return s->path; }
bool store_has(const store *s, const char *object) { return store_exists(s->file, object); }

int store_shape(const store *s, const char *dataset, long dim[3]) {
    if (!store_exists(s->file, dataset)) return err_set("%s: %s is missing", s->path, dataset);
    hid_t d = H5Dopen2(s->file, dataset, H5P_DEFAULT), space = d >= 0 ? H5Dget_space(d) : -1;
    hsize_t size[3];
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    if (rank >= 0 && rank <= 3) H5Sget_simple_extent_dims(space, size, NULL);
    for (int i = 0; i < 3; i++) dim[i] = i < rank && rank <= 3 ? (long)size[i] : 1;
    if (space >= 0) H5Sclose(space);
    if (d >= 0) H5Dclose(d);
    return rank >= 0 && rank <= 3 ? rank : err_set("%s: %s is no dataset of up to three dimensions", s->path, dataset);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char **store_list(const store *s, const char *group, int *n) {
    H5G_info_t info = {0};
    hid_t g = store_exists(s->file, group) ? H5Gopen2(s->file, group, H5P_DEFAULT) : -1;
    if (g >= 0) H5Gget_info(g, &info);
    int count = (int)info.nlinks;
    size_t bytes = 0, at = 0;
    for (int i = 0; i < count; i++)
        bytes += (size_t)H5Lget_name_by_idx(g, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i, NULL, 0, H5P_DEFAULT) + 1;
    char **out = xmalloc((size_t)(count + 1) * sizeof *out + bytes), *text = (char *)(out + count + 1);
    for (int i = 0; i < count; i++) {
        out[i] = text + at;
        at += (size_t)H5Lget_name_by_idx(g, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i, text + at, bytes - at,
                                         H5P_DEFAULT) +
              1;
    }
    out[count] = NULL;
    qsort(out, (size_t)count, sizeof *out, by_text);
    if (g >= 0) H5Gclose(g);
    if (n) *n = count;
    return out;
}

char *store_attr(const store *s, const char *object, const char *key) {
    if (!store_exists(s->file, object) || H5Aexists_by_name(s->file, object, key, H5P_DEFAULT) <= 0) return NULL;
    hid_t a = H5Aopen_by_name(s->file, object, key, H5P_DEFAULT, H5P_DEFAULT), type = a >= 0 ? H5Aget_type(a) : -1;
    char *out = NULL, *text = NULL;
    if (type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0) {
        if (H5Aread(a, type, &text) >= 0 && text) {
            out = xstrdup(text);
            H5free_memory(text);
        }
    } else if (type >= 0 && H5Tget_class(type) == H5T_INTEGER) {
        int64_t x;
        if (H5Aread(a, H5T_NATIVE_INT64, &x) >= 0) out = xasprintf("%lld", (long long)x);
    } else if (type >= 0 && H5Tget_class(type) == H5T_FLOAT) {
        double x;
        if (H5Aread(a, H5T_NATIVE_DOUBLE, &x) >= 0) out = xasprintf("%.17g", x);
    }
    if (type >= 0) H5Tclose(type);
    if (a >= 0) H5Aclose(a);
    return out;
}

int store_attr_int(const store *s, const char *object, const char *key) {
    char *text = store_attr(s, object, key);
    const int x = text ? atoi(text) : 0;
    free(text);
    return x;
}

// Rows [row, row + n) as `type` into out.
int store_read_rows(const store *s, const char *dataset, long row, long n, hid_t type, void *out) {
    long dim[3];
    int rank = store_shape(s, dataset, dim);
    if (rank < 0) return -1;
    if (rank > 0 && (row < 0 || n < 0 || row + n > dim[0]))
        return err_set("%s: %s has %ld rows, not %ld", s->path, dataset, dim[0], row + n);
    if (n == 0) return 0;
    hsize_t from[3] = {(hsize_t)row}, count[3] = {(hsize_t)n, (hsize_t)dim[1], (hsize_t)dim[2]};
    hid_t d = H5Dopen2(s->file, dataset, H5P_DEFAULT), space = H5Dget_space(d),
          mem = rank ? H5Screate_simple(rank, count, NULL) : H5S_ALL;
    if (rank) H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL);
    int bad = H5Dread(d, type, mem, rank ? space : H5S_ALL, H5P_DEFAULT, out) < 0 ? -1 : 0;
    if (bad && store_filter_fail(s->path, dataset, d) == 0) store_fail(s, dataset);
    if (rank) H5Sclose(mem);
    H5Sclose(space);
    H5Dclose(d);
    return bad;
}

static bool is_half(const store *s, const char *dataset) {
    hid_t d = H5Dopen2(s->file, dataset, H5P_DEFAULT), t = H5Dget_type(d);
    bool half = H5Tget_class(t) == H5T_FLOAT && H5Tget_size(t) == 2;
    H5Tclose(t);
    H5Dclose(d);
    return half;
}

int store_read(const store *s, const char *dataset, long row, long n, float *out) {
    long dim[3];
    if (store_shape(s, dataset, dim) < 0) return -1;
    if (!is_half(s, dataset)) return store_read_rows(s, dataset, row, n, H5T_NATIVE_FLOAT, out);
    size_t width = (size_t)dim[1] * (size_t)dim[2];
    uint16_t *raw = xmalloc((size_t)n * width * 2);
    float *scale = xmalloc((size_t)n * 4);
    char *name = xasprintf("%s_scale", dataset);
    hid_t type = store_half_type();
    int bad =
        store_read_rows(s, dataset, row, n, type, raw) || store_read_rows(s, name, row, n, H5T_NATIVE_FLOAT, scale) ? -1
                                                                                                                    : 0;
    for (size_t i = 0; !bad && i < (size_t)n * width; i++) out[i] = half_to_float(raw[i]) * scale[i / width];
    H5Tclose(type);
    free(name);
    free(scale);
    free(raw);
    return bad;
}

int store_read_double(const store *s, const char *dataset, long row, long n, double *out) {
    return store_read_rows(s, dataset, row, n, H5T_NATIVE_DOUBLE, out);
}
int store_read_int64(const store *s, const char *dataset, long row, long n, int64_t *out) {
    return store_read_rows(s, dataset, row, n, H5T_NATIVE_INT64, out);
}

char **store_read_names(const store *s, const char *dataset, long n) {
    hid_t d = store_exists(s->file, dataset) ? H5Dopen2(s->file, dataset, H5P_DEFAULT) : -1,
          type = d >= 0 ? H5Dget_type(d) : -1;
    char **out = NULL;
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0) {
        err_set("%s: %s is missing or not text of fixed length", s->path, dataset);
    } else {
        size_t width = H5Tget_size(type);
        char *block = xmalloc((size_t)n * width);
        if (store_read_rows(s, dataset, 0, n, type, block) == 0) {
            out = xmalloc((size_t)(n + 1) * sizeof *out);
            for (long i = 0; i < n; i++)
                out[i] = xstrndup(block + (size_t)i * width, strnlen(block + (size_t)i * width, width));
            out[n] = NULL;
        }
        free(block);
    }
    if (type >= 0) H5Tclose(type);
    if (d >= 0) H5Dclose(d);
    return out;
}

int store_read_examples(const store *s, store_examples *e) {
    *e = (store_examples){0};
    long dim[3], tokens[3];
    if (store_shape(s, "/examples/offset", dim) != 1 || store_shape(s, "/examples/tokens", tokens) != 1) return -1;
    int n = e->n = (int)dim[0] - 1;
    e->offset = xmalloc((size_t)dim[0] * sizeof *e->offset);
    e->context = xmalloc((size_t)n * sizeof *e->context);
    e->loss = xmalloc((size_t)n * sizeof *e->loss);
    e->tokens = xmalloc((size_t)tokens[0] * sizeof *e->tokens);
    bool ok = store_read_rows(s, "/examples/offset", 0, dim[0], H5T_NATIVE_INT64, e->offset) == 0 &&
              store_read_rows(s, "/examples/context_length", 0, n, H5T_NATIVE_INT32, e->context) == 0 &&
              store_read_rows(s, "/examples/loss", 0, n, H5T_NATIVE_DOUBLE, e->loss) == 0 &&
              store_read_rows(s, "/examples/tokens", 0, tokens[0], H5T_NATIVE_INT32, e->tokens) == 0 &&
              (e->id = store_read_names(s, "/examples/id", n)) && (e->task = store_read_names(s, "/examples/task", n));
    if (ok && (e->offset[0] != 0 || e->offset[n] != tokens[0]))
        ok = err_set("%s: /examples/offset does not fit /examples/tokens", s->path) == 0;
    for (int i = 0; ok && i < n; i++)
        if (e->context[i] < 1 || e->context[i] >= e->offset[i + 1] - e->offset[i])
            ok = err_set("%s: /examples: row %d has no continuation", s->path, i) == 0;
    if (ok) return 0;
    store_examples_free(e);
    return -1;
}

void store_examples_free(store_examples *e) {
    for (int i = 0; i < e->n; i++) {
        if (e->id) free(e->id[i]);
        if (e->task) free(e->task[i]);
    }
    free(e->id);
    free(e->task);
    free(e->tokens);
    free(e->offset);
    free(e->context);
    free(e->loss);
    *e = (store_examples){0};
}

int store_read_units(const store *s, const char *key, int L, int most, int **list) {
    char *text = store_attr(s, "/", key), *at = text, *end = text;
    *list = text ? xcalloc((size_t)L, sizeof **list) : NULL;
    bool ok = true;
    for (int l = 0; text && ok && l < L; l++, at = end + (*end == ',')) {
        const long n = strtol(at, &end, 10);
        ok = end > at && n >= 0 && n <= most && *end == (l < L - 1 ? ',' : 0);
        (*list)[l] = (int)n;
    }
    free(text);
    if (ok) return 0;
    free(*list);
    *list = NULL;
    return err_set("%s: attribute %s is not a list of %d numbers up to %d", s->path, key, L, most);
}

// ---------------------------------------------------------------- aggregates
static int not_there(const store *s, const char *what, const char *name, const char *group) {
    int n;
    char **names = store_list(s, group, &n), text[512] = "";
    for (int i = 0; i < n; i++) snprintf(text + strlen(text), sizeof text - strlen(text), " %s", names[i]);
    free(names);
    return err_set("%s: no %s %s in %s; there are:%s", s->path, what, name, group, n ? text : " none");
}

static int read_plane(const store *s, const char *group, const char *kind, int *L, int *U, double **out) {
    char *name = xasprintf("%s/%s", group, kind);
    long dim[3] = {0};
    int bad = 0;
    if (store_has(s, name)) {
        bad = store_shape(s, name, dim) == 2 ? 0 : err_set("%s: %s is not [layers, units]", s->path, name);
        if (!bad) *out = xmalloc((size_t)(dim[0] * dim[1]) * sizeof **out);
        if (!bad) bad = store_read_rows(s, name, 0, dim[0], H5T_NATIVE_DOUBLE, *out);
        *L = (int)dim[0];
        *U = (int)dim[1];
    }
    free(name);
    return bad;
}

int store_read_aggregate(store_aggregate *a, const char *path, mode_kind mode, const char *task,
                         const char *criterion) {
    *a = (store_aggregate){0};
    store *s = store_open(path);
    if (!s) return -1;
    const mode_kind other = mode_other(mode);
    char *top = xasprintf("/aggregates%s", mode_suffixes[mode]), *group = xasprintf("%s/%s", top, task),
         *leaf = xasprintf("%s/%s", group, criterion), *other_top = xasprintf("/aggregates%s", mode_suffixes[other]);
    int bad = 0;
    if (!store_has(s, top)) {
        bad = store_has(s, other_top)
                  ? err_set("%s: only aggregates of --mode %s are there; score with --mode %s or both", path,
                            mode_names[other], mode_names[mode])
                  : err_set("%s: no aggregates; run bin/aggregate --store %s --out %s first", path, path, path);
    } else if (!store_has(s, group))
        bad = not_there(s, "task", task, top);
    else if (!store_has(s, leaf))
        bad = not_there(s, "criterion", criterion, group);
    if (!bad)
        bad = read_plane(s, leaf, "heads", &a->L, &a->H, &a->heads) ||
                      read_plane(s, leaf, "neurons", &a->L, &a->F, &a->neurons)
                  ? -1
                  : 0;
    if (!bad) {
        size_t h = a->heads ? (size_t)a->L * (size_t)a->H : 0, f = a->neurons ? (size_t)a->L * (size_t)a->F : 0;
        double *all = xmalloc((h + f) * sizeof *all);
        if (h) memcpy(all, a->heads, h * sizeof *all);
        if (f) memcpy(all + h, a->neurons, f * sizeof *all);
        hash_bytes(a->hash, all, (h + f) * sizeof *all);
        free(all);
        a->model_hash = store_attr(s, "/", "model_hash");
    }
    free(other_top);
    free(leaf);
    free(group);
    free(top);
    store_close(s);
    if (bad) store_aggregate_free(a);
    return bad;
}

void store_aggregate_free(store_aggregate *a) {
    free(a->heads);
    free(a->neurons);
    free(a->model_hash);
    *a = (store_aggregate){0};
}

// ---------------------------------------------------------------- one process at a time
int store_lock(const char *path) {
    char *name = xasprintf("%s.lock", path), who[32] = "";
    int fd;
    for (;;) {
        struct stat held, there;
        if ((fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0) {
            err_set("%s: cannot write: %s", name, strerror(errno));
            break;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            ssize_t n = errno == EWOULDBLOCK ? pread(fd, who, sizeof who - 1, 0) : 0;
            if (errno == EWOULDBLOCK)
                err_set("%s: another process (%.*s) is working on it; wait for it or give another --out", path,
                        n > 0 ? (int)strcspn(who, "\n") : 7, n > 0 ? who : "unknown");
            else
                err_set("%s: cannot lock: %s", name, strerror(errno));
            close(fd);
            fd = -1;
            break;
        }
        // the one who held it before may have removed the name between open and flock
        if (fstat(fd, &held) == 0 && stat(name, &there) == 0 && held.st_ino == there.st_ino &&
            held.st_dev == there.st_dev) {
            int n = snprintf(who, sizeof who, "pid %ld\n", (long)getpid());
            // the text is a courtesy, the lock holds
            if (ftruncate(fd, 0) != 0 || pwrite(fd, who, (size_t)n, 0) != n) who[0] = 0;
            break;
        }
        close(fd);
    }
    free(name);
    return fd;
}

bool store_locked(const char *path) {
    char *name = xasprintf("%s.lock", path);
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    free(name);
    if (fd < 0) return false;
    const bool held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return held;
}

void store_unlock(const char *path, int handle) {
    if (handle < 0) return;
    char *name = xasprintf("%s.lock", path);
    unlink(name);
    close(handle);
    free(name);
}
