// tables - tables from CSV files, as a JSON file says. Contract in tables.h; the file itself is read by tables_spec.c.
#include "tables.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- columns and rows as written
typedef struct {
    const char *head, *csv, *where, *instead;
    json_t *each, *parts, *json;  // parts: an array of measures; NULL: the column is one itself
    int ascending, optional;
} column_spec;

typedef struct {
    json_t *label, *where, *each, *cells;
    int ascending, optional;
} row_spec;

typedef struct {
    const char *csv, *where;
    json_t *head, *columns, *rows;
    int optional;
} table_spec;

static int want_array(const json_t *j, const char *what) {
    return !j || json_is_array(j) ? 0 : err_set("%s: an array is wanted", what);
}

static int unpack_column(column_spec *c, json_t *j) {
    json_error_t e;
    *c = (column_spec){.where = "", .instead = "", .json = j};
    if (json_unpack_ex(j, &e, 0, "{s:s, s?s, s?s, s?s, s?o, s?o, s?b, s?b}", "head", &c->head, "csv", &c->csv, "where",
                       &c->where, "instead", &c->instead, "each", &c->each, "parts", &c->parts, "ascending",
                       &c->ascending, "optional", &c->optional))
        return err_set("a column: %s", e.text);
    static const char *const known[] = {"head", "csv", "where", "instead", "each", "parts", "ascending", "optional"};
    const char *key;
    json_t *value;
    json_object_foreach(j, key, value) {  // what is left belongs to the measure
        bool ours = !c->parts;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) ours |= strcmp(key, known[i]) == 0;
        if (!ours) return err_set("column \"%s\": %s beside parts; it belongs to one of them", c->head, key);
    }
    return want_array(c->parts, "parts") || want_array(c->each, "each") ? -1 : 0;
}

// Names as an array with NULL at its end, which the caller frees; the strings are those of the JSON. NULL and err_set:
// something else than names.
static const char **names_of(const json_t *list, const char *what) {
    if (want_array(list, what)) return NULL;
    const size_t n = json_array_size(list);
    const char **name = xcalloc(n + 1, sizeof *name);
    for (size_t i = 0; i < n; i++) {
        name[i] = json_string_value(json_array_get(list, i));
        if (name[i]) continue;
        err_set("%s: names of columns are wanted", what);
        free(name);
        return NULL;
    }
    return name;
}

static void free_measure(tables_measure *m) {
    free(m->by);
    free(m->across);
}

static int unpack_between(tables_measure *m, json_t *between) {
    json_error_t e;
    if (!m->format && !between) return err_set("a measure: format or between is wanted");
    if (!between) return 0;
    if (json_unpack_ex(between, &e, JSON_STRICT, "[F, F, s, s]", &m->low, &m->high, &m->yes, &m->no))
        return err_set("between: [LOW, HIGH, YES, NO] is wanted: %s", e.text);
    return 0;
}

// A measure, and its filter if it is a part of a column. The caller calls free_measure, always.
static int unpack_measure(tables_measure *m, const char **where, json_t *j, bool part) {
    json_error_t e;
    json_t *by = NULL, *across = NULL, *between = NULL, *fields = json_copy(j);
    *m = (tables_measure){.value = "value", .statistic = "one", .scale = 1};
    *where = "";
    if (!part) {
        static const char *const others[] = {"head", "csv", "where", "instead", "each", "ascending", "optional"};
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) json_object_del(fields, others[i]);
    }
    const int bad = json_unpack_ex(fields, &e, JSON_STRICT, "{s?s, s?s, s?s, s?s, s?s, s?s, s?s, s?F, s?o, s?o, s?o}",
                                   "where", where, "value", &m->value, "statistic", &m->statistic, "relation",
                                   &m->relation, "over", &m->over, "over_value", &m->over_value, "format", &m->format,
                                   "scale", &m->scale, "by", &by, "across", &across, "between", &between);
    json_decref(fields);  // its strings are those of j
    if (bad) return err_set("a measure: %s", e.text);
    m->by = names_of(by, "by");
    m->across = names_of(across, "across");
    return m->by && m->across ? unpack_between(m, between) : -1;
}

static int unpack_row(row_spec *r, json_t *j) {
    json_error_t e;
    *r = (row_spec){0};
    if (json_unpack_ex(j, &e, JSON_STRICT, "{s:o, s?o, s?o, s?b, s?b, s?o}", "label", &r->label, "where", &r->where,
                       "each", &r->each, "ascending", &r->ascending, "optional", &r->optional, "cells", &r->cells))
        return err_set("a row: %s", e.text);
    if (r->cells && (r->where || r->each))
        return err_set("a row: cells have filters of their own; where and each are none");
    return want_array(r->each, "each") || want_array(r->cells, "cells") ? -1 : 0;
}

// ---------------------------------------------------------------- each: the combinations of some fields
typedef struct {
    char **field, ***value;
    int n_fields, n, cap;
} combinations;  // value[i][f]; the strings belong to the CSV and the JSON

static void combinations_free(combinations *e) {
    for (int i = 0; i < e->n; i++) free(e->value[i]);
    free(e->value);
    free(e->field);
    *e = (combinations){0};
}

static int compare_numbers(const char *const *a, const char *const *b, int n) {
    for (int f = 0; f < n; f++) {
        const double x = strtod(a[f], NULL), y = strtod(b[f], NULL);
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

static bool same_strings(char *const *a, char *const *b, int n) {
    for (int f = 0; f < n; f++)
        if (strcmp(a[f], b[f]) != 0) return false;
    return true;
}

// Insertion keeps the order of the rows among equal numbers.
static void add_combination(combinations *e, char **value, bool ascending) {
    for (int i = 0; i < e->n; i++) {
        if (!same_strings(e->value[i], value, e->n_fields)) continue;
        free(value);
        return;
    }
    VEC_PUSH(e->value, e->n, e->cap, value);
    for (int i = e->n - 1; ascending && i > 0; i--) {
        if (compare_numbers((const char *const *)e->value[i - 1], (const char *const *)value, e->n_fields) <= 0) break;
        e->value[i] = e->value[i - 1];
        e->value[i - 1] = value;
    }
}

enum { NOTHING = 1 };  // no row passes

// Without `each` there is one combination, of no fields. optional: none where no row passes. 0, NOTHING and err_set, or
// -1 and err_set.
static int find_combinations(combinations *e, const csv_file *c, const csv_filter *where, json_t *each, bool ascending,
                             bool optional) {
    int column[16] = {0};
    *e = (combinations){.n_fields = (int)json_array_size(each)};
    if (e->n_fields > (int)(sizeof column / sizeof *column)) return err_set("each: more than 16 fields");
    e->field = xcalloc((size_t)e->n_fields + 1, sizeof *e->field);
    for (int f = 0; f < e->n_fields; f++) {
        const char *name = json_string_value(json_array_get(each, (size_t)f));
        column[f] = name ? csv_column(c, name) : err_set("each: names of columns are wanted");
        if (column[f] < 0) return -1;
        e->field[f] = c->column[column[f]];
    }
    long *row;
    const long n = csv_select(c, where, &row);
    for (long i = 0; i < n; i++) {
        char **value = xcalloc((size_t)e->n_fields + 1, sizeof *value);
        for (int f = 0; f < e->n_fields; f++) value[f] = c->row[row[i]].field[column[f]];
        add_combination(e, value, ascending);
    }
    free(row);
    if (n > 0 || (n == 0 && optional)) return 0;
    if (n < 0) return -1;
    char *text = csv_filter_text(where);
    err_set("%s: no row with %s", c->path, text);
    free(text);
    return NOTHING;
}

static void set_combination(csv_filter *f, const combinations *e, int i) {
    for (int k = 0; k < e->n_fields; k++) csv_filter_set(f, e->field[k], e->value[i][k]);
}

// "{scope} masks" with the values of a combination; the caller frees.
static char *fill_in(const char *text, const combinations *e, int i) {
    char *out;
    size_t bytes;
    FILE *f = open_memstream(&out, &bytes);
    while (*text) {
        const char *end = *text == '{' ? strchr(text, '}') : NULL;
        int k = end ? 0 : e->n_fields;
        while (k < e->n_fields && !(strlen(e->field[k]) == (size_t)(end - text - 1) &&
                                    memcmp(e->field[k], text + 1, (size_t)(end - text - 1)) == 0))
            k++;
        if (k < e->n_fields) {
            fputs(e->value[i][k], f);
            text = end + 1;
        } else {
            fputc(*text++, f);
        }
    }
    fclose(f);
    return out;
}

// ---------------------------------------------------------------- the table
// A column of the table that is made: a column as written and one of its combinations.
typedef struct {
    column_spec spec;
    const char *csv;
    csv_filter where;
    char *head;
} made_column;
typedef struct {
    tables_spec *spec;
    table_spec table;
    made_column *column;
    int n_columns, cap_columns, labels;
    char **cell;
    int n_cells, cap_cells;
} maker;

static int put_cell(maker *m, char *text) {
    VEC_PUSH(m->cell, m->n_cells, m->cap_cells, text);
    return 0;
}

// A cell for which there is no row or no file is blank.
static bool is_optional(const maker *m, const column_spec *c) { return c->optional || m->table.optional; }

static int make_column(maker *m, json_t *j) {
    column_spec c;
    csv_filter where = {0};
    combinations each = {0};
    if (unpack_column(&c, j)) return -1;
    const char *name = c.csv ? c.csv : m->table.csv;
    csv_file *file = tables_csv(m->spec, name);
    int bad = file ? 0 : -1;
    if (bad && m->spec->nothing && is_optional(m, &c) && c.csv && !c.each) {
        VEC_PUSH(m->column, m->n_columns, m->cap_columns, ((made_column){.spec = c, .head = xstrdup(c.head)}));
        return 0;
    }
    if (!bad && strcmp(name, m->table.csv) == 0) bad = csv_filter_add(&where, m->table.where);
    if (!bad) bad = csv_filter_add(&where, c.where);
    if (!bad && c.each) bad = find_combinations(&each, file, &where, c.each, c.ascending, is_optional(m, &c));
    m->spec->nothing |= bad > 0;
    for (int i = 0; i < (c.each ? each.n : 1) && !bad; i++) {
        made_column made = {.spec = c, .csv = name, .head = fill_in(c.head, &each, i)};
        csv_filter_merge(&made.where, &where);
        set_combination(&made.where, &each, i);
        VEC_PUSH(m->column, m->n_columns, m->cap_columns, made);
    }
    combinations_free(&each);
    csv_filter_free(&where);
    return bad ? err_prefix("column \"%s\"", c.head) : 0;
}

// The conditions of a row on a CSV: NULL where the row has none of its own for that CSV and says so by leaving it out
// of its list.
static const char *row_where(const row_spec *r, const char *csv) {
    if (!r->where) return "";
    if (!json_is_object(r->where)) return json_string_value(r->where);
    const json_t *of = json_object_get(r->where, csv);
    return json_string_value(of ? of : json_object_get(r->where, "*"));
}

static int make_part(char **text, maker *m, const made_column *c, json_t *json, const row_spec *r,
                     const combinations *each, int i) {
    tables_measure measure;
    const char *own, *of_row = row_where(r, c->csv);
    csv_filter where = {0};
    *text = NULL;
    if (!of_row) return err_set("no filter for %s in \"where\" of the row", c->csv);
    int bad = unpack_measure(&measure, &own, json, c->spec.parts != NULL);
    csv_filter_merge(&where, &c->where);
    if (!bad) bad = csv_filter_add(&where, own);
    if (!bad) bad = csv_filter_add(&where, of_row);
    if (!bad) set_combination(&where, each, i);
    if (!bad) bad = csv_filter_add(&where, c->spec.instead);
    if (!bad) bad = tables_number(text, tables_csv(m->spec, c->csv), &where, &measure);
    csv_filter_free(&where);
    free_measure(&measure);
    return bad;
}

static int make_cell(maker *m, const made_column *c, const row_spec *r, const combinations *each, int i) {
    if (!c->csv) return put_cell(m, xstrdup(""));
    char *cell = xstrdup("");
    const size_t parts = c->spec.parts ? json_array_size(c->spec.parts) : 1;
    for (size_t p = 0; p < parts; p++) {
        char *part;
        const int bad =
            make_part(&part, m, c, c->spec.parts ? json_array_get(c->spec.parts, p) : c->spec.json, r, each, i);
        if (bad) {
            free(cell);
            if (bad > 0 && is_optional(m, &c->spec)) return put_cell(m, xstrdup(""));
            m->spec->nothing |= bad > 0;
            return err_prefix("column \"%s\"", c->head);
        }
        char *longer = xasprintf("%s%s", cell, part);
        free(cell);
        free(part);
        cell = longer;
    }
    return put_cell(m, cell);
}

// Puts the labels of the row, which end before cell `end`, before the error.
static int row_error(const maker *m, int end) {
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    for (int i = end - m->labels; i < end; i++) fprintf(f, i > end - m->labels ? ", %s" : "%s", m->cell[i]);
    fclose(f);
    err_prefix("row \"%s\"", text);
    free(text);
    return -1;
}

static int make_labels(maker *m, const row_spec *r, const combinations *each, int i) {
    for (int k = 0; k < m->labels; k++) {
        const char *text = json_string_value(json_is_array(r->label) ? json_array_get(r->label, (size_t)k) : r->label);
        if (!text) return err_set("label: text is wanted");
        put_cell(m, fill_in(text, each, i));
    }
    return 0;
}

static int make_row(maker *m, const row_spec *r, const combinations *each, int i) {
    const size_t labels = json_is_array(r->label) ? json_array_size(r->label) : 1;
    if ((int)labels != m->labels) return err_set("a row has %zu labels where head has %d", labels, m->labels);
    if (make_labels(m, r, each, i)) return -1;
    for (int c = 0; c < m->n_columns; c++)
        if (make_cell(m, &m->column[c], r, each, i)) return row_error(m, m->n_cells - c);
    return 0;
}

// ---------------------------------------------------------------- rows of cells of their own
// A measure of a cell, with the name of its CSV.
static int own_measure(char **text, maker *m, json_t *j) {
    const char *name = json_string_value(json_object_get(j, "csv")), *own;
    if (!name) return err_set("a cell: text, or a measure with its csv, is wanted");
    csv_file *file = tables_csv(m->spec, name);
    if (!file) return m->spec->nothing ? NOTHING : -1;
    json_t *measure = json_copy(j);
    json_object_del(measure, "csv");
    tables_measure of;
    csv_filter where = {0};
    int bad = unpack_measure(&of, &own, measure, true);
    if (!bad) bad = csv_filter_add(&where, own);
    if (!bad) bad = tables_number(text, file, &where, &of);
    csv_filter_free(&where);
    free_measure(&of);
    json_decref(measure);
    return bad;
}

static int make_own_cell(maker *m, json_t *j) {
    char *cell = xstrdup("");
    const size_t parts = json_is_array(j) ? json_array_size(j) : 1;
    int bad = 0, found = 0, missing = 0;
    for (size_t p = 0; p < parts && bad >= 0; p++) {
        json_t *part = json_is_array(j) ? json_array_get(j, p) : j;
        char *text = NULL;
        bad = json_is_string(part) ? 0 : own_measure(&text, m, part);
        found += text != NULL;
        missing += bad > 0;
        const char *more = json_is_string(part) ? json_string_value(part) : text;
        char *longer = xasprintf("%s%s", cell, more ? more : "");
        free(cell);
        free(text);
        cell = longer;
    }
    m->spec->nothing = false;
    if (bad >= 0 && (found || !missing)) return put_cell(m, cell);
    free(cell);
    return bad < 0 ? -1 : put_cell(m, xstrdup("not run"));
}

static int make_row_of_cells(maker *m, const row_spec *r) {
    const int before = m->n_cells;
    const combinations none = {0};
    const size_t labels = json_is_array(r->label) ? json_array_size(r->label) : 1, n = json_array_size(r->cells);
    if ((int)labels != m->labels || (int)n != m->n_columns)
        return err_set("a row has %zu labels and %zu cells where there are %d and %d heads", labels, n, m->labels,
                       m->n_columns);
    if (make_labels(m, r, &none, 0)) return -1;
    for (size_t c = 0; c < n; c++)
        if (make_own_cell(m, json_array_get(r->cells, c))) return row_error(m, before + m->labels);
    return 0;
}

static int make_rows(maker *m, json_t *j) {
    row_spec r;
    csv_filter where = {0};
    combinations each = {0};
    if (unpack_row(&r, j)) return -1;
    if (r.cells) return make_row_of_cells(m, &r);
    csv_file *file = tables_csv(m->spec, m->table.csv);
    const char *own = row_where(&r, m->table.csv);
    int bad = file ? 0 : -1;
    if (!own) bad = err_set("where of a row: neither a filter nor a list of them with %s or *", m->table.csv);
    if (!bad) bad = csv_filter_add(&where, m->table.where);
    if (!bad) bad = csv_filter_add(&where, own);
    if (!bad && !r.each && !r.optional && m->table.optional) {
        bad = make_row(m, &r, &each, 0);  // blank where nothing passes
    } else if (!bad) {
        bad = find_combinations(&each, file, &where, r.each, r.ascending, r.optional || m->table.optional);
        m->spec->nothing |= bad > 0;
        for (int i = 0; i < each.n && !bad; i++) bad = make_row(m, &r, &each, i);
    }
    combinations_free(&each);
    csv_filter_free(&where);
    return bad;
}

static int make_heads(maker *m) {
    size_t i;
    json_t *j;
    json_array_foreach(m->table.head, i, j) {
        if (!json_is_string(j)) return err_set("head: text is wanted");
        put_cell(m, xstrdup(json_string_value(j)));
    }
    m->labels = m->n_cells;
    json_array_foreach(m->table.columns, i, j) {
        if (make_column(m, j)) return -1;
    }
    for (int c = 0; c < m->n_columns; c++) put_cell(m, xstrdup(m->column[c].head));
    return 0;
}

static int make_all(maker *m, json_t *table) {
    json_error_t e;
    m->table.where = "";
    if (json_unpack_ex(table, &e, JSON_STRICT, "{s:s, s?s, s:o, s:o, s:o, s?b}", "csv", &m->table.csv, "where",
                       &m->table.where, "head", &m->table.head, "columns", &m->table.columns, "rows", &m->table.rows,
                       "optional", &m->table.optional))
        return err_set("%s", e.text);
    if (want_array(m->table.head, "head") || want_array(m->table.columns, "columns") ||
        want_array(m->table.rows, "rows") || make_heads(m))
        return -1;
    size_t i;
    json_t *j;
    json_array_foreach(m->table.rows, i, j) {
        if (make_rows(m, j)) return -1;
    }
    return 0;
}

int tables_make(tables_grid *g, tables_spec *s, const char *name) {
    maker m = {.spec = s};
    json_t *table = json_object_get(json_object_get(s->root, "tables"), name);
    *g = (tables_grid){0};
    s->nothing = false;
    if (!table) return err_set("%s: no table is named %s", s->path, name);
    const int bad = make_all(&m, table);
    const int columns = m.labels + m.n_columns;
    *g = (tables_grid){m.cell, columns ? m.n_cells / columns : 0, columns, m.labels};
    for (int c = 0; c < m.n_columns; c++) {
        csv_filter_free(&m.column[c].where);
        free(m.column[c].head);
    }
    free(m.column);
    if (!bad) return 0;
    for (int i = 0; i < m.n_cells; i++) free(m.cell[i]);
    free(m.cell);
    *g = (tables_grid){0};
    return err_prefix("%s: table %s", s->path, name);
}

void tables_grid_free(tables_grid *g) {
    for (int i = 0; i < g->rows * g->columns; i++) free(g->cell[i]);
    free(g->cell);
    *g = (tables_grid){0};
}
