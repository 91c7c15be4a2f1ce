// tables - tables and single numbers from CSV files, as a JSON file says:
//
//   {"csv": {NAME: PATH, ..}, "measures": {NAME: MEASURE, ..}, "tables": {NAME: TABLE, ..}}
//
// measures may be left out. {"as": NAME} in a column, a part or a cell takes the fields of that measure that it has not
// itself; its "where" comes after that of the measure. A measure of this list may also name a csv.
// PATH     {in} in it stands for the folder that is given when the JSON file is opened
// TABLE    {"csv": NAME, "where": FILTER, "head": [heads of the label columns], "columns": [COLUMN, ..],
//           "rows": [ROW, ..], "optional": BOOL}; optional: all its columns and rows are
// COLUMN   {"head": TEXT, "each": [FIELD, ..], "ascending": BOOL, "optional": BOOL, "csv": NAME, "where": FILTER,
//           "instead": FILTER, and the fields of MEASURE or "parts": [MEASURE, ..]}
//          each       a column for every combination of these fields, in the order of the rows, or ascending by
//                     number; {FIELD} in the head is its value
//          csv        that of the table unless given
//          optional   a cell for which there is no row, or no CSV file, is blank; otherwise that is an error
//          instead    conditions that replace those of the rows of the table
// ROW      {"label": [TEXT, ..], "where": FILTER or {NAME of a CSV or "*": FILTER, ..}, "each": [FIELD, ..],
//           "ascending": BOOL, "optional": BOOL}; each, ascending and {FIELD} as for columns; optional: no row of the
//          table if nothing passes; or
//          {"label": [TEXT, ..], "cells": [CELL, ..]}, a cell for each column, which then has a head only
// CELL     TEXT, or a list of TEXT and of {"csv": NAME, and the fields of MEASURE}; a measure without a row or CSV file
//          leaves nothing, and "not run" where all of a cell do
// MEASURE  {"value": COLUMN of the CSV, or several with + between them, "statistic": NAME, "where": FILTER,
//           "across": [FIELD, ..], "relation": NAME, "over": FILTER, "over_value": COLUMN,
//           "by": [FIELD, ..], "scale": NUMBER, "format": "%.1f ms" or "between": [LOW, HIGH, YES, NO]}
//          statistic  one (the default: there is one row only), text (of one row, as it stands), count, mean, median,
//                     min, max, geomean; low, high: ends of Student's 95 % interval of the mean
//          between    the text YES where LOW <= number <= HIGH, otherwise NO
//          across     the rows that are pooled differ in these fields (["seed"]: one row a seed), so that nothing
//                     else is pooled unseen
//          relation   ratio A / B, difference A - B or percent 100 (A / B - 1): A is the statistic of the rows that
//                     pass, B that of the rows that pass with the conditions of over in place of those on the same
//                     fields (without over: of the same rows), over_value in place of value
//          by         each row of A is related to the one row of B that agrees in these fields, and the statistic is
//                     that of the results
// FILTER   see csv.h. Those of table, column, part and row are put together in this order; a later condition replaces
//          an earlier one on the same field. That of the table holds for columns of the table's CSV only.
#pragma once
#include <jansson.h>
#include "csv.h"

typedef struct {
    char *name, *path;
    csv_file file;
    bool loaded;
} tables_source;
typedef struct {
    json_t *root;
    tables_source *source;
    int n_sources;
    char *path;
    bool nothing;  // the last error was a CSV file that is not there, or rows that are not
} tables_spec;

typedef struct {
    const char *value, *statistic, *format, *relation, *over, *over_value;  // those of a relation: NULL if not given
    const char **by, **across;                                              // names of fields; NULL at their end
    double scale, low, high;
    const char *yes, *no;  // of between; NULL: the number itself, by format
} tables_measure;

// Row 0 has the heads; the first `labels` columns are labels.
typedef struct {
    char **cell;
    int rows, columns, labels;
} tables_grid;

// Reads the JSON file. in: folder for {in} in its paths. override: "NAME=PATH,..", or NULL: other files than it names.
// -1 and err_set.
int tables_open(tables_spec *s, const char *path, const char *in, const char *override);
void tables_close(tables_spec *s);  // safe on {0}
// The rows of one of its CSV files, read when first asked for; NULL and err_set.
csv_file *tables_csv(tables_spec *s, const char *name);
// A number as text; the caller frees. Returns 0, 1 (no row passes, or the value is empty there: err_set says so), -1
// and err_set.
int tables_number(char **text, csv_file *c, const csv_filter *where, const tables_measure *m);

// Computes a table. -1 and err_set.
int tables_make(tables_grid *g, tables_spec *s, const char *name);
void tables_grid_free(tables_grid *g);  // safe on {0}
// Columns of equal width, two blanks between them, labels to the left.
void tables_text(FILE *f, const tables_grid *g);
void tables_markdown(FILE *f, const tables_grid *g);
void tables_csv_text(FILE *f, const tables_grid *g);
// Writes every table as FOLDER/NAME.csv; the folder is made. Those whose CSV files or rows are not there are left out;
// why is said in a line of list. -1 and err_set.
int tables_all(tables_spec *s, const char *folder, FILE *list);

// Replaces what stands in a document between <!-- table NAME --> and <!-- end of table --> by the table. check: writes
// nothing, and a difference is an error that names document, line and table. -1 and err_set.
int tables_document(tables_spec *s, const char *path, bool check);
// Numbers in sentences: a CSV file with the columns document, words (of the document, with the number in them),
// number, csv, and the fields of MEASURE (by, across: with + between fields). Each has to stand in the document and to
// follow from its CSV. list (or NULL) gets a line for each; otherwise the first that fails is an error. -1 and err_set.
int tables_numbers(tables_spec *s, const char *path, FILE *list);
