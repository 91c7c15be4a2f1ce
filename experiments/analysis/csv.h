// csv - reading CSV files (RFC 4180) by the names of their columns, and choosing rows of them by a filter.
//
// Lines that begin with # are comments and skipped, the first other line names the columns, the rest are rows. A field
// that holds a comma, a quote or a line feed is quoted, a quote in it is doubled.
#pragma once
#include "base.h"

typedef struct {
    char **field;     // one for each column
    const char *raw;  // the row as it stands in the file, with its line feed
    size_t raw_bytes;
    long line;  // its first line, from 1
} csv_row;

typedef struct {
    char *path, *text, *cells;
    size_t bytes;
    char **column;
    int n_columns;
    csv_row *row;
    long n, cap;
} csv_file;

// -1 and err_set: no such file, no header, a row with another number of fields, a quote without end.
int csv_read(csv_file *c, const char *path);
void csv_free(csv_file *c);  // safe on {0} and twice
// Index of a column; -1 and err_set with the names that there are.
int csv_column(const csv_file *c, const char *name);

// A filter is a list of conditions that all have to hold: "mask=static|random,sparsity!=0" ("|" separates the values
// allowed, "\," is a comma in a value). A condition on a field replaces an earlier one on the same field, so that a row
// of a table can say otherwise than its column.
typedef struct {
    char *field, *value;
    bool negated, exact;
} csv_condition;  // exact: one value, whatever it holds
typedef struct {
    csv_condition *condition;
    int n, cap;
} csv_filter;

int csv_filter_add(csv_filter *f, const char *text);  // "" adds nothing; -1 and err_set: a part without =
void csv_filter_set(csv_filter *f, const char *field, const char *value);  // field=value, exactly
void csv_filter_merge(csv_filter *f, const csv_filter *g);                 // adds the conditions of g
void csv_filter_free(csv_filter *f);
// The filter as text for messages; the caller frees.
char *csv_filter_text(const csv_filter *f);
// Rows that pass, as indices in their order; the caller frees *rows. Returns their number (0 is no error), or -1 and
// err_set: no such column.
long csv_select(const csv_file *c, const csv_filter *f, long **rows);
