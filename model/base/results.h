// results - result files of the experiments: CSV rows that are appended whole or not at all and found again by their
// key, so that a killed run resumes where it stopped; and JSON lines beside them.
//
// The file: lines that begin with # (how the rows after them were made), one header line with the columns, rows. A row
// is one write followed by fsync. A last line without line feed is what a kill left of a row; it is dropped when the
// file is opened. Fields that hold a comma, a quote or a line feed are quoted as in RFC 4180.
#pragma once
#include "cli.h"

// A column, and whether it belongs to the key: every option and hash does, what was measured does not. A later column
// is one that files of an earlier version lack: it is empty in their rows, and belongs to the key where it is not
// empty, so that rows keep their keys. Such a file gets the column when something is appended to it.
enum { RESULTS_MEASURED, RESULTS_KEY, RESULTS_LATER };
typedef struct {
    const char *name;
    int key;
} results_column;

typedef struct {
    char *path;
    int fd;  // -1: not open
    const results_column *column;
    int n_columns;
    char **row;     // rows present: n_columns fields each, one block per row
    uint64_t *key;  // hash of the key fields of each
    long n, cap, cap_key;
    char *provenance;  // written before the first row of this run
    bool provenance_written, header_written;
    bool lacks_columns;  // the file, of those that came later
} results;

// Opens PATH (made if absent; NULL: standard output, nothing is found again) and locks it against other processes.
// Refused: another process has it, other columns, a file of something else. provenance: lines of text without #. -1 and
// err_set.
int results_open(results *r, const char *path, const results_column *column, int n_columns, const char *provenance);
// The rows of PATH (none if absent), to be looked up only: no lock, nothing can be appended.
int results_read(results *r, const char *path, const results_column *column, int n_columns);
void results_close(results *r);  // safe on {0, .fd = -1} and twice
// The row whose key fields equal those of `field`, or NULL: n_columns fields.
char *const *results_find(const results *r, const char *const *field);
// Appends one row. On failure (disk full) what was written of it is taken back.
int results_append(results *r, const char *const *field);
// 16 hex digits of a row's key, by which JSON lines name their row.
void results_key(char out[17], const results *r, const char *const *field);

// The processor as its maker names it, or "unknown processor": where a time was taken. Caller frees.
char *results_processor(void);
// Provenance of times: command, resolved options, code, date and machine, as results_open takes it. Caller frees.
char *results_timed(int argc, char **argv, const cli_option *options, const char *device, int threads);

// ---------------------------------------------------------------- JSON lines
// A block of lines belongs to one row and is written before it, each line with "row": its key. When the file is opened,
// a torn last line and lines at the end whose row is not in the results (a kill between both) are dropped.
typedef struct {
    char *path;
    int fd;
} details;
int details_open(details *d, const char *path, const results *r);
void details_close(details *d);  // safe on {0, .fd = -1}
int details_append(details *d, const char *lines, size_t bytes);
// Text as a JSON string with its quotes; a byte that is not UTF-8 becomes U+FFFD.
void json_text(FILE *f, const char *text);
