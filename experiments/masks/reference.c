// reference - masks from an input's own scores. Contract in reference.h.
#include "reference.h"
#include "probe.h"
#include <stdlib.h>
#include <string.h>

struct reference {
    const model *m;
    const criterion *crit;
    mode_kind mode;
    probe_plan plan;
    probe *probe;  // of inputs of at most room tokens
    int room;
    float *heads, *neurons;  // [L, H], [L, F]
    int32_t *tokens;         // [positions]
};

int reference_check(const criterion *c, const mask_rule *rule) {
    const crit_mode *of = crit_mode_of(c, rule->mode);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
        if (mask_rule_prunes(rule, kind) && !(kind == UNIT_HEADS ? of->heads : of->neurons))
            return err_set("--mask reference: %s has no scores of an example for %s", c->name, unit_names[kind]);
    return 0;
}

reference *reference_new(const model *m, const criterion *c, mode_kind mode, uint64_t seed) {
    reference *r = xcalloc(1, sizeof *r);
    const size_t L = (size_t)m->c.L;
    *r = (reference){.m = m, .crit = c, .mode = mode};
    r->plan = (probe_plan){.crit = &r->crit, .n_crit = 1, .seed = seed};
    r->plan.mode[mode] = true;
    r->heads = xcalloc(L * (size_t)m->c.H, sizeof *r->heads);
    r->neurons = xcalloc(L * (size_t)m->c.F, sizeof *r->neurons);
    r->tokens = xcalloc((size_t)m->c.positions, sizeof *r->tokens);
    return r;
}

void reference_free(reference *r) {
    if (!r) return;
    probe_free(r->probe);
    free(r->heads);
    free(r->neurons);
    free(r->tokens);
    free(r);
}

// The last target is a token of the example, as in bin/score; where no position is left for it, it is scored all the
// same.
static probe_example example_of(const reference *r, const model_seq *input) {
    probe_example ex = {.tokens = input->tokens, .n = input->n, .context = input->targets_from + 1};
    ex.key = hash64(input->tokens, (size_t)input->n * sizeof *input->tokens);
    if (input->n == r->m->c.positions) {
        ex.next = &input->last_target;
        return ex;
    }
    memcpy(r->tokens, input->tokens, (size_t)input->n * sizeof *r->tokens);
    r->tokens[ex.n++] = input->last_target;
    ex.tokens = r->tokens;
    return ex;
}

// A probe for n tokens. It keeps every layer's arrays, so room for all positions of a model would be many times what a
// document of a task needs.
static probe *probe_of(reference *r, int n) {
    const int P = r->m->c.positions, more = r->room < P / 2 ? 2 * r->room : P;
    if (r->probe && n <= r->room) return r->probe;
    probe_free(r->probe);
    r->room = n > more ? n : more;
    return r->probe = probe_new(r->m, &r->plan, r->room);
}

static int scores(void *self, const model_seq *input, unsigned units, double *heads, double *neurons) {
    reference *r = self;
    const size_t L = (size_t)r->m->c.L, nh = L * (size_t)r->m->c.H, nn = L * (size_t)r->m->c.F;
    const probe_example ex = example_of(r, input);
    float *h = units & UNITS_HEADS ? r->heads : NULL, *n = units & UNITS_NEURONS ? r->neurons : NULL;
    probe_result out = {0};
    out.heads[r->mode] = &h;
    out.neurons[r->mode] = &n;
    if (probe_run(probe_of(r, ex.n), &ex, 1, &out, NULL, 0) != 0) return err_prefix("--mask reference");
    for (size_t i = 0; h && i < nh; i++) heads[i] = (double)h[i];
    for (size_t i = 0; n && i < nn; i++) neurons[i] = (double)n[i];
    return 0;
}

mask_source reference_source(reference *r, bool decode, int refresh) {
    return (mask_source){.scores = scores,
                         .self = r,
                         .uses_label = true,
                         .after = decode ? refresh : 0,
                         .refresh = decode ? refresh : 0};
}

double reference_cost(int n) { return 3.0 * n; }  // forward and backward
