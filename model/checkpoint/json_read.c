// json_read - the text is copied with what JSON does not know in a form that it does. Contract in json_read.h.
#include "json_read.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "base.h"

static const char *const words[] = {"NaN", "Infinity", "-Infinity"};

// Bytes of a string from its quote on.
static size_t string_length(const char *p, size_t left) {
    size_t i = 1;
    for (; i < left && p[i] != '"'; i++) i += p[i] == '\\' && i + 1 < left;
    return i < left ? i + 1 : left;
}

size_t bom_length(const char *text, size_t n) { return n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; }

// Bytes of a number from its first digit on; whole: digits alone.
static size_t number_length(const char *p, size_t left, bool *whole) {
    size_t i = 0;
    for (*whole = true; i < left && (isalnum((unsigned char)p[i]) || p[i] == '.'); i++)
        *whole = *whole && isdigit((unsigned char)p[i]);
    return i;
}

json_t *json_read(const char *text, size_t n, json_error_t *why) {
    char *copy = NULL;
    size_t length;
    FILE *out = open_memstream(&copy, &length);
    for (size_t i = bom_length(text, n), used; i < n; i += used) {
        const char *p = text + i, *put = NULL;
        used = 1;
        for (int k = 0; k < 3 && !put; k++)
            if (n - i >= strlen(words[k]) && memcmp(p, words[k], strlen(words[k])) == 0) {
                put = "null";
                used = strlen(words[k]);
            }
        if (*p == '"') used = string_length(p, n - i);
        bool whole = false;
        if (isdigit((unsigned char)*p)) used = number_length(p, n - i, &whole);
        if (put)
            fputs(put, out);
        else
            fwrite(p, 1, used, out);
        if (whole && used > 18) fputs(".0", out);
    }
    fclose(out);
    json_t *root = json_loadb(copy, length, 0, why);
    free(copy);
    return root;
}
