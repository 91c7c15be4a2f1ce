// store - the HDF5 file of scores. Contract and layout in store.h. The one file that includes hdf5.h.
#include "store.h"
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "opt unit scores 1"

struct store {
    hid_t file;
    char *path, *tmp;  // tmp: being written
    bool memory;
};

// ---------------------------------------------------------------- errors of the library
static char reason[512];  // of the last call that failed; calls that succeed afterwards would clear the library's own stack

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *ignored) {
    (void)ignored;
    if (n == 0) snprintf(reason, sizeof reason, "%s", e->desc ? e->desc : "");
    return 0;
}

static herr_t remember(hid_t stack, void *ignored) {
    return H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, ignored);
}

// The library's innermost message; where it quotes the system's, only that.
static int fail(const store *s, const char *what) {
    char text[sizeof reason], *mark = "error message = '", *from, *to;
    memcpy(text, reason, sizeof text);
    if ((from = strstr(text, mark)) && (to = strchr(from += strlen(mark), '\''))) *to = 0;
    else from = text;
    return err_set("%s: cannot %s %s: %s", s->tmp ? s->tmp : s->path, s->tmp ? "write" : "read", what, *from ? from : "HDF5 gives no reason");
}

static void start(void) {
    static bool done;
    if (done) return;
    done = true;
    H5dont_atexit();  // after a full disk the library would try to write again at exit
    H5Eset_auto2(H5E_DEFAULT, remember, NULL);
}

static bool exists(hid_t file, const char *object) {
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

// ---------------------------------------------------------------- 16 bit
// IEEE 754 binary16 with round to nearest even; finite |x| < 65520 only.
static uint16_t half_of(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u < 0x38800000) {  // below 2^-14: the sum with 1/2 has the last place of the subnormals
        float y;
        memcpy(&y, &u, 4);
        y += 0.5f;
        memcpy(&u, &y, 4);
        return (uint16_t)(sign | (u - 0x3f000000));
    }
    u += 0xfff + (u >> 13 & 1);
    return (uint16_t)(sign | ((u >> 13) - (112 << 10)));
}

static float half_value(uint16_t h) {
    uint32_t e = h >> 10 & 31, m = h & 1023;
    float x = e ? ldexpf((float)(m | 1024), (int)e - 25) : ldexpf((float)m, -24);
    return h & 0x8000 ? -x : x;
}

// The power of two that brings the largest value into [2^14, 2^15): most of the range of 16 bits lies below it.
static float half_scale(const float *x, size_t n) {
    float most = 0;
    int e = 15;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    if (most > 0) frexpf(most, &e);
    return ldexpf(1, e < -110 ? -125 : e - 15);
}

static hid_t half_type(void) {
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(t, 15, 10, 5, 0, 10);
    H5Tset_size(t, 2);
    H5Tset_ebias(t, 15);
    return t;
}

// ---------------------------------------------------------------- reading
static hid_t file_access(bool memory) {
    hid_t p = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(p, false, true);  // finished files never change, unfinished ones are behind store_lock
    if (memory) H5Pset_fapl_core(p, 1 << 12, false);
    return p;
}

store *store_open(const char *path) { return store_open_as(path, FORMAT, "bin/score or bin/aggregate"); }

store *store_open_as(const char *path, const char *format, const char *maker) {
    start();
    if (access(path, R_OK) != 0) {
        err_set("%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    store *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(path);
    hid_t access_list = file_access(false);
    bool hdf5 = H5Fis_hdf5(path) > 0;
    s->file = hdf5 ? H5Fopen(path, H5F_ACC_RDONLY, access_list) : -1;
    H5Pclose(access_list);
    char *there = s->file >= 0 ? store_attr(s, "/", "format") : NULL;
    if (there && strcmp(there, format) == 0) {
        free(there);
        return s;
    }
    if (!hdf5) err_set("%s: not an HDF5 file; give a file made by %s", path, maker);
    else if (s->file < 0) fail(s, "the file (damaged?)");
    else err_set("%s: not made by %s (attribute format is %s)", path, maker, there ? there : "missing");
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
bool store_has(const store *s, const char *object) { return exists(s->file, object); }

int store_shape(const store *s, const char *dataset, long dim[3]) {
    if (!exists(s->file, dataset)) return err_set("%s: %s is missing", s->path, dataset);
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
    hid_t g = exists(s->file, group) ? H5Gopen2(s->file, group, H5P_DEFAULT) : -1;
    if (g >= 0) H5Gget_info(g, &info);
    int count = (int)info.nlinks;
    size_t bytes = 0, at = 0;
    for (int i = 0; i < count; i++) bytes += (size_t)H5Lget_name_by_idx(g, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i, NULL, 0, H5P_DEFAULT) + 1;
    char **out = xmalloc((size_t)(count + 1) * sizeof *out + bytes), *text = (char *)(out + count + 1);
    for (int i = 0; i < count; i++) {
        out[i] = text + at;
        at += (size_t)H5Lget_name_by_idx(g, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i, text + at, bytes - at, H5P_DEFAULT) + 1;
    }
    out[count] = NULL;
    qsort(out, (size_t)count, sizeof *out, by_text);
    if (g >= 0) H5Gclose(g);
    if (n) *n = count;
    return out;
}

char *store_attr(const store *s, const char *object, const char *key) {
    if (!exists(s->file, object) || H5Aexists_by_name(s->file, object, key, H5P_DEFAULT) <= 0) return NULL;
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

// Rows [row, row + n) as `type` into out.
static int read_rows(const store *s, const char *dataset, long row, long n, hid_t type, void *out) {
    long dim[3];
    int rank = store_shape(s, dataset, dim);
    if (rank < 0) return -1;
    if (rank > 0 && (row < 0 || n < 0 || row + n > dim[0])) return err_set("%s: %s has %ld rows, not %ld", s->path, dataset, dim[0], row + n);
    if (n == 0) return 0;
    hsize_t from[3] = {(hsize_t)row}, count[3] = {(hsize_t)n, (hsize_t)dim[1], (hsize_t)dim[2]};
    hid_t d = H5Dopen2(s->file, dataset, H5P_DEFAULT), space = H5Dget_space(d), mem = rank ? H5Screate_simple(rank, count, NULL) : H5S_ALL;
    if (rank) H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL);
    int bad = H5Dread(d, type, mem, rank ? space : H5S_ALL, H5P_DEFAULT, out) < 0 ? fail(s, dataset) : 0;
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
    if (!is_half(s, dataset)) return read_rows(s, dataset, row, n, H5T_NATIVE_FLOAT, out);
    size_t width = (size_t)dim[1] * (size_t)dim[2];
    uint16_t *raw = xmalloc((size_t)n * width * 2);
    float *scale = xmalloc((size_t)n * 4);
    char *name = xasprintf("%s_scale", dataset);
    hid_t type = half_type();
    int bad = read_rows(s, dataset, row, n, type, raw) || read_rows(s, name, row, n, H5T_NATIVE_FLOAT, scale) ? -1 : 0;
    for (size_t i = 0; !bad && i < (size_t)n * width; i++) out[i] = half_value(raw[i]) * scale[i / width];
    H5Tclose(type);
    free(name);
    free(scale);
    free(raw);
    return bad;
}

int store_read_double(const store *s, const char *dataset, long row, long n, double *out) { return read_rows(s, dataset, row, n, H5T_NATIVE_DOUBLE, out); }
int store_read_int64(const store *s, const char *dataset, long row, long n, int64_t *out) { return read_rows(s, dataset, row, n, H5T_NATIVE_INT64, out); }

static char **read_names(const store *s, const char *dataset, long n) {
    hid_t d = exists(s->file, dataset) ? H5Dopen2(s->file, dataset, H5P_DEFAULT) : -1, type = d >= 0 ? H5Dget_type(d) : -1;
    char **out = NULL;
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0) {
        err_set("%s: %s is missing or not text of fixed length", s->path, dataset);
    } else {
        size_t width = H5Tget_size(type);
        char *block = xmalloc((size_t)n * width);
        if (read_rows(s, dataset, 0, n, type, block) == 0) {
            out = xmalloc((size_t)(n + 1) * sizeof *out);
            for (long i = 0; i < n; i++) out[i] = xstrndup(block + (size_t)i * width, strnlen(block + (size_t)i * width, width));
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
    bool ok = read_rows(s, "/examples/offset", 0, dim[0], H5T_NATIVE_INT64, e->offset) == 0 &&
              read_rows(s, "/examples/context_length", 0, n, H5T_NATIVE_INT32, e->context) == 0 &&
              read_rows(s, "/examples/loss", 0, n, H5T_NATIVE_DOUBLE, e->loss) == 0 &&
              read_rows(s, "/examples/tokens", 0, tokens[0], H5T_NATIVE_INT32, e->tokens) == 0 &&
              (e->id = read_names(s, "/examples/id", n)) && (e->task = read_names(s, "/examples/task", n));
    if (ok && (e->offset[0] != 0 || e->offset[n] != tokens[0])) ok = err_set("%s: /examples/offset does not fit /examples/tokens", s->path) == 0;
    for (int i = 0; ok && i < n; i++)
        if (e->context[i] < 1 || e->context[i] >= e->offset[i + 1] - e->offset[i]) ok = err_set("%s: /examples: row %d has no continuation", s->path, i) == 0;
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
        if (!bad) bad = read_rows(s, name, 0, dim[0], H5T_NATIVE_DOUBLE, *out);
        *L = (int)dim[0];
        *U = (int)dim[1];
    }
    free(name);
    return bad;
}

int store_read_aggregate(store_aggregate *a, const char *path, bool compat, const char *task, const char *criterion) {
    *a = (store_aggregate){0};
    store *s = store_open(path);
    if (!s) return -1;
    const char *top = compat ? "/aggregates_compat" : "/aggregates";
    char *group = xasprintf("%s/%s", top, task), *leaf = xasprintf("%s/%s", group, criterion);
    int bad = 0;
    if (!store_has(s, top)) {
        bool other = store_has(s, compat ? "/aggregates" : "/aggregates_compat");
        bad = other ? err_set("%s: only aggregates of --mode %s are there; score with --mode %s or both", path, compat ? "sound" : "compat", compat ? "compat" : "sound")
                    : err_set("%s: no aggregates; run bin/aggregate --store %s --out %s first", path, path, path);
    } else if (!store_has(s, group)) bad = not_there(s, "task", task, top);
    else if (!store_has(s, leaf)) bad = not_there(s, "criterion", criterion, group);
    if (!bad) bad = read_plane(s, leaf, "heads", &a->L, &a->H, &a->heads) || read_plane(s, leaf, "neurons", &a->L, &a->F, &a->neurons) ? -1 : 0;
    if (!bad) {
        size_t h = a->heads ? (size_t)a->L * (size_t)a->H : 0, f = a->neurons ? (size_t)a->L * (size_t)a->F : 0;
        double *all = xmalloc((h + f) * sizeof *all);
        if (h) memcpy(all, a->heads, h * sizeof *all);
        if (f) memcpy(all + h, a->neurons, f * sizeof *all);
        hash_bytes(a->hash, all, (h + f) * sizeof *all);
        free(all);
        a->model_hash = store_attr(s, "/", "model_hash");
    }
    free(leaf);
    free(group);
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

// ---------------------------------------------------------------- writing
static store *create(const char *path, bool memory, const char *format) {
    start();
    store *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(path);
    s->tmp = xasprintf("%s.tmp", path);
    s->memory = memory;
    hid_t access_list = file_access(memory);
    s->file = H5Fcreate(s->tmp, H5F_ACC_TRUNC, H5P_DEFAULT, access_list);
    H5Pclose(access_list);
    if (s->file >= 0 && store_put_text(s, "/", "format", format) == 0) return s;
    if (s->file < 0) fail(s, "the file");
    store_close(s);
    return NULL;
}

store *store_create(const char *path) { return create(path, false, FORMAT); }
store *store_create_as(const char *path, const char *format) { return create(path, false, format); }
store *store_create_memory(void) { return create("memory", true, FORMAT); }

long store_bytes(const store *s) {
    hsize_t n = 0;
    H5Fflush(s->file, H5F_SCOPE_LOCAL);
    H5Fget_filesize(s->file, &n);
    return (long)n;
}

int store_commit(store *s) {
    int bad = H5Fflush(s->file, H5F_SCOPE_LOCAL) < 0 ? fail(s, "the file") : 0;
    if (H5Fclose(s->file) < 0 && !bad) bad = fail(s, "the file");
    s->file = -1;
    int fd = bad ? -1 : open(s->tmp, O_RDONLY);
    if (!bad && (fd < 0 || fsync(fd) != 0 || rename(s->tmp, s->path) != 0)) bad = err_set("%s: cannot write: %s", s->path, strerror(errno));
    if (fd >= 0) close(fd);
    store_close(s);  // removes what was not renamed
    return bad;
}

static hid_t group_of(store *s, const char *object) {
    if (exists(s->file, object)) return H5Oopen(s->file, object, H5P_DEFAULT);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t g = H5Gcreate2(s->file, object, links, H5P_DEFAULT, H5P_DEFAULT);
    H5Pclose(links);
    return g;
}

static int put_attr(store *s, const char *object, const char *key, hid_t type, const void *value) {
    hid_t o = group_of(s, object), space = H5Screate(H5S_SCALAR);
    if (o >= 0 && H5Aexists(o, key) > 0) H5Adelete(o, key);
    hid_t a = o >= 0 ? H5Acreate2(o, key, type, space, H5P_DEFAULT, H5P_DEFAULT) : -1;
    int bad = a < 0 || H5Awrite(a, type, value) < 0 ? fail(s, key) : 0;
    if (a >= 0) H5Aclose(a);
    if (o >= 0) H5Oclose(o);
    H5Sclose(space);
    return bad;
}

static hid_t text_type(size_t size) {
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, size);
    H5Tset_cset(t, H5T_CSET_UTF8);
    if (size != H5T_VARIABLE) H5Tset_strpad(t, H5T_STR_NULLPAD);
    return t;
}

int store_put_text(store *s, const char *object, const char *key, const char *text) {
    hid_t t = text_type(H5T_VARIABLE);
    int bad = put_attr(s, object, key, t, &text);
    H5Tclose(t);
    return bad;
}

int store_put_number(store *s, const char *object, const char *key, double value) {
    int64_t whole = (int64_t)value;
    return (double)whole == value ? put_attr(s, object, key, H5T_NATIVE_INT64, &whole) : put_attr(s, object, key, H5T_NATIVE_DOUBLE, &value);
}

// Chunks of whole rows near 256 KiB: the library's chunk cache (1 MiB) holds some, a row is one read.
static long chunk_rows(long n, size_t row_bytes) {
    long rows = (long)((256u << 10) / (row_bytes ? row_bytes : 1));
    return rows < 1 ? 1 : rows > n ? n : rows;
}

static hid_t make_dataset(store *s, const char *dataset, int rank, const long *dim, hid_t type, bool packed) {
    hsize_t size[3] = {1, 1, 1}, chunk[3];
    size_t row = H5Tget_size(type);
    for (int i = 0; i < rank; i++) size[i] = chunk[i] = (hsize_t)dim[i];
    for (int i = 1; i < rank; i++) row *= (size_t)dim[i];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), how = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(rank, size, NULL);
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_obj_track_times(how, false);
    if (packed && size[0] * size[1] * size[2] > 0) {
        chunk[0] = (hsize_t)chunk_rows(dim[0], row);
        H5Pset_chunk(how, rank, chunk);
        H5Pset_shuffle(how);
        H5Pset_deflate(how, 4);
    }
    hid_t d = H5Dcreate2(s->file, dataset, type, space, links, how, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(how);
    H5Pclose(links);
    return d;
}

static int put(store *s, const char *dataset, int rank, const long *dim, hid_t file_type, hid_t type, const void *data, bool packed) {
    hid_t d = make_dataset(s, dataset, rank, dim, file_type, packed);
    int bad = d < 0 || H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0;
    if (d >= 0 && H5Dclose(d) < 0) bad = 1;
    return bad ? fail(s, dataset) : 0;
}

int store_put_doubles(store *s, const char *dataset, int rank, const long *dim, const double *values) {
    return put(s, dataset, rank, dim, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values, rank > 1);
}

int store_put_floats(store *s, const char *dataset, int rank, const long *dim, const float *values) {
    return put(s, dataset, rank, dim, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values, rank > 1);
}

int store_put_plain(store *s, const char *dataset, int rank, const long *dim, const float *values) {
    return put(s, dataset, rank, dim, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values, false);
}

int store_put_int64(store *s, const char *dataset, long n, const int64_t *values) {
    return put(s, dataset, 1, &n, H5T_STD_I64LE, H5T_NATIVE_INT64, values, false);
}

int store_put_names(store *s, const char *dataset, int n, char *const *names) {
    size_t width = 1;
    for (int i = 0; i < n; i++) width = strlen(names[i]) > width ? strlen(names[i]) : width;
    char *block = xcalloc((size_t)n, width);
    for (int i = 0; i < n; i++) memcpy(block + (size_t)i * width, names[i], strlen(names[i]));
    hid_t t = text_type(width);
    long dim = n;
    int bad = put(s, dataset, 1, &dim, t, t, block, true);
    H5Tclose(t);
    free(block);
    return bad;
}

int store_put_examples(store *s, const store_examples *e) {
    long n = e->n, tokens = e->offset[e->n];
    return store_put_names(s, "/examples/id", e->n, e->id) || store_put_names(s, "/examples/task", e->n, e->task) ||
                   put(s, "/examples/tokens", 1, &tokens, H5T_STD_I32LE, H5T_NATIVE_INT32, e->tokens, true) ||
                   store_put_int64(s, "/examples/offset", n + 1, e->offset) ||
                   put(s, "/examples/context_length", 1, &n, H5T_STD_I32LE, H5T_NATIVE_INT32, e->context, false) ||
                   store_put_doubles(s, "/examples/loss", 1, &n, e->loss)
               ? -1
               : 0;
}

int store_copy(store *s, const store *from, const char *object) {
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    int bad = H5Ocopy(from->file, object, s->file, object, H5P_DEFAULT, links) < 0 ? fail(s, object) : 0;
    H5Pclose(links);
    return bad;
}

int store_copy_attrs(store *s, const store *from) {
    H5O_info_t info;
    int bad = H5Oget_info(from->file, &info) < 0 ? fail(from, "its attributes") : 0;
    for (hsize_t i = 0; !bad && i < info.num_attrs; i++) {
        hid_t a = H5Aopen_by_idx(from->file, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT);
        char key[256] = "";
        H5Aget_name(a, sizeof key, key);
        H5Aclose(a);
        char *text = store_attr(from, "/", key);
        hid_t type = H5Aget_type(a = H5Aopen(from->file, key, H5P_DEFAULT));
        bool is_text = H5Tget_class(type) == H5T_STRING;
        H5Tclose(type);
        H5Aclose(a);
        if (text) bad = is_text ? store_put_text(s, "/", key, text) : store_put_number(s, "/", key, strtod(text, NULL));
        free(text);
    }
    return bad;
}

// ---------------------------------------------------------------- rows
static int check_row(const store_rows *r, long row, const float *x) {
    for (size_t i = 0; i < (size_t)r->L * (size_t)r->U; i++)
        if (!isfinite(x[i]))
            return err_set("%s: row %ld, layer %zu, unit %zu is %g; the model or the criterion is broken", r->dataset, row, i / (size_t)r->U, i % (size_t)r->U, (double)x[i]);
    return 0;
}

// Row `row` into the block at position i; scale of 16-bit rows beside it.
static int fill_row(const store_rows *r, long row, float *exact, void *block, long i, float *scale, hid_t half, void (*lost)(void *, const float *, const float *, int, int)) {
    size_t width = (size_t)r->L * (size_t)r->U;
    long at = r->old && r->old_row ? (long)r->old_row[row] : -1;
    float *plain = (float *)block + (size_t)i * width;
    uint16_t *packed = (uint16_t *)block + (size_t)i * width;
    if (at >= 0 && !r->half) return read_rows(r->old, r->dataset, at, 1, H5T_NATIVE_FLOAT, plain);
    if (at >= 0) {
        char *name = xasprintf("%s_scale", r->dataset);
        int bad = read_rows(r->old, r->dataset, at, 1, half, packed) || read_rows(r->old, name, at, 1, H5T_NATIVE_FLOAT, scale + row) ? -1 : 0;
        free(name);
        return bad;
    }
    float *x = r->half ? exact : plain;
    if (r->get(r->ctx, row, x) || check_row(r, row, x)) return -1;
    if (!r->half) return 0;
    float unit = scale[row] = half_scale(x, width);
    for (size_t j = 0; j < width; j++) packed[j] = half_of(x[j] / unit);
    if (lost) {
        float *stored = exact + width;
        for (size_t j = 0; j < width; j++) stored[j] = half_value(packed[j]) * unit;
        lost(r->ctx, exact, stored, r->L, r->U);
    }
    return 0;
}

int store_put_rows(store *s, const store_rows *r, void (*lost)(void *ctx, const float *exact, const float *stored, int L, int U)) {
    size_t width = (size_t)r->L * (size_t)r->U, bytes = width * (r->half ? 2 : 4);
    long dim[3] = {r->n, r->L, r->U}, step = chunk_rows(r->n, bytes);
    hid_t half = half_type(), file_type = r->half ? half : H5T_IEEE_F32LE, type = r->half ? half : H5T_NATIVE_FLOAT;
    hid_t d = make_dataset(s, r->dataset, 3, dim, file_type, true), space = d >= 0 ? H5Dget_space(d) : -1;
    void *block = xmalloc((size_t)step * bytes);
    float *exact = r->half ? xmalloc(2 * width * sizeof *exact) : NULL, *scale = r->half ? xmalloc((size_t)r->n * sizeof *scale) : NULL;
    int bad = d < 0 ? fail(s, r->dataset) : 0;
    for (long row = 0; !bad && row < r->n; row += step) {
        long n = row + step < r->n ? step : r->n - row;
        for (long i = 0; !bad && i < n; i++) bad = fill_row(r, row + i, exact, block, i, scale, half, lost);
        if (bad) break;
        hsize_t from[3] = {(hsize_t)row}, count[3] = {(hsize_t)n, (hsize_t)r->L, (hsize_t)r->U};
        hid_t mem = H5Screate_simple(3, count, NULL);
        H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL);
        if (H5Dwrite(d, type, mem, space, H5P_DEFAULT, block) < 0) bad = fail(s, r->dataset);
        H5Sclose(mem);
    }
    if (space >= 0) H5Sclose(space);
    if (d >= 0 && H5Dclose(d) < 0 && !bad) bad = fail(s, r->dataset);
    if (!bad && r->half) {
        char *name = xasprintf("%s_scale", r->dataset);
        bad = store_put_floats(s, name, 1, &r->n, scale);
        free(name);
    }
    H5Tclose(half);
    free(scale);
    free(exact);
    free(block);
    return bad;
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
            if (errno == EWOULDBLOCK) err_set("%s: another process (%.*s) is working on it; wait for it or give another --out", path, n > 0 ? (int)strcspn(who, "\n") : 7, n > 0 ? who : "unknown");
            else err_set("%s: cannot lock: %s", name, strerror(errno));
            close(fd);
            fd = -1;
            break;
        }
        // the one who held it before may have removed the name between open and flock
        if (fstat(fd, &held) == 0 && stat(name, &there) == 0 && held.st_ino == there.st_ino && held.st_dev == there.st_dev) {
            int n = snprintf(who, sizeof who, "pid %ld\n", (long)getpid());
            if (ftruncate(fd, 0) != 0 || pwrite(fd, who, (size_t)n, 0) != n) who[0] = 0;  // the text is a courtesy, the lock holds
            break;
        }
        close(fd);
    }
    free(name);
    return fd;
}

void store_unlock(const char *path, int handle) {
    if (handle < 0) return;
    char *name = xasprintf("%s.lock", path);
    unlink(name);
    close(handle);
    free(name);
}
