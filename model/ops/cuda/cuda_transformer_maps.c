// cuda_transformer_maps - the maps of a sublayer's input in one launch, with the norm before them and what follows: of
// spans of few rows (cuda_few_rows.cu). Of more rows the products are made at once, where they are alike, or, where a
// weight wants another way, operation by operation (maps_plain.h), to the same bits.
#include "cuda_few_rows.h"
#include "cuda_linear.h"
#include "maps_plain.h"
#include <stdlib.h>

// Whether the maps can go together.
static bool together(const sublayer_map *m, int maps, const weight *table) {
    bool able = true;
    for (int i = 0; i < maps; i++) {
        const weight *w = m[i].w;
        // dense products of 16-bit activations are cuBLAS's (cuda_round.h)
        able &= w->rows > 0 && w->cols > 0 && w->type == m->w->type && w->cols == m->w->cols &&
                (!w->narrow || m[i].u) && !w->narrow == !m->w->narrow &&
                (!m[i].turn || (m[i].D % 2 == 0 && table->cols % 2 == 0));
    }
    return able;
}

static bool aligned(const void *p) { return (uintptr_t)p % 16 == 0; }

// Whether each block puts its rows through the norm itself.
static bool held(const sublayer_input *in, const cuda_map_list *a, dtype type, int rows) {
    bool able = aligned(in->h) && aligned(in->gain ? in->x : in->h) && a->cols % (int)(16 / dtype_bytes(type)) == 0 &&
                rows <= CUDA_HELD_ROWS;
    for (int i = 0; i < a->n; i++) able &= aligned(a->map[i].w);
    return able && (size_t)(rows > 1 ? 2 : 1) * (size_t)a->cols * sizeof(float) <= CUDA_HELD_BYTES;
}

// Spans from *at on, as many as have caches' places, with these places.
static bool next_spans(cuda_spans *out, cuda_map_list *a, const sublayer_map *m, const span *s, int n, int *at) {
    *out = (cuda_spans){0};
    for (; *at < n && out->n < CUDA_CACHES; ++*at) {
        if (!s[*at].n) continue;
        for (int i = 0; i < a->n; i++)
            if (a->map[i].cache) a->to[a->map[i].cache - 1][out->n] = m[i].to[*at];
        out->s[out->n++] = (cuda_span){s[*at].row, s[*at].n, out->blocks, *at};
        out->blocks += s[*at].n;
    }
    return out->n > 0;
}

static int rows_of(const span *s, int n) {
    int rows = 0;
    for (int i = 0; i < n; i++) rows += s[i].n;
    return rows;
}

static void launch(const sublayer_input *in, cuda_map_list *a, const sublayer_map *m, const span *s, int n) {
    const dtype type = m->w->type;
    int live = 0;
    for (int i = 0; i < a->n; i++) live += a->map[i].u.most;
    a->held = live && held(in, a, type, rows_of(s, n));
    a->low = gpu_kept_bits(m->w);
    a->shape = in->shape;
    if (in->gain && a->held) {
        a->gain = gpu_vector(in->gain);
        a->shift = in->bias ? gpu_vector(in->bias) : NULL;
        a->h = in->h;
    } else if (in->gain)
        cuda_norm(in->h, in->x, in->gain, in->bias, in->shape, s, n);
    cuda_spans spans;
    for (int at = 0; next_spans(&spans, a, m, s, n, &at);)
        cuda_launch_few_rows(a->gain ? in->x : in->h, (int)type, a, &spans, g->stream);
    LAUNCHED("maps");
}

static cuda_map_list maps_of(const sublayer_map *m, int maps) {
    cuda_map_list a = gpu_maps(m->w->cols);
    a.n = maps;
    for (int i = 0; i < maps; i++)
        a.map[i] = gpu_map(m[i].y, m[i].w, m[i].b, m[i].D, gpu_live(m[i].u, m[i].w->rows / m[i].D));
    return a;
}

// Whether all maps are dense products that are alike.
static bool alike(const sublayer_map *m, int maps) {
    bool all = true;
    for (int i = 0; i < maps; i++) all &= !m[i].u && gpu_alike(m->w, m[i].w);
    return all;
}

// y_i = N(x) W_i' + b_i of spans of more rows, or of 16-bit activations, which no kernel of ours multiplies densely.
static void products(const sublayer_input *in, const sublayer_map *m, int maps, const span *s, int n) {
    gpu_product p[SUBLAYER_MAPS];
    ASSERT(maps <= SUBLAYER_MAPS);
    for (int i = 0; i < maps; i++) p[i] = gpu_product_of(m[i].y, m[i].w, m[i].b, false, false);
    plain_input(&gpu_table, in, s, n);
    gpu_multiply(p, maps, in->h, s, n);
}

void cuda_maps(const sublayer_input *in, const sublayer_map *m, int maps, const weight *table, const int32_t *first,
               const span *s, int n) {
    span *few = gpu_spans_of(s, n, true), *more = gpu_spans_of(s, n, false);
    const bool able = together(m, maps, table);
    const span *rest = able ? more : s;
    if (alike(m, maps) && (able || m->w->narrow)) {
        if (rows_of(rest, n)) {
            products(in, m, maps, rest, n);
            plain_places(&gpu_table, m, maps, table, first, rest, n);
        }
    } else if (rows_of(rest, n))
        plain_maps(&gpu_table, in, m, maps, table, first, rest, n);
    if (able && rows_of(few, n)) {
        cuda_map_list a = maps_of(m, maps);
        for (int i = 0, caches = 0; i < maps; i++) {
            if (m[i].turn) a.map[i].turned = table->cols;
            if (m[i].to) a.map[i].cache = ++caches;
        }
        a.table = table ? gpu_vector(table) : NULL;
        a.position = first;
        launch(in, &a, m, few, n);
    }
    free(few);
    free(more);
}

void cuda_hidden(float *r, const sublayer_input *in, const sublayer_map *m, int maps, activation act, const span *s,
                 int n) {
    span *few = gpu_spans_of(s, n, true), *more = gpu_spans_of(s, n, false);
    const bool able = together(m, maps, NULL);
    const span *rest = able ? more : s;
    if (alike(m, maps) && (able || m->w->narrow)) {
        if (rows_of(rest, n)) {
            products(in, m, maps, rest, n);
            plain_activation(&gpu_table, r, m, maps, act, rest, n);
        }
    } else if (rows_of(rest, n))
        plain_hidden(&gpu_table, r, in, m, maps, act, rest, n);
    if (able && rows_of(few, n)) {
        cuda_map_list a = maps_of(m, maps);
        a.act = (int)act;
        a.gated = maps > 1;
        a.map[0].y = r;
        launch(in, &a, m, few, n);
    }
    free(few);
    free(more);
}
