// moments - pooled moments, in memory and in files. Contract in moments.h.
#include "moments.h"
#include <math.h>
#include <stdlib.h>

const char moments_norms[] = "/squared_norms";

double *moments_squares(const model *m, unit_kind kind) {
    const size_t width = moments_width(&m->c, kind), L = (size_t)m->c.L;
    double *squares = xmalloc(L * width * sizeof *squares);
    for (size_t l = 0; l < L; l++) {
        m->o->use(model_part(m, (int)l));
        m->o->column_squares(squares + l * width, model_reader(m, (int)l, kind));
        for (size_t c = (size_t)model_tap_width(&m->c, (int)l, kind); c < width; c++) squares[l * width + c] = NAN;
    }
    m->o->use(0);
    return squares;
}

void moments_alloc(moment_set *m, int L, const int width[UNIT_KINDS]) {
    *m = (moment_set){.L = L};
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        const size_t n = (size_t)L * (size_t)width[kind];
        m->width[kind] = width[kind];
        m->mean[kind] = xcalloc(n + 1, sizeof *m->mean[kind]);
        m->variance[kind] = xcalloc(n + 1, sizeof *m->variance[kind]);
    }
}

void moments_free(moment_set *m) {
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        free(m->mean[kind]);
        free(m->variance[kind]);
    }
    *m = (moment_set){0};
}

static char *dataset_of(const char *group, unit_kind kind, bool variance) {
    return xasprintf("%s/%s_%s", group, unit_names[kind], variance ? "variance" : "mean");
}

bool moments_there(const store *s, const char *group) {
    char *name = dataset_of(group, UNIT_HEADS, false);
    const bool there = store_has(s, name);
    free(name);
    return there;
}

int moments_read(moment_set *m, const store *s, const char *group) {
    char *tokens = store_attr(s, group, "tokens");
    int bad = tokens ? 0 : err_set("%s: %s has no attribute tokens", store_path(s), group);
    int L = 0, width[UNIT_KINDS] = {0};
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++) {
        long dim[3];
        char *name = dataset_of(group, kind, false);
        bad = store_shape(s, name, dim) == 2 ? 0 : err_set("%s: %s is not [layers, values]", store_path(s), name);
        L = (int)dim[0];
        width[kind] = (int)dim[1];
        free(name);
    }
    if (!bad && !m->mean[0]) moments_alloc(m, L, width);
    if (!bad && (m->L != L || m->width[0] != width[0] || m->width[1] != width[1]))
        bad = err_set("%s: %s has another shape than the model", store_path(s), group);
    for (int i = 0; !bad && i < 2 * UNIT_KINDS; i++) {
        const int kind = i / 2;
        char *name = dataset_of(group, kind, i % 2);
        bad = store_read_double(s, name, 0, L, i % 2 ? m->variance[kind] : m->mean[kind]);
        free(name);
    }
    if (!bad) m->tokens = strtod(tokens, NULL);
    free(tokens);
    return bad;
}

int moments_write(const moment_set *m, store *s, const char *group) {
    int bad = store_put_number(s, group, "tokens", m->tokens);
    for (int i = 0; !bad && i < 2 * UNIT_KINDS; i++) {
        const int kind = i / 2;
        const long dim[2] = {m->L, m->width[kind]};
        char *name = dataset_of(group, kind, i % 2);
        bad = store_put_doubles(s, name, 2, dim, i % 2 ? m->variance[kind] : m->mean[kind]);
        free(name);
    }
    return bad;
}

void moments_add(moment_set *m, const moment_set *other) {
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
        for (size_t i = 0; i < (size_t)m->L * (size_t)m->width[kind]; i++) {
            const double off = other->tokens > 1 ? other->variance[kind][i] * (other->tokens - 1) : 0;
            moments_pool(&m->mean[kind][i], &m->variance[kind][i], m->tokens, other->mean[kind][i], off, other->tokens);
        }
    m->tokens += other->tokens;
}
