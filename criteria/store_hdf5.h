// store_hdf5 - what reading (store.c), writing (store_write.c) and describing (store_layout.c) share. Nothing else
// includes hdf5.h but what reads mask files, which anybody may have written (mask.c).
#pragma once
#include "store.h"
#include <hdf5.h>

#define STORE_FORMAT "opt unit scores 1"

struct store {
    hid_t file;
    char *path, *tmp;  // tmp: being written
    bool memory;
};

void store_start(void);  // before the library's first call
// -1 and err_set with the library's reason for the last call that failed
int store_fail(const store *s, const char *what);
bool store_exists(hid_t file, const char *object);
hid_t store_access(bool memory);  // property list to open a file with; caller closes it
// rows [row, row + n) as `type`
int store_read_rows(const store *s, const char *dataset, long row, long n, hid_t type, void *out);
// The attributes that say what each dataset is (store_layout.c). 0, or -1 and err_set.
int store_describe(store *s);
// After a read that failed: -1 and err_set with the filter that this library lacks and the dataset was written with;
// 0: it lacks none.
int store_filter_fail(const char *path, const char *dataset, hid_t d);
hid_t store_half_type(void);  // IEEE 754 binary16; caller closes it
