// eval_context - evaluation under masks that a predictor makes for each input (METHOD 6.6). Contract in eval.h and
// eval_batch.h.
//
//   documents, span decode   the context runs dense once per distinct context, its last position T_ctx - 1 is watched,
//                            and its K and V of the positions before that stay for every rule; per rule the rest runs
//                            from T_ctx - 1 on under the mask.
//   windows, span decode     segments of `refresh` inputs, one after the other with K and V; the mask of a segment
//                            comes from the last position before it; the first runs dense, once for all rules.
//   span all, compat         a dense pass to the watched position, then per rule a second pass of everything under the
//                            mask.
//
// Features that do not depend on the mask, or that come from a dense pass, are seen once and their scores serve all
// rules; those of the pruned stream are seen again for every rule.
#include <stdlib.h>
#include <string.h>
#include "eval_batch.h"

static const size_t window_bytes = (size_t)1 << 30;  // K, V and scores of the windows that run side by side

// What shares a watched position: the candidates of a document with the same context, or a window.
typedef struct {
    const eval_item *it;
    int item, seq;  // whose tokens these are
    int at;         // the watched position (span decode of a window: none)
    kv_cache cache;
    contextual ahead, live;  // of the dense pass; of the pruned stream
    // windows: [segment, U] scores after the end of the segment before, in memory of the model's device
    float *score;
    int score_segments;  // that score has room for
    double dense;        // windows: log-likelihood of the first segment
    mask m;
} stream;

typedef struct {
    eval *e;
    const model_config *c;
    const contextual_source *source;
    const mask_rule *rule;
    int n_rules;
    unsigned units;  // that any rule prunes
    bool any_ahead, any_live, raw;
    double **ll;
    eval_counts *counts;
    stream *s;
    int n, opened, cap;  // streams in use; open ones, which the next items use again
} run;

static bool is_live(const run *r, const mask_rule *rule) {
    return r->source->span == SPAN_DECODE && contextual_kind(predictor_about(r->source->p), rule) == FEATURES_STREAM;
}

static size_t units_in_all(const model_config *c) { return (size_t)c->L * (size_t)(c->H + c->F); }

// ---------------------------------------------------------------- streams
static int watched(const run *r, const eval_item *it, int j) {
    return r->source->span == SPAN_COMPAT || it->window ? it->seq[j].n - 1 : it->seq[j].from;
}

static bool same_stream(const run *r, const eval_item *it, int i, int j) {
    const int at = watched(r, it, i);
    return watched(r, it, j) == at &&
           memcmp(it->seq[i].tokens, it->seq[j].tokens, (size_t)(at + 1) * sizeof(int32_t)) == 0;
}

// The sequence of the item whose stream is also that of sequence j: the first with the same context.
static int leader(const run *r, const eval_item *it, int j) {
    for (int i = 0; i < j; i++)
        if (same_stream(r, it, i, j)) return i;
    return j;
}

static void open_stream(run *r) {
    stream s = {0};
    mask_alloc(&s.m, r->c);
    if (r->any_ahead) contextual_open(&s.ahead, r->source->p, r->e->m, r->units, r->raw);
    if (r->any_live) contextual_open(&s.live, r->source->p, r->e->m, r->units, r->raw);
    VEC_PUSH(r->s, r->opened, r->cap, s);
}

static void add_streams(run *r, const eval_item *it, int item) {
    for (int j = 0; j < it->n_seqs; j++) {
        if (leader(r, it, j) != j) continue;
        if (r->n == r->opened) open_stream(r);
        stream *s = &r->s[r->n++];
        s->it = it;
        s->item = item;
        s->seq = j;
        s->at = watched(r, it, j);
        s->dense = 0;
    }
}

static void close_streams(run *r) {
    for (int i = 0; i < r->opened; i++) {
        stream *s = &r->s[i];
        contextual_close(&s->ahead);
        contextual_close(&s->live);
        mask_free(&s->m);
        r->e->m->o->release(s->score);
    }
    free(r->s);
}

// A watched row of the last layer is shown only where it is an output row.
static model_seq watched_seq(const int32_t *tokens, int n, const contextual *c, int row) {
    return (model_seq){.tokens = tokens,
                       .n = n,
                       .watch = c ? &c->watch : NULL,
                       .targets_from = c ? row : n,
                       .last_target = c ? SEQ_NO_TARGET : SEQ_NO_OUTPUT};
}

static void tick(run *r, double tokens) {
    if (r->e->tick) r->e->tick(r->e->ctx, tokens);
}

// ---------------------------------------------------------------- documents from the end of the context on
static int dense_contexts(run *r) {
    size_t tokens = 0;
    for (int i = 0; i < r->n; i++) tokens += (size_t)r->s[i].at + 1;
    eval_reserve(r->e, tokens);
    for (int i = 0; i < r->n; i++) {
        stream *s = &r->s[i];
        const int32_t *t = s->it->seq[s->seq].tokens;
        s->cache = eval_cut(r->e, s->at + 1);
        if (r->any_ahead) contextual_begin(&s->ahead, t, s->at + 1, s->at, NULL, NULL);
        model_seq q = watched_seq(t, s->at + 1, r->any_ahead ? &s->ahead : NULL, s->at);
        q.append = &s->cache;
        eval_add(r->e, &q, NULL);
    }
    eval_flush(r->e);
    tick(r, (double)tokens);
    for (int i = 0; i < r->n; i++) {
        r->s[i].cache.n = r->s[i].at;  // the watched position runs again, under the mask
        if (r->any_ahead && contextual_end(&r->s[i].ahead)) return -1;
    }
    return 0;
}

static int masked_rests(run *r, int k) {
    const mask_rule *rule = &r->rule[k];
    const bool live = is_live(r, rule);
    double tokens = 0;
    for (int i = 0; i < r->n; i++) {
        stream *s = &r->s[i];
        const eval_item *it = s->it;
        if (live)
            contextual_begin(&s->live, it->seq[s->seq].tokens, s->at + 1, 0, &s->m, rule);
        else if (contextual_mask(&s->ahead, &s->m, rule))
            return -1;
        for (int j = s->seq; j < it->n_seqs; j++) {
            if (leader(r, it, j) != s->seq) continue;
            double *sum = &r->ll[k][(size_t)s->item * TASK_MAX_CHOICES + (size_t)j];
            *sum = 0;
            // the first candidate's pass makes the mask, layer by layer before the layer runs, for all that share it
            eval_add(r->e,
                     &(model_seq){.tokens = it->seq[j].tokens + s->at,
                                  .n = it->seq[j].n - s->at,
                                  .prefix = &s->cache,
                                  .mask = &s->m,
                                  .watch = live && j == s->seq ? &s->live.watch : NULL,
                                  .last_target = it->seq[j].tokens[it->seq[j].n]},
                     sum);
            tokens += it->seq[j].n - s->at;
        }
    }
    eval_flush(r->e);
    tick(r, tokens);
    for (int i = 0; i < r->n; i++) {
        stream *s = &r->s[i];
        long positions = 0;
        if (live && contextual_end(&s->live)) return -1;
        for (int j = s->seq; j < s->it->n_seqs; j++)
            if (leader(r, s->it, j) == s->seq) positions += s->it->seq[j].n - s->it->seq[j].from;
        eval_count(&r->counts[k], &s->m, r->c, positions);
    }
    return 0;
}

static int run_documents(run *r, const eval_item *item, int n, int first) {
    for (int i = 0; i < n; i++) add_streams(r, item + i, first + i);
    int bad = dense_contexts(r);
    for (int k = 0; k < r->n_rules && !bad; k++) bad = masked_rests(r, k);
    return bad;
}

// ---------------------------------------------------------------- running text, segment by segment
static int segments(const run *r, const eval_item *it) { return eval_segment_count(it, r->source->refresh); }
static int segment_length(const run *r, const eval_item *it, int g) {
    return eval_segment_length(it, r->source->refresh, g);
}
static int segment_scored(const run *r, const eval_item *it, int g) {
    return eval_segment_scored(it, r->source->refresh, g);
}

// Segment g after the segments before it; scores its targets if `sum` is given, and lets `watch` see its last row.
static void add_segment(run *r, stream *s, int g, const mask *m, contextual *watch, double *sum) {
    const eval_item *it = s->it;
    const int start = g * r->source->refresh, n = segment_length(r, it, g), scored = sum ? segment_scored(r, it, g) : 0;
    const int32_t *t = it->seq[0].tokens;
    if (watch) contextual_begin(watch, t, start + n, n - 1, NULL, NULL);
    model_seq q = watched_seq(t + start, n, watch, n - 1);
    q.prefix = g ? &s->cache : NULL;
    q.append = &s->cache;
    q.mask = m;
    if (scored) {
        q.targets_from = n - scored;
        q.last_target = t[start + n];
    }
    eval_add(r->e, &q, scored ? sum : NULL);
}

// Dense: the first segment, and where any rule wants them the states after every segment but the last.
static int dense_segments(run *r, int most) {
    const size_t U = units_in_all(r->c);
    for (int g = 0; g < most; g++) {
        double tokens = 0;
        for (int i = 0; i < r->n; i++) {
            stream *s = &r->s[i];
            const bool more = g + 1 < segments(r, s->it);
            if (g > 0 && (!more || !r->any_ahead)) continue;
            contextual *const watch = r->any_ahead ? &s->ahead : &s->live;
            add_segment(r, s, g, NULL, more ? watch : NULL, g ? NULL : &s->dense);
            tokens += segment_length(r, s->it, g);
        }
        eval_flush(r->e);
        tick(r, tokens);
        for (int i = 0; i < r->n; i++) {
            stream *s = &r->s[i];
            if (g + 1 >= segments(r, s->it) || (g > 0 && !r->any_ahead)) continue;
            contextual *c = r->any_ahead ? &s->ahead : &s->live;
            if (contextual_end(c)) return -1;
            r->e->m->o->copy(s->score + (size_t)(g + 1) * U, c->score, U * sizeof *s->score);
        }
    }
    return 0;
}

static int masked_segments(run *r, int k, int most) {
    const size_t U = units_in_all(r->c);
    const mask_rule *rule = &r->rule[k];
    const bool live = is_live(r, rule);
    for (int i = 0; i < r->n; i++) {
        stream *s = &r->s[i];
        s->cache.n = segment_length(r, s->it, 0);
        r->ll[k][(size_t)s->item * TASK_MAX_CHOICES] = s->dense;
    }
    for (int g = 1; g < most; g++) {
        double tokens = 0;
        for (int i = 0; i < r->n; i++) {
            stream *s = &r->s[i];
            if (g >= segments(r, s->it)) continue;
            // after the first segment, which is dense, all rules see the same states
            const float *score = live && g > 1 ? s->live.score : s->score + (size_t)g * U;
            if (mask_make_on(&s->m, r->c, r->e->m->o, score, rule)) return -1;
            eval_count(&r->counts[k], &s->m, r->c, segment_scored(r, s->it, g));
            add_segment(r, s, g, &s->m, live && g + 1 < segments(r, s->it) ? &s->live : NULL,
                        &r->ll[k][(size_t)s->item * TASK_MAX_CHOICES]);
            tokens += segment_length(r, s->it, g);
        }
        eval_flush(r->e);
        tick(r, tokens);
        for (int i = 0; i < r->n && live; i++)
            if (g + 1 < segments(r, r->s[i].it) && contextual_end(&r->s[i].live)) return -1;
    }
    return 0;
}

static int run_windows(run *r, const eval_item *item, int n, int first) {
    size_t tokens = 0;
    int most = 0, bad;
    for (int i = 0; i < n; i++) {
        add_streams(r, item + i, first + i);
        tokens += (size_t)item[i].seq[0].n;
        most = segments(r, item + i) > most ? segments(r, item + i) : most;
    }
    const ops *o = r->e->m->o;
    eval_reserve(r->e, tokens);
    o->use(0);
    for (int i = 0; i < r->n; i++) {
        stream *s = &r->s[i];
        const int count = segments(r, s->it);
        s->cache = eval_cut(r->e, s->it->seq[0].n);
        if (count <= s->score_segments) continue;
        o->release(s->score);
        s->score = o->alloc((size_t)count * units_in_all(r->c) * sizeof *s->score);
        s->score_segments = count;
    }
    bad = dense_segments(r, most);
    for (int k = 0; k < r->n_rules && !bad; k++) bad = masked_segments(r, k, most);
    return bad;
}

// Windows that run side by side: as many as fit the memory above, one at least.
static int take_windows(const run *r, const eval_item *item, int n) {
    const model_config *c = r->c;
    size_t bytes = 0;
    int k = 0;
    for (; k < n && k < SCORED_ITEMS && item[k].window; k++) {
        bytes += (size_t)item[k].seq[0].n * 2 * (size_t)c->L * (size_t)(c->H * c->D) * sizeof(float) +
                 (size_t)segments(r, item + k) * units_in_all(c) * sizeof(float);
        if (k > 0 && bytes > window_bytes) break;
    }
    return k;
}

// ---------------------------------------------------------------- a mask for every position, in a second pass
static int watch_dense(run *r, const eval_item *item, int n, int first) {
    double tokens = 0;
    eval_shared(r->e, item, n, NULL);
    for (int i = 0; i < n; i++) tokens += item[i].shared;
    for (int i = 0; i < r->n; i++) {
        stream *s = &r->s[i];
        const int shared = s->it->shared, rest = s->at + 1 - shared;
        const int32_t *t = s->it->seq[s->seq].tokens;
        contextual_begin(&s->ahead, t, s->at + 1, rest - 1, NULL, NULL);
        model_seq q = watched_seq(t + shared, rest, &s->ahead, rest - 1);
        q.prefix = shared ? &r->e->cache[s->item - first] : NULL;
        eval_add(r->e, &q, NULL);
        tokens += rest;
    }
    eval_flush(r->e);
    tick(r, tokens);
    for (int i = 0; i < r->n; i++)
        if (contextual_end(&r->s[i].ahead)) return -1;
    return 0;
}

// Candidates under one mask stay one item; those with masks of their own share nothing.
static int run_spans(run *r, const eval_item *item, int n, int first) {
    for (int i = 0; i < n; i++) add_streams(r, item + i, first + i);
    eval_item *part = xcalloc((size_t)r->n, sizeof *part);
    const mask **m = xcalloc((size_t)r->n, sizeof *m);
    double *ll = xcalloc((size_t)r->n * TASK_MAX_CHOICES, sizeof *ll);
    int bad = watch_dense(r, item, n, first);
    for (int i = 0; i < r->n; i++) {
        const stream *s = &r->s[i];
        part[i] = (eval_item){.shared = s->it->shared};
        for (int j = s->seq; j < s->it->n_seqs; j++)
            if (leader(r, s->it, j) == s->seq) part[i].seq[part[i].n_seqs++] = s->it->seq[j];
        if (part[i].n_seqs == 1) part[i].shared = 0;
        m[i] = &s->m;
    }
    for (int k = 0; k < r->n_rules && !bad; k++) {
        for (int i = 0; i < r->n && !bad; i++) {
            bad = contextual_mask(&r->s[i].ahead, &r->s[i].m, &r->rule[k]);
            eval_count(&r->counts[k], &r->s[i].m, r->c, eval_scored(&part[i]));
        }
        for (int at = 0, take; at < r->n && !bad; at += take) {
            take = eval_take(r->e, part + at, r->n - at, r->n);
            eval_items(r->e, part + at, take, m + at, 0, ll + (size_t)at * TASK_MAX_CHOICES);
        }
        if (bad) break;
        tick(r, eval_tokens(part, r->n));
        for (int i = 0; i < r->n; i++) {
            const stream *s = &r->s[i];
            for (int j = s->seq, to = 0; j < s->it->n_seqs; j++)
                if (leader(r, s->it, j) == s->seq)
                    r->ll[k][(size_t)s->item * TASK_MAX_CHOICES + (size_t)j] = ll[i * TASK_MAX_CHOICES + to++];
            if (r->e->top)
                r->ll[k][(size_t)s->item * TASK_MAX_CHOICES + EVAL_MISSES] = ll[i * TASK_MAX_CHOICES + EVAL_MISSES];
        }
    }
    free(part);
    free(m);
    free(ll);
    return bad;
}

// ---------------------------------------------------------------- all
static int take_documents(const run *r, const eval_item *item, int n) {
    int k = eval_take(r->e, item, n, SCORED_ITEMS), tokens = 0, most = 0;
    for (; most < k && item[most].window == item->window; most++) {
        for (int j = 0; j < item[most].n_seqs; j++)
            tokens += leader(r, &item[most], j) == j ? watched(r, &item[most], j) + 1 : 0;
        if (most > 0 && tokens > r->e->max_tokens) break;
    }
    return most;
}

// All rules read their inputs in the same way.
static int run_rules(eval *e, const eval_item *item, int n, const contextual_source *source, const mask_rule *rule,
                     int n_rules, double **ll, eval_counts *counts) {
    run r = {.e = e,
             .c = &e->m->c,
             .source = source,
             .rule = rule,
             .n_rules = n_rules,
             .ll = ll,
             .counts = counts,
             .raw = contextual_raw(predictor_about(source->p), &rule[0])};
    long positions = 0;
    int bad = 0;
    for (int k = 0; k < n_rules && !bad; k++) {
        bad = contextual_check(predictor_about(source->p), &rule[k]);
        if (mask_rule_prunes(&rule[k], UNIT_HEADS)) r.units |= UNITS_HEADS;
        if (mask_rule_prunes(&rule[k], UNIT_NEURONS)) r.units |= UNITS_NEURONS;
        *(is_live(&r, &rule[k]) ? &r.any_live : &r.any_ahead) = true;
        counts[k] = (eval_counts){0};
    }
    for (int first = 0, k; first < n && !bad; first += k) {
        const eval_item *it = item + first;
        const bool windows = it->window && source->span == SPAN_DECODE;
        k = windows ? take_windows(&r, it, n - first) : take_documents(&r, it, n - first);
        r.n = 0;
        if (windows)
            bad = run_windows(&r, it, k, first);
        else
            bad = (source->span == SPAN_DECODE ? run_documents : run_spans)(&r, it, k, first);
        for (int i = 0; i < n_rules && !bad; i++)
            bad = eval_check(it, first, k, ll[i] + (size_t)first * TASK_MAX_CHOICES);
        for (int i = 0; i < k; i++) positions += eval_scored(&it[i]);
    }
    close_streams(&r);
    for (int k = 0; k < n_rules; k++) counts[k].positions = positions;
    return bad;
}

int eval_context(eval *e, const eval_item *item, int n, const contextual_source *source, const mask_rule *rule,
                 int n_rules, double **ll, eval_counts *counts) {
    mask_rule *some = xmalloc((size_t)n_rules * sizeof *some);
    double **sum = xmalloc((size_t)n_rules * sizeof *sum);
    eval_counts *part = xmalloc((size_t)n_rules * sizeof *part);
    int bad = 0;
    for (int raw = 0; raw < 2 && !bad; raw++) {
        int m = 0;
        for (int k = 0; k < n_rules; k++) {
            if (contextual_raw(predictor_about(source->p), &rule[k]) != raw) continue;
            some[m] = rule[k];
            sum[m++] = ll[k];
        }
        if (m) bad = run_rules(e, item, n, source, some, m, sum, part);
        m = 0;
        for (int k = 0; k < n_rules && !bad; k++)
            if (contextual_raw(predictor_about(source->p), &rule[k]) == raw) counts[k] = part[m++];
    }
    free(some);
    free(sum);
    free(part);
    return bad;
}

double eval_context_tokens(const eval_item *item, int n, const contextual_source *source, int n_rules) {
    const run r = {.source = source};
    double tokens = 0;
    for (int i = 0; i < n; i++) {
        const eval_item *it = &item[i];
        if (it->window && source->span == SPAN_DECODE) {
            tokens += it->seq[0].n + (double)n_rules * (it->seq[0].n - segment_length(&r, it, 0));
            continue;
        }
        int streams = 0;
        for (int j = 0; j < it->n_seqs; j++) {
            const bool first = leader(&r, it, j) == j;
            streams += first;
            if (first) tokens += watched(&r, it, j) + 1;
            if (source->span == SPAN_DECODE) tokens += (double)n_rules * (it->seq[j].n - watched(&r, it, j));
        }
        if (source->span == SPAN_DECODE) continue;
        for (int j = 0; j < it->n_seqs; j++)
            tokens += (double)n_rules * (it->seq[j].n - (streams == 1 && j ? it->shared : 0));
    }
    return tokens;
}
