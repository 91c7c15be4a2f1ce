// eval - runs items through the model in batches, and what the log-likelihoods say. Contract in eval.h.
#include "eval_batch.h"
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ops.h"
#include "results.h"
#include "split.h"

enum { COMPAT_VOCAB = 50265, DRAWS = 1000 };

eval *eval_new(const model *m, mode_kind mode, void (*tick)(void *, double), void *ctx) {
    eval *e = xcalloc(1, sizeof *e);
    *e = (eval){
        .m = m, .vocab = mode == MODE_COMPAT && m->c.V > COMPAT_VOCAB ? COMPAT_VOCAB : 0, .tick = tick, .ctx = ctx};
    e->max_tokens = m->c.positions > BATCH_TOKENS ? m->c.positions : BATCH_TOKENS;
    e->run = model_run_new(m, e->max_tokens, BATCH_SEQS, RUN_FORWARD);
    e->logprob = xmalloc((size_t)e->max_tokens * sizeof *e->logprob);
    return e;
}

void eval_free(eval *e) {
    if (!e) return;
    model_run_free(e->run);
    for (int p = 0; p < OPS_PARTS; p++)
        if (e->block[p]) e->m->o->release(e->block[p]);
    free(e->logprob);
    free(e->top);
    free(e);
}

void eval_ask_misses(eval *e) {
    if (!e->top) e->top = xcalloc((size_t)e->max_tokens, sizeof *e->top);
}

bool eval_asks_misses(const eval *e) { return e->top; }

// ---------------------------------------------------------------- batches
static int part_tokens(const eval_item *it) {  // after the shared ones
    int n = 0;
    for (int i = 0; i < it->n_seqs; i++) n += it->seq[i].n - it->shared;
    return n;
}

double eval_tokens(const eval_item *item, int n) {
    double tokens = 0;
    for (int i = 0; i < n; i++) tokens += item[i].shared + part_tokens(&item[i]);
    return tokens;
}

int eval_take(const eval *e, const eval_item *item, int n, int most) {
    int shared = 0, rest = 0, seqs = 0, k = 0;
    for (; k < n && k < most; k++) {
        shared += item[k].shared;
        rest += part_tokens(&item[k]);
        seqs += item[k].n_seqs;
        if (k > 0 && (shared > e->max_tokens || rest > e->max_tokens || seqs > BATCH_SEQS)) break;
    }
    return k;
}

// Floats of K and V each, for the layers of a part.
static size_t cache_floats(const eval *e, int part, size_t tokens) {
    return (size_t)(e->m->first[part + 1] - e->m->first[part]) * (size_t)(e->m->arch.kv_heads * e->m->c.D) * tokens;
}

void eval_reserve(eval *e, size_t tokens) {
    e->block_used = 0;
    if (tokens <= e->block_tokens) return;
    e->block_tokens = tokens;
    for (int p = 0; p < e->m->parts; p++) {
        if (e->block[p]) e->m->o->release(e->block[p]);
        e->m->o->use(p);
        e->block[p] = e->m->o->alloc(2 * cache_floats(e, p, tokens) * sizeof *e->block[p]);
    }
}

kv_cache eval_cut(eval *e, int cap) {
    kv_cache c = {.cap = cap, .L = e->m->c.L, .W = e->m->arch.kv_heads * e->m->c.D, .o = e->m->o};
    ASSERT(e->block_used + (size_t)cap <= e->block_tokens);
    for (int p = 0; p < e->m->parts; p++) {
        c.k[p] = e->block[p] + 2 * cache_floats(e, p, e->block_used);
        c.v[p] = c.k[p] + cache_floats(e, p, (size_t)cap);
    }
    e->block_used += (size_t)cap;
    return c;
}

// Neurons of all layers that ran at the positions of the batch that are scored.
static void count_kept(eval *e) {
    int32_t *kept = xmalloc((size_t)e->max_tokens * sizeof *kept);
    for (int i = 0; i < e->n_seqs; i++) {
        if (!e->sum[i]) continue;
        model_kept(e->run, i, kept);
        for (int t = e->seq[i].targets_from; t < e->seq[i].n; t++) e->kept += kept[t];
    }
    free(kept);
}

void eval_flush(eval *e) {
    bool targets = false;
    if (e->n_seqs == 0) return;
    model_forward(e->run, e->seq, e->n_seqs);
    for (int i = 0; i < e->n_seqs; i++) targets |= e->sum[i] != NULL;
    if (targets) model_logprobs(e->run, e->logprob, e->top, e->vocab);
    if (targets && e->above) count_kept(e);
    for (int i = 0, at = 0; i < e->n_seqs; i++) {
        const model_seq *s = &e->seq[i];
        for (int t = s->targets_from; e->sum[i] && t < s->n; t++, at++) {
            *e->sum[i] += e->logprob[at];
            if (e->top) e->sum[i][EVAL_MISSES] += e->top[at] != (t + 1 < s->n ? s->tokens[t + 1] : s->last_target);
        }
    }
    e->n_seqs = e->n_tokens = 0;
}

void eval_add(eval *e, const model_seq *s, double *sum) {
    ASSERT(!sum == (s->last_target < 0));  // a sequence with any target has one at every output row
    if (e->n_seqs == BATCH_SEQS || e->n_tokens + s->n > e->max_tokens) eval_flush(e);
    e->sum[e->n_seqs] = sum;
    e->seq[e->n_seqs] = *s;
    e->seq[e->n_seqs].above = e->above;
    e->seq[e->n_seqs++].means = e->means;
    e->n_tokens += s->n;
}

void eval_shared(eval *e, const eval_item *item, int n, const mask *const *m) {
    size_t tokens = 0;
    for (int i = 0; i < n; i++) tokens += (size_t)item[i].shared;
    eval_reserve(e, tokens);
    for (int i = 0; i < n; i++) {
        const int cap = item[i].shared;
        if (cap == 0) continue;
        e->cache[i] = eval_cut(e, cap);
        eval_add(e,
                 &(model_seq){.tokens = item[i].seq[0].tokens,
                              .n = cap,
                              .append = &e->cache[i],
                              .mask = m ? m[i] : NULL,
                              .targets_from = cap,
                              .last_target = SEQ_NO_OUTPUT},
                 NULL);
    }
    eval_flush(e);
}

// The first position at which a mask acts on sequence j; after as in mask_source.
static int acts_from(const eval_item *it, int j, int after) {
    if (!after) return 0;
    return it->window ? after : it->seq[j].from;
}

void eval_items(eval *e, const eval_item *item, int n, const mask *const *m, int after, double *ll) {
    eval_shared(e, item, n, after ? NULL : m);  // what candidates share ends before the end of the context
    for (int i = 0; i < n; i++)
        for (int j = 0; j < item[i].n_seqs; j++) {
            const int shared = item[i].shared, length = item[i].seq[j].n - shared;
            double *sum = &ll[i * TASK_MAX_CHOICES + j];
            *sum = 0;
            eval_add(e,
                     &(model_seq){.tokens = item[i].seq[j].tokens + shared,
                                  .n = length,
                                  .prefix = shared ? &e->cache[i] : NULL,
                                  .mask = m[i],
                                  .mask_from = acts_from(&item[i], j, after),
                                  .targets_from = item[i].seq[j].from - shared,
                                  .last_target = item[i].seq[j].tokens[item[i].seq[j].n]},
                     sum);
        }
    eval_flush(e);
}

int eval_check(const eval_item *item, int first, int n, const double *ll) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < item[i].n_seqs; j++)
            if (!isfinite(ll[i * TASK_MAX_CHOICES + j]))
                return err_set("item %d, candidate %d: its log-likelihood is %g; the model's weights may be damaged "
                               "(see info --model)",
                               first + i, j, ll[i * TASK_MAX_CHOICES + j]);
    return 0;
}

long eval_scored(const eval_item *it) {
    long n = 0;
    for (int j = 0; j < it->n_seqs; j++) n += it->seq[j].n - it->seq[j].from;
    return n;
}

// Those of them where a mask acts.
static long scored_under_mask(const eval_item *it, int after) {
    long n = 0;
    for (int j = 0; j < it->n_seqs; j++) {
        const int from = acts_from(it, j, after) > it->seq[j].from ? acts_from(it, j, after) : it->seq[j].from;
        n += from < it->seq[j].n ? it->seq[j].n - from : 0;
    }
    return n;
}

void eval_count(eval_counts *counts, const mask *m, const model_config *c, long positions) {
    long pruned[UNIT_KINDS];
    mask_pruned(m, c, pruned);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) counts->pruned[kind] += pruned[kind] * positions;
}

double eval_effective(const eval_counts *n, const model_config *c, unit_kind kind) {
    long units[UNIT_KINDS];
    mask_units(c, units);
    return units[kind] && n->positions ? (double)n->pruned[kind] / ((double)units[kind] * (double)n->positions) : 0;
}

int eval_run(eval *e, const eval_item *item, int n, const mask_source *source, const mask_rule *rule, int n_rules,
             double **ll, eval_counts *counts) {
    e->means = source->means;
    e->above = source->above;
    e->kept = 0;
    if (source->context) return eval_context(e, item, n, source->context, rule, n_rules, ll, counts);
    if (source->refresh && n && item->window) return eval_segments(e, item, n, source, rule, n_rules, ll, counts);
    const model_config *c = &e->m->c;
    const size_t nh = (size_t)c->L * (size_t)c->H, nn = (size_t)c->L * (size_t)c->F;
    const bool fixed = !source->scores;
    const mask *use[BATCH_SEQS];
    mask own[SCORED_ITEMS] = {{0}};
    double *score = fixed ? NULL : xmalloc(SCORED_ITEMS * (nh + nn) * sizeof *score);
    long positions = 0;
    int bad = 0, n_own = 0;
    ASSERT(!fixed || n_rules == 1);
    for (int r = 0; r < n_rules; r++) counts[r] = (eval_counts){0};
    for (int first = 0, k; first < n && !bad; first += k) {
        const eval_item *it = item + first;
        k = eval_take(e, it, n - first, fixed ? BATCH_SEQS : SCORED_ITEMS);
        for (int i = 0; i < k && !fixed && !bad; i++) {
            const int g = it[i].gold;
            if (i == n_own) mask_alloc(&own[n_own++], c);
            const model_seq input = {.tokens = it[i].seq[g].tokens,
                                     .n = it[i].seq[g].n,
                                     .targets_from = it[i].seq[g].from,
                                     .last_target = it[i].seq[g].tokens[it[i].seq[g].n]};
            bad = source->scores(source->self, &input, rule->units, score + (size_t)i * (nh + nn),
                                 score + (size_t)i * (nh + nn) + nh);
        }
        for (int r = 0; r < n_rules && !bad; r++) {
            for (int i = 0; i < k && !bad; i++) {
                use[i] = fixed ? source->fixed : &own[i];
                if (!fixed)
                    bad = mask_make(&own[i], c, score + (size_t)i * (nh + nn), score + (size_t)i * (nh + nn) + nh,
                                    &rule[r]);
                eval_count(&counts[r], use[i], c, scored_under_mask(&it[i], source->after));
            }
            if (bad) break;
            double *out = ll[r] + (size_t)first * TASK_MAX_CHOICES;
            eval_items(e, it, k, use, source->after, out);
            bad = eval_check(it, first, k, out);
            if (e->tick) e->tick(e->ctx, eval_tokens(it, k));
        }
        for (int i = 0; i < k; i++) positions += eval_scored(&it[i]);
    }
    for (int r = 0; r < n_rules; r++) counts[r].positions = positions;
    if (source->above) {
        long units[2];
        mask_units(c, units);
        counts->pruned[UNIT_NEURONS] = units[UNIT_NEURONS] * positions - e->kept;
    }
    e->above = NULL;
    for (int i = 0; i < n_own; i++) mask_free(&own[i]);
    free(score);
    return bad;
}

// ---------------------------------------------------------------- metrics
static int best_of(const double *score, int n) {
    int best = 0;  // ties: the lowest index
    for (int j = 1; j < n; j++)
        if (score[j] > score[best]) best = j;
    return best;
}

// What the log-likelihood of a candidate is divided by: the bytes or characters after its leading space.
enum { PER_CANDIDATE, PER_CANDIDATE_BYTE, PER_CHARACTER };
const char *const eval_task_metric_names[EVAL_METRICS] = {
    [PER_CANDIDATE] = "acc", [PER_CANDIDATE_BYTE] = "acc_bytes", [PER_CHARACTER] = "acc_norm"};

static size_t choice_bytes(const char *choice) { return strlen(choice) - (*choice == ' '); }

static size_t choice_characters(const char *choice) {
    size_t n = 0, length;
    for (const char *p = choice + (*choice == ' '), *end = p + strlen(p); p < end; p += length, n++) {
        length = utf8_length(p, (size_t)(end - p));
        if (length == 0) length = 1;  // METHOD 11.3
    }
    return n;
}

static double choice_size(const char *choice, int per) {
    if (per == PER_CANDIDATE) return 1;
    return (double)(per == PER_CHARACTER ? choice_characters(choice) : choice_bytes(choice));
}

static int prediction(const eval_task *t, int i, const double *ll, int per) {
    const task_doc *d = &t->split.docs[t->doc[i]];
    double score[TASK_MAX_CHOICES];
    for (int j = 0; j < d->n_choices; j++) score[j] = ll[j] / choice_size(d->choice[j], per);
    return best_of(score, d->n_choices);
}

void eval_task_metrics(eval_metric out[EVAL_METRICS], const eval_task *t, const double *ll) {
    double *hit = xmalloc((size_t)t->n * sizeof *hit);
    for (int per = 0; per < EVAL_METRICS; per++) {
        for (int i = 0; i < t->n; i++)
            hit[i] = prediction(t, i, ll + (size_t)i * TASK_MAX_CHOICES, per) == t->split.docs[t->doc[i]].gold;
        out[per] = (eval_metric){eval_task_metric_names[per], gsl_stats_mean(hit, 1, (size_t)t->n), NAN, t->n};
        if (t->n > 1) out[per].error = gsl_stats_sd(hit, 1, (size_t)t->n) / sqrt(t->n);
    }
    free(hit);
}

// exp(-sum ll / sum units), and the standard deviation of it over bootstrap draws of the groups.
static eval_metric perplexity(const char *name, const double *ll, const double *units, int n, uint64_t seed) {
    double sum = 0, all = 0, draw[DRAWS];
    for (int g = 0; g < n; g++) {
        sum += ll[g];
        all += units[g];
    }
    eval_metric m = {name, exp(-sum / all), NAN, n};
    if (n < 2) return m;
    rng r = rng_make(seed);
    for (int d = 0; d < DRAWS; d++) {
        sum = all = 0;
        for (int i = 0; i < n; i++) {
            const uint64_t g = rng_below(&r, (uint64_t)n);
            sum += ll[g];
            all += units[g];
        }
        draw[d] = exp(-sum / all);
    }
    m.error = gsl_stats_sd(draw, 1, DRAWS);
    return m;
}

static double *group_sums(const eval_text *t, const double *ll) {
    double *sum = xcalloc((size_t)t->n_groups, sizeof *sum);
    for (int i = 0; i < t->n; i++) sum[t->group[i]] += ll[(size_t)i * TASK_MAX_CHOICES];
    return sum;
}

// What a perplexity is taken over: tokens, or words and bytes of pages.
enum { PER_TOKEN, PER_WORD, PER_BYTE };
static double count_of(const eval_text *t, int group, int per) {
    if (per == PER_TOKEN) return (double)t->count[group].tokens;
    return (double)(per == PER_WORD ? t->count[group].words : t->count[group].bytes);
}

int eval_text_metrics(eval_metric out[2], const eval_text *t, const double *ll, uint64_t seed) {
    double *sum = group_sums(t, ll), *units = xmalloc((size_t)t->n_groups * sizeof *units);
    const int n_metrics = t->kind == TEXT_PAGES ? 2 : 1;
    static const char *const names[] = {"token_perplexity", "word_perplexity", "byte_perplexity"};
    for (int k = 0; k < n_metrics; k++) {
        const int per = t->kind == TEXT_PAGES ? PER_WORD + k : PER_TOKEN;
        for (int g = 0; g < t->n_groups; g++) units[g] = count_of(t, g, per);
        out[k] = perplexity(names[per], sum, units, t->n_groups, seed);
    }
    free(units);
    free(sum);
    return n_metrics;
}

eval_metric eval_mean(const char *name, const eval_metric *m, int n, bool geometric) {
    eval_metric out = {name, 0, 0, 0};
    for (int i = 0; i < n; i++) {
        out.value += (geometric ? log(m[i].value) : m[i].value) / n;
        // of a geometric mean: errors relative to the values, to first order
        out.error += pow(geometric ? m[i].error / m[i].value : m[i].error, 2);
        out.n += m[i].n;
    }
    if (geometric) out.value = exp(out.value);
    out.error = sqrt(out.error) / n * (geometric ? out.value : 1);
    return out;
}

// ---------------------------------------------------------------- details
static void put_context(FILE *f, const eval_task *t, int i, const char *context) {
    char *text = xasprintf("%s%s", t->prefix[i], context);
    fputs("\"context\":", f);
    json_text(f, text);
    free(text);
}

void eval_task_details(FILE *f, const char *head, const eval_task *t, const double *ll) {
    for (int i = 0; i < t->n; i++) {
        const task_doc *d = &t->split.docs[t->doc[i]];
        const eval_item *it = &t->item[i];
        const double *score = ll + (size_t)i * TASK_MAX_CHOICES;
        fprintf(f, "%s\"task\":\"%s\",\"id\":", head, t->name);
        json_text(f, d->id);
        fputc(',', f);
        put_context(f, t, i, d->context[0]);
        fputs(",\"candidates\":[", f);
        for (int j = 0; j < d->n_choices; j++) {
            fputs(j ? ",{\"text\":" : "{\"text\":", f);
            json_text(f, d->choice[j]);
            if (strcmp(d->context[j], d->context[0]) != 0) {
                fputc(',', f);
                put_context(f, t, i, d->context[j]);
            }
            fprintf(f, ",\"log_likelihood\":%.17g,\"tokens\":%d,\"bytes\":%zu,\"characters\":%zu}", score[j],
                    it->seq[j].n - it->seq[j].from, choice_bytes(d->choice[j]), choice_characters(d->choice[j]));
        }
        fprintf(f, "],\"gold\":%d,\"prediction\":%d,\"prediction_bytes\":%d,\"prediction_norm\":%d}\n", d->gold,
                prediction(t, i, score, PER_CANDIDATE), prediction(t, i, score, PER_CANDIDATE_BYTE),
                prediction(t, i, score, PER_CHARACTER));
    }
}

void eval_text_details(FILE *f, const char *head, const eval_text *t, const double *ll) {
    ASSERT(t->kind == TEXT_PAGES);
    double *sum = group_sums(t, ll);
    for (int g = 0; g < t->n_groups; g++)
        fprintf(
            f,
            "%s\"task\":\"wikitext\",\"id\":%ld,\"words\":%ld,\"bytes\":%ld,\"tokens\":%ld,\"log_likelihood\":%.17g}\n",
            head, t->count[g].page, t->count[g].words, t->count[g].bytes, t->count[g].tokens, sum[g]);
    free(sum);
}
