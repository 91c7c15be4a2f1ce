// claims_table - verdicts on claims as text, Markdown and CSV. Contract in claims.h.
//
// Within the program effects are differences of log-likelihoods (or of accuracies) in favour of A; word perplexity is
// shown as the ratio A / B, exp(-difference), so that its interval turns round and less than 1 speaks for A; its
// standard error is that of the logarithm.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base.h"
#include "claims.h"

static const char *const label[PAIRED_OUTCOMES] = {"accuracy A - B", "gold ll/byte A - B", "perplexity A / B"};

typedef struct {
    double a, b, effect, low, high, seed_low, seed_high;
} shown;

static shown show(const claim_row *r) {
    const paired_cell *c = &r->cell;
    if (r->outcome != PAIRED_TEXT) return (shown){c->a, c->b, c->effect, c->low, c->high, c->seed_low, c->seed_high};
    return (shown){.a = exp(-c->a),
                   .b = exp(-c->b),
                   .effect = exp(-c->effect),
                   .low = exp(-c->high),
                   .high = exp(-c->low),
                   .seed_low = exp(-c->seed_high),
                   .seed_high = exp(-c->seed_low)};
}

static bool has_effect(const claim_row *r) { return r->cell.n > 0 && (r->level != LEVEL_CLAIM || r->pooled); }

// Differences are shown with their sign, ratios without.
enum { CELL = 48 };
static void number_text(char out[CELL], const claim_row *r, double x) {
    snprintf(out, CELL, r->outcome == PAIRED_TEXT ? "%.4f" : "%+.4f", x);
}
static void interval_text(char out[CELL], const claim_row *r, double low, double high) {
    snprintf(out, CELL, r->outcome == PAIRED_TEXT ? "[%.4f, %.4f]" : "[%+.4f, %+.4f]", low, high);
}
static void seeds_text(char out[CELL], const claim_row *r, double low, double high) {
    snprintf(out, CELL, r->outcome == PAIRED_TEXT ? "%.4f..%.4f" : "%+.4f..%+.4f", low, high);
}

// The fields of a pair's configurations in which the claim's pairs agree.
static char *pair_text(const claims_print *x, const claim_row *r) {
    const claim *c = &x->c->claim[r->claim];
    const paired_config *a = &x->p->config[r->cell.pair[0].a];
    char *text = xstrdup("");
    for (int i = 0; i < c->match.n; i++) {
        const int f = c->match.field[i];
        if (!*a->field[f]) continue;
        char *longer = xasprintf("%s%s%s=%s", text, *text ? " " : "", paired_field_name[f], a->field[f]);
        free(text);
        text = longer;
    }
    return text;
}

// The verdict, why there is none, and whether it is of the primary outcomes.
static char *verdict_text(const claim_row *r) {
    const bool secondary = !r->primary && r->cell.n > 0;
    return xasprintf("%s%s%s%s%s", claim_verdict_name[r->verdict], *r->reason ? " (" : "", r->reason,
                     *r->reason ? ")" : "", secondary ? ", not primary" : "");
}

static bool was_run(const claims_print *x, int of) {
    for (int i = 0; i < x->t->n; i++)
        if (x->t->row[i].claim == of && x->t->row[i].verdict != CLAIM_NOT_RUN) return true;
    return false;
}

// ---------------------------------------------------------------- what holds for the whole table
static void put_head(FILE *f, const claims_print *x) {
    const double *m = x->c->margin;
    fprintf(f, "95 %% intervals and p values of %ld draws over documents, seed %llu; Holm's correction over %d tests\n",
            x->t->draws, (unsigned long long)x->t->seed, x->t->n_tests);
    fprintf(f, "margins of no difference: %g of %s, %g nats of gold log-likelihood per byte, %g of word perplexity\n",
            m[PAIRED_ACC], x->acc_name, m[PAIRED_GOLD], m[PAIRED_TEXT]);
    if (x->t->draws < CLAIMS_DRAWS)
        fprintf(f, "only %ld draws: what is to be relied on takes %d\n", x->t->draws, CLAIMS_DRAWS);
    const double needed = claims_draws_needed(x->t->n_tests);
    if (x->t->draws < needed)
        fprintf(f, "no p value of %ld draws passes a correction over %d tests; take --draws %.0f or more\n",
                x->t->draws, x->t->n_tests, needed);
}

static void put_notes(FILE *f, const claims_print *x) {
    int tests = 0, few = 0;
    for (int i = 0; i < x->t->n; i++) {
        const claim_row *r = &x->t->row[i];
        if (r->outcome != PAIRED_ACC || r->level != LEVEL_SPARSITY || r->cell.n == 0) continue;
        tests++;
        few += !r->primary;
    }
    if (few > 0)
        fprintf(f,
                "%s has too few documents in %d of %d tests: the smallest effect that they could show exceeds %g. "
                "There gold log-likelihood per byte and word perplexity are the primary outcomes.\n",
                x->acc_name, few, tests, x->c->margin[PAIRED_ACC]);
    for (int i = 0; i < x->c->n; i++) {
        const int tasks = x->t->list[2 * i].n_left_out, text = x->t->list[2 * i + 1].n_left_out;
        if (tasks + text > 0)
            fprintf(f,
                    "left out of \"%s\", because totals of pruned units x positions differ: "
                    "%d pairs on the tasks, %d on the text\n",
                    x->c->claim[i].name, tasks, text);
    }
    for (int i = 0; i < x->c->n; i++)
        if (!was_run(x, i)) fprintf(f, "not run: %s\n", x->c->claim[i].name);
}

// ---------------------------------------------------------------- text
#define TEXT_ROW "  %-18s %8s %8s  %-18s %8s %8s %8s %5s %4s %6s  %-17s %s\n"

static void put_text_row(FILE *f, const claims_print *x, const claim_row *r) {
    const shown s = show(r);
    char effect[CELL] = "-", interval[CELL] = "", p[CELL] = "", holm[CELL] = "", smallest[CELL] = "", seeds[CELL] = "";
    char pairs[CELL], left[CELL], documents[CELL];
    if (has_effect(r)) {
        number_text(effect, r, s.effect);
        seeds_text(seeds, r, s.seed_low, s.seed_high);
    }
    if (has_effect(r) && r->tested) {
        interval_text(interval, r, s.low, s.high);
        snprintf(smallest, CELL, "%.4f", r->smallest);
        if (r->level != LEVEL_CLAIM) snprintf(p, CELL, "%.2g", r->cell.p);
        if (r->level == LEVEL_SPARSITY) snprintf(holm, CELL, "%.2g", r->p_holm);
    }
    snprintf(pairs, CELL, "%d", r->cell.n);
    snprintf(left, CELL, "%d", r->left_out);
    snprintf(documents, CELL, "%d", r->cell.documents);
    char *tail = r->level == LEVEL_PAIR ? pair_text(x, r) : verdict_text(r);
    fprintf(f, TEXT_ROW, label[r->outcome], r->sparsity ? r->sparsity : "all", effect, interval, p, holm, smallest,
            pairs, left, documents, seeds, tail);
    free(tail);
}

void claims_print_text(FILE *f, const claims_print *x) {
    put_head(f, x);
    fprintf(f, TEXT_ROW, "outcome", "sparsity", "effect", "95 % interval", "p", "Holm", "smallest", "pairs", "left",
            "docs", "seeds", "verdict");
    for (int i = 0, last = -1; i < x->t->n; i++) {
        const claim_row *r = &x->t->row[i];
        if (!was_run(x, r->claim)) continue;
        if (r->claim != last) fprintf(f, "%s\n", x->c->claim[r->claim].name);
        last = r->claim;
        put_text_row(f, x, r);
    }
    fputs("smallest: the effect that would have been shown with 80 % power at the 5 % level (perplexity: relative "
          "change); left: pairs left out; seeds: least and greatest effect of a seed\n",
          f);
    put_notes(f, x);
}

// ---------------------------------------------------------------- Markdown: rows are claims x outcomes
enum { MOST_SPARSITIES = 64 };

static int sparsities(const claims_table *t, const char *found[MOST_SPARSITIES]) {
    int n = 0;
    for (int i = 0; i < t->n; i++) {
        const char *s = t->row[i].sparsity;
        int at = 0;
        if (!s) continue;
        while (at < n && atof(found[at]) < atof(s)) at++;
        if ((at < n && strcmp(found[at], s) == 0) || n == MOST_SPARSITIES) continue;
        memmove(found + at + 1, found + at, (size_t)(n - at) * sizeof *found);
        found[at] = s;
        n++;
    }
    return n;
}

static void put_cell(FILE *f, const claim_row *r) {
    if (r && r->verdict != CLAIM_NOT_RUN) {
        const shown s = show(r);
        char effect[CELL], interval[CELL], seeds[CELL];
        number_text(effect, r, s.effect);
        interval_text(interval, r, s.low, s.high);
        seeds_text(seeds, r, s.seed_low, s.seed_high);
        if (has_effect(r)) fprintf(f, " %s", effect);
        if (has_effect(r) && r->tested) fprintf(f, " %s", interval);
        fprintf(f, " **%s**", claim_verdict_name[r->verdict]);
        if (*r->reason) fprintf(f, " (%s)", r->reason);
        if (has_effect(r) && r->tested) fprintf(f, "; smallest %.4f", r->smallest);
        if (has_effect(r)) fprintf(f, "; seeds %s", seeds);
    }
    fputs(" |", f);
}

void claims_print_markdown(FILE *f, const claims_print *x) {
    const char *sparsity[MOST_SPARSITIES];
    const int n = sparsities(x->t, sparsity);
    fprintf(f, "| claim (A over B) | outcome |");
    for (int k = 0; k < n; k++) fprintf(f, " %s %% |", sparsity[k]);
    fprintf(f, " all | pairs | left out | documents |\n|---|---|");
    for (int k = 0; k < n + 4; k++) fputs("---|", f);
    fputc('\n', f);
    for (int i = 0; i < x->t->n; i++) {
        const claim_row *own = &x->t->row[i];
        if (own->level != LEVEL_CLAIM) continue;
        fprintf(f, "| %s | %s%s |", x->c->claim[own->claim].name, label[own->outcome],
                own->primary ? "" : " (not primary)");
        for (int k = 0; k < n; k++) {
            const claim_row *r = NULL;
            for (int j = 0; j < i; j++) {
                const claim_row *y = &x->t->row[j];
                if (y->claim == own->claim && y->outcome == own->outcome && y->level == LEVEL_SPARSITY &&
                    strcmp(y->sparsity, sparsity[k]) == 0)
                    r = y;
            }
            put_cell(f, r);
        }
        if (own->verdict == CLAIM_NOT_RUN)
            fprintf(f, " not run |");
        else
            put_cell(f, own);
        fprintf(f, " %d | %d | %d |\n", own->cell.n, own->left_out, own->cell.documents);
    }
    fputc('\n', f);
    put_head(f, x);
    put_notes(f, x);
}

// ---------------------------------------------------------------- CSV
static void put_quoted(FILE *f, const char *text) {
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputs("\",", f);
}

static void put_selection(FILE *f, const paired_selection *s) {
    fputc('"', f);
    for (int i = 0; i < s->n; i++) fprintf(f, "%s%s=%s", i ? "," : "", paired_field_name[s->field[i]], s->value[i]);
    fputs("\",", f);
}

static void put_number(FILE *f, bool there, double x) {
    if (there) fprintf(f, "%.10g", x);
    fputc(',', f);
}

static void put_csv_row(FILE *f, const claims_print *x, const claim_row *r) {
    static const char *const level[] = {"pair", "sparsity", "claim"};
    const claim *c = &x->c->claim[r->claim];
    const shown s = show(r);
    const bool effect = has_effect(r), interval = effect && r->tested;
    char *pair = r->level == LEVEL_PAIR ? pair_text(x, r) : xstrdup("");
    put_quoted(f, c->name);
    fprintf(f, "%s,%s,%s,%s,%s,", level[r->level], r->outcome == PAIRED_ACC ? x->acc_name : claims_outcome[r->outcome],
            r->sparsity ? r->sparsity : "all", pair, r->level == LEVEL_PAIR ? "" : claim_verdict_name[r->verdict]);
    put_quoted(f, r->reason);
    fprintf(f, "%s,%d,%d,%d,", r->primary ? "yes" : "no", r->cell.n, r->left_out, r->cell.documents);
    put_number(f, effect, s.a);
    put_number(f, effect, s.b);
    fprintf(f, "%s,", r->outcome == PAIRED_TEXT ? "ratio" : "difference");
    put_number(f, effect, s.effect);
    put_number(f, interval, r->cell.error);
    put_number(f, interval, s.low);
    put_number(f, interval, s.high);
    put_number(f, interval && r->level != LEVEL_CLAIM, r->cell.p);
    put_number(f, interval && r->level == LEVEL_SPARSITY, r->p_holm);
    put_number(f, interval, r->smallest);
    put_number(f, true, x->c->margin[r->outcome]);
    put_number(f, effect, s.seed_low);
    put_number(f, effect, s.seed_high);
    put_selection(f, &c->a);
    put_selection(f, &c->b);
    for (int i = 0; i < c->match.n; i++) fprintf(f, "%s%s", i ? " " : "", paired_field_name[c->match.field[i]]);
    fputc('\n', f);
    free(pair);
}

void claims_print_csv(FILE *f, const claims_print *x) {
    fprintf(f, "# %ld draws, seed %llu, %d tests\n", x->t->draws, (unsigned long long)x->t->seed, x->t->n_tests);
    fputs("claim,level,outcome,sparsity,pair,verdict,reason,primary,pairs,left_out,documents,a,b,effect_is,effect,"
          "stderr,low,high,p,p_holm,smallest,margin,seed_low,seed_high,masks_a,masks_b,match\n",
          f);
    for (int i = 0; i < x->t->n; i++) put_csv_row(f, x, &x->t->row[i]);
}
