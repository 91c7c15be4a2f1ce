// zip - a zip archive of uncompressed entries in memory, every size and place checked; the frame of torch.save's files.
#pragma once
#include "base.h"

typedef struct {
    char *name;
    const uint8_t *data;  // into the archive's bytes
    size_t bytes;
} zip_entry;

// Entries sorted by name. Refused: compressed or encrypted entries, sizes that disagree or leave the file, overlapping
// entries, a name that occurs twice. 0, or -1 and err_set, then *entries is NULL.
int zip_parse(const uint8_t *bytes, size_t n, const char *path, zip_entry **entries, int *n_entries);
void zip_free(zip_entry *entries, int n);
const zip_entry *zip_find(const zip_entry *entries, int n, const char *name);  // or NULL
