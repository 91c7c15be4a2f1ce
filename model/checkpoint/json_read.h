// json_read - JSON as people and Python's json module write it, by Jansson: a byte-order mark is skipped, NaN and
// Infinity count as null, whole numbers beyond 64 bits as real ones, and of equal keys the last counts.
#pragma once
#include <jansson.h>
#include <stddef.h>

json_t *json_read(const char *text, size_t n, json_error_t *why);
// Bytes of the byte-order mark that a text begins with: 3 or 0.
size_t bom_length(const char *text, size_t n);
