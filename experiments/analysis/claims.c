// claims - the claims file and the verdicts. Contract in claims.h.
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort_double.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base.h"
#include "claims.h"

const char *const claims_outcome[PAIRED_OUTCOMES] = {"acc", "gold_ll_per_byte", "word_perplexity"};
const char *const claim_verdict_name[] = {"not run",  "not compared",  "undecided", "holds",
                                          "reversed", "no difference", "mixed"};

// ---------------------------------------------------------------- the file
claims claims_none(void) { return (claims){.margin = {0.01, 0.002, 0.01}}; }

paired_match claims_default_match(void) {
    static const char *const name[] = {"mode", "criterion", "scope", "units", "sparsity", "seed"};
    paired_match m = {0};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) ASSERT(paired_match_add(&m, name[i]) == 0);
    return m;
}

static int outcome_index(const char *name) {
    for (int o = 0; o < PAIRED_OUTCOMES; o++)
        if (name && strcmp(name, claims_outcome[o]) == 0) return o;
    return err_set("unknown outcome %s; there are acc, gold_ll_per_byte, word_perplexity",
                   name ? name : "that is no text");
}

static int check_keys(const json_t *object, const char *allowed) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char *wrapped = xasprintf(" %s ", key);
        const bool known = strstr(allowed, wrapped) != NULL;
        free(wrapped);
        if (!known) return err_set("unknown key %s; there are%.*s", key, (int)strlen(allowed) - 1, allowed);
    }
    return 0;
}

static int read_selection(paired_selection *s, const json_t *object, const char *side) {
    const char *field;
    json_t *value;
    if (!json_is_object(object) || json_object_size(object) == 0)
        return err_set("%s: fields and their values are wanted, as {\"mask\": \"static\"}", side);
    json_object_foreach((json_t *)object, field, value) {
        char *text = NULL;
        if (json_is_string(value)) text = xstrdup(json_string_value(value));
        if (json_is_integer(value)) text = xasprintf("%lld", (long long)json_integer_value(value));
        if (!text) return err_set("%s: the value of %s is neither a text nor a whole number", side, field);
        const int bad = paired_select(s, field, text);
        free(text);
        if (bad) return err_prefix("%s", side);
    }
    return 0;
}

static int read_match(paired_match *m, const json_t *list) {
    if (!json_is_array(list)) return err_set("match: a list of fields is wanted");
    *m = (paired_match){0};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *field = json_string_value(json_array_get(list, i));
        if (!field) return err_set("match: entry %zu is no text", i + 1);
        if (paired_match_add(m, field)) return err_prefix("match");
    }
    return 0;
}

static int read_outcomes(bool outcome[PAIRED_OUTCOMES], const json_t *list) {
    if (!json_is_array(list) || json_array_size(list) == 0) return err_set("outcomes: a list of outcomes is wanted");
    for (int o = 0; o < PAIRED_OUTCOMES; o++) outcome[o] = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const int o = outcome_index(json_string_value(json_array_get(list, i)));
        if (o < 0) return err_prefix("outcomes");
        outcome[o] = true;
    }
    return 0;
}

static int read_claim(claim *c, const json_t *j, const claims *before) {
    const char *name = json_string_value(json_object_get(j, "claim"));
    const json_t *match = json_object_get(j, "match"), *outcomes = json_object_get(j, "outcomes");
    if (!name || !*name) return err_set("key claim: what is claimed, a text, is wanted");
    *c = (claim){.name = xstrdup(name), .match = claims_default_match(), .outcome = {true, true, true}};
    for (int i = 0; i < before->n; i++)
        if (strcmp(before->claim[i].name, name) == 0) return err_set("stands twice");
    if (check_keys(j, " claim a b match outcomes ")) return -1;
    if (read_selection(&c->a, json_object_get(j, "a"), "a") || read_selection(&c->b, json_object_get(j, "b"), "b"))
        return -1;
    if (match && read_match(&c->match, match)) return -1;
    return outcomes ? read_outcomes(c->outcome, outcomes) : 0;
}

static int read_margins(claims *c, const json_t *margins) {
    const char *key;
    json_t *value;
    if (!json_is_object(margins)) return err_set("margins: outcomes and numbers are wanted");
    json_object_foreach((json_t *)margins, key, value) {
        const int o = outcome_index(key);
        if (o < 0) return err_prefix("margins");
        c->margin[o] = json_number_value(value);
        if (!(c->margin[o] > 0 && c->margin[o] < 1))
            return err_set("margins: %s: a number between 0 and 1 is wanted", key);
    }
    return 0;
}

static int read_list(claims *c, const json_t *list) {
    if (!json_is_array(list) || json_array_size(list) == 0) return err_set("key claims: a list of claims is wanted");
    for (size_t i = 0; i < json_array_size(list); i++) {
        claim one = {0};
        const int bad = read_claim(&one, json_array_get(list, i), c);
        VEC_PUSH(c->claim, c->n, c->cap, one);
        if (bad)
            return err_prefix("claim %zu%s%s%s", i + 1, one.name ? " (" : "", one.name ? one.name : "",
                              one.name ? ")" : "");
    }
    return 0;
}

int claims_read(claims *c, const char *path) {
    json_error_t e;
    *c = claims_none();
    char *text = file_read(path, NULL);
    if (!text) return -1;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    int bad = 0;
    if (!j)
        bad = err_set("%s:%d: not JSON (%s)", path, e.line, e.text);
    else if (!json_is_object(j))
        bad = err_set("%s: an object with the key claims is wanted", path);
    else if (check_keys(j, " note margins claims "))
        bad = err_prefix("%s", path);
    else if (json_object_get(j, "margins") && read_margins(c, json_object_get(j, "margins")))
        bad = err_prefix("%s", path);
    else if (read_list(c, json_object_get(j, "claims")))
        bad = err_prefix("%s", path);
    json_decref(j);
    free(text);
    return bad;
}

void claims_free(claims *c) {
    for (int i = 0; i < c->n; i++) {
        free(c->claim[i].name);
        paired_selection_free(&c->claim[i].a);
        paired_selection_free(&c->claim[i].b);
    }
    free(c->claim);
    *c = (claims){0};
}

// ---------------------------------------------------------------- rows
static void add_row(claims_table *t, claim_row r, const paired_pair *pair, int n) {
    r.cell = (paired_cell){.pair = pair, .n = n, .outcome = r.outcome};
    VEC_PUSH(t->row, t->n, t->cap, r);
}

// The sparsity that follows in either list of pairs, from i and j on.
static const char *next_sparsity(const paired *p, const paired_list *l, int i, int j) {
    const char *a = i < l->n ? paired_sparsity(p, l->pair[i]) : NULL,
               *b = j < l->n_left_out ? paired_sparsity(p, l->left_out[j]) : NULL;
    if (!a || !b) return a ? a : b;
    return atof(a) <= atof(b) ? a : b;
}

static void add_rows(claims_table *t, const paired *p, const paired_list *l, int of, int outcome, bool each_pair) {
    claim_row r = {.claim = of, .outcome = outcome, .level = LEVEL_PAIR};
    for (int i = 0; each_pair && i < l->n; i++) {
        r.sparsity = paired_sparsity(p, l->pair[i]);
        add_row(t, r, &l->pair[i], 1);
    }
    r.level = LEVEL_SPARSITY;
    for (int i = 0, j = 0; (r.sparsity = next_sparsity(p, l, i, j)) != NULL;) {
        const int first = i;
        for (r.left_out = 0; j < l->n_left_out && strcmp(paired_sparsity(p, l->left_out[j]), r.sparsity) == 0; j++)
            r.left_out++;
        while (i < l->n && strcmp(paired_sparsity(p, l->pair[i]), r.sparsity) == 0) i++;
        add_row(t, r, l->pair + first, i - first);
    }
    r.level = LEVEL_CLAIM;
    r.left_out = l->n_left_out;
    add_row(t, r, l->pair, l->n);
}

// ---------------------------------------------------------------- verdicts
// What a test may say is known before it is made: only the number of documents counts.
static void choose_tested(claim_row *r) {
    if (r->cell.n == 0) {
        r->verdict = r->left_out > 0 ? CLAIM_NOT_COMPARED : CLAIM_NOT_RUN;
        if (r->left_out > 0) snprintf(r->reason, sizeof r->reason, "totals of pruned units differ");
        return;
    }
    r->tested = r->cell.fewest >= CLAIMS_DOCUMENTS;
    r->verdict = CLAIM_UNDECIDED;
    if (!r->tested)
        snprintf(r->reason, sizeof r->reason, "few documents: %d of %s, %d are wanted", r->cell.fewest,
                 r->cell.fewest_task, CLAIMS_DOCUMENTS);
}

// Where no document differs, the bootstrap knows no error. Then, with 95 % confidence, the share of documents that
// differ is at most 1 - 0.05^(1/n).
static void set_smallest(claim_row *r) {
    r->smallest = (gsl_cdf_ugaussian_Pinv(1 - CLAIMS_LEVEL / 2) + gsl_cdf_ugaussian_Pinv(0.8)) * r->cell.error;
    if (r->outcome == PAIRED_ACC && r->cell.error == 0) r->smallest = 1 - pow(0.05, 1.0 / r->cell.documents);
    if (r->outcome == PAIRED_TEXT) r->smallest = expm1(r->smallest);
}

// What the correction counts.
static bool is_test(const claim_row *r) { return r->level == LEVEL_SPARSITY && r->tested; }

// Step down: the i-th smallest of n p values times n - i, never less than that of a smaller one.
static void holm(claims_table *t) {
    double *p = xmalloc(((size_t)t->n + 1) * sizeof *p), least = 0;
    size_t *order = xmalloc(((size_t)t->n + 1) * sizeof *order);
    int *row = xmalloc(((size_t)t->n + 1) * sizeof *row), n = 0;
    for (int i = 0; i < t->n; i++) {
        if (!is_test(&t->row[i])) continue;
        p[n] = t->row[i].cell.p;
        row[n++] = i;
    }
    gsl_sort_index(order, p, 1, (size_t)t->n_tests);
    for (int i = 0; i < t->n_tests; i++) {
        least = fmax(least, fmin(1, (t->n_tests - i) * p[order[i]]));
        t->row[row[order[i]]].p_holm = least;
    }
    free(p);
    free(order);
    free(row);
}

static bool inside_margin(const claim_row *r, double margin) {
    if (r->outcome == PAIRED_TEXT) return exp(-r->cell.high) > 1 - margin && exp(-r->cell.low) < 1 + margin;
    return r->cell.low > -margin && r->cell.high < margin;
}

static void judge(claim_row *r, double margin) {
    if (inside_margin(r, margin)) {
        if (r->cell.error > 0 || r->smallest <= margin)
            r->verdict = CLAIM_NO_DIFFERENCE;
        else
            snprintf(r->reason, sizeof r->reason, "no document differs, but they are few");
    } else if (r->p_holm < CLAIMS_LEVEL) {
        r->verdict = r->cell.effect > 0 ? CLAIM_HOLDS : CLAIM_REVERSED;
    }
}

// At how many of its n sparsities a claim without one verdict holds or is reversed.
static void put_counts(claim_row *own, const int *count, int n) {
    char text[sizeof own->reason] = "";
    for (int reversed = 0; reversed < 2; reversed++) {
        const claim_verdict v = reversed ? CLAIM_REVERSED : CLAIM_HOLDS;
        if (count[v])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s at %d", *text ? ", " : "",
                     claim_verdict_name[v], count[v]);
    }
    if (*text) snprintf(own->reason, sizeof own->reason, "%s of %d sparsities", text, n);
}

// test: the claim's n > 0 tests, which lie before its own row.
static void judge_claim(claim_row *own, const claim_row *test, int n) {
    int count[CLAIM_MIXED + 1] = {0};
    char left[60] = "";
    for (int i = 0; i < n; i++) {
        count[test[i].verdict]++;
        if (test[i].verdict == CLAIM_NOT_COMPARED)
            snprintf(left + strlen(left), sizeof left - strlen(left), "%s%s %%", *left ? ", " : "", test[i].sparsity);
    }
    own->verdict = CLAIM_UNDECIDED;
    for (claim_verdict v = CLAIM_NOT_COMPARED; v < CLAIM_MIXED; v++)
        if (count[v] == n) own->verdict = v;
    if (count[CLAIM_HOLDS] && count[CLAIM_REVERSED]) own->verdict = CLAIM_MIXED;
    if (own->verdict == CLAIM_UNDECIDED || own->verdict == CLAIM_MIXED) put_counts(own, count, n);
    if (own->verdict == CLAIM_UNDECIDED && *left)
        snprintf(own->reason, sizeof own->reason, "totals differ in all pairs at %s", left);
    own->pooled = own->tested && own->left_out == 0 && own->verdict != CLAIM_MIXED;
}

// Accuracy is primary where its test could have shown an effect of its margin, at every sparsity for the claim as a
// whole.
static void choose_primary(claims_table *t, const claims *c, int of) {
    for (int i = 0; i < t->n; i++) {
        claim_row *r = &t->row[i];
        if (r->claim != of || r->level == LEVEL_PAIR) continue;
        bool enough = true, any = false;
        for (int k = 0; k < t->n; k++) {
            const claim_row *acc = &t->row[k];
            if (acc->claim != of || acc->outcome != PAIRED_ACC || acc->level != LEVEL_SPARSITY) continue;
            if (r->sparsity && strcmp(acc->sparsity, r->sparsity) != 0) continue;
            any = true;
            enough &= acc->tested && acc->smallest <= c->margin[PAIRED_ACC];
        }
        r->primary = r->outcome == PAIRED_TEXT || (r->outcome == PAIRED_ACC) == (any && enough);
    }
}

double claims_draws_needed(int tests) { return ceil(2 * tests / CLAIMS_LEVEL); }

int claims_evaluate(claims_table *t, const claims *c, const paired *p, long draws, uint64_t seed, bool each_pair) {
    *t = (claims_table){.seed = seed, .list = xcalloc(2 * (size_t)c->n, sizeof *t->list)};
    for (int i = 0; i < c->n; i++) {
        const claim *one = &c->claim[i];
        for (int text = 0; text < 2; text++)
            if (paired_pairs(&t->list[2 * i + text], p, &one->a, &one->b, &one->match, text))
                return err_prefix("%s", one->name);
        for (int o = 0; o < PAIRED_OUTCOMES; o++)
            if (one->outcome[o]) add_rows(t, p, &t->list[2 * i + (o == PAIRED_TEXT)], i, o, each_pair);
    }
    paired_cell **cell = xmalloc(((size_t)t->n + 1) * sizeof(paired_cell *));
    int n = 0;
    for (int i = 0; i < t->n; i++) {
        if (t->row[i].cell.n > 0) paired_measure(p, &t->row[i].cell);
        choose_tested(&t->row[i]);
        if (t->row[i].tested) cell[n++] = &t->row[i].cell;
        t->n_tests += is_test(&t->row[i]);
    }
    t->draws = draws > 0 ? draws : (long)fmax(CLAIMS_DRAWS, 2 * claims_draws_needed(t->n_tests));
    paired_resample(p, cell, n, t->draws, seed);
    free(cell);
    holm(t);
    for (int i = 0, first = 0; i < t->n; i++) {
        claim_row *r = &t->row[i];
        if (r->level == LEVEL_PAIR) first = i + 1;
        if (r->tested) set_smallest(r);
        if (is_test(r)) judge(r, c->margin[r->outcome]);
        if (r->level != LEVEL_CLAIM) continue;
        if (i > first) judge_claim(r, &t->row[first], i - first);
        first = i + 1;
    }
    for (int i = 0; i < c->n; i++) choose_primary(t, c, i);
    return 0;
}

void claims_table_free(claims_table *t, const claims *c) {
    for (int i = 0; t->list && i < 2 * c->n; i++) paired_list_free(&t->list[i]);
    free(t->list);
    free(t->row);
    *t = (claims_table){0};
}
