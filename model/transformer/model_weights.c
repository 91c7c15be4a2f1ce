// model_weights - contract in model_weights.h.
#include "model_weights.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "convert.h"
#include "gguf.h"
#include "quantise.h"
#include "scratch.h"

enum { BLOCK = 32 };  // numbers of a block that we make

static bool halves(const ops *o) { return o->activations == DT_F16 || o->activations == DT_BF16; }
static bool has_blocks(const ops *o) { return o->host && !halves(o); }

weight_form model_weight_form(const model_config *c, const tensor_spec *s, dtype stored, int weights, const ops *o) {
    const bool vector = s->cols == DIM_NONE, ours = weights >= 0 && dtype_in_blocks((dtype)weights);
    if (halves(o) && !vector) return (weight_form){o->activations, false};
    if (weights >= 0 && !ours) return (weight_form){(dtype)weights, false};
    dtype want = stored;
    if (ours && !vector && s->rows != DIM_POSITIONS) want = (dtype)weights;
    if (!dtype_in_blocks(want)) return (weight_form){want, false};
    if (!has_blocks(o)) return (weight_form){DT_F32, false};
    if (!s->transposed) return (weight_form){want, false};
    if (c->E % BLOCK) return (weight_form){DT_F32, false};
    return (weight_form){ours ? want : DT_Q8_0, true};
}

int model_check_weights(const model_config *c, int weights, const ops *o) {
    if (weights < 0 || !dtype_in_blocks((dtype)weights)) return 0;
    const char *name = weight_options[weights];
    if (!o->host)
        return err_set("--weights %s: not on %s; weights in blocks are read by the CPU only. Take --device cpu, or "
                       "--weights fp16",
                       name, o->device);
    if (halves(o))
        return err_set("--weights %s: with --activations %s products have weights of that type; leave one of both out",
                       name, dtype_options[o->activations]);
    if (c->E % BLOCK || c->P % BLOCK)
        return err_set("--weights %s: rows of %d numbers are no whole blocks of %d", name, c->E % BLOCK ? c->E : c->P,
                       BLOCK);
    return 0;
}

// ---------------------------------------------------------------- making them
static size_t columns(const tensor *t) { return t->rank > 1 ? (size_t)t->dim[1] : 1; }

static void widen_row(float *to, const tensor *t, size_t row) {
    const size_t cols = columns(t);
    dtype_widen(to, (const char *)t->data + row * dtype_size(t->type, cols), t->type, cols);
}

// Whether some number became infinite, or a scale.
static bool overflows(const void *made, dtype type, size_t n) {
    if (dtype_in_blocks(type)) return gguf_bad_block(made, type, n) < n / dtype_block(type);
    const uint16_t *h = made;
    bool over = false;
    for (size_t i = 0; i < n && type == DT_F16; i++) over |= (h[i] & 0x7fff) >= 0x7c00;
    return over;
}

static bool convert_rows(char *to, const tensor *t, dtype type) {
    const size_t cols = columns(t);
    bool over = false;
#pragma omp parallel for schedule(static) reduction(|| : over)
    for (int64_t r = 0; r < t->dim[0]; r++) {
        const scratch_point mark = scratch_mark();
        float *row = scratch_floats(cols);
        char *at = to + (size_t)r * dtype_size(type, cols);
        widen_row(row, t, (size_t)r);
        dtype_narrow(at, type, row, cols);
        over = over || overflows(at, type, cols);
        scratch_release(mark);
    }
    return over;
}

// Transposed rows in blocks: 32 rows of the tensor give a block of each.
static bool turn_rows(char *to, const tensor *t, dtype type) {
    const size_t rows = (size_t)t->dim[0], cols = columns(t), line = dtype_size(type, rows),
                 block = dtype_size(type, BLOCK);
    bool over = false;
#pragma omp parallel for schedule(static) reduction(|| : over)
    for (size_t r = 0; r < rows; r += BLOCK) {
        const scratch_point mark = scratch_mark();
        float *strip = scratch_floats(BLOCK * cols), x[BLOCK];
        for (size_t i = 0; i < BLOCK; i++) widen_row(strip + i * cols, t, r + i);
        for (size_t c = 0; c < cols; c++) {
            char *at = to + c * line + r / BLOCK * block;
            for (size_t i = 0; i < BLOCK; i++) x[i] = strip[i * cols + c];
            quantise(at, type, x, BLOCK);
            over = over || overflows(at, type, BLOCK);
        }
        scratch_release(mark);
    }
    return over;
}

void *model_make_weight(const tensor *t, weight_form form) {
    const size_t n = (size_t)t->dim[0] * columns(t);
    ASSERT(t->data || n == 0);
    char *made = xaligned(n ? dtype_size(form.type, n) : 1);
    const bool over = n && (form.turned ? turn_rows : convert_rows)(made, t, form.type);
    if (!over) return made;
    free(made);
    if (form.type == DT_F16)
        err_set("tensor %s holds numbers beyond 65504, which fp16 does not; take bf16", t->name);
    else
        err_set("tensor %s holds numbers that a %s block's fp16 scale is too small for; take bf16", t->name,
                dtype_name(form.type));
    return NULL;
}

double model_turning_change(const tensor *t, weight_form form) {
    const size_t rows = (size_t)t->dim[0], cols = columns(t);
    char *made = model_make_weight(t, form);
    float *is = xmalloc(rows * sizeof *is), *was = xmalloc(rows * cols * sizeof *was);
    double off = 0, square = 0;
    ASSERT(made && form.turned);
    for (size_t r = 0; r < rows; r++) widen_row(was + r * cols, t, r);
    for (size_t c = 0; c < cols; c++) {
        dtype_widen(is, made + c * dtype_size(form.type, rows), form.type, rows);
        for (size_t r = 0; r < rows; r++) {
            const double x = (double)was[r * cols + c], d = (double)is[r] - x;
            off += d * d;
            square += x * x;
        }
    }
    free(made);
    free(is);
    free(was);
    return square > 0 ? off / square : 0;
}
