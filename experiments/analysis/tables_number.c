// tables_number - one number from the rows of a CSV file: statistic, relation of two selections, format. Contract in
// tables.h. Statistics by GSL.
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tables.h"

enum { NOTHING = 1 };  // no row, or an empty field

static int one_value(double *x, const csv_file *c, long row, int column) {
    const char *text = c->row[row].field[column];
    char *stop;
    *x = strtod(text, &stop);
    if (!*text) {
        err_set("%s:%ld: %s is empty", c->path, c->row[row].line, c->column[column]);
        return NOTHING;
    }
    if (*stop || !isfinite(*x))
        return err_set("%s:%ld: %s is \"%s\", not a finite number", c->path, c->row[row].line, c->column[column], text);
    return 0;
}

// The value of each row: a column, or the sum of several ("weight_bytes+kv_bytes").
static int values_of(double *x, const csv_file *c, const long *row, long n, const char *value) {
    for (long i = 0; i < n; i++) x[i] = 0;
    for (const char *p = value; *p; p += *p == '+') {
        char *name = xstrndup(p, strcspn(p, "+"));
        const int column = csv_column(c, name);
        free(name);
        if (column < 0) return -1;
        for (long i = 0; i < n; i++) {
            double part;
            const int bad = one_value(&part, c, row[i], column);
            if (bad) return bad;
            x[i] += part;
        }
        p += strcspn(p, "+");
    }
    return 0;
}

static double median(double *x, size_t n) {
    gsl_sort(x, 1, n);
    return gsl_stats_median_from_sorted_data(x, 1, n);
}

static int geometric_mean(double *out, const double *x, long n) {
    double sum = 0;
    for (long i = 0; i < n; i++) {
        if (x[i] <= 0) return err_set("geomean of %g; all values have to be positive", x[i]);
        sum += log(x[i]);
    }
    *out = exp(sum / (double)n);
    return 0;
}

// An end of Student's 95 % interval of the mean: side -1 the lower, 1 the upper.
static int interval_end(double *out, const double *x, long n, int side) {
    if (n < 2) {
        err_set("an interval of %ld value; two are the least", n);
        return NOTHING;
    }
    const double half = gsl_cdf_tdist_Pinv(0.975, (double)(n - 1)) * gsl_stats_sd(x, 1, (size_t)n) / sqrt((double)n);
    *out = gsl_stats_mean(x, 1, (size_t)n) + side * half;
    return 0;
}

// Sorts x where it must.
static int statistic_of(double *out, double *x, long n, const char *name) {
    if (strcmp(name, "one") == 0) {
        *out = x[0];
        return n == 1 ? 0 : err_set("%ld rows where one is meant; narrow the filter or name a statistic", n);
    }
    if (strcmp(name, "mean") == 0)
        *out = gsl_stats_mean(x, 1, (size_t)n);
    else if (strcmp(name, "median") == 0)
        *out = median(x, (size_t)n);
    else if (strcmp(name, "min") == 0)
        *out = gsl_stats_min(x, 1, (size_t)n);
    else if (strcmp(name, "max") == 0)
        *out = gsl_stats_max(x, 1, (size_t)n);
    else if (strcmp(name, "geomean") == 0)
        return geometric_mean(out, x, n);
    else if (strcmp(name, "low") == 0 || strcmp(name, "high") == 0)
        return interval_end(out, x, n, *name == 'l' ? -1 : 1);
    else
        return err_set("unknown statistic %s; there are one, text, count, mean, median, min, max, geomean, low, high",
                       name);
    return 0;
}

static int relate(double *out, double a, double b, const char *relation) {
    const bool quotient = strcmp(relation, "ratio") == 0 || strcmp(relation, "percent") == 0;
    if (quotient && b == 0) return err_set("%s to 0", relation);
    if (strcmp(relation, "ratio") == 0)
        *out = a / b;
    else if (strcmp(relation, "percent") == 0)
        *out = 100 * (a / b - 1);
    else if (strcmp(relation, "difference") == 0)
        *out = a - b;
    else
        return err_set("unknown relation %s; there are ratio, difference, percent", relation);
    return 0;
}

// The rows that pass, and their values; NOTHING and err_set if there are none. The caller frees both, always.
typedef struct {
    long *row, n;
    double *x;
} selection;

static int select_values(selection *s, const csv_file *c, const csv_filter *where, const char *value) {
    s->n = csv_select(c, where, &s->row);
    if (s->n < 0) return -1;
    if (s->n == 0) {
        char *text = csv_filter_text(where);
        err_set("%s: no row with %s", c->path, text);
        free(text);
        return NOTHING;
    }
    s->x = xmalloc((size_t)s->n * sizeof *s->x);
    return values_of(s->x, c, s->row, s->n, value);
}

static void selection_free(selection *s) {
    free(s->row);
    free(s->x);
}

// Columns of a list of names, -1 at their end; NULL and err_set. The caller frees.
static int *columns_of(const csv_file *c, const char *const *name) {
    int n = 0;
    while (name[n]) n++;
    int *column = xmalloc(((size_t)n + 1) * sizeof *column);
    for (int i = 0; i < n; i++) {
        column[i] = csv_column(c, name[i]);
        if (column[i] >= 0) continue;
        free(column);
        return NULL;
    }
    column[n] = -1;
    return column;
}

static bool agree(const csv_file *c, long a, long b, const int *column) {
    for (; *column >= 0; column++)
        if (strcmp(c->row[a].field[*column], c->row[b].field[*column]) != 0) return false;
    return true;
}

// Two rows that are pooled must differ in the fields of across.
static int differ_across(const selection *s, const csv_file *c, const char *const *across) {
    int *column = columns_of(c, across), bad = column ? 0 : -1;
    for (long i = 0; i < s->n && !bad && *across; i++)
        for (long k = 0; k < i && !bad; k++)
            if (agree(c, s->row[i], s->row[k], column))
                bad = err_set("%s:%ld: the row is pooled with line %ld, but differs in no field of across", c->path,
                              c->row[s->row[i]].line, c->row[s->row[k]].line);
    free(column);
    return bad;
}

// a->x: each value in relation to the one value of b whose row agrees in the fields of by.
static int relate_rows(selection *a, const selection *b, const csv_file *c, const tables_measure *m) {
    int *column = columns_of(c, m->by), bad = column ? 0 : -1;
    for (long i = 0; i < a->n && !bad; i++) {
        long with = -1, found = 0;
        for (long k = 0; k < b->n; k++) {
            if (!agree(c, a->row[i], b->row[k], column)) continue;
            with = k;
            found++;
        }
        bad = found == 1 ? relate(&a->x[i], a->x[i], b->x[with], m->relation)
                         : err_set("%s:%ld: %ld rows of over agree with it in the fields of by, one is meant", c->path,
                                   c->row[a->row[i]].line, found);
    }
    free(column);
    return bad;
}

static int related(double *out, const csv_file *c, const csv_filter *where, const tables_measure *m, selection *a) {
    csv_filter over = {0};
    selection b = {0};
    double x = 0, y = 0;
    csv_filter_merge(&over, where);
    int bad = csv_filter_add(&over, m->over ? m->over : "");
    if (!bad) bad = select_values(&b, c, &over, m->over_value ? m->over_value : m->value);
    if (!bad) bad = differ_across(&b, c, m->across);
    if (!bad && *m->by) {
        bad = relate_rows(a, &b, c, m);
        if (!bad) bad = statistic_of(out, a->x, a->n, m->statistic);
    } else if (!bad) {
        bad = statistic_of(&x, a->x, a->n, m->statistic);
        if (!bad) bad = statistic_of(&y, b.x, b.n, m->statistic);
        if (!bad) bad = relate(out, x, y, m->relation);
    }
    csv_filter_free(&over);
    selection_free(&b);
    return bad;
}

static int number(double *out, const csv_file *c, const csv_filter *where, const tables_measure *m) {
    if (strcmp(m->statistic, "count") == 0) {
        long *row;
        const long n = csv_select(c, where, &row);
        free(row);
        *out = (double)n;
        return n < 0 ? -1 : 0;
    }
    selection a = {0};
    int bad = select_values(&a, c, where, m->value);
    if (!bad) bad = differ_across(&a, c, m->across);
    if (!bad) bad = m->relation ? related(out, c, where, m, &a) : statistic_of(out, a.x, a.n, m->statistic);
    selection_free(&a);
    return bad;
}

static int field_text(char **text, const csv_file *c, const csv_filter *where, const char *value) {
    const int column = csv_column(c, value);
    if (column < 0) return -1;
    long *row;
    const long n = csv_select(c, where, &row), first = n > 0 ? row[0] : 0;
    free(row);
    if (n == 1 && !*c->row[first].field[column]) {
        err_set("%s:%ld: %s is empty", c->path, c->row[first].line, value);
        return NOTHING;
    }
    if (n == 1) {
        *text = xstrdup(c->row[first].field[column]);
        return 0;
    }
    if (n < 0) return -1;
    char *filter = csv_filter_text(where);
    err_set("%s: %ld rows with %s where one is meant", c->path, n, filter);
    free(filter);
    return n ? -1 : NOTHING;
}

// One conversion, of the letters given, with flags, width and precision at most; the text is used as a format of
// printf.
static bool format_ok(const char *format, const char *letters) {
    int conversions = 0;
    for (const char *p = format; *p; p++) {
        if (*p != '%') continue;
        if (*++p == '%') continue;
        p += strspn(p, "+- 0#");
        p += strspn(p, "0123456789.");
        if (!*p || !strchr(letters, *p)) return false;
        conversions++;
    }
    return conversions == 1;
}

int tables_number(char **text, csv_file *c, const csv_filter *where, const tables_measure *m) {
    const bool is_text = strcmp(m->statistic, "text") == 0;
    *text = NULL;
    if (m->format && !format_ok(m->format, is_text ? "s" : "feg"))
        return err_set("format \"%s\": one conversion is wanted, as %s", m->format, is_text ? "%s" : "%.1f");
    if (!m->relation != !(m->over || m->over_value))
        return err_set("relation and over (or over_value) belong together; one of them is missing");
    if (is_text && m->yes) return err_set("between is for numbers, not for text");
    if (*m->by && !m->relation) return err_set("by belongs to a relation, which is missing");
    double x = 0;
    char *field = NULL;
    const int bad = is_text ? field_text(&field, c, where, m->value) : number(&x, c, where, m);
    x *= m->scale;
    if (!bad && m->yes)
        *text = xstrdup(m->low <= x && x <= m->high ? m->yes : m->no);
    else if (!bad)
        *text = is_text ? xasprintf(m->format, field) : xasprintf(m->format, x);
    free(field);
    return bad;
}
