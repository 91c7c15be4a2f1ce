// gz - see gz.h. zlib (Gailly and Adler) reads and checks the stream: RFC 1952.
#include "gz.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

bool gz_named(const char *path) {
    const size_t n = strlen(path);
    return n >= 3 && strcmp(path + n - 3, ".gz") == 0;
}

static int refuse(const char *path, gzFile f) {
    int code;
    const char *why = gzerror(f, &code);
    if (gzdirect(f)) return err_set("%s: is no gzip file, though it is named so; fetch it again or rename it", path);
    if (code == Z_BUF_ERROR) return err_set("%s: ends early: the file is cut; fetch it again", path);
    return code < 0 ? err_set("%s: cannot be decompressed: %s; fetch it again", path, why) : 0;
}

char *gz_read(const char *path, size_t *bytes) {
    if (!gz_named(path)) return file_read(path, bytes);
    gzFile f = gzopen(path, "rb");
    if (!f) {
        err_open(path);
        return NULL;
    }
    size_t n = 0, cap = 1 << 16;
    char *p = xmalloc(cap + 1);
    for (int got; (got = gzread(f, p + n, (unsigned)(cap - n < 1u << 30 ? cap - n : 1u << 30))) > 0;) {
        n += (size_t)got;
        if (n == cap) p = xrealloc(p, (cap *= 2) + 1);
    }
    p[n] = 0;
    const int bad = gzdirect(f) && check_lfs(path, p, n) ? -1 : refuse(path, f);
    gzclose_r(f);
    if (!bad) {
        if (bytes) *bytes = n;
        return p;
    }
    free(p);
    return NULL;
}
