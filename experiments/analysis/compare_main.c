// compare - are masks A better than masks B? Paired differences document by document, from the details of bin/sweep,
// with intervals, corrected tests and verdicts: of one comparison (--a, --b) or of a list of claims (--claims).
// paired.h and claims.h hold the method.
#include <stdlib.h>
#include <string.h>
#include "claims.h"
#include "cli.h"

static char *details_list, *claims_file, *select_a, *select_b, *select_reference, *out_file;
static char *match_list = "mode,criterion,scope,units,sparsity,seed";
static long draws = 0, seed = 1;
static paired_accuracy metric;
static enum { TEXT, MARKDOWN } table;
static const char *const metric_names[] = {
    [ACCURACY] = "acc", [ACCURACY_BYTES] = "acc_bytes", [ACCURACY_NORM] = "acc_norm", NULL};
static const char *const table_names[] = {[TEXT] = "text", [MARKDOWN] = "markdown", NULL};

static const cli_option options[] = {
    {.name = "details",
     .type = CLI_STR,
     .value = &details_list,
     .arg = "a,b",
     .help = "JSON lines of bin/sweep --details",
     .required = true},
    {.name = "claims",
     .type = CLI_STR,
     .value = &claims_file,
     .arg = "FILE",
     .help = "claims to be tested, JSON (experiments/claims.json)"},
    {.name = "a",
     .type = CLI_STR,
     .value = &select_a,
     .arg = "f=v,..",
     .help =
         "without --claims: the first masks, fields of the lines and their values, as mask=contextual,design=shadow"},
    {.name = "b",
     .type = CLI_STR,
     .value = &select_b,
     .arg = "f=v,..",
     .help = "the second masks; aggregate=task or all, in --a too, is of tasks only: on text static masks take that of "
             "all"},
    {.name = "reference",
     .type = CLI_STR,
     .value = &select_reference,
     .arg = "f=v,..",
     .help =
         "with --a and --b: masks such as mask=reference; prints (A - B) / (reference - B) where the interval of the "
         "denominator excludes 0"},
    {.name = "match",
     .type = CLI_STR,
     .value = &match_list,
     .arg = "f,g",
     .help = "with --a and --b: fields in which a pair must agree (those named there need not)"},
    {.name = "metric",
     .type = CLI_CHOICE,
     .value = &metric,
     .arg = "NAME",
     .help = "what accuracy is: of log-likelihoods, or of log-likelihoods per byte or per character",
     .names = metric_names},
    {.name = "draws",
     .type = CLI_INT,
     .value = &draws,
     .arg = "N",
     .help = "bootstrap draws over documents, 100 or more; 0: 20000, or as many as the correction over all tests takes",
     .max = 1e6},
    {.name = "seed", .type = CLI_INT, .value = &seed, .arg = "N", .help = "seed of the draws", .max = CLI_SEED_MAX},
    {.name = "table",
     .type = CLI_CHOICE,
     .value = &table,
     .arg = "KIND",
     .help = "what is printed",
     .names = table_names},
    {.name = "out", .type = CLI_STR, .value = &out_file, .arg = "FILE", .help = "the table as CSV too"},
    {0},
};

static void parse_selection(paired_selection *s, const char *option, const char *text) {
    int n;
    char **part = cli_split(text, &n);
    for (int i = 0; i < n; i++) {
        char *eq = strchr(part[i], '=');
        if (!eq) die(2, "--%s %s: field=value is wanted, as mask=static", option, part[i]);
        *eq = 0;
        if (paired_select(s, part[i], eq + 1)) die(2, "--%s: %s", option, err_get());
    }
    if (n == 0) die(2, "--%s names no field", option);
    free(part);
}

static void add_comparison(claims *c, const char *option, const char *select) {
    claim one = {.name = xasprintf("%s over %s", select, select_b), .outcome = {true, true, true}};
    int n;
    parse_selection(&one.a, option, select);
    parse_selection(&one.b, "b", select_b);
    char **field = cli_split(match_list, &n);
    for (int i = 0; i < n; i++)
        if (paired_match_add(&one.match, field[i])) die(2, "--match: %s", err_get());
    free(field);
    VEC_PUSH(c->claim, c->n, c->cap, one);
}

// --a and --b as a list of one claim, and --reference and --b as a second.
static claims one_comparison(void) {
    claims c = claims_none();
    add_comparison(&c, "a", select_a);
    if (select_reference) add_comparison(&c, "reference", select_reference);
    return c;
}

// What A has of what a reference has over B, at each sparsity; "-" where the reference may have nothing.
static void print_shares(const claims_table *t) {
    printf("\nshare of A over B in the reference over B (-: its interval holds 0)\n");
    for (int i = 0; i < t->n; i++) {
        const claim_row *r = &t->row[i];
        if (r->claim != 0 || r->level != LEVEL_SPARSITY || !r->cell.n) continue;
        for (int k = 0; k < t->n; k++) {
            const claim_row *of = &t->row[k];
            if (of->claim != 1 || of->level != LEVEL_SPARSITY || of->outcome != r->outcome ||
                strcmp(of->sparsity, r->sparsity) != 0)
                continue;
            printf("%-17s %6s %%  ", claims_outcome[r->outcome], r->sparsity);
            if (of->tested && (of->cell.low > 0 || of->cell.high < 0))
                printf("%.4g\n", r->cell.effect / of->cell.effect);
            else
                printf("-\n");
        }
    }
}

static void require_pairs(const claims_table *t) {
    for (int i = 0; i < t->n; i++)
        if (t->row[i].verdict != CLAIM_NOT_RUN) return;
    if (claims_file) die(1, "%s: no claim has pairs in %s", claims_file, details_list);
    die(1, "no line of --a pairs with one of --b: they agree in none of the combinations of %s", match_list);
}

static void write_csv(const claims_print *x, int argc, char **argv) {
    file_out out;
    if (file_out_open(&out, out_file)) die(1, "%s", err_get());
    char *command = cli_command(argc, argv);
    fprintf(out.f, "# command: %s\n# code: %s\n", command, code_version());
    free(command);
    claims_print_csv(out.f, x);
    if (file_out_close(&out)) die(1, "%s", err_get());
}

int main(int argc, char **argv) {
    cli_parse(argc, argv,
              "are masks A better than masks B? Paired differences of the details of bin/sweep, intervals, verdicts.\n"
              "Both masks of a pair prune equal numbers of heads x positions and of neurons x positions; pairs that do "
              "not are left out and counted.",
              options);
    if (claims_file && (select_a || select_b || cli_given(options, "match")))
        die(2, "--claims says what is compared; leave out --a, --b and --match");
    if (select_reference && !(select_a && select_b)) die(2, "--reference needs --a and --b");
    if (!claims_file && !(select_a && select_b)) die(2, "--claims FILE, or --a and --b, is wanted");
    if (draws != 0 && draws < 100) die(2, "--draws: 0, or 100 and more, is wanted");
    claims c;
    if (!claims_file)
        c = one_comparison();
    else if (claims_read(&c, claims_file))
        die(1, "%s", err_get());
    paired p;
    claims_table t;
    int n;
    char **path = cli_split_files(details_list, "", &n);
    if (paired_read(&p, path, n, metric)) die(1, "%s", err_get());
    free(path);
    if (claims_evaluate(&t, &c, &p, draws, (uint64_t)seed, !claims_file)) die(1, "%s", err_get());
    require_pairs(&t);
    const claims_print print = {&c, &p, &t, metric_names[metric]};
    if (out_file) write_csv(&print, argc, argv);
    if (table == MARKDOWN)
        claims_print_markdown(stdout, &print);
    else
        claims_print_text(stdout, &print);
    if (select_reference) print_shares(&t);
    claims_table_free(&t, &c);
    paired_free(&p);
    claims_free(&c);
    stdout_end();
    return 0;
}
