// bench_run - the times. Contract in bench.h.
//
// A round takes every configuration in turn, each from its prompt to its last token, so that a slow phase of the
// machine meets all of them; the memory's bandwidth is taken between tokens, because it changes from second to second
// where machines are shared. A token's time runs from the choice of the token before, greedy, to its own choice. Where
// a GPU begins a token before the host has read the one before, it runs from one choice to the next, whatever the host
// does in between; before the memory is read, none begins.
#include "bench.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int32_t *bench_prompt(const bench_group *g, int sequence) {
    const model_config *c = &g->model->m.c;
    int32_t *tokens = xmalloc((size_t)g->prompt * sizeof *tokens);
    for (int t = 0; t < g->prompt && g->text; t++) tokens[t] = bench_text_token(g->text, sequence, t);
    if (g->text) return tokens;
    rng r = rng_make(rng_hash((uint64_t)g->o->masks.seed, (uint64_t)sequence, 0x70726f6d7074));
    for (int t = 0; t < g->prompt; t++) tokens[t] = (int32_t)rng_below(&r, (uint64_t)c->V);
    return tokens;
}

static decode *open_decoder(const bench_group *g, const bench_config *c) {
    const decode_options o = {.predictor = c->p,
                              .means = g->means,
                              .above = c->above.least ? &c->above : NULL,
                              .rule = c->rule,
                              .refresh = c->refresh,
                              .kv = c->kv,
                              .batch = c->batch,
                              .flags = g->o->own_lists ? RUN_OWN_LISTS : 0};
    return decode_new(&g->model->m, &o, g->batch, g->prompt, g->prompt + g->tokens);
}

// A part of the prompt and a few tokens, not timed: weights and workspace are touched for the first time.
static int warm_up(const bench_group *g, const bench_config *c, decode_seq *s) {
    decode *d = open_decoder(g, c);
    int bad = d ? 0 : -1;
    int32_t *next = xcalloc((size_t)g->batch, sizeof *next);
    for (int i = 0; i < g->batch; i++) s[i].n = g->prompt < 16 ? g->prompt : 16;
    if (!bad) bad = decode_prompt(d, s, g->batch);
    for (int t = 0; t < 3 && t < g->tokens && !bad; t++) bad = decode_step(d, next);
    for (int i = 0; i < g->batch; i++) s[i].n = g->prompt;
    free(next);
    decode_free(d);
    return bad;
}

enum { BETWEEN = 16, SAMPLES = 64 };  // tokens between two passes over memory; passes of a round, at most

static void add_overhead(const decode *d, double to[2]) {
    double predict, select;
    decode_overhead(d, &predict, &select);
    to[0] += predict;
    to[1] += select;
}

// Units that did not run in the last step.
static void add_pruned(const bench_group *g, bench_config *c, const decode *d) {
    for (int i = 0; i < g->batch; i++) {
        long pruned[UNIT_KINDS], units[UNIT_KINDS];
        mask_units(&g->model->m.c, units);
        mask_pruned(decode_mask(d, i), &g->model->m.c, pruned);
        for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) c->pruned[k] += pruned[k];
        if (c->above.least) c->pruned[UNIT_NEURONS] += units[UNIT_NEURONS] - decode_kept(d, i);
    }
}

typedef struct {
    double at[SAMPLES];
    int n;
} bandwidths;

// A batch of sequences, from number `first` on, in a round.
static int take_batch(const bench_group *g, bench_config *c, decode *d, const decode_seq *s, int round, int first,
                      bandwidths *b) {
    int32_t *next = xcalloc((size_t)g->batch, sizeof *next);
    double *step = c->step + (size_t)round * (size_t)g->steps + (size_t)first / (size_t)g->batch * (size_t)g->tokens;
    double end = 0, start = clock_s();
    int bad = decode_prompt(d, s + first, g->batch);
    c->prefill[round] += (clock_s() - start) * g->batch / g->sequences;
    add_overhead(d, c->prompt_overhead);
    for (int t = 0; t < g->tokens && !bad; t++) {
        if (t % BETWEEN == 0 && b->n < SAMPLES) b->at[b->n++] = bench_bandwidth(g->device);
        const decode_bytes bytes = decode_step_bytes(d);  // of the masks that this step begins with
        c->weight_bytes += bytes.weights / g->steps;
        c->kv_bytes += bytes.kv / g->steps;
        for (int i = 0; i < g->batch && g->text; i++) next[i] = bench_text_token(g->text, first + i, g->prompt + t);
        start = decode_begun(d) ? end : clock_s();
        for (int i = 0; i < g->batch && !g->text; i++) next[i] = decode_likeliest(d, i);
        const bool more = !g->text && t + 1 < g->tokens && (t + 1) % BETWEEN;
        bad = more ? decode_step_ahead(d, next) : decode_step(d, next);
        end = clock_s();
        step[t] = end - start;
        for (int i = 0; i < g->batch && g->text && round == 0 && !bad; i++)
            c->loss[first + i] -= decode_log_probability(d, i, bench_text_token(g->text, first + i, g->prompt + t + 1));
    }
    add_overhead(d, c->overhead);
    if (!bad) add_pruned(g, c, d);
    free(next);
    return bad;
}

static int take(const bench_group *g, bench_config *c, const decode_seq *s, int round) {
    decode *d = open_decoder(g, c);
    if (!d) return -1;
    bandwidths b = {.n = 0};
    int bad = 0;
    c->weight_bytes = c->kv_bytes = 0;
    c->pruned[UNIT_HEADS] = c->pruned[UNIT_NEURONS] = 0;
    for (int first = 0; first < g->sequences && !bad; first += g->batch) bad = take_batch(g, c, d, s, round, first, &b);
    c->replayed = (double)decode_replayed(d) / g->steps;
    c->bandwidth[round] = bench_median(b.at, b.n);
    c->done = round + 1;
    decode_free(d);
    return bad;
}

static void begin(const bench_group *g, bench_config *c) {
    const size_t rounds = (size_t)g->o->rounds;
    c->prefill = xcalloc(rounds, sizeof *c->prefill);
    c->step = xcalloc(rounds * (size_t)g->steps, sizeof *c->step);
    c->loss = xcalloc((size_t)g->sequences, sizeof *c->loss);
    c->bandwidth = xcalloc(rounds, sizeof *c->bandwidth);
    if (!c->p || !c->refresh) return;
    double macs[UNIT_KINDS], bytes[UNIT_KINDS];
    predictor_cost(c->p, macs, bytes);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (mask_rule_prunes(&c->rule, k)) c->predictor_bytes += bytes[k];
    c->predictor_bytes *= (double)g->batch * (g->tokens / c->refresh) / g->tokens;
}

int bench_run(bench_group *g, const bool *present) {
    const int rounds = (int)g->o->rounds;
    decode_seq *s = xcalloc((size_t)g->sequences, sizeof *s);
    int32_t **prompt = xcalloc((size_t)g->sequences, sizeof *prompt);
    int bad = 0;
    progress bar;
    for (int i = 0; i < g->sequences; i++)
        s[i] = (decode_seq){.prompt = prompt[i] = bench_prompt(g, i), .n = g->prompt};
    progress_begin(&bar, "bench", (long)rounds * g->n);
    for (int round = -1; round < rounds && !bad; round++) {  // the first round warms up
        for (int k = 0; k < g->n && !bad; k++) {
            bench_config *c = &g->config[k];
            if (present[k]) continue;
            for (int i = 0, each = c->n_fixed > 1; i < g->sequences; i++)
                s[i].mask = c->fixed ? &c->fixed[each * i] : NULL;
            if (round < 0) begin(g, c);
            bad = round < 0 ? warm_up(g, c, s) : take(g, c, s, round);
            if (round >= 0) progress_at(&bar, (long)round * g->n + k + 1);
        }
        if (!bad && round >= 0) bad = bench_peers_ask(g, round);
    }
    progress_end(&bar);
    for (int i = 0; i < g->sequences; i++) free(prompt[i]);
    free(prompt);
    free(s);
    return bad;
}

// ---------------------------------------------------------------- statistics
static int by_size(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

double bench_quantile(const double *x, int n, double q) {
    double *sorted = xmalloc((size_t)n * sizeof *sorted);
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    const double at = q * (n - 1);
    const int i = (int)at;
    const double v = i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[i];
    free(sorted);
    return v;
}

double bench_median(const double *x, int n) { return bench_quantile(x, n, 0.5); }

double bench_prompt_bytes(const bench_group *g, const bench_config *c) {
    return c->p ? decode_dense_bytes(&g->model->m) : c->weight_bytes;
}

bench_times bench_summary(const bench_group *g, const bench_config *c) {
    const int rounds = c->done, steps = g->steps, all = rounds * steps;
    bench_times t = {.prefill_ms = 1e3 * bench_median(c->prefill, rounds),
                     .prefill_p10 = 1e3 * bench_quantile(c->prefill, rounds, 0.1),
                     .prefill_p90 = 1e3 * bench_quantile(c->prefill, rounds, 0.9),
                     .token_ms = 1e3 * bench_median(c->step, all),
                     .p10 = 1e3 * bench_quantile(c->step, all, 0.1),
                     .p90 = 1e3 * bench_quantile(c->step, all, 0.9),
                     .bandwidth = bench_median(c->bandwidth, rounds)};
    double *one = xmalloc((size_t)rounds * sizeof *one);
    for (int k = 0; k < steps; k++) {
        for (int r = 0; r < rounds; r++) one[r] = c->step[(size_t)r * (size_t)steps + (size_t)k];
        t.mean += 1e3 * bench_median(one, rounds) / steps;
    }
    free(one);
    const double per_token = 1e3 / rounds / steps;
    t.predict_ms = c->overhead[0] * per_token;
    t.select_ms = c->overhead[1] * per_token;
    t.amortised = t.mean + (c->prompt_overhead[0] + c->prompt_overhead[1]) * per_token;
    const double bytes = c->weight_bytes + c->kv_bytes + c->predictor_bytes;
    double *of = xmalloc(2 * (size_t)rounds * sizeof *of);
    for (int r = 0; r < rounds; r++) {
        of[r] = bytes / c->bandwidth[r] / bench_median(c->step + (size_t)r * (size_t)steps, steps);
        of[rounds + r] = bench_prompt_bytes(g, c) / c->bandwidth[r] / c->prefill[r];
    }
    t.roofline = bench_median(of, rounds);
    t.prefill_roofline = bench_median(of + rounds, rounds);
    free(of);
    return t;
}
