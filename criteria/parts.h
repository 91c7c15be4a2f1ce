// parts - finished batches of a long computation as complete files of their own, so that a killed run loses the batch
// in work only.
//
// DIR/plan says in lines key=value what is being computed; DIR/part-<first row>-<rows> holds one batch:
//   1. 8 bytes "kitpart1", 32 hex digits: hash of the plan
//   2. int64 number of records, then per record int64 row, int64 first byte in the payload, int64 bytes
//   3. the payload
//   4. 32 hex digits: XXH3-128 of everything before
// A part is written under another name, synced, renamed: under its name it is whole. Several processes may write parts
// of the same plan; rows that come twice hold the same bytes, whichever counts.
#pragma once
#include "base.h"

typedef struct {
    int64_t row, from, bytes;
} parts_record;
typedef struct {
    char *dir, plan_hash[33];
    long n_rows;
    struct parts_at {
        int file;
        int64_t from, bytes;
    } * at;  // per row; file -1: not there yet
    char **file;
    int n_files, cap_files;
    int open_file, fd;  // the one file kept open for reading
} parts;

// Begins in DIR (made if absent) or resumes there. A plan that differs from DIR/plan is refused with the first line
// that differs. Damaged parts are removed with a message. parts_close is safe on {0}.
int parts_open(parts *p, const char *dir, const char *plan, long n_rows);
int parts_scan(parts *p);  // finds what other processes have finished since
void parts_close(parts *p);
bool parts_has(const parts *p, long row);
int parts_add(parts *p, const parts_record *record, int n, const void *payload, size_t bytes);
// Bytes [from, from + bytes) of a row's record.
int parts_read(parts *p, long row, int64_t from, size_t bytes, void *out);
// True if DIR holds parts of a plan that begins with these lines.
bool parts_match(const char *dir, const char *plan);
// Removes what parts_add and parts_open made in DIR, and DIR.
int parts_remove(const char *dir);
// For a command that has nothing to do: the same where DIR is of a plan that begins with these lines, or of none, as a
// kill within parts_remove leaves it.
int parts_remove_rest(const char *dir, const char *plan);
