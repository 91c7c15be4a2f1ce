// rows - see rows.h.
#include "rows.h"
#include "minmax.h"
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
        if (wrote <= 0)
            return err_set("%s: cannot write: %s", p->file->path, wrote < 0 ? strerror(errno) : "the disk may be full");
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
        if (got <= 0)
            return err_set("%s: cannot read: %s", p->file->path, got ? strerror(errno) : "the file ends early");
        data += got;
        at += got;
        left -= got;
    }
    return 0;
}

// ---------------------------------------------------------------- planes
enum { CHUNK_BYTES = 1 << 20 };  // of a dataset in memory: a few of its chunks

typedef struct {
    const int *units;
    int L, U, first, layers;
    rows_form form;
    double top;
} filling;

static int units_of(const filling *f, int layer) { return f->units ? f->units[layer] : f->U; }

// The values of one row that are there, x [L, U], one after the other in `there`; returns their number.
static int gather(float *there, const filling *f, const float *x) {
    int n = 0;
    for (int l = f->first; l < f->first + f->layers; l++, n += units_of(f, l - 1))
        memcpy(there + n, x + (size_t)l * (size_t)f->U, (size_t)units_of(f, l) * sizeof *x);
    return n;
}

// A row's values in their form, in place; how many pieces of it were constant.
static long shape(float *there, const filling *f, int n) {
    long constant = 0;
    if (f->form == ROWS_GLOBAL) return n > 0 && !minmax(there, there, (size_t)n);
    for (int l = f->first; l < f->first + f->layers; l++, there += n) {
        n = units_of(f, l);
        const int k = (int)(f->top / 100 * n + 0.5);
        if (n == 0) continue;
        if (f->form == ROWS_TOP)
            top_labels(there, there, n, k < 1 ? 1 : k);
        else
            constant += !minmax(there, there, (size_t)n);
    }
    return constant;
}

static void scatter(float *out, const filling *f, const float *there) {
    for (int l = f->first; l < f->first + f->layers; l++, out += f->U) {
        const int n = units_of(f, l);
        memcpy(out, there, (size_t)n * sizeof *out);
        for (int u = n; u < f->U; u++) out[u] = f->form == ROWS_TOP ? 0.5f : 0;
        there += n;
    }
}

int plane_fill(plane *p, scratch *to, const store *s, const char *dataset, const int *units, int first, int layers,
               rows_form form, double top, long *constant) {
    long dim[3];
    if (store_shape(s, dataset, dim) != 3)
        return store_has(s, dataset) ? err_set("%s: %s is not [examples, layers, units]", store_path(s), dataset) : -1;
    const filling f = {units, (int)dim[1], (int)dim[2], first, layers, form, top};
    const size_t all = (size_t)dim[1] * (size_t)dim[2], width = (size_t)layers * (size_t)f.U;
    ASSERT(first >= 0 && layers > 0 && first + layers <= f.L);
    const long N = dim[0], most = (long)(CHUNK_BYTES / (all * 4)), step = most < 1 ? 1 : most;
    float *x = xmalloc((size_t)step * all * sizeof *x), *out = xmalloc((size_t)step * width * sizeof *out),
          *there = xmalloc(width * sizeof *there);
    *p = scratch_plane(to, (int)width, (int)N);
    *constant = 0;
    int bad = 0;
    for (long row = 0; !bad && row < N; row += step) {
        const long n = N - row < step ? N - row : step;
        bad = store_read(s, dataset, row, n, x);
        for (size_t i = 0; !bad && i < (size_t)n * all; i++) {
            const int l = (int)(i / (size_t)f.U) % f.L, u = (int)(i % (size_t)f.U);
            if (u < units_of(&f, l) && !isfinite(x[i]))
                bad = err_set("%s: %s: row %zu, layer %d, unit %d is %g; score again", store_path(s), dataset,
                              (size_t)row + i / all, l, u, (double)x[i]);
        }
        for (size_t r = 0; !bad && r < (size_t)n; r++) {
            const int some = gather(there, &f, x + r * all);
            *constant += shape(there, &f, some);
            scatter(out + r * width, &f, there);
        }
        if (!bad) bad = plane_write(p, (int)row, (int)n, out);
    }
    free(there);
    free(out);
    free(x);
    return bad;
}

// ---------------------------------------------------------------- batches
int row_tokens(const row_source *s, int row) {
    return s->whole ? (int)(s->ex->offset[row + 1] - s->ex->offset[row]) : s->ex->context[row];
}

static bool projected(const row_source *s, const net *n) { return n->kind == NET_POOL && s->model->proj_in.data; }
static size_t input_bytes(const net *n, int batch, int tokens) {
    return n->kind == NET_POOL ? (size_t)tokens * (sizeof(float) + sizeof(int32_t))
                               : (size_t)batch * (size_t)n->in * sizeof(float);
}
static size_t target_bytes(const net *n, int batch) { return (size_t)batch * (size_t)n->out * sizeof(float); }

void row_stage_new(row_stage *g, const row_source *s, const net *n, const net_work *k) {
    *g = (row_stage){k->o->feed_new(input_bytes(n, k->batch, k->cap)), k->o->feed_new(target_bytes(n, k->batch)), NULL};
    if (projected(s, n)) g->narrow = k->o->alloc((size_t)k->cap * (size_t)s->model->c.P * sizeof *g->narrow);
}

void row_stage_free(row_stage *g, const net_work *k) {
    k->o->feed_free(g->inputs);
    k->o->feed_free(g->targets);
    k->o->release(g->narrow);
    *g = (row_stage){0};
}

size_t row_stage_bytes(const row_source *s, const net *n, int batch, int tokens) {
    return 2 * (input_bytes(n, batch, tokens) + target_bytes(n, batch)) +
           (projected(s, n) ? (size_t)tokens * (size_t)s->model->c.P * sizeof(float) : 0);
}

static int send_rows(const plane *p, const ops *o, struct feed *f, const int *row, int count) {
    float *to = o->feed_fill(f);
    for (int i = 0; i < count; i++)
        if (plane_read(p, row[i], to + (size_t)i * (size_t)p->width)) return -1;
    o->feed_send(f, (size_t)count * (size_t)p->width * sizeof *to);
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

// How often each token is there [cap], then the tokens, one row's after the other's.
static void send_tokens(const row_source *s, net_work *k, struct feed *f, const int *row, int count) {
    float *times = k->o->feed_fill(f);
    int32_t *tokens = (int32_t *)(times + k->cap);
    int at = 0;
    for (int i = 0; i < count; at += k->s[i++].n) {
        const int T = row_tokens(s, row[i]);
        ASSERT(at + T <= k->cap);
        memcpy(tokens + at, s->ex->tokens + s->ex->offset[row[i]], (size_t)T * sizeof *tokens);
        k->s[i] = (span){at, different(tokens + at, times + at, T)};
    }
    k->o->feed_send(f, (size_t)(k->cap + at) * sizeof *times);
}

int row_send(const row_source *s, const net *n, net_work *k, row_stage *g, const int *row, int count) {
    if (n->kind == NET_POOL)
        send_tokens(s, k, g->inputs, row, count);
    else if (send_rows(&s->x, k->o, g->inputs, row, count))
        return -1;
    return send_rows(&s->t, k->o, g->targets, row, count);
}

const float *row_take(const row_source *s, const net *n, net_work *k, row_stage *g, int count) {
    const float *x = k->o->feed_take(g->inputs);
    if (n->kind == NET_POOL) {
        k->o->copy(k->count, x, (size_t)(k->s[count - 1].row + k->s[count - 1].n) * sizeof *x);
        predictor_embed_rows(k->tokens, g->narrow, s->model, (const int32_t *)(x + k->cap), k->s, count);
        k->o->minmax(k->tokens, k->tokens, n->in, k->s, count);
    } else
        k->o->copy(k->x, x, (size_t)count * (size_t)n->in * sizeof *x);
    return k->o->feed_take(g->targets);
}
