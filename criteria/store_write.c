// store_write - the writing half of store.h.
#include "simd.h"
#include "store_hdf5.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The power of two that brings the largest value into [2^14, 2^15): most of the range of 16 bits lies below it.
static float half_scale(const float *x, size_t n) {
    float most = 0;
    int e = 15;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    if (most > 0) frexpf(most, &e);
    return ldexpf(1, e < -110 ? -125 : e - 15);
}

int store_check_out(const char *path, const char *format) {
    struct stat st;
    if (stat(path, &st) != 0 || (S_ISREG(st.st_mode) && st.st_size == 0)) return 0;
    if (S_ISDIR(st.st_mode)) return err_set("%s: cannot write: it is a folder; name a file", path);
    if (!S_ISREG(st.st_mode)) return err_set("%s: cannot write: not a regular file, which HDF5 needs", path);
    store *old = store_open_as(path, format, "this program");
    if (!old) return err_set("%s: cannot write: another kind of file has that name; name another", path);
    store_close(old);
    return 0;
}

static store *create(const char *path, bool memory, const char *format) {
    if (!memory && store_check_out(path, format) != 0) return NULL;
    store_start();
    store *s = xcalloc(1, sizeof *s);
    s->path = file_target(path);
    s->tmp = xasprintf("%s.tmp", s->path);
    s->memory = memory;
    hid_t access_list = store_access(memory);
    s->file = H5Fcreate(s->tmp, H5F_ACC_TRUNC, H5P_DEFAULT, access_list);
    H5Pclose(access_list);
    if (s->file >= 0 && store_put_text(s, "/", "format", format) == 0) return s;
    if (s->file < 0) store_fail(s, "the file");
    store_close(s);
    return NULL;
}

store *store_create(const char *path) { return create(path, false, STORE_FORMAT); }
store *store_create_as(const char *path, const char *format) { return create(path, false, format); }
store *store_create_memory(void) { return create("memory", true, STORE_FORMAT); }

long store_bytes(const store *s) {
    hsize_t n = 0;
    H5Fflush(s->file, H5F_SCOPE_LOCAL);
    H5Fget_filesize(s->file, &n);
    return (long)n;
}

int store_commit(store *s) {
    int bad = store_describe(s);
    if (!bad && H5Fflush(s->file, H5F_SCOPE_LOCAL) < 0) bad = store_fail(s, "the file");
    if (H5Fclose(s->file) < 0 && !bad) bad = store_fail(s, "the file");
    s->file = -1;
    int fd = bad ? -1 : open(s->tmp, O_RDONLY);
    if (!bad && (fd < 0 || fsync(fd) != 0 || rename(s->tmp, s->path) != 0))
        bad = err_set("%s: cannot write: %s", s->path, strerror(errno));
    if (fd >= 0) close(fd);
    store_close(s);  // removes what was not renamed
    return bad;
}

static hid_t group_of(store *s, const char *object) {
    if (store_exists(s->file, object)) return H5Oopen(s->file, object, H5P_DEFAULT);
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
    int bad = a < 0 || H5Awrite(a, type, value) < 0 ? store_fail(s, key) : 0;
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
    return (double)whole == value ? put_attr(s, object, key, H5T_NATIVE_INT64, &whole)
                                  : put_attr(s, object, key, H5T_NATIVE_DOUBLE, &value);
}

// Chunks of whole rows near 256 KiB: the library's chunk cache (1 MiB) holds some, a row is one read.
static long chunk_rows(long n, size_t row_bytes) {
    long rows = (long)((256u << 10) / (row_bytes ? row_bytes : 1));
    if (rows < 1) return 1;
    return rows > n ? n : rows;
}

static hid_t make_dataset(store *s, const char *dataset, int rank, const long *dim, hid_t type, bool packed) {
    hsize_t size[3] = {1, 1, 1}, chunk[3];
    size_t row = H5Tget_size(type);
    for (int i = 0; i < rank; i++) size[i] = chunk[i] = (hsize_t)dim[i];
    for (int i = 1; i < rank; i++) row *= (size_t)dim[i];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), how = H5Pcreate(H5P_DATASET_CREATE),
          space = H5Screate_simple(rank, size, NULL);
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

static int put(store *s, const char *dataset, int rank, const long *dim, hid_t file_type, hid_t type, const void *data,
               bool packed) {
    hid_t d = make_dataset(s, dataset, rank, dim, file_type, packed);
    int bad = d < 0 || H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0;
    if (d >= 0 && H5Dclose(d) < 0) bad = 1;
    return bad ? store_fail(s, dataset) : 0;
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

int store_put_bytes(store *s, const char *dataset, int rank, const long *dim, const uint8_t *values) {
    return put(s, dataset, rank, dim, H5T_STD_U8LE, H5T_NATIVE_UINT8, values, false);
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

// Chunks as they are stored. Ours hold whole rows, so that one offset names each.
static int copy_chunks(hid_t to, hid_t from, hid_t how, hid_t space) {
    hsize_t size[3], chunk[3], at[3] = {0};
    const int rank = H5Sget_simple_extent_dims(space, size, NULL);
    if (H5Pget_chunk(how, 3, chunk) != rank) return -1;
    for (; at[0] < size[0]; at[0] += chunk[0]) {
        hsize_t bytes;
        uint32_t filters;
        if (H5Dget_chunk_storage_size(from, at, &bytes) < 0) return -1;
        void *block = xmalloc(bytes);
        int bad = H5Dread_chunk(from, H5P_DEFAULT, at, &filters, block) < 0 ||
                  H5Dwrite_chunk(to, H5P_DEFAULT, filters, at, bytes, block) < 0;
        free(block);
        if (bad) return -1;
    }
    return 0;
}

static int copy_dataset(store *s, const store *from, const char *dataset) {
    hid_t d = H5Dopen2(from->file, dataset, H5P_DEFAULT), type = H5Dget_type(d), space = H5Dget_space(d),
          how = H5Dget_create_plist(d);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t to = H5Dcreate2(s->file, dataset, type, space, links, how, H5P_DEFAULT);
    int bad = to < 0 ? store_fail(s, dataset) : 0;
    if (!bad && H5Pget_layout(how) == H5D_CHUNKED)
        bad = copy_chunks(to, d, how, space) ? store_fail(s, dataset) : 0;
    else if (!bad) {
        void *block = xmalloc(H5Tget_size(type) * (size_t)H5Sget_simple_extent_npoints(space));
        if (H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) < 0)
            bad = store_fail(from, dataset);
        else if (H5Dwrite(to, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) < 0)
            bad = store_fail(s, dataset);
        free(block);
    }
    if (to >= 0 && H5Dclose(to) < 0 && !bad) bad = store_fail(s, dataset);
    H5Pclose(links);
    H5Pclose(how);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(d);
    return bad;
}

// Not by H5Ocopy: that of HDF5 1.10 crashes on a full disk.
int store_copy(store *s, const store *from, const char *object) {
    H5O_info_t info;
    if (H5Oget_info_by_name(from->file, object, &info, H5P_DEFAULT) < 0) return store_fail(from, object);
    if (info.type == H5O_TYPE_DATASET)
        return copy_dataset(s, from, object) || store_copy_attrs(s, from, object) ? -1 : 0;
    hid_t g = group_of(s, object);
    if (g < 0) return store_fail(s, object);
    H5Oclose(g);
    int bad = store_copy_attrs(s, from, object), n = 0;
    char **names = store_list(from, object, &n);
    for (int i = 0; !bad && i < n; i++) {
        char *name = xasprintf("%s/%s", object, names[i]);
        bad = store_copy(s, from, name);
        free(name);
    }
    free(names);
    return bad;
}

int store_copy_attrs(store *s, const store *from, const char *object) {
    hid_t o = H5Oopen(from->file, object, H5P_DEFAULT);
    H5O_info_t info;
    int bad = o < 0 || H5Oget_info(o, &info) < 0 ? store_fail(from, "its attributes") : 0;
    for (hsize_t i = 0; !bad && i < info.num_attrs; i++) {
        hid_t a = H5Aopen_by_idx(o, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT),
              type = H5Aget_type(a);
        const bool is_text = H5Tget_class(type) == H5T_STRING;
        char key[256] = "";
        H5Aget_name(a, sizeof key, key);
        H5Tclose(type);
        H5Aclose(a);
        char *text = store_attr(from, object, key);
        if (text)
            bad = is_text ? store_put_text(s, object, key, text) : store_put_number(s, object, key, strtod(text, NULL));
        free(text);
    }
    if (o >= 0) H5Oclose(o);
    return bad;
}

// ---------------------------------------------------------------- rows
static int check_row(const store_rows *r, long row, const float *x) {
    for (size_t i = 0; i < (size_t)r->L * (size_t)r->U; i++)
        if (!isfinite(x[i]) && (!r->units || (int)(i % (size_t)r->U) < r->units[i / (size_t)r->U]))
            return err_set("%s: row %ld, layer %zu, unit %zu is %g; the model or the criterion is broken", r->dataset,
                           row, i / (size_t)r->U, i % (size_t)r->U, (double)x[i]);
    return 0;
}

// Row `row` into the block at position i; scale of 16-bit rows beside it.
static int fill_row(const store_rows *r, long row, float *exact, void *block, long i, float *scale, hid_t half,
                    void (*lost)(void *, const float *, const float *, int, int)) {
    size_t width = (size_t)r->L * (size_t)r->U;
    long at = r->old && r->old_row ? (long)r->old_row[row] : -1;
    float *plain = (float *)block + (size_t)i * width;
    uint16_t *packed = (uint16_t *)block + (size_t)i * width;
    if (at >= 0 && !r->half) return store_read_rows(r->old, r->dataset, at, 1, H5T_NATIVE_FLOAT, plain);
    if (at >= 0) {
        char *name = xasprintf("%s_scale", r->dataset);
        int bad = store_read_rows(r->old, r->dataset, at, 1, half, packed) ||
                          store_read_rows(r->old, name, at, 1, H5T_NATIVE_FLOAT, scale + row)
                      ? -1
                      : 0;
        free(name);
        return bad;
    }
    float *x = r->half ? exact : plain;
    if (r->get(r->ctx, row, x) || check_row(r, row, x)) return -1;
    if (!r->half) return 0;
    float unit = scale[row] = half_scale(x, width);
    for (size_t j = 0; j < width; j++) packed[j] = float_to_half(x[j] / unit);
    if (lost) {
        float *stored = exact + width;
        for (size_t j = 0; j < width; j++) stored[j] = half_to_float(packed[j]) * unit;
        lost(r->ctx, exact, stored, r->L, r->U);
    }
    return 0;
}

int store_put_rows(store *s, const store_rows *r,
                   void (*lost)(void *ctx, const float *exact, const float *stored, int L, int U)) {
    size_t width = (size_t)r->L * (size_t)r->U, bytes = width * (r->half ? 2 : 4);
    long dim[3] = {r->n, r->L, r->U}, step = chunk_rows(r->n, bytes);
    hid_t half = store_half_type(), file_type = r->half ? half : H5T_IEEE_F32LE,
          type = r->half ? half : H5T_NATIVE_FLOAT;
    hid_t d = make_dataset(s, r->dataset, 3, dim, file_type, true), space = d >= 0 ? H5Dget_space(d) : -1;
    void *block = xmalloc((size_t)step * bytes);
    float *exact = r->half ? xmalloc(2 * width * sizeof *exact) : NULL,
          *scale = r->half ? xmalloc((size_t)r->n * sizeof *scale) : NULL;
    int bad = d < 0 ? store_fail(s, r->dataset) : 0;
    for (long row = 0; !bad && row < r->n; row += step) {
        long n = row + step < r->n ? step : r->n - row;
        for (long i = 0; !bad && i < n; i++) bad = fill_row(r, row + i, exact, block, i, scale, half, lost);
        if (bad) break;
        hsize_t from[3] = {(hsize_t)row}, count[3] = {(hsize_t)n, (hsize_t)r->L, (hsize_t)r->U};
        hid_t mem = H5Screate_simple(3, count, NULL);
        H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL);
        if (H5Dwrite(d, type, mem, space, H5P_DEFAULT, block) < 0) bad = store_fail(s, r->dataset);
        H5Sclose(mem);
    }
    if (space >= 0) H5Sclose(space);
    if (d >= 0 && H5Dclose(d) < 0 && !bad) bad = store_fail(s, r->dataset);
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
