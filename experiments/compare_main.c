// compare - paired differences between two masks, document by document, from the details of bin/sweep.
//
// Two configurations are paired when the fields of --match agree (not at sparsity 0, where there is nothing to compare); each document then has one value under A and one under B. An interval is
// the percentile bootstrap over documents, drawn within each task (pages of the text), the same draws for A and B and for all pairs; the
// pooled line is the mean over all pairs in each draw (Efron & Tibshirani 1993, ch. 13). Accuracy: A - B, mean over the tasks. Word
// perplexity: the ratio A / B, geometric mean over pairs. p: twice the smaller share of draws on either side of no difference.
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"

static char *details_list, *select_a, *select_b, *match_list = "mode,criterion,scope,units,sparsity,seed", *metric = "acc", *out_file;
static long draws = 10000, seed = 1;

static const cli_option options[] = {
    {"details", CLI_STR, &details_list, "a,b", "JSON lines of bin/sweep --details", true, NULL, 0, 0},
    {"a", CLI_STR, &select_a, "f=v,..", "the first mask: fields of the lines and their values, as mask=contextual,design=shadow", true, NULL, 0, 0},
    {"b", CLI_STR, &select_b, "f=v,..", "the second mask", true, NULL, 0, 0},
    {"match", CLI_STR, &match_list, "f,g", "fields in which a pair must agree (those named in --a or --b need not)", false, NULL, 0, 0},
    {"metric", CLI_STR, &metric, "NAME", "what is compared on the tasks", false, "acc|acc_norm", 0, 0},
    {"draws", CLI_INT, &draws, "N", "bootstrap draws", false, NULL, 100, 1e7},
    {"seed", CLI_INT, &seed, "N", "seed of the draws", false, NULL, 0, 0},
    {"out", CLI_STR, &out_file, "FILE", "the table as CSV too", false, NULL, 0, 0},
    {0},
};

enum { FIELDS = 13 };
static const char *const field_names[FIELDS] = {"mode", "mask", "criterion", "design", "target", "lag", "hidden", "scope", "units", "sparsity", "mask_span", "refresh", "seed"};

typedef struct { char *task, *id; int task_begin; } document;  // task_begin: the first document of its task, once they are sorted
typedef struct { char *field[FIELDS]; } config;
// value: 0 or 1 on a task, log-likelihood of a page; words: of a page
typedef struct { int config, document; double value, words; } record;

static struct {
    config *c;
    int n, cap;
    document *d;
    int n_docs, cap_docs;
    record *r;
    int n_records, cap_records;
} all;

// ---------------------------------------------------------------- reading
static int field_index(const char *name) {
    for (int i = 0; i < FIELDS; i++)
        if (strcmp(name, field_names[i]) == 0) return i;
    char list[200] = "";
    for (int i = 0; i < FIELDS; i++) snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", field_names[i]);
    die(2, "unknown field %s; there are %s", name, list);
}

static int find_config(char *const field[FIELDS]) {
    for (int i = all.n; i-- > 0;) {  // lines of one configuration follow each other
        bool same = true;
        for (int k = 0; k < FIELDS && same; k++) same = strcmp(all.c[i].field[k], field[k]) == 0;
        if (same) return i;
    }
    config c;
    for (int k = 0; k < FIELDS; k++) c.field[k] = xstrdup(field[k]);
    VEC_PUSH(all.c, all.n, all.cap, c);
    return all.n - 1;
}

static int by_record_document(const void *a, const void *b) {
    const document *x = a, *y = b;
    const int t = strcmp(x->task, y->task);
    return t ? t : strcmp(x->id, y->id);
}

static char *text_of(const json_t *j) {
    return json_is_string(j) ? xstrdup(json_string_value(j)) : json_is_integer(j) ? xasprintf("%lld", (long long)json_integer_value(j)) : NULL;
}

static void read_line(const char *path, long line, const char *text) {
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j) die(1, "%s:%ld: not JSON (%s); the file is damaged", path, line, e.text);
    char *field[FIELDS], *task = text_of(json_object_get(j, "task")), *id = text_of(json_object_get(j, "id"));
    for (int k = 0; k < FIELDS; k++) {
        field[k] = text_of(json_object_get(j, field_names[k]));
        if (!field[k]) die(1, "%s:%ld: no field %s; details of bin/sweep are wanted", path, line, field_names[k]);
    }
    record r = {.config = find_config(field), .document = all.n_docs};
    const json_t *gold = json_object_get(j, "gold"), *chosen = json_object_get(j, strcmp(metric, "acc") == 0 ? "prediction" : "prediction_norm"),
                 *words = json_object_get(j, "words"), *ll = json_object_get(j, "log_likelihood");
    if (!task || !id || !((json_is_integer(gold) && json_is_integer(chosen)) || (json_is_integer(words) && json_is_real(ll))))
        die(1, "%s:%ld: neither a document nor a page; details of bin/sweep are wanted", path, line);
    if (gold) r.value = json_integer_value(gold) == json_integer_value(chosen);
    else r = (record){r.config, r.document, json_real_value(ll), (double)json_integer_value(words)};
    VEC_PUSH(all.r, all.n_records, all.cap_records, r);
    VEC_PUSH(all.d, all.n_docs, all.cap_docs, ((document){task, id, 0}));
    for (int k = 0; k < FIELDS; k++) free(field[k]);
    json_decref(j);
}

static void read_file(const char *path) {
    char *text = file_read(path, NULL);
    if (!text) die(1, "%s", err_get());
    long line = 1;
    for (char *p = text, *stop; *p; p = stop + 1, line++) {
        stop = strchr(p, '\n');
        if (!stop) die(1, "%s:%ld: the last line is not whole; let the sweep finish first", path, line);
        *stop = 0;
        read_line(path, line, p);
    }
    free(text);
}

// Records point at one document for each task and id.
static void merge_documents(void) {
    document *u = xmalloc((size_t)all.n_docs * sizeof *u);
    int n = 0;
    memcpy(u, all.d, (size_t)all.n_docs * sizeof *u);
    qsort(u, (size_t)all.n_docs, sizeof *u, by_record_document);
    for (int i = 0; i < all.n_docs; i++) {  // what is there already moves behind the first n
        if (n && by_record_document(&u[i], &u[n - 1]) == 0) continue;
        const document first = u[i];
        u[i] = u[n];
        u[n++] = first;
    }
    for (int i = 0; i < all.n_records; i++) all.r[i].document = (int)((document *)bsearch(&all.d[all.r[i].document], u, (size_t)n, sizeof *u, by_record_document) - u);
    for (int i = n; i < all.n_docs; i++) {
        free(u[i].task);
        free(u[i].id);
    }
    free(all.d);
    all.d = u;
    all.n_docs = n;
    for (int i = 1; i < n; i++) u[i].task_begin = strcmp(u[i].task, u[i - 1].task) == 0 ? u[i - 1].task_begin : i;
}

// ---------------------------------------------------------------- pairs
typedef struct { int n, field[FIELDS]; const char *value[FIELDS]; char **parts; } selection;

static selection parse_selection(const char *option, const char *text) {
    selection s = {0};
    int n;
    s.parts = cli_split(text, &n);
    for (int i = 0; i < n; i++) {
        char *eq = strchr(s.parts[i], '=');
        if (!eq) die(2, "--%s %s: field=value is wanted, as mask=static", option, s.parts[i]);
        *eq = 0;
        if (s.n == FIELDS) die(2, "--%s: more fields than there are", option);
        s.field[s.n] = field_index(s.parts[i]);
        s.value[s.n++] = eq + 1;
    }
    if (s.n == 0) die(2, "--%s names no field", option);
    return s;
}

static bool selected(const selection *s, const config *c) {
    for (int i = 0; i < s->n; i++)
        if (strcmp(c->field[s->field[i]], s->value[i]) != 0) return false;
    return true;
}

typedef struct { int a, b; } pair;
static struct { int n, field[FIELDS]; } match;

static void choose_match(const selection *a, const selection *b) {
    int n;
    char **name = cli_split(match_list, &n);
    for (int i = 0; i < n; i++) {
        const int f = field_index(name[i]);
        bool named = false;
        for (int k = 0; k < a->n; k++) named |= a->field[k] == f;
        for (int k = 0; k < b->n; k++) named |= b->field[k] == f;
        if (!named) match.field[match.n++] = f;
    }
    free(name);
}

static bool agree(const config *a, const config *b) {
    for (int i = 0; i < match.n; i++)
        if (strcmp(a->field[match.field[i]], b->field[match.field[i]]) != 0) return false;
    return true;
}

static bool dense(const config *c) { return strcmp(c->field[field_index("sparsity")], "0") == 0; }

// Two configurations that would take the same place in a pair: in what do they differ?
static void ambiguous(const char *option, const config *x, const config *y) {
    for (int k = 0; k < FIELDS; k++)
        if (strcmp(x->field[k], y->field[k]) != 0)
            die(1, "--%s: %s is \"%s\" and \"%s\" in lines that match otherwise; name %s in --%s or in --match", option, field_names[k], x->field[k], y->field[k], field_names[k], option);
}

static pair *make_pairs(const selection *a, const selection *b, int *n) {
    pair *p = NULL;
    int cap = 0;
    *n = 0;
    for (int i = 0; i < all.n; i++) {
        int with = -1;
        if (!selected(a, &all.c[i])) continue;
        for (int j = 0; j < all.n; j++) {
            if (j != i && selected(a, &all.c[j]) && agree(&all.c[i], &all.c[j])) ambiguous("a", &all.c[i], &all.c[j]);
            if (j == i || !selected(b, &all.c[j]) || !agree(&all.c[i], &all.c[j])) continue;
            if (with >= 0) ambiguous("b", &all.c[with], &all.c[j]);
            with = j;
        }
        if (with >= 0 && !(dense(&all.c[i]) && dense(&all.c[with]))) VEC_PUSH(p, *n, cap, ((pair){i, with}));
    }
    if (*n == 0) die(1, "no line of --a pairs with one of --b: they agree in none of the combinations of %s", match_list);
    return p;
}

// ---------------------------------------------------------------- statistics
// Values of every pair and document [pair * n_docs + document]; NAN: not measured. measured: the documents of a pair, in order, at the same place, and
// their number.
typedef struct { double *a, *b; double *words; bool text; int *measured, *n_measured; } table;

static double *blank(int n_pairs) {
    double *v = xmalloc((size_t)n_pairs * (size_t)all.n_docs * sizeof *v);
    for (size_t i = 0; i < (size_t)n_pairs * (size_t)all.n_docs; i++) v[i] = NAN;
    return v;
}

static bool is_text(int d) { return strcmp(all.d[d].task, "wikitext") == 0; }

static table fill_table(const pair *p, int n, bool text) {
    table t = {blank(n), blank(n), xcalloc((size_t)all.n_docs, sizeof(double)), text, xcalloc((size_t)n * (size_t)all.n_docs, sizeof(int)), xcalloc((size_t)n, sizeof(int))};
    for (int i = 0; i < all.n_records; i++) {
        const record *r = &all.r[i];
        if (is_text(r->document) != text) continue;
        t.words[r->document] = r->words;
        for (int k = 0; k < n; k++) {
            if (p[k].a == r->config) t.a[(size_t)k * (size_t)all.n_docs + (size_t)r->document] = r->value;
            if (p[k].b == r->config) t.b[(size_t)k * (size_t)all.n_docs + (size_t)r->document] = r->value;
        }
    }
    for (int k = 0; k < n; k++)
        for (int d = 0; d < all.n_docs; d++) {
            const size_t at = (size_t)k * (size_t)all.n_docs + (size_t)d;
            if (isnan(t.a[at]) != isnan(t.b[at]))
                die(1, "document %s of %s was measured under one mask of a pair only (seed %s); run both with the same --limit, --seed and tasks", all.d[d].id, all.d[d].task,
                    all.c[p[k].a].field[FIELDS - 1]);
            if (!isnan(t.a[at])) t.measured[(size_t)k * (size_t)all.n_docs + (size_t)t.n_measured[k]++] = d;
        }
    return t;
}

typedef struct { double a, b, effect; long n; } summary;

// One pair under weights of the documents: accuracy is the mean over tasks, perplexity exp(-sum of log-likelihoods / words).
static summary summarise(const table *t, int k, const double *weight) {
    const double *a = t->a + (size_t)k * (size_t)all.n_docs, *b = t->b + (size_t)k * (size_t)all.n_docs;
    summary s = {0};
    int tasks = 0;
    const int *doc = t->measured + (size_t)k * (size_t)all.n_docs, n = t->n_measured[k];
    for (int i = 0; i < n;) {  // documents lie sorted by task
        const int task = all.d[doc[i]].task_begin;
        double sum = 0, in_a = 0, in_b = 0;
        for (; i < n && all.d[doc[i]].task_begin == task; i++) {
            const int d = doc[i];
            const double w = weight ? weight[d] : 1;
            sum += t->text ? w * t->words[d] : w;
            in_a += w * a[d];
            in_b += w * b[d];
        }
        if (sum == 0) continue;
        s.a += in_a / sum;
        s.b += in_b / sum;
        tasks++;
    }
    s.n = n;
    if (tasks == 0) return (summary){NAN, NAN, NAN, 0};
    s.a /= tasks;
    s.b /= tasks;
    s.effect = t->text ? s.b - s.a : s.a - s.b;  // text: log of the ratio of perplexities
    return s;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// Weights of one draw: within each task, as many documents as it has, with replacement.
static void draw_weights(rng *r, double *weight) {
    for (int d = 0; d < all.n_docs; d++) weight[d] = 0;
    for (int d = 0, end; d < all.n_docs; d = end) {
        for (end = d; end < all.n_docs && all.d[end].task_begin == all.d[d].task_begin;) end++;
        for (int i = d; i < end; i++) weight[d + (int)rng_below(r, (uint64_t)(end - d))]++;
    }
}

typedef struct { double low, high, p; } interval;

static interval interval_of(double *effect, long n) {
    long below = 0, above = 0;
    qsort(effect, (size_t)n, sizeof *effect, ascending);
    for (long i = 0; i < n; i++) {
        below += effect[i] <= 0;
        above += effect[i] >= 0;
    }
    const long least = below < above ? below : above;
    const double p = 2.0 * (double)(least ? least : 1) / (double)n;  // no draw on a side: less than one draw's share
    return (interval){effect[(long)(0.025 * (double)n)], effect[(long)ceil(0.975 * (double)n) - 1], p < 1 ? p : 1};
}

// ---------------------------------------------------------------- output
static void put_row(FILE *csv, const table *t, const config *a, const summary *s, const interval *i, int pairs) {
    char key[300] = "";
    for (int k = 0; k < match.n; k++) {
        const char *v = a ? a->field[match.field[k]] : "";
        if (csv) fprintf(csv, "%s,", v);
        if (a && *v) snprintf(key + strlen(key), sizeof key - strlen(key), "%s%s", *key ? " " : "", v);
    }
    const double va = t->text ? exp(-s->a) : s->a, vb = t->text ? exp(-s->b) : s->b;
    const double e = t->text ? exp(s->effect) : s->effect, low = t->text ? exp(i->low) : i->low, high = t->text ? exp(i->high) : i->high;
    const char *name = t->text ? "word_perplexity" : metric;
    if (!a) snprintf(key, sizeof key, "all %d pairs", pairs);
    printf("%-44s %-15s %10.5g %10.5g  %s %+.5g  [%+.5g, %+.5g]  p %.2g\n", key, name, va, vb, t->text ? "ratio" : "A - B", e, low, high, i->p);
    if (csv) fprintf(csv, "%s,%d,%ld,%.10g,%.10g,%s,%.10g,%.10g,%.10g,%.4g\n", name, pairs, s->n, va, vb, t->text ? "ratio" : "difference", e, low, high, i->p);
}

static void compare_on(FILE *csv, const pair *p, int n, bool text) {
    table t = fill_table(p, n, text);
    double *weight = xmalloc((size_t)all.n_docs * sizeof *weight), *effect = xmalloc(((size_t)n + 1) * (size_t)draws * sizeof *effect);
    summary pooled = {0};
    int measured = 0;
    rng r = rng_make((uint64_t)seed);
    for (long i = 0; i < draws; i++) {
        double sum = 0;
        int in = 0;
        draw_weights(&r, weight);
        for (int k = 0; k < n; k++) {
            const double e = summarise(&t, k, weight).effect;
            effect[(size_t)k * (size_t)draws + (size_t)i] = e;
            if (isnan(e)) continue;
            sum += e;
            in++;
        }
        effect[(size_t)n * (size_t)draws + (size_t)i] = in ? sum / in : 0;
    }
    for (int k = 0; k < n; k++) {
        const summary s = summarise(&t, k, NULL);
        if (s.n == 0) continue;
        const interval i = interval_of(effect + (size_t)k * (size_t)draws, draws);
        put_row(csv, &t, &all.c[p[k].a], &s, &i, 1);
        pooled = (summary){pooled.a + s.a, pooled.b + s.b, pooled.effect + s.effect, pooled.n + s.n};
        measured++;
    }
    if (measured > 0) {
        pooled = (summary){pooled.a / measured, pooled.b / measured, pooled.effect / measured, pooled.n};
        const interval i = interval_of(effect + (size_t)n * (size_t)draws, draws);
        put_row(csv, &t, NULL, &pooled, &i, measured);
    }
    free(weight);
    free(effect);
    free(t.a);
    free(t.b);
    free(t.words);
    free(t.measured);
    free(t.n_measured);
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "paired differences between two masks, with bootstrap intervals, from the details of bin/sweep", options);
    selection a = parse_selection("a", select_a), b = parse_selection("b", select_b);
    int n;
    choose_match(&a, &b);
    char **path = cli_split(details_list, &n);
    for (int i = 0; i < n; i++) read_file(path[i]);
    free(path);
    if (all.n_records == 0) die(1, "--details %s: no lines", details_list);
    merge_documents();
    pair *p = make_pairs(&a, &b, &n);
    file_out out = {0};
    if (out_file && file_out_open(&out, out_file)) die(1, "%s", err_get());
    if (out_file) {
        char *command = cli_command(argc, argv);
        fprintf(out.f, "# command: %s\n# code: %s\n# A: %s\n# B: %s\n# %ld draws, seed %ld\n", command, code_version(), select_a, select_b, draws, seed);
        for (int k = 0; k < match.n; k++) fprintf(out.f, "%s,", field_names[match.field[k]]);
        fprintf(out.f, "metric,pairs,n,a,b,kind,effect,low,high,p\n");
        free(command);
    }
    printf("A: %s    B: %s    95 %% intervals of %ld draws over documents\n", select_a, select_b, draws);
    for (int text = 0; text < 2; text++) compare_on(out_file ? out.f : NULL, p, n, text);
    if (out_file && file_out_close(&out)) die(1, "%s", err_get());
    for (int i = 0; i < all.n; i++)
        for (int k = 0; k < FIELDS; k++) free(all.c[i].field[k]);
    free(p);
    free(a.parts);
    free(b.parts);
    stdout_end();
    return 0;
}
