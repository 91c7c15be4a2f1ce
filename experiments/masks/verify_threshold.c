// verify_threshold - checks of a model under thresholds. Contract in verify.h.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "decode.h"
#include "verify.h"

typedef struct {
    const model *m;
    const model_above *above;
    model_run *whole;
    float *got, *want, *dense;  // [V]
    double error, largest;
    long kept, counted, tokens, acting;
} checks;

// The logits after tokens [n], in one pass; the neurons that ran at the last of them.
static long at_once(const checks *c, const int32_t *tokens, int n, const model_above *above, float *logits) {
    const model_seq s = {.tokens = tokens, .n = n, .above = above, .targets_from = n - 1, .last_target = SEQ_NO_TARGET};
    model_forward(c->whole, &s, 1);
    model_logits(c->whole, 0, logits);
    if (!above) return 0;
    int32_t *kept = xmalloc((size_t)n * sizeof *kept);
    model_kept(c->whole, 0, kept);
    const long last = kept[n - 1];
    free(kept);
    return last;
}

static int check_input(checks *c, const verify_input *in) {
    const int V = c->m->c.V;
    const decode_options o = {.above = c->above};
    decode *d = decode_new(c->m, &o, 1, in->context, in->n);
    bool acts = false;
    int bad = d ? decode_prompt(d, &(decode_seq){.prompt = in->tokens, .n = in->context}, 1) : -1;
    for (int n = in->context; n <= in->n && !bad; n++) {
        if (n > in->context) bad = decode_step(d, in->tokens + n - 1);
        if (bad) break;
        memcpy(c->got, decode_logits(d, 0), (size_t)V * sizeof *c->got);
        c->counted += at_once(c, in->tokens, n, c->above, c->want);
        at_once(c, in->tokens, n, NULL, c->dense);
        c->kept += decode_kept(d, 0);
        c->error = fmax(c->error, verify_error(c->got, c->want, 1, V));
        for (int i = 0; i < V; i++) {
            const double differs = fabs((double)c->got[i] - (double)c->dense[i]);
            c->largest = fmax(c->largest, differs);
            acts |= differs != 0;
        }
        c->tokens++;
    }
    c->acting += acts;
    decode_free(d);
    return bad;
}

int verify_thresholds(const model *m, const model_above *above, double tolerance, const verify_input *in, int n,
                      FILE *out) {
    const size_t V = (size_t)m->c.V;
    int longest = 1, bad = 0;
    long units[UNIT_KINDS];
    mask_units(&m->c, units);
    for (int i = 0; i < n; i++) longest = in[i].n > longest ? in[i].n : longest;
    checks c = {.m = m, .above = above, .whole = model_run_new(m, longest, 1, RUN_FORWARD)};
    c.got = xmalloc(3 * V * sizeof *c.got);
    c.want = c.got + V;
    c.dense = c.want + V;
    for (int i = 0; i < n && !bad; i++) bad = check_input(&c, &in[i]);
    model_run_free(c.whole);
    free(c.got);
    if (bad) return -1;
    // a value may lie on the other side of its threshold by rounding, in one of many thousand
    const double all = (double)c.tokens * (double)units[UNIT_NEURONS], off = fabs((double)(c.kept - c.counted)) / all;
    const bool same = c.error <= tolerance, counts = off <= 1e-4, acts = c.acting == n;
    fprintf(out, "acts    %-4s on %ld of %d inputs thresholds change the output; |logit| differs by %.4g at most\n",
            acts ? "ok" : "FAIL", c.acting, n, c.largest);
    fprintf(
        out,
        "sparse  %-4s token by token, columns of live neurons only = all tokens at once: error %.3g (tolerance %g)\n",
        same ? "ok" : "FAIL", c.error, tolerance);
    fprintf(out, "counts  %-4s %.2f %% of the neurons are pruned, token by token and at once\n", counts ? "ok" : "FAIL",
            100 * (1 - (double)c.kept / all));
    return !acts + !same + !counts;
}
