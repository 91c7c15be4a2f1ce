// claims - statements "masks A are better than masks B" as data, and what paired details say of them.
//
// A claim is tested at each sparsity and in each outcome by itself: a 95 % interval and a p value of the bootstrap over
// documents (paired.h), the p value corrected by Holm's method over all tests of the table (Holm 1979). A test says:
//     no difference    the interval lies inside the margin that the claims file states: of no note, whatever its sign
//     holds, reversed  corrected p < 0.05, in favour of A or of B
//     undecided        neither, or too few documents to say anything
//     not compared     no pair prunes equal numbers of units
// Over its sparsities a claim holds, is reversed, or makes no difference, if each of them says so; it is mixed where it
// holds at one and is reversed at another; else it is undecided. An interval over all sparsities is shown only where
// the verdict is not mixed and no pair was left out.
// Beside a verdict stands the smallest effect that the sample would have shown with 80 % power at the 5 % level,
// (z_0.975 + z_0.8) x standard error. Where that of accuracy exceeds accuracy's margin, there are too few documents for
// accuracy: the primary outcomes are then the log-likelihood per byte of the gold candidates and word perplexity, else
// accuracy and word perplexity.
#pragma once
#include <stdio.h>
#include "paired.h"

extern const char *const claims_outcome[PAIRED_OUTCOMES];  // acc, gold_ll_per_byte, word_perplexity
enum { CLAIMS_DRAWS = 20000, CLAIMS_DOCUMENTS = 10 };  // least draws of a table; documents of each task for an interval
#define CLAIMS_LEVEL 0.05

typedef struct {
    char *name;
    paired_selection a, b;
    paired_match match;
    bool outcome[PAIRED_OUTCOMES];
} claim;
// Margins are of A - B, of A - B in nats per byte, and of |A / B - 1|.
typedef struct {
    double margin[PAIRED_OUTCOMES];
    claim *claim;
    int n, cap;
} claims;
// No claim, and the default margins: 0.01; 0.002, because 1 % of word perplexity is 0.00995 nats per word and a word
// has about five bytes; 0.01.
claims claims_none(void);
// Reads JSON: {"note": anything, "margins": {outcome: number}, "claims": [{"claim": text, "a": {field: value},
// "b": {..}, "match": [field, ..], "outcomes": [outcome, ..]}, ..]}. note, margins, match and outcomes may be missing.
// -1 and err_set on anything else; the caller frees either way.
int claims_read(claims *c, const char *path);
// The fields a pair agrees in where a claim does not say: mode, criterion, scope, units, sparsity, seed.
paired_match claims_default_match(void);
void claims_free(claims *c);

typedef enum {
    CLAIM_NOT_RUN,
    CLAIM_NOT_COMPARED,
    CLAIM_UNDECIDED,
    CLAIM_HOLDS,
    CLAIM_REVERSED,
    CLAIM_NO_DIFFERENCE,
    CLAIM_MIXED
} claim_verdict;
extern const char *const claim_verdict_name[];
typedef enum { LEVEL_PAIR, LEVEL_SPARSITY, LEVEL_CLAIM } claim_level;
typedef struct {
    int claim, outcome;
    claim_level level;
    const char *sparsity;  // NULL: all
    int left_out;          // pairs whose totals of pruned units x positions differ
    paired_cell cell;      // cell.n: pairs
    bool tested, primary;  // tested: there is an interval
    bool pooled;           // of LEVEL_CLAIM: its numbers may be shown
    double smallest, p_holm;
    claim_verdict verdict;  // not of LEVEL_PAIR
    char reason[100];       // why it could not be decided, or ""
} claim_row;
typedef struct {
    claim_row *row;
    int n, cap, n_tests;
    long draws;
    uint64_t seed;
    paired_list *list;  // [2 * claim + text]
} claims_table;
// Every claim on the details: rows by claim and outcome, those of sparsities before that of the claim; each_pair: those
// of single pairs before them. draws 0: CLAIMS_DRAWS, or twice what Holm's correction over the tests needs, if that is
// more. The table points into p. -1 and err_set where the details do not fit a claim; the caller
// frees either way.
int claims_evaluate(claims_table *t, const claims *c, const paired *p, long draws, uint64_t seed, bool each_pair);
void claims_table_free(claims_table *t, const claims *c);
// The fewest draws of which some p value, 2 / (draws + 1) at the least, is below CLAIMS_LEVEL times 1 / tests.
double claims_draws_needed(int tests);

// ---------------------------------------------------------------- output (claims_table.c)
// acc_name: what accuracy is called: acc, acc_bytes or acc_norm.
typedef struct {
    const claims *c;
    const paired *p;
    const claims_table *t;
    const char *acc_name;
} claims_print;
void claims_print_text(FILE *f, const claims_print *x);
void claims_print_markdown(FILE *f, const claims_print *x);
void claims_print_csv(FILE *f, const claims_print *x);
