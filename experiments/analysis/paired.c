// paired - reading details and making pairs. Contract in paired.h; resampling is in paired_resample.c.
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base.h"
#include "paired.h"

const char *const paired_field_name[PAIRED_FIELDS] = {
    "mode",     "mask",      "criterion", "design",    "target",       "lag",  "hidden",      "scope", "units",
    "sparsity", "mask_span", "refresh",   "aggregate", "local_counts", "part", "group_heads", "seed",  "scored_shots"};
enum { SPARSITY = 9, AGGREGATE = 12, LOCAL_COUNTS, PART, GROUP_HEADS, SCORED_SHOTS = 17 };

int paired_field(const char *name) {
    char list[300] = "";
    for (int i = 0; i < PAIRED_FIELDS; i++) {
        if (strcmp(name, paired_field_name[i]) == 0) return i;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", paired_field_name[i]);
    }
    return err_set("unknown field %s; there are %s", name, list);
}

// ---------------------------------------------------------------- reading
typedef struct {
    int config, document;
    double value[2];
} record;  // of a document: acc, gold; of a page: text
typedef struct {
    paired *p;
    json_t *configs, *documents;  // used as hash tables: key -> index
    record *r;
    int n, cap, cap_configs, cap_documents;
    paired_accuracy which;
} reader;

static char *text_of(const json_t *j) {
    if (json_is_string(j)) return xstrdup(json_string_value(j));
    return json_is_integer(j) ? xasprintf("%lld", (long long)json_integer_value(j)) : NULL;
}

static int find_key(json_t *table, const char *key) {
    const json_t *at = json_object_get(table, key);
    return at ? (int)json_integer_value(at) : -1;
}

// Takes the fields over.
static int config_of(reader *d, char *field[PAIRED_FIELDS], bool text) {
    char *key = xasprintf("%d", text);
    for (int k = 0; k < PAIRED_FIELDS; k++) {
        char *longer = xasprintf("%s\x1f%s", key, field[k]);
        free(key);
        key = longer;
    }
    int i = find_key(d->configs, key);
    if (i < 0) {
        paired_config c = {.text = text};
        memcpy(c.field, field, sizeof c.field);
        i = d->p->n_configs;
        VEC_PUSH(d->p->config, d->p->n_configs, d->cap_configs, c);
        json_object_set_new(d->configs, key, json_integer(i));
    } else {
        for (int k = 0; k < PAIRED_FIELDS; k++) free(field[k]);
    }
    free(key);
    return i;
}

static int document_of(reader *d, const char *task, const char *id) {
    char *key = xasprintf("%s\x1f%s", task, id);
    int i = find_key(d->documents, key);
    if (i < 0) {
        i = d->p->n_documents;
        VEC_PUSH(d->p->document, d->p->n_documents, d->cap_documents,
                 ((paired_document){.task = xstrdup(task), .id = xstrdup(id)}));
        json_object_set_new(d->documents, key, json_integer(i));
    }
    free(key);
    return i;
}

static int add_total(paired_config *c, const char *task, long long heads, long long neurons) {
    int i = c->n_totals - 1;  // lines of one row follow each other
    while (i >= 0 && strcmp(c->total[i].task, task) != 0) i--;
    if (i < 0) {
        VEC_PUSH(c->total, c->n_totals, c->cap_totals, ((paired_total){xstrdup(task), heads, neurons}));
        return 0;
    }
    if (c->total[i].heads == heads && c->total[i].neurons == neurons) return 0;
    return err_set("pruned_heads and pruned_neurons of %s differ from those of a line before with the same mask; "
                   "these lines are of different sweeps",
                   task);
}

static int set_size(paired_document *d, int outcome, double size, const char *unit) {
    if (size <= 0) return err_set("%s %s has no %s", d->task, d->id, unit);
    if (d->size[outcome] > 0 && d->size[outcome] != size)
        return err_set("%s %s has %.0f %s here and %.0f in a line before; these lines are of different data", d->task,
                       d->id, size, unit, d->size[outcome]);
    d->size[outcome] = size;
    return 0;
}

// The prediction that counts, of a document's line; NULL: there is none, and *old says that an earlier version made it.
static const json_t *chosen_of(const json_t *j, paired_accuracy which, bool *old) {
    static const char *const name[] = {
        [ACCURACY] = "prediction", [ACCURACY_BYTES] = "prediction_bytes", [ACCURACY_NORM] = "prediction_norm"};
    const json_t *per_byte = json_object_get(j, name[ACCURACY_BYTES]), *norm = json_object_get(j, name[ACCURACY_NORM]);
    *old = !per_byte && norm;
    if (*old && which != ACCURACY) return which == ACCURACY_BYTES ? norm : NULL;
    return json_object_get(j, name[which]);
}

// The values of a line and the sizes of its document.
static int read_values(reader *d, const json_t *j, record *r) {
    paired_document *doc = &d->p->document[r->document];
    const json_t *words = json_object_get(j, "words"), *ll = json_object_get(j, "log_likelihood");
    if (json_is_integer(words) && json_is_number(ll)) {
        r->value[0] = json_number_value(ll);
        return set_size(doc, PAIRED_TEXT, (double)json_integer_value(words), "words");
    }
    bool old;
    const json_t *gold = json_object_get(j, "gold"), *chosen = chosen_of(j, d->which, &old), *of = NULL, *bytes = NULL;
    if (!chosen && old)
        return err_set("its prediction_norm is by bytes, as an earlier version had it; ask for --metric acc_bytes, or "
                       "run the sweep again");
    if (json_is_integer(gold) && json_integer_value(gold) >= 0)
        of = json_array_get(json_object_get(j, "candidates"), (size_t)json_integer_value(gold));
    ll = json_object_get(of, "log_likelihood");
    bytes = json_object_get(of, "bytes");
    if (!json_is_integer(chosen) || !json_is_number(ll) || !json_is_integer(bytes))
        return err_set("neither a document nor a page; details of bin/sweep are wanted");
    r->value[0] = json_integer_value(gold) == json_integer_value(chosen);
    r->value[1] = json_number_value(ll);
    doc->size[PAIRED_ACC] = 1;
    return set_size(doc, PAIRED_GOLD, (double)json_integer_value(bytes), "bytes in its gold candidate");
}

static int read_fields(const json_t *j, char *field[PAIRED_FIELDS]) {
    for (int k = 0; k < PAIRED_FIELDS; k++) {
        field[k] = text_of(json_object_get(j, paired_field_name[k]));
        // files from before these fields
        if (!field[k] && (k == GROUP_HEADS || k == SCORED_SHOTS)) field[k] = xstrdup("");
        if (field[k]) continue;
        if (k == AGGREGATE || k == LOCAL_COUNTS || k == PART)
            return err_set("no field %s: made by an older sweep; run the sweep again", paired_field_name[k]);
        return err_set("no field %s; details of bin/sweep are wanted", paired_field_name[k]);
    }
    return 0;
}

static int read_object(reader *d, const json_t *j) {
    char *field[PAIRED_FIELDS] = {0}, *id = text_of(json_object_get(j, "id"));
    const char *task = json_string_value(json_object_get(j, "task"));
    const json_t *heads = json_object_get(j, "pruned_heads"), *neurons = json_object_get(j, "pruned_neurons");
    int bad = read_fields(j, field);
    if (!bad && (!json_is_integer(heads) || !json_is_integer(neurons)))
        bad = err_set("no whole numbers pruned_heads and pruned_neurons: made by an older sweep; run the sweep again");
    if (!bad && (!task || !id)) bad = err_set("no task or no id; details of bin/sweep are wanted");
    if (bad) {
        for (int k = 0; k < PAIRED_FIELDS; k++) free(field[k]);
    } else {
        record r = {config_of(d, field, json_object_get(j, "words") != NULL), document_of(d, task, id), {0, 0}};
        bad = add_total(&d->p->config[r.config], task, json_integer_value(heads), json_integer_value(neurons)) ||
              read_values(d, j, &r);
        VEC_PUSH(d->r, d->n, d->cap, r);
    }
    free(id);
    return bad ? -1 : 0;
}

static int read_path(reader *d, const char *path) {
    size_t bytes;
    char *text = file_read(path, &bytes);
    if (!text) return -1;
    int bad = 0;
    long line = 1;
    for (char *at = text, *stop; at < text + bytes && !bad; at = stop + 1, line++) {
        json_error_t e;
        stop = memchr(at, '\n', (size_t)(text + bytes - at));
        if (!stop) {
            bad = err_set("%s:%ld: the last line is not whole; let the sweep finish first", path, line);
            break;
        }
        json_t *j = json_loadb(at, (size_t)(stop - at), 0, &e);
        if (!j)
            bad = err_set("%s:%ld: not JSON (%s); the file is damaged", path, line, e.text);
        else if (read_object(d, j))
            bad = err_prefix("%s:%ld", path, line);
        json_decref(j);
    }
    free(text);
    return bad;
}

static int by_task_id(const void *a, const void *b) {
    const paired_document *x = a, *y = b;
    const int t = strcmp(x->task, y->task);
    return t ? t : strcmp(x->id, y->id);
}

// The documents in order; task_begin carries the place a document had, for the records.
static void sort_documents(reader *d) {
    paired_document *doc = d->p->document;
    const int n = d->p->n_documents;
    int *now = xmalloc((size_t)n * sizeof *now);
    for (int i = 0; i < n; i++) doc[i].task_begin = i;
    qsort(doc, (size_t)n, sizeof *doc, by_task_id);
    for (int i = 0; i < n; i++) now[doc[i].task_begin] = i;
    for (int i = 0; i < d->n; i++) d->r[i].document = now[d->r[i].document];
    for (int i = 0; i < n; i++)
        doc[i].task_begin = i && strcmp(doc[i].task, doc[i - 1].task) == 0 ? doc[i - 1].task_begin : i;
    free(now);
}

static int fill_values(reader *d) {
    const int n = d->p->n_documents;
    for (int i = 0; i < d->p->n_configs; i++) {
        paired_config *c = &d->p->config[i];
        for (int o = 0; o < PAIRED_OUTCOMES; o++) {
            if (c->text != (o == PAIRED_TEXT)) continue;
            c->value[o] = xmalloc((size_t)n * sizeof *c->value[o]);
            for (int k = 0; k < n; k++) c->value[o][k] = NAN;
        }
    }
    for (int i = 0; i < d->n; i++) {
        const record *r = &d->r[i];
        const paired_config *c = &d->p->config[r->config];
        for (int o = 0; o < PAIRED_OUTCOMES; o++) {
            if (!c->value[o]) continue;
            double *at = &c->value[o][r->document];
            const double value = r->value[o == PAIRED_GOLD];
            if (!isnan(*at) && *at != value)
                return err_set("%s %s stands twice with the same mask and different values; name details of one sweep",
                               d->p->document[r->document].task, d->p->document[r->document].id);
            *at = value;
        }
    }
    return 0;
}

// ---------------------------------------------------------------- what was seen
static const double *any_value(const paired_config *c) { return c->value[c->text ? PAIRED_TEXT : PAIRED_ACC]; }

static bool sees_the_same(const paired *p, const paired_config *c, const paired_view *v) {
    const double *value = any_value(c);
    int n = 0;
    for (int i = 0; i < p->n_documents; i++) n += !isnan(value[i]);
    if (n != v->n) return false;
    for (int k = 0; k < v->n; k++)
        if (isnan(value[v->document[k]])) return false;
    return true;
}

static paired_view make_view(const paired *p, const paired_config *c) {
    const double *value = any_value(c);
    paired_view v = {xmalloc((size_t)p->n_documents * sizeof(int)), 0, xmalloc((size_t)p->n_documents * sizeof(int)),
                     0};
    for (int i = 0; i < p->n_documents; i++) {
        if (isnan(value[i])) continue;
        if (v.n == 0 || p->document[i].task_begin != p->document[v.document[v.n - 1]].task_begin) v.n_tasks++;
        v.document[v.n++] = i;
        v.task_end[v.n_tasks - 1] = v.n;
    }
    return v;
}

static void make_views(paired *p) {
    int cap = 0;
    for (int i = 0; i < p->n_configs; i++) {
        paired_config *c = &p->config[i];
        for (c->view = 0; c->view < p->n_views && !sees_the_same(p, c, &p->view[c->view]);) c->view++;
        if (c->view == p->n_views) VEC_PUSH(p->view, p->n_views, cap, make_view(p, c));
    }
}

int paired_read(paired *p, char *const *path, int n, paired_accuracy which) {
    reader d = {.p = p, .configs = json_object(), .documents = json_object(), .which = which};
    int bad = 0;
    *p = (paired){0};
    for (int i = 0; i < n && !bad; i++) bad = read_path(&d, path[i]);
    if (!bad && d.n == 0) bad = err_set("%s: no lines", n ? path[0] : "no file named");
    if (!bad) {
        sort_documents(&d);
        bad = fill_values(&d);
    }
    if (!bad) make_views(p);
    json_decref(d.configs);
    json_decref(d.documents);
    free(d.r);
    return bad ? -1 : 0;
}

void paired_free(paired *p) {
    for (int i = 0; i < p->n_configs; i++) {
        paired_config *c = &p->config[i];
        for (int k = 0; k < PAIRED_FIELDS; k++) free(c->field[k]);
        for (int k = 0; k < c->n_totals; k++) free(c->total[k].task);
        for (int o = 0; o < PAIRED_OUTCOMES; o++) free(c->value[o]);
        free(c->total);
    }
    for (int i = 0; i < p->n_documents; i++) {
        free(p->document[i].task);
        free(p->document[i].id);
    }
    for (int i = 0; i < p->n_views; i++) {
        free(p->view[i].document);
        free(p->view[i].task_end);
    }
    free(p->config);
    free(p->document);
    free(p->view);
    *p = (paired){0};
}

// ---------------------------------------------------------------- pairs
int paired_select(paired_selection *s, const char *field, const char *value) {
    const int f = paired_field(field);
    if (f < 0) return -1;
    for (int i = 0; i < s->n; i++)
        if (s->field[i] == f) return err_set("field %s twice", field);
    s->field[s->n] = f;
    s->value[s->n++] = xstrdup(value);
    return 0;
}

void paired_selection_free(paired_selection *s) {
    for (int i = 0; i < s->n; i++) free(s->value[i]);
    *s = (paired_selection){0};
}

int paired_match_add(paired_match *m, const char *field) {
    const int f = paired_field(field);
    if (f < 0) return -1;
    for (int i = 0; i < m->n; i++)
        if (m->field[i] == f) return 0;
    m->field[m->n++] = f;
    return 0;
}

static bool selected(const paired_selection *s, const paired_config *c) {
    for (int i = 0; i < s->n; i++)
        if (!(c->text && s->field[i] == AGGREGATE) && strcmp(c->field[s->field[i]], s->value[i]) != 0) return false;
    return true;
}

static bool names(const paired_selection *s, int field) {
    for (int i = 0; i < s->n; i++)
        if (s->field[i] == field) return true;
    return false;
}

static bool agree(const paired_match *m, const paired_config *a, const paired_config *b) {
    for (int i = 0; i < m->n; i++)
        if (!(a->text && m->field[i] == AGGREGATE) && strcmp(a->field[m->field[i]], b->field[m->field[i]]) != 0)
            return false;
    return true;
}

static bool dense(const paired_config *c) { return strcmp(c->field[SPARSITY], "0") == 0; }

static int ambiguous(const char *side, const paired_config *x, const paired_config *y) {
    int k = 0;
    while (k < PAIRED_FIELDS - 1 && strcmp(x->field[k], y->field[k]) == 0) k++;
    return err_set(
        "%s: %s is \"%s\" and \"%s\" in lines that match otherwise; name %s in %s or among the fields to match", side,
        paired_field_name[k], x->field[k], y->field[k], paired_field_name[k], side);
}

static void sum_totals(const paired_config *c, long long *heads, long long *neurons) {
    *heads = *neurons = 0;
    for (int i = 0; i < c->n_totals; i++) {
        *heads += c->total[i].heads;
        *neurons += c->total[i].neurons;
    }
}

static bool equal_totals(const paired_config *a, const paired_config *b) {
    long long heads[2], neurons[2];
    sum_totals(a, &heads[0], &neurons[0]);
    sum_totals(b, &heads[1], &neurons[1]);
    return heads[0] == heads[1] && neurons[0] == neurons[1];
}

static int other_documents(const paired *p, const paired_config *a, const paired_config *b) {
    int i = 0;
    while (isnan(any_value(a)[i]) == isnan(any_value(b)[i])) i++;
    return err_set("%s %s was measured under one mask of a pair only (seed %s); run both with the same tasks, --limit, "
                   "--seed and --part",
                   p->document[i].task, p->document[i].id, a->field[PAIRED_SEED]);
}

const char *paired_sparsity(const paired *p, paired_pair pair) { return p->config[pair.a].field[SPARSITY]; }

// Stable, because pairs of one sparsity stay in the order of the lines.
static void sort_by_sparsity(const paired *p, paired_pair *pair, int n) {
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && atof(paired_sparsity(p, pair[k])) < atof(paired_sparsity(p, pair[k - 1])); k--) {
            const paired_pair x = pair[k];
            pair[k] = pair[k - 1];
            pair[k - 1] = x;
        }
}

// The one configuration that b selects and that agrees with config i; -1: none, -2 and err_set: several.
static int partner(const paired *p, int i, const paired_selection *a, const paired_selection *b,
                   const paired_match *m) {
    const paired_config *c = &p->config[i];
    int with = -1;
    for (int j = 0; j < p->n_configs; j++) {
        const paired_config *x = &p->config[j];
        if (j == i || x->text != c->text || !agree(m, c, x)) continue;
        if (selected(b, x)) {
            if (with >= 0) return ambiguous("b", &p->config[with], x) - 1;
            with = j;
        }
    }
    for (int j = 0; with >= 0 && j < p->n_configs; j++) {
        const paired_config *x = &p->config[j];
        if (j != i && x->text == c->text && agree(m, c, x) && selected(a, x)) return ambiguous("a", c, x) - 1;
    }
    return with;
}

int paired_pairs(paired_list *list, const paired *p, const paired_selection *a, const paired_selection *b,
                 const paired_match *match, bool text) {
    paired_match m = {0};
    int cap = 0, cap_left = 0;
    *list = (paired_list){0};
    for (int i = 0; i < match->n; i++)
        if (!names(a, match->field[i]) && !names(b, match->field[i])) m.field[m.n++] = match->field[i];
    for (int i = 0; i < p->n_configs; i++) {
        const paired_config *c = &p->config[i];
        if (c->text != text || !selected(a, c)) continue;
        const int with = partner(p, i, a, b, &m);
        if (with < -1) return -1;
        if (with < 0 || (dense(c) && dense(&p->config[with]))) continue;
        const paired_pair pair = {i, with};
        if (c->view != p->config[with].view) return other_documents(p, c, &p->config[with]);
        if (equal_totals(c, &p->config[with]))
            VEC_PUSH(list->pair, list->n, cap, pair);
        else
            VEC_PUSH(list->left_out, list->n_left_out, cap_left, pair);
    }
    sort_by_sparsity(p, list->pair, list->n);
    sort_by_sparsity(p, list->left_out, list->n_left_out);
    return 0;
}

void paired_list_free(paired_list *list) {
    free(list->pair);
    free(list->left_out);
    *list = (paired_list){0};
}
