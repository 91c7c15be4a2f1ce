// opt_pack - weights of live neurons copied together, for passes that go by the same list again and again: tokens under a fixed mask, or between two
// predictions. Contract in opt_run.h and opt.h (OPT_PACK).
//
// Rows of a few KiB in no order are read at half the speed of a stretch, because the processor fetches on behind the end of each and begins anew at the
// next (Zen 4, half of rows of 3 KiB: 29 of 60 GB/s). So the second pass with a list copies its rows, at the cost of about one token; where more than
// three quarters are live there is little to gain. The numbers are those of the rows in their place.
#include "opt_run.h"
#include <stdlib.h>
#include <string.h>

enum { PAGE = 1 << 21 };

typedef struct packed_rows {
    int32_t *unit;     // the list of the last pass
    int n;             // -1: none yet
    bool packed;
    void *w1, *w2_t;   // room for MOST of the rows
} packed_rows;

static int most_of(int units) { return units * 3 / 4; }
static size_t room_for(const weight *w1) { return ((size_t)most_of(w1->rows) * (size_t)w1->cols * dtype_bytes(w1->type) + 63) / 64 * 64; }

size_t opt_pack_bytes(const opt *m) {
    size_t bytes = 0;
    for (int l = 0; l < m->c.L; l++) bytes += 2 * room_for(&m->stored[l].w1);
    return bytes;
}

void pack_alloc(opt_run *r) {
    const opt *m = r->m;
    if (!(r->flags & OPT_PACK) || !m->o->host || !m->transposed[0] || (r->flags & OPT_OWN_LISTS && r->max_seqs > 1)) return;
    r->pack = xcalloc((size_t)m->c.L + 1, sizeof *r->pack);
    const size_t bytes = opt_pack_bytes(m);
    char *at = xaligned(bytes);
    // a token should not wait for the system to find the pages
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes; i += PAGE) memset(at + i, 0, bytes - i < PAGE ? bytes - i : PAGE);
    r->pack[m->c.L].w1 = at;                 // the block itself
    for (int l = 0; l < m->c.L; l++) {
        const weight *w1 = &m->layer[l].w1;
        packed_rows *p = &r->pack[l];
        *p = (packed_rows){.unit = xcalloc((size_t)w1->rows + 1, sizeof *p->unit), .n = -1, .w1 = at, .w2_t = at + room_for(w1)};
        at += 2 * room_for(w1);
    }
}

void pack_free(opt_run *r) {
    if (!r->pack) return;
    for (int l = 0; l < r->m->c.L; l++) free(r->pack[l].unit);
    free(r->pack[r->m->c.L].w1);
    free(r->pack);
}

static void copy_rows(void *to, const weight *w, const int32_t *unit, int n) {
    const size_t bytes = (size_t)w->cols * dtype_bytes(w->type);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) memcpy((char *)to + (size_t)i * bytes, (const char *)w->data + (size_t)unit[i] * bytes, bytes);
}

void pack_rows(opt_run *r, int layer) {
    const opt_layer *w = &r->m->layer[layer];
    packed_rows *p = &r->pack[layer];
    live_units *u = &r->live_neurons.list[0];
    if (p->n != u->n || memcmp(p->unit, u->unit, (size_t)u->n * sizeof *u->unit) != 0) {
        p->n = u->n;
        p->packed = false;
        memcpy(p->unit, u->unit, (size_t)u->n * sizeof *u->unit);
        return;
    }
    if (!p->packed && u->n <= most_of(w->w1.rows)) {
        copy_rows(p->w1, &w->w1, p->unit, p->n);
        copy_rows(p->w2_t, &w->w2_t, p->unit, p->n);
        p->packed = true;
    }
    u->packed = p->packed;
}

weight pack_weight(const opt_run *r, const weight *w, const live_units *u) {
    if (!u->packed) return *w;
    int l = 0;
    while (w != &r->m->layer[l].w1 && w != &r->m->layer[l].w2_t) l++;
    weight those = *w;
    those.data = w == &r->m->layer[l].w1 ? r->pack[l].w1 : r->pack[l].w2_t;
    those.wide = NULL;
    return those;
}
