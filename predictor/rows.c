// rows - see rows.h.
#include "rows.h"
#include "ops_cpu.h"
#include "predictor.h"
#include "target.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- scratch file
int scratch_open(scratch *s, const char *beside) {
    *s = (scratch){.path = xasprintf("%s.scratch", beside)};
    s->fd = open(s->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (s->fd < 0) return err_set("%s: cannot write: %s", s->path, strerror(errno));
    unlink(s->path);  // a kill leaves nothing behind
    return 0;
}

void scratch_close(scratch *s) {
    if (s->fd >= 0) close(s->fd);
    free(s->path);
    *s = (scratch){.fd = -1};
}

plane scratch_plane(scratch *s, int width, int rows) {
    const plane p = {s, s->floats, width, width};
    s->floats += (int64_t)width * rows;
    return p;
}

plane plane_slice(const plane *p, int at, int width) {
    ASSERT(at >= 0 && at + width <= p->width);
    return (plane){p->file, p->at + at, p->stride, width};
}

int plane_write(const plane *p, int row, int n, const float *from) {
    const char *data = (const char *)from;
    int64_t at = (p->at + (int64_t)row * p->stride) * 4, left = (int64_t)n * p->width * 4;
    ASSERT(p->width == p->stride);
    while (left > 0) {
        const ssize_t wrote = pwrite(p->file->fd, data, (size_t)left, at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return err_set("%s: cannot write: %s", p->file->path, wrote < 0 ? strerror(errno) : "the disk may be full");
        data += wrote;
        at += wrote;
        left -= wrote;
    }
    return 0;
}

int plane_read(const plane *p, int row, float *to) {
    char *data = (char *)to;
    int64_t at = (p->at + (int64_t)row * p->stride) * 4, left = (int64_t)p->width * 4;
    while (left > 0) {
        const ssize_t got = pread(p->file->fd, data, (size_t)left, at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return err_set("%s: cannot read: %s", p->file->path, got ? strerror(errno) : "the file ends early");
        data += got;
        at += got;
        left -= got;
    }
    return 0;
}

// ---------------------------------------------------------------- planes
enum { CHUNK_BYTES = 1 << 20 };  // of a dataset in memory: a few of its chunks

int plane_fill(plane *p, scratch *to, const store *s, const char *dataset, int first, int layers, rows_form form, int top, long *constant) {
    long dim[3];
    if (store_shape(s, dataset, dim) != 3) return store_has(s, dataset) ? err_set("%s: %s is not [examples, layers, units]", store_path(s), dataset) : -1;
    const size_t L = (size_t)dim[1], U = (size_t)dim[2], width = (size_t)layers * U, piece = form == ROWS_GLOBAL ? width : U;
    ASSERT(first >= 0 && layers > 0 && first + layers <= dim[1]);
    const long N = dim[0], most = (long)(CHUNK_BYTES / (L * U * 4)), step = most < 1 ? 1 : most;
    float *x = xmalloc((size_t)step * L * U * sizeof *x), *out = xmalloc((size_t)step * width * sizeof *out);
    *p = scratch_plane(to, (int)width, (int)N);
    *constant = 0;
    int bad = 0;
    for (long row = 0; !bad && row < N; row += step) {
        const long n = N - row < step ? N - row : step;
        bad = store_read(s, dataset, row, n, x);
        for (size_t i = 0; !bad && i < (size_t)n * L * U; i++)
            if (!isfinite(x[i])) bad = err_set("%s: %s: row %zu, layer %zu, unit %zu is %g; score again", store_path(s), dataset, (size_t)row + i / (L * U), i / U % L, i % U, (double)x[i]);
        for (size_t r = 0; !bad && r < (size_t)n; r++)
            for (size_t u = 0; u < width; u += piece) {
                const float *from = x + (r * L + (size_t)first) * U + u;
                float *at = out + r * width + u;
                if (form == ROWS_TOP) top_labels(at, from, (int)piece, top);
                else *constant += !minmax(at, from, piece);
            }
        if (!bad) bad = plane_write(p, (int)row, (int)n, out);
    }
    free(out);
    free(x);
    return bad;
}

// ---------------------------------------------------------------- batches
int row_tokens(const row_source *s, int row) { return s->whole ? (int)(s->ex->offset[row + 1] - s->ex->offset[row]) : s->ex->context[row]; }

void row_stage_new(row_stage *g, const row_source *s, const net *n, const net_work *k) {
    *g = (row_stage){0};
    if (!k->o->host) g->rows = xaligned((size_t)k->batch * (size_t)(n->in > n->out ? n->in : n->out) * sizeof *g->rows);
    if (n->kind != NET_POOL) return;
    g->tokens = xmalloc((size_t)k->cap * sizeof *g->tokens);
    if (!k->o->host) g->times = xmalloc((size_t)k->cap * sizeof *g->times);
    if (s->model->proj_in.data) g->narrow = k->o->alloc((size_t)k->cap * (size_t)s->model->c.P * sizeof *g->narrow);
}

void row_stage_free(row_stage *g, const net_work *k) {
    free(g->rows);
    free(g->tokens);
    free(g->times);
    k->o->release(g->narrow);
    *g = (row_stage){0};
}

// Rows of a plane onto the device. The host reads the next batch while the device computes: put has read what it was given when it returns.
static int fill(const plane *p, const net_work *k, row_stage *g, float *to, const int *row, int count) {
    float *host = g->rows ? g->rows : to;
    for (int i = 0; i < count; i++)
        if (plane_read(p, row[i], host + (size_t)i * (size_t)p->width)) return -1;
    if (g->rows) k->o->put(to, host, (size_t)count * (size_t)p->width * sizeof *to);
    return 0;
}

static int by_token(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

// The different tokens among t [n], in order, and how often each is there; returns their number.
static int different(int32_t *t, float *times, int n) {
    int m = 0;
    qsort(t, (size_t)n, sizeof *t, by_token);
    for (int i = 0; i < n; i++) {
        if (i == 0 || t[i] != t[m - 1]) {
            t[m] = t[i];
            times[m++] = 0;
        }
        times[m - 1]++;
    }
    return m;
}

static void fill_tokens(const row_source *s, const net *n, net_work *k, row_stage *g, const int *row, int count) {
    float *times = g->times ? g->times : k->count;
    int at = 0;
    for (int i = 0; i < count; at += k->s[i++].n) {
        const int T = row_tokens(s, row[i]);
        ASSERT(at + T <= k->cap);
        memcpy(g->tokens + at, s->ex->tokens + s->ex->offset[row[i]], (size_t)T * sizeof *g->tokens);
        k->s[i] = (span){at, different(g->tokens + at, times + at, T)};
    }
    if (g->times) k->o->put(k->count, times, (size_t)at * sizeof *times);
    predictor_embed_rows(k->tokens, g->narrow, s->model, g->tokens, k->s, count);
    k->o->minmax(k->tokens, k->tokens, n->in, k->s, count);
}

int row_fill(const row_source *s, const net *n, net_work *k, row_stage *g, float *t, const int *row, int count) {
    if (n->kind == NET_POOL) fill_tokens(s, n, k, g, row, count);
    else if (fill(&s->x, k, g, k->x, row, count)) return -1;
    return fill(&s->t, k, g, t, row, count);
}
