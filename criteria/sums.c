// sums - which operation takes which sums. Contract in sums.h.
#include "sums.h"

enum { BY_UNIT_SUMS = (1 << (USUM_OUT + 1)) - 1, SPECTRUM = 1 << USUM_ROWS | 1 << USUM_LOG_DET | 1 << USUM_TRACE };

void sums_take(const ops *o, double *sums, unsigned needs, const sum_taps *x, int from, int units, const span *s,
               int n) {
    const unsigned which = CRIT_COLUMNS(needs);
    const unit_taps *t = &x->taps;
    if (which & BY_UNIT_SUMS) o->unit_sums(sums, which & BY_UNIT_SUMS, t, from, units, s, n);
    if (which & 1 << USUM_SIGNS) o->sign_dets(sums, t->act, t->ld, t->D, from, units, s, n);
    if (!(which & SPECTRUM)) return;
    if (x->dg)
        o->gated_spectra(sums, x->dg, x->du, x->corr, x->stat, x->E, t->ld, from, units, s, n);
    else if (x->corr)
        o->neuron_spectra(sums, x->dz, x->corr, x->most, t->ld, from, units, s, n);
    else
        o->head_spectra(sums, t->grad, t->ld, t->D, from, units, s, n);
}

bool sums_correlate(unsigned needs_neurons) {
    return CRIT_COLUMNS(needs_neurons) & SPECTRUM || needs_neurons & CRIT_XCORR;
}
