// tables - the tables and numbers of the documents, made from CSV files as a JSON file says (tables.h), and rows of
// CSV files by a filter.
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "tables.h"

static char *spec_file = "results/tables.json", *in = ".", *csv_list, *table, *all_to, *documents, *numbers,
            *select_files, *where = "", *out_file;
static bool check;
static const char *const form_names[] = {"text", "markdown", "csv", NULL};
static void (*const forms[])(FILE *, const tables_grid *) = {tables_text, tables_markdown, tables_csv_text};
static int form;

static const cli_option options[] = {
    {.name = "spec",
     .type = CLI_STR,
     .value = &spec_file,
     .arg = "FILE",
     .help = "JSON file with the CSV files and the tables"},
    {.name = "csv",
     .type = CLI_STR,
     .value = &csv_list,
     .arg = "NAME=PATH,..",
     .help = "read these files in place of those that the JSON file names"},
    {.name = "in",
     .type = CLI_STR,
     .value = &in,
     .arg = "DIR",
     .help = "folder that {in} stands for in the JSON file's paths"},
    {.name = "table", .type = CLI_STR, .value = &table, .arg = "NAME", .help = "print this table"},
    {.name = "as",
     .type = CLI_CHOICE,
     .value = &form,
     .arg = "KIND",
     .help = "for --table: what it is printed as",
     .names = form_names},
    {.name = "all",
     .type = CLI_STR,
     .value = &all_to,
     .arg = "DIR",
     .help = "write every table as DIR/NAME.csv; what has no CSV file or no rows is left out, and said"},
    {.name = "document",
     .type = CLI_STR,
     .value = &documents,
     .arg = "a,b",
     .help = "write the tables between the markers of these documents"},
    {.name = "numbers",
     .type = CLI_STR,
     .value = &numbers,
     .arg = "FILE",
     .help = "list the numbers of sentences that this CSV file names, and whether they follow"},
    {.name = "check",
     .type = CLI_FLAG,
     .value = &check,
     .help = "with --document, --numbers: write nothing, end with 1 at the first difference"},
    {.name = "select",
     .type = CLI_STR,
     .value = &select_files,
     .arg = "a,b",
     .help = "print the rows of these CSV files of one header that pass --where, header and # lines of the first once"},
    {.name = "where",
     .type = CLI_STR,
     .value = &where,
     .arg = "f=v|v,f!=v",
     .help = "for --select: conditions that a row has to meet"},
    {.name = "out",
     .type = CLI_STR,
     .value = &out_file,
     .arg = "FILE",
     .help = "for --table, --select: a file, written whole or not at all"},
    {0},
};

static const char summary[] =
    "tables and numbers of documents from CSV files\n"
    "  tables --table NAME                             prints a table\n"
    "  tables --all DIR --in OUT                       writes all tables of a JSON file as CSV files\n"
    "  tables --document README.md [--check]           writes (checks) what stands between <!-- table NAME --> and\n"
    "                                                  <!-- end of table -->\n"
    "  tables --numbers FILE [--check]                 lists (checks) the numbers in sentences\n"
    "  tables --select a.csv,b.csv --where task=mean   prints rows of CSV files";

static void must(int bad) {
    if (bad) die(1, "%s", err_get());
}

// ---------------------------------------------------------------- rows
static bool same_header(const csv_file *a, const csv_file *b) {
    for (int i = 0; i < a->n_columns && a->n_columns == b->n_columns; i++)
        if (strcmp(a->column[i], b->column[i]) != 0) return false;
    return a->n_columns == b->n_columns;
}

// Rows as they stand in the file; of the first file also what stands between them, which is header and comments.
static int put_rows(FILE *f, const csv_file *c, const csv_filter *filter, bool first) {
    long *row;
    const long n = csv_select(c, filter, &row);
    const char *done = c->text;
    for (long r = 0, k = 0; r < c->n && n >= 0; r++) {
        if (first) fwrite(done, 1, (size_t)(c->row[r].raw - done), f);
        done = c->row[r].raw + c->row[r].raw_bytes;
        if (k == n || row[k] != r) continue;
        k++;
        fwrite(c->row[r].raw, 1, c->row[r].raw_bytes, f);
        if (done[-1] != '\n') fputc('\n', f);
    }
    if (first && n >= 0) fwrite(done, 1, (size_t)(c->text + c->bytes - done), f);
    free(row);
    return n < 0 ? -1 : 0;
}

static int select_rows(FILE *f) {
    int n, bad = 0;
    char **path = cli_split_files(select_files, "", &n);
    csv_file first = {0};
    csv_filter filter = {0};
    bad = n ? csv_filter_add(&filter, where) : err_set("--select names no file");
    for (int i = 0; i < n && !bad; i++) {
        csv_file c = {0};
        bad = csv_read(&c, path[i]);
        if (!bad && i && !same_header(&first, &c)) bad = err_set("%s: other columns than %s", path[i], path[0]);
        if (!bad) bad = put_rows(f, &c, &filter, i == 0);
        if (i)
            csv_free(&c);
        else
            first = c;
    }
    csv_free(&first);
    csv_filter_free(&filter);
    free(path);
    return bad;
}

// ---------------------------------------------------------------- tables
static int print_table(FILE *f) {
    tables_spec s;
    tables_grid g;
    if (tables_open(&s, spec_file, in, csv_list)) return -1;
    const int bad = tables_make(&g, &s, table);
    if (!bad) forms[form](f, &g);
    tables_grid_free(&g);
    tables_close(&s);
    return bad;
}

static int write_all(void) {
    tables_spec s;
    if (tables_open(&s, spec_file, in, csv_list)) return -1;
    const int bad = tables_all(&s, all_to, stderr);
    tables_close(&s);
    return bad;
}

static int do_documents(void) {
    tables_spec s;
    if (tables_open(&s, spec_file, in, csv_list)) return -1;
    int n = 0, bad = 0;
    char **path = documents ? cli_split_files(documents, "", &n) : NULL;
    for (int i = 0; i < n && !bad; i++) bad = tables_document(&s, path[i], check);
    free(path);
    if (!bad && numbers) bad = tables_numbers(&s, numbers, check ? NULL : stdout);
    tables_close(&s);
    return bad;
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, summary, options);
    if (!!table + !!all_to + (documents || numbers) + !!select_files != 1)
        die(2, "one of --table, --all, --select, or --document and --numbers, is wanted; see --help");
    if (all_to) {
        must(write_all());
        return 0;
    }
    if (documents || numbers) {
        must(do_documents());
        stdout_end();
        return 0;
    }
    file_out out = {0};
    if (out_file) must(file_out_open(&out, out_file));
    FILE *f = out_file ? out.f : stdout;
    if (table ? print_table(f) : select_rows(f)) {
        file_out_abandon(&out);
        die(1, "%s", err_get());
    }
    if (out_file) must(file_out_close(&out));
    stdout_end();
    return 0;
}
