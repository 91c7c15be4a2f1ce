// crit_nwot - how many different activation patterns the tokens have.
// Head: ln det(I_T + K/d), K_ts = number of the d values whose sign [a > 0] tokens t and s share. Neuron (the same with
// d = 1): ln(1 + n1) + ln(1 + n0), n1 tokens with z > 0, n0 = T - n1.
// Mellor et al. 2021, "Neural architecture search without training"; they compare examples, here the tokens of one.
// Compat: head ln #(t,i: a <= 0), neuron ln of the fraction of tokens with z <= 0; 0 where the count is 0. A batch of
// one had left a 1 x 1 determinant.
#include "criterion.h"
#include <math.h>

static void heads(float *out, const crit_in *in) { out[0] = (float)crit_sum(in, 0, USUM_SIGNS); }

static void neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        const double on = crit_sum(in, u, USUM_ON);
        out[u] = (float)(log1p(on) + log1p(in->T - on));
    }
}

static void heads_compat(float *out, const crit_in *in) {
    const double off = (double)in->T * in->D - crit_sum(in, 0, USUM_ON);
    out[0] = off > 0 ? (float)log(off) : 0;
}

static void neurons_compat(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        const double off = in->T - crit_sum(in, u, USUM_ON);
        out[u] = off > 0 ? (float)log(off / in->T) : 0;
    }
}

enum { ON = CRIT_SUM(USUM_ON) };
const criterion crit_nwot = {.name = "nwot",
                             .about = "diversity of the activation patterns of the tokens (Mellor 2021)",
                             .unit = {{"1"}},
                             .sound = {heads, neurons, CRIT_SUM(USUM_SIGNS), ON,
                                       "ln det(I + K/d), K_ts = signs that tokens t and s share",
                                       "ln(1 + n1) + ln(1 + n0), n1 tokens with z > 0, n0 others", NULL},
                             .compat = {heads_compat, neurons_compat, ON, ON, "ln #(t,i: a <= 0)",
                                        "ln mean_t [z <= 0], 0 where there is none", NULL}};
