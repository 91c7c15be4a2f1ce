// zip_make - a zip archive of stored entries in memory, for tests: as torch.save writes it, without the padding.
#pragma once
#include "base.h"
#include <string.h>

typedef struct {
    uint8_t *bytes;                    // caller frees
    size_t n, locals[4], centrals[4];  // where the headers are
} archive;

static void zip_put(archive *a, const void *p, size_t n) {
    a->bytes = xrealloc(a->bytes, a->n + n);
    memcpy(a->bytes + a->n, p, n);
    a->n += n;
}

static void zip_put_le(archive *a, uint64_t x, int width) {
    for (int i = 0; i < width; i++) zip_put(a, &(uint8_t){i < 8 ? (uint8_t)(x >> 8 * i) : 0}, 1);
}

// One size field; wide: its true value stands in the 64-bit extra field.
static void zip_put_size(archive *a, uint64_t x, bool wide) { zip_put_le(a, wide ? 0xffffffff : x, 4); }

// n <= 4 entries; wide: with the 64-bit records that files over 4 GiB need.
static archive zip_make(const char *const *names, const char *const *data, const size_t *sizes, int n, bool wide) {
    archive a = {.n = 0};
    for (int i = 0; i < n; i++) {
        a.locals[i] = a.n;
        zip_put_le(&a, 0x04034b50, 4);
        zip_put_le(&a, 0, 14);  // version, flags, method, time, date, checksum
        zip_put_size(&a, sizes[i], wide);
        zip_put_size(&a, sizes[i], wide);
        zip_put_le(&a, strlen(names[i]), 2);
        zip_put_le(&a, wide ? 20 : 0, 2);
        zip_put(&a, names[i], strlen(names[i]));
        if (wide) {
            zip_put_le(&a, 1 | 16 << 16, 4);
            zip_put_le(&a, sizes[i], 8);
            zip_put_le(&a, sizes[i], 8);
        }
        zip_put(&a, data[i], sizes[i]);
    }
    const size_t directory = a.n;
    for (int i = 0; i < n; i++) {
        a.centrals[i] = a.n;
        zip_put_le(&a, 0x02014b50, 4);
        zip_put_le(&a, 0, 16);  // versions, flags, method, time, date, checksum
        zip_put_size(&a, sizes[i], wide);
        zip_put_size(&a, sizes[i], wide);
        zip_put_le(&a, strlen(names[i]), 2);
        zip_put_le(&a, wide ? 28 : 0, 2);
        zip_put_le(&a, 0, 10);  // comment, disk, attributes
        zip_put_size(&a, a.locals[i], wide);
        zip_put(&a, names[i], strlen(names[i]));
        if (wide) {
            zip_put_le(&a, 1 | 24 << 16, 4);
            zip_put_le(&a, sizes[i], 8);
            zip_put_le(&a, sizes[i], 8);
            zip_put_le(&a, a.locals[i], 8);
        }
    }
    const size_t end = a.n;
    if (wide) {
        zip_put_le(&a, 0x06064b50, 4);
        zip_put_le(&a, 44, 8);
        zip_put_le(&a, 0, 12);  // versions, disks
        zip_put_le(&a, (uint64_t)n, 8);
        zip_put_le(&a, (uint64_t)n, 8);
        zip_put_le(&a, end - directory, 8);
        zip_put_le(&a, directory, 8);
        zip_put_le(&a, 0x07064b50, 4);
        zip_put_le(&a, 0, 4);
        zip_put_le(&a, end, 8);
        zip_put_le(&a, 1, 4);
    }
    zip_put_le(&a, 0x06054b50, 4);
    zip_put_le(&a, 0, 4);
    zip_put_le(&a, (uint64_t)n, 2);
    zip_put_le(&a, (uint64_t)n, 2);
    zip_put_size(&a, end - directory, wide);
    zip_put_size(&a, directory, wide);
    zip_put_le(&a, 0, 2);
    return a;
}
