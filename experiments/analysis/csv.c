// csv - CSV files by the names of their columns, and filters of their rows. Contract in csv.h.
#include "csv.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- reading
typedef struct {
    const char *p, *end;
    char *out;
    long line;
} scanner;

// One field, copied without its quotes to s->out; s->p then stands at the comma or at the end of the line. False: a
// quote without end.
static bool scan_field(scanner *s) {
    if (s->p < s->end && *s->p == '"') {
        for (s->p++; s->p < s->end; s->p++) {
            if (*s->p == '"' && !(s->p + 1 < s->end && s->p[1] == '"')) break;
            if (*s->p == '"') s->p++;
            s->line += *s->p == '\n';
            *s->out++ = *s->p;
        }
        if (s->p == s->end) return false;
        s->p++;
    } else {
        while (s->p < s->end && *s->p != ',' && *s->p != '\n' && *s->p != '\r') *s->out++ = *s->p++;
    }
    *s->out++ = 0;
    return true;
}

static bool at_line_end(const scanner *s) {
    return s->p == s->end || *s->p == '\n' || (*s->p == '\r' && (s->p + 1 == s->end || s->p[1] == '\n'));
}

static void skip_line(scanner *s) {
    while (s->p < s->end && *s->p != '\n') s->p++;
    if (s->p < s->end) s->p++;
    s->line++;
}

// The fields of one line; NULL and err_set.
static char **scan_line(scanner *s, const char *path, int *n) {
    char **field = NULL;
    int cap = 0;
    const long line = s->line;
    *n = 0;
    for (;;) {
        VEC_PUSH(field, *n, cap, s->out);
        if (!scan_field(s)) {
            err_set("%s:%ld: a quoted field has no closing quote", path, line);
        } else if (at_line_end(s)) {
            skip_line(s);
            return field;
        } else if (*s->p != ',') {
            err_set("%s:%ld: text after the closing quote of a field", path, line);
        } else {
            s->p++;
            continue;
        }
        free(field);
        return NULL;
    }
}

static int scan_rows(csv_file *c, scanner *s) {
    while (s->p < s->end) {
        if (*s->p == '#') {
            skip_line(s);
            continue;
        }
        csv_row row = {.raw = s->p, .line = s->line};
        int n;
        row.field = scan_line(s, c->path, &n);
        if (!row.field) return -1;
        row.raw_bytes = (size_t)(s->p - row.raw);
        if (!c->column) {
            c->column = row.field;
            c->n_columns = n;
        } else if (n == c->n_columns) {
            VEC_PUSH(c->row, c->n, c->cap, row);
        } else {
            free(row.field);
            return err_set("%s:%ld: %d fields where the header has %d", c->path, row.line, n, c->n_columns);
        }
    }
    return c->column ? 0 : err_set("%s: no header line", c->path);
}

int csv_read(csv_file *c, const char *path) {
    *c = (csv_file){.path = xstrdup(path)};
    c->text = file_read(path, &c->bytes);
    if (!c->text) {
        csv_free(c);
        return -1;
    }
    c->cells = xmalloc(c->bytes + 1);  // a field's end takes the place of its comma or line feed
    scanner s = {c->text, c->text + c->bytes, c->cells, 1};
    const int bad = scan_rows(c, &s);
    if (bad) csv_free(c);
    return bad;
}

void csv_free(csv_file *c) {
    for (long i = 0; i < c->n; i++) free(c->row[i].field);
    free(c->row);
    free(c->column);
    free(c->cells);
    free(c->text);
    free(c->path);
    *c = (csv_file){0};
}

int csv_column(const csv_file *c, const char *name) {
    for (int i = 0; i < c->n_columns; i++)
        if (strcmp(c->column[i], name) == 0) return i;
    char *list;
    size_t bytes;
    FILE *f = open_memstream(&list, &bytes);
    for (int i = 0; i < c->n_columns; i++) fprintf(f, "%s%s", i ? ", " : "", c->column[i]);
    fclose(f);
    err_set("%s: no column %s; there are %s", c->path, name, list);
    free(list);
    return -1;
}

// ---------------------------------------------------------------- filters
static void set_condition(csv_filter *f, csv_condition with) {
    int i = 0;
    while (i < f->n && strcmp(f->condition[i].field, with.field) != 0) i++;
    if (i == f->n) {
        VEC_PUSH(f->condition, f->n, f->cap, with);
        return;
    }
    free(f->condition[i].field);
    free(f->condition[i].value);
    f->condition[i] = with;
}

int csv_filter_add(csv_filter *f, const char *text) {
    while (*text) {
        char *part = xstrdup(text), *out = part;
        while (*text && *text != ',') {
            if (text[0] == '\\' && text[1] == ',') text++;
            *out++ = *text++;
        }
        *out = 0;
        if (*text) text++;
        char *eq = strchr(part, '=');
        const bool negated = eq && eq > part && eq[-1] == '!';
        if (!eq || eq == part + negated) {
            err_set("filter \"%s\": field=value or field!=value is wanted, as mask=static", part);
            free(part);
            return -1;
        }
        char *field = xstrndup(part, (size_t)(eq - part) - negated);
        set_condition(f, (csv_condition){field, xstrdup(eq + 1), negated, false});
        free(part);
    }
    return 0;
}

void csv_filter_set(csv_filter *f, const char *field, const char *value) {
    set_condition(f, (csv_condition){xstrdup(field), xstrdup(value), false, true});
}

void csv_filter_merge(csv_filter *f, const csv_filter *g) {
    for (int i = 0; i < g->n; i++) {
        const csv_condition *c = &g->condition[i];
        set_condition(f, (csv_condition){xstrdup(c->field), xstrdup(c->value), c->negated, c->exact});
    }
}

void csv_filter_free(csv_filter *f) {
    for (int i = 0; i < f->n; i++) {
        free(f->condition[i].field);
        free(f->condition[i].value);
    }
    free(f->condition);
    *f = (csv_filter){0};
}

char *csv_filter_text(const csv_filter *f) {
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    for (int i = 0; i < f->n; i++) {
        const csv_condition *c = &f->condition[i];
        fprintf(out, "%s%s%s%s", i ? "," : "", c->field, c->negated ? "!=" : "=", c->value);
    }
    fclose(out);
    return text;
}

static bool in_list(const char *field, const char *list) {
    const size_t n = strlen(field);
    for (const char *p = list;; p++) {
        const size_t part = strcspn(p, "|");
        if (part == n && memcmp(p, field, n) == 0) return true;
        p += part;
        if (!*p) return false;
    }
}

static bool passes(const csv_row *row, const csv_filter *f, const int *column) {
    for (int i = 0; i < f->n; i++) {
        const csv_condition *c = &f->condition[i];
        const char *field = row->field[column[i]];
        const bool equal = c->exact ? strcmp(field, c->value) == 0 : in_list(field, c->value);
        if (equal == c->negated) return false;
    }
    return true;
}

long csv_select(const csv_file *c, const csv_filter *f, long **rows) {
    int *column = xmalloc(((size_t)f->n + 1) * sizeof *column);
    long n = 0, cap = 0;
    *rows = NULL;
    for (int i = 0; i < f->n && n == 0; i++) {
        column[i] = csv_column(c, f->condition[i].field);
        if (column[i] < 0) n = -1;
    }
    for (long r = 0; r < c->n && n >= 0; r++)
        if (passes(&c->row[r], f, column)) VEC_PUSH(*rows, n, cap, r);
    free(column);
    return n;
}
