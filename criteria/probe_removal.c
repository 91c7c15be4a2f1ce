// probe_removal - removal scores of a batch, for the criteria that ask for them.
#include "probe_state.h"
#include <stdlib.h>

static bool wants_removal(const probe *p, int i, unit_kind kind) {
    for (int k = 0; k < p->plan.n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++) {
            const crit_mode *c = crit_mode_of(p->plan.crit[k], m);
            if (p->plan.mode[m] && crit_function(c, kind) && crit_needs(c, kind) & CRIT_REMOVAL &&
                probe_scores(&p->out[i], kind, m)[k])
                return true;
        }
    return false;
}

static void score_layer(probe *p, int i, int layer, unit_kind kind, double *rise) {
    const model_config *c = &p->m->c;
    const int U = model_units(c, layer, kind);
    const float *res = model_tap_res(p->run, layer) + (size_t)model_row(p->run, i) * (size_t)c->E;
    removal_layer(p->removal, &p->seqs[i], layer, kind, res, rise);
    for (int u = 0; u < U; u += CRIT_TILE) {
        crit_in in = tiles_base(p, i, layer);
        in.U = U - u < CRIT_TILE ? U - u : CRIT_TILE;
        in.unit = u;
        in.removal = rise + u;
        tiles_call(p, STAGE_REMOVAL, &in, i, kind);
    }
}

void probe_remove(probe *p) {
    const model_config *c = &p->m->c;
    double *rise = xmalloc(sizeof *rise * (size_t)(c->H > c->F ? c->H : c->F));
    for (int i = 0; i < p->n; i++)
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
            for (int l = 0; wants_removal(p, i, kind) && l < c->L; l++) score_layer(p, i, l, kind, rise);
    free(rise);
}
