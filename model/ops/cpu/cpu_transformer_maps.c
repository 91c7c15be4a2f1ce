// cpu_transformer_maps - the maps of a sublayer's input with what is about them. Of few rows threads share all maps at
// once, since each product that they wait for costs some microseconds; else one operation after the other
// (maps_plain.h).
#include "cpu_thin.h"
#include "maps_plain.h"

// Whether it was done.
static bool few_rows(const sublayer_map *m, int maps, const float *x, const span *s, int n) {
    const int cols = m->w->cols;
    cpu_product p[SUBLAYER_MAPS];
    cpu_units of[SUBLAYER_MAPS];
    bool fit = !cpu_has_many(s, n);
    for (int i = 0; i < maps; i++) fit &= !m[i].w->turned && m[i].w->cols == cols;
    if (!fit) return false;
    const double start = clock_s();
    const scratch_point mark = scratch_mark();
    for (int i = 0; i < maps; i++) {
        const weight *w = m[i].w;
        p[i] = (cpu_product){
            m[i].y,     cpu_rounded(x, cols, w, s, n, m[i].u ? NULL : "linear"), w, cpu_vector(m[i].b), false, false,
            cpu_int8(w)};
        of[i] = (cpu_units){m[i].u, m[i].u ? m[i].D : 1};
    }
    cpu_thin_products(p, of, maps, s, n);
    scratch_release(mark);
    ops_seconds_gemm += clock_s() - start;
    return true;
}

void cpu_maps(const sublayer_input *in, const sublayer_map *m, int maps, const weight *table, const int32_t *first,
              const span *s, int n) {
    sublayer_input made = *in;
    plain_input(&cpu_ops, in, s, n);
    made.gain = NULL;
    if (!few_rows(m, maps, in->h, s, n)) {
        plain_maps(&cpu_ops, &made, m, maps, table, first, s, n);
        return;
    }
    plain_places(&cpu_ops, m, maps, table, first, s, n);
}

void cpu_hidden(float *r, const sublayer_input *in, const sublayer_map *m, int maps, activation act, const span *s,
                int n) {
    sublayer_input made = *in;
    if (maps == 1) {
        plain_hidden(&cpu_ops, r, in, m, maps, act, s, n);
        return;
    }
    plain_input(&cpu_ops, in, s, n);
    made.gain = NULL;
    if (few_rows(m, maps, in->h, s, n))
        cpu_gated(r, m[0].y, m[1].y, act, m->w->rows, s, n);
    else
        plain_hidden(&cpu_ops, r, &made, m, maps, act, s, n);
}
