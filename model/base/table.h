// table - two small hash tables with open addressing: from a 64-bit key and from a string of bytes to a non-negative
// int32. A {0} table is empty and may be read, filled and freed. Reading is safe from several threads.
#pragma once
#include "base.h"

typedef struct {
    struct u64_slot {
        uint64_t key;
        int32_t value;
        bool used;
    } * slot;
    size_t n, cap;
} u64_table;
// keys are borrowed
typedef struct {
    struct str_slot {
        const char *key;
        size_t bytes;
        int32_t value;
    } * slot;
    size_t n, cap;
} str_table;

int32_t u64_get(const u64_table *t, uint64_t key);        // -1: not there
void u64_put(u64_table *t, uint64_t key, int32_t value);  // a key that is there takes the new value
void u64_free(u64_table *t);
int32_t str_get(const str_table *t, const char *key, size_t bytes);
void str_put(str_table *t, const char *key, size_t bytes, int32_t value);
void str_free(str_table *t);
