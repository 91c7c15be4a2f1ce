// eval_segments - running text under masks of each segment's own scores: a window is cut into segments, the first runs
// dense, the mask of each other comes from the loss of its own targets given all that stands before (METHOD 6.5).
// Contract in eval_batch.h.
#include "eval_batch.h"
#include <stdlib.h>

// Segment g after the segments in the cache; its scored targets are added to *sum.
static void add_segment(eval *e, const eval_item *it, int refresh, int g, kv_cache *cache, const mask *m, double *sum) {
    const int start = g * refresh, n = eval_segment_length(it, refresh, g),
              scored = eval_segment_scored(it, refresh, g);
    const int32_t *t = it->seq[0].tokens;
    model_seq s = {.tokens = t + start,
                   .n = n,
                   .prefix = g ? cache : NULL,
                   .append = cache,
                   .mask = m,
                   .targets_from = n - scored,
                   .last_target = scored ? t[start + n] : SEQ_NO_OUTPUT};
    eval_add(e, &s, scored ? sum : NULL);
    eval_flush(e);
}

// Scores of every segment but the first, [segment, heads and neurons].
static int score_segments(double *score, const eval_item *it, const mask_source *source, unsigned units, size_t nh,
                          size_t nn) {
    int bad = 0;
    for (int g = 1; g < eval_segment_count(it, source->refresh) && !bad; g++) {
        const int start = g * source->refresh, end = start + eval_segment_length(it, source->refresh, g);
        const int32_t *t = it->seq[0].tokens;
        const model_seq input = {.tokens = t, .n = end, .targets_from = start, .last_target = t[end]};
        double *to = score + (size_t)g * (nh + nn);
        bad = source->scores(source->self, &input, units, to, to + nh);
    }
    return bad;
}

static int run_window(eval *e, const eval_item *it, const mask_source *source, const mask_rule *rule, int n_rules,
                      double **ll, eval_counts *counts, mask *m) {
    const model_config *c = &e->m->c;
    const size_t nh = (size_t)c->L * (size_t)c->H, nn = (size_t)c->L * (size_t)c->F;
    const int segments = eval_segment_count(it, source->refresh), n = it->seq[0].n;
    double *score = xcalloc((size_t)segments * (nh + nn), sizeof *score), dense = 0;
    int bad = score_segments(score, it, source, rule->units, nh, nn);
    eval_reserve(e, (size_t)n);
    kv_cache cache = eval_cut(e, n);
    if (!bad) add_segment(e, it, source->refresh, 0, &cache, NULL, &dense);
    for (int r = 0; r < n_rules && !bad; r++) {
        cache.n = eval_segment_length(it, source->refresh, 0);
        *ll[r] = dense;
        for (int g = 1; g < segments && !bad; g++) {
            const double *own = score + (size_t)g * (nh + nn);
            bad = mask_make(m, c, own, own + nh, &rule[r]);
            eval_count(&counts[r], m, c, eval_segment_scored(it, source->refresh, g));
            if (!bad) add_segment(e, it, source->refresh, g, &cache, m, ll[r]);
        }
        if (e->tick) e->tick(e->ctx, n);
    }
    free(score);
    return bad;
}

int eval_segments(eval *e, const eval_item *item, int n, const mask_source *source, const mask_rule *rule, int n_rules,
                  double **ll, eval_counts *counts) {
    double **at = xmalloc((size_t)n_rules * sizeof *at);
    long positions = 0;
    mask m = {0};
    int bad = 0;
    mask_alloc(&m, &e->m->c);
    for (int r = 0; r < n_rules; r++) counts[r] = (eval_counts){0};
    for (int i = 0; i < n && !bad; i++) {
        ASSERT(item[i].window);
        for (int r = 0; r < n_rules; r++) at[r] = ll[r] + (size_t)i * TASK_MAX_CHOICES;
        bad = run_window(e, &item[i], source, rule, n_rules, at, counts, &m);
        for (int r = 0; r < n_rules && !bad; r++) bad = eval_check(&item[i], i, 1, at[r]);
        positions += eval_scored(&item[i]);
    }
    for (int r = 0; r < n_rules; r++) counts[r].positions = positions;
    mask_free(&m);
    free(at);
    return bad;
}
