// probe_removal - the exact oracle: L(unit removed) - L, many variants of an example in each batch.
#include "probe_state.h"
#include <stdlib.h>
#include <string.h>

enum { VARIANTS = 256 };  // at most

// tokens of a batch of variants: enough to share products out, within 64 MB
static int room(const model *m, int max_tokens) {
    int most = (64 << 20) / (int)sizeof(float) / (m->c.F + 2 * m->c.E);
    if (most > 2048) most = 2048;
    return most > max_tokens ? most : max_tokens;
}

size_t removal_bytes(const model *m, int max_tokens) {
    const int tokens = room(m, max_tokens);
    return model_run_bytes(m, tokens, VARIANTS, RUN_FORWARD) + sizeof(float) * (size_t)tokens * (size_t)m->c.E +
           VARIANTS * (size_t)m->c.L * (size_t)(m->c.H + m->c.F);
}

void removal_alloc(probe *p) {
    const model *m = p->m;
    p->removal_tokens = room(m, p->max_tokens);
    p->variants = p->removal_tokens / 2 < VARIANTS ? p->removal_tokens / 2 : VARIANTS;
    p->removal = model_run_new(m, p->removal_tokens, p->variants, RUN_FORWARD);
    p->residuals = m->o->alloc(sizeof(float) * (size_t)p->removal_tokens * (size_t)m->c.E);
    p->masks = xcalloc((size_t)p->variants, sizeof *p->masks);
    for (int i = 0; i < p->variants; i++) {
        const size_t heads = (size_t)m->c.L * (size_t)m->c.H, neurons = (size_t)m->c.L * (size_t)m->c.F;
        p->masks[i] = (mask){xmalloc(heads), xmalloc(neurons)};
        memset(p->masks[i].heads, 1, heads);
        memset(p->masks[i].neurons, 1, neurons);
    }
}

void removal_free(probe *p) {
    model_run_free(p->removal);
    for (int i = 0; i < p->variants; i++) {
        free(p->masks[i].heads);
        free(p->masks[i].neurons);
    }
    if (p->residuals) p->m->o->release(p->residuals);
    free(p->masks);
}

// L(unit removed) - L for units of one layer of one example, the intact model riding along in every batch. res: [T, E]
// entering it.
static void remove_units(probe *p, const probe_example *ex, int layer, unit_kind kind, const float *res,
                         double *change) {
    const model_config *c = &p->m->c;
    const int U = model_all_units(c, kind), units = model_units(c, layer, kind), T = ex->n,
              most = p->removal_tokens / T < p->variants ? p->removal_tokens / T : p->variants;
    ASSERT(most >= 1);
    double *lp = xmalloc(sizeof *lp * (size_t)p->removal_tokens), intact = 0;
    model_seq *s = xcalloc((size_t)p->variants, sizeof *s);
    for (int i = 0; i < most; i++)
        p->m->o->copy(p->residuals + (size_t)i * (size_t)T * (size_t)c->E, res,
                      sizeof(float) * (size_t)T * (size_t)c->E);
    for (int first = -1; first < units; first += most) {  // variant -1: nothing removed
        const int n = units - first < most ? units - first : most;
        for (int i = 0; i < n; i++) {
            const int u = first + i;
            uint8_t *const keep =
                (kind == UNIT_HEADS ? p->masks[i].heads : p->masks[i].neurons) + (size_t)layer * (size_t)U;
            if (u >= 0) keep[u] = 0;
            s[i] = (model_seq){.tokens = ex->tokens,
                               .n = T,
                               .mask = &p->masks[i],
                               .targets_from = ex->context - 1,
                               .last_target = SEQ_NO_OUTPUT};
        }
        model_forward_from(p->removal, s, n, layer, p->residuals);
        model_logprobs(p->removal, lp, NULL, 0);
        const int targets = T - ex->context;
        for (int i = 0; i < n; i++) {
            double loss = 0;
            for (int t = 0; t < targets; t++) loss -= lp[i * targets + t] / targets;
            if (first + i < 0)
                intact = loss;
            else {
                change[first + i] = loss - intact;
                (kind == UNIT_HEADS ? p->masks[i].heads : p->masks[i].neurons)[(size_t)layer * (size_t)U + first + i] =
                    1;
            }
        }
    }
    free(s);
    free(lp);
}

static bool wants_removal(const probe *p, int i, unit_kind kind) {
    for (int k = 0; k < p->plan.n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++) {
            const crit_mode *c = crit_mode_of(p->plan.crit[k], m);
            if (p->plan.mode[m] &&
                (kind == UNIT_HEADS ? c->heads && c->needs_heads & CRIT_REMOVAL && p->out[i].heads[m][k]
                                    : c->neurons && c->needs_neurons & CRIT_REMOVAL && p->out[i].neurons[m][k]))
                return true;
        }
    return false;
}

void removal_run(probe *p) {
    const model_config *c = &p->m->c;
    const int most = c->H > c->F ? c->H : c->F;
    double *change = xmalloc(sizeof *change * (size_t)most);
    for (int i = 0; i < p->n; i++)
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
            for (int l = 0; wants_removal(p, i, kind) && l < c->L; l++) {
                const int U = model_units(c, l, kind);
                remove_units(p, &p->ex[i], l, kind,
                             model_tap_res(p->run, l) + (size_t)model_row(p->run, i) * (size_t)c->E, change);
                for (int u = 0; u < U; u += CRIT_TILE) {
                    crit_in in = tiles_base(p, i, l);
                    in.U = U - u < CRIT_TILE ? U - u : CRIT_TILE;
                    in.unit = u;
                    in.removal = change + u;
                    tiles_call(p, STAGE_REMOVAL, &in, i, kind);
                }
            }
    free(change);
}
