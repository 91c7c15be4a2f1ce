// verify_weights - what a model's weights change against the checkpoint's own numbers. Contract in verify.h.
#include <math.h>
#include <stdlib.h>
#include "verify.h"

typedef struct {
    double square, off, largest, divergence;  // of logits, summed over inputs; the largest difference / rms
    double logprob[2];                        // of all targets: the published numbers, those that run
    long targets;
} change;

static void one_input(change *c, model_run *const *run, const verify_input *in, int V) {
    float *logits = xmalloc(2 * (size_t)V * sizeof *logits);
    double *logprob = xmalloc((size_t)in->n * sizeof *logprob), square = 0, off = 0, most = 0;
    for (int k = 0; k < 2; k++) {
        model_forward(run[k], &(model_seq){.tokens = in->tokens, .n = in->n, .last_target = SEQ_NO_TARGET}, 1);
        model_logprobs(run[k], logprob, NULL, 0);
        model_logits(run[k], 0, logits + (size_t)k * (size_t)V);
        for (int t = 0; t < in->n - 1; t++) c->logprob[k] += logprob[t];
    }
    for (int v = 0; v < V; v++) {
        const double d = (double)logits[V + v] - (double)logits[v];
        square += (double)logits[v] * (double)logits[v];
        off += d * d;
        most = fmax(most, fabs(d));
    }
    c->square += square;
    c->off += off;
    c->largest = fmax(c->largest, most / sqrt(square / V));
    c->divergence += verify_divergence(logits, logits + V, V);
    c->targets += in->n - 1;
    free(logits);
    free(logprob);
}

void verify_weights(const model *m, const model *published, const verify_input *in, int n, bool text, FILE *out) {
    const model *const of[2] = {published, m};
    model_run *run[2];
    change c = {0};
    for (int k = 0; k < 2; k++) run[k] = model_run_new(of[k], in[0].n, 1, RUN_FORWARD);
    for (int i = 0; i < n; i++) one_input(&c, run, &in[i], m->c.V);
    for (int k = 0; k < 2; k++) model_run_free(run[k]);
    fprintf(
        out,
        "weights %s%s, against the checkpoint's numbers: logits off by %.3g of their size (rms), a logit by at most "
        "%.3g; divergence of the next token %.3g nats\n",
        model_weights_name(m), m->o->activations == DT_Q8_0 ? ", activations q8_0" : "", sqrt(c.off / c.square),
        c.largest, c.divergence / n);
    if (!text) return;
    const double was = exp(-c.logprob[0] / (double)c.targets), is = exp(-c.logprob[1] / (double)c.targets);
    fprintf(out, "  perplexity of the inputs' tokens %.4f, was %.4f (%+.2f %%)\n", is, was, 100 * (is / was - 1));
}
