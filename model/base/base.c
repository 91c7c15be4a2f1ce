// base - errors, memory, clock, logging, progress, random numbers, hashes. Contracts in base.h.
// xoshiro256**: Blackman & Vigna 2021, "Scrambled linear pseudorandom number generators"; splitmix64: Steele et al.
// 2014.
#include "base.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

const char *program_name = "kit";

// ---------------------------------------------------------------- errors
static _Thread_local char err_text[1024];

_Noreturn void assert_fail(const char *cond, const char *file, int line) {
    fflush(stdout);
    fprintf(stderr, "%s: internal error: %s does not hold at %s:%d; please report it\n", program_name, cond, file,
            line);
    abort();
}

int err_set(const char *fmt, ...) {
    char text[sizeof err_text];  // arguments may point into err_text
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    // names out of damaged files: one line, no terminal codes
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    memcpy(err_text, text, sizeof text);
    return -1;
}

int err_prefix(const char *fmt, ...) {
    char head[sizeof err_text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    return err_set("%.400s: %.600s", head, err_text);
}

const char *err_get(void) { return err_text[0] ? err_text : "unknown error"; }

_Noreturn void die(int status, const char *fmt, ...) {
    va_list ap;
    fflush(stdout);
    fprintf(stderr, "%s: ", program_name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(status);
}

void stdout_end(void) {
    errno = 0;
    if (!fflush(stdout) && !ferror(stdout)) return;
    if (!errno && write(STDOUT_FILENO, "", 0) < 0)  // an earlier line failed: the reason may still be there
        die(1, "standard output: cannot write: %s", strerror(errno));
    die(1, "standard output: cannot write: %s", errno ? strerror(errno) : "the disk may be full");
}

// ---------------------------------------------------------------- memory
static void *checked(void *p, size_t bytes) {
    if (!p && bytes)
        die(1, "out of memory: %zu bytes asked for; use fewer threads, shorter examples or a smaller model", bytes);
    return p;
}

void *xmalloc(size_t bytes) { return checked(malloc(bytes ? bytes : 1), bytes); }
void *xcalloc(size_t n, size_t bytes) { return checked(calloc(n ? n : 1, bytes ? bytes : 1), n * bytes); }
void *xrealloc(void *p, size_t bytes) { return checked(realloc(p, bytes ? bytes : 1), bytes); }
// Weights are read once a token: with small pages a fifth of the time goes into finding them.
enum { LINE = 64, HUGE_PAGE = 1 << 21 };
static size_t alignment(size_t bytes) { return bytes < 2 * HUGE_PAGE ? LINE : HUGE_PAGE; }

static void *with_huge_pages(void *p, size_t bytes) {
    if (alignment(bytes) == HUGE_PAGE) madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);  // refused: small ones
    return p;
}

void *xaligned(size_t bytes) {
    const size_t align = alignment(bytes), whole = (bytes + align) / align * align;
    return with_huge_pages(checked(aligned_alloc(align, whole), bytes), whole);
}

// calloc writes what was used before alone: what the system gives is zero. The block's beginning stands before p.
void *xcleared(size_t bytes) {
    const size_t align = alignment(bytes);
    char *begin = xcalloc(1, bytes + align + sizeof begin), *p = begin + sizeof begin;
    p += (align - (uintptr_t)p % align) % align;
    memcpy(p - sizeof begin, &begin, sizeof begin);
    return with_huge_pages(p, bytes);
}

void xcleared_free(void *p) {
    char *begin = NULL;
    if (p) memcpy(&begin, (char *)p - sizeof begin, sizeof begin);
    free(begin);
}

char *xstrndup(const char *s, size_t n) {
    char *p = xmalloc(n + 1);
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *xstrdup(const char *s) { return xstrndup(s, strlen(s)); }

char *xasprintf(const char *fmt, ...) {
    va_list ap;
    char *p = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&p, fmt, ap);
    va_end(ap);
    return checked(n < 0 ? NULL : p, 1);
}

// ---------------------------------------------------------------- files
bool file_exists(const char *path) { return access(path, F_OK) == 0; }

bool path_there(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

int err_open(const char *path) {
    char to[512];
    const int why = errno;
    const ssize_t n = why == ENOENT ? readlink(path, to, sizeof to - 1) : -1;
    if (n < 0) return err_set("%s: cannot open: %s", path, strerror(why));
    to[n] = 0;
    return err_set("%s: a link to %s, which is not there; fetch the file again", path, to);
}

int check_lfs(const char *path, const void *bytes, size_t n) {
    static const char head[] = "version https://git-lfs.github.com/spec/v";
    const size_t most = sizeof head - 1 < n ? sizeof head - 1 : n;
    if (most < strlen("version h") || memcmp(bytes, head, most)) return 0;
    return err_set("%s: a pointer of Git LFS, not the file itself; run git lfs pull where it was cloned", path);
}

char *file_read(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        err_open(path);
        return NULL;
    }
    size_t n = 0, cap = 1 << 16;
    char *p = xmalloc(cap + 1);
    for (size_t got; (got = fread(p + n, 1, cap - n, f)) > 0;) {
        n += got;
        if (n == cap) p = xrealloc(p, (cap *= 2) + 1);
    }
    if (ferror(f)) {
        err_set("%s: cannot read: %s", path, strerror(errno));
        free(p);
        fclose(f);
        return NULL;
    }
    fclose(f);
    p[n] = 0;
    if (check_lfs(path, p, n)) {
        free(p);
        return NULL;
    }
    if (bytes) *bytes = n;
    return p;
}

int check_out(const char *path) {
    static const unsigned char hdf5[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[sizeof hdf5];
    struct stat st;
    if (stat(path, &st) != 0) return 0;
    if (S_ISDIR(st.st_mode)) return err_set("%s: cannot write: it is a folder; name a file", path);
    FILE *f = S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    const size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f) fclose(f);
    if (n < sizeof head || memcmp(head, hdf5, sizeof head) != 0) return 0;
    return err_set("%s: cannot write: an HDF5 file has that name, which would be lost; name another", path);
}

char *file_target(const char *path) {
    struct stat st;
    char *to = lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;
    return to ? to : xstrdup(path);
}

int file_out_open(file_out *o, const char *path) {
    struct stat st;
    *o = (file_out){0};
    if (check_out(path) != 0) return -1;
    o->path = file_target(path);
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) o->tmp = xasprintf("%s.tmp", o->path);
    const char *name = o->tmp ? o->tmp : path;
    if ((o->f = fopen(name, "wb"))) return 0;
    err_set("%s: cannot write: %s", name, strerror(errno));
    file_out_abandon(o);
    return -1;
}

int file_out_close(file_out *o) {
    errno = 0;
    bool ok = fflush(o->f) == 0 && !ferror(o->f) && (!o->tmp || fsync(fileno(o->f)) == 0);
    int why = errno;
    ok = fclose(o->f) == 0 && ok;
    o->f = NULL;
    if (ok && (!o->tmp || rename(o->tmp, o->path) == 0)) {
        free(o->path);
        free(o->tmp);
        *o = (file_out){0};
        return 0;
    }
    if (ok) why = errno;
    err_set("%s: cannot write: %s", o->path, why ? strerror(why) : "the disk may be full");
    file_out_abandon(o);
    return -1;
}

void file_out_abandon(file_out *o) {
    if (o->f) fclose(o->f);
    if (o->tmp) unlink(o->tmp);
    free(o->path);
    free(o->tmp);
    *o = (file_out){0};
}

// ---------------------------------------------------------------- clock, log, progress
double clock_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void utc_date(char out[UTC_DATE]) {
    const time_t now = time(NULL);
    strftime(out, UTC_DATE, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
}

double peak_memory_mib(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)used.ru_maxrss / 1024;
}

void log_info(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void progress_begin(progress *p, const char *label, long total) {
    *p = (progress){.label = label, .start = clock_s(), .total = total};
}

void progress_at(progress *p, long done) {
    double now = clock_s(), spent = now - p->start;
    if (!isatty(2) || (now - p->last < 0.2 && done < p->total)) return;
    p->last = now;
    int width = 24, full = p->total ? (int)(width * done / p->total) : width;
    fprintf(stderr, "\r%s [%.*s%.*s] %ld/%ld", p->label, full, "========================", width - full,
            "                        ", done, p->total);
    if (done > 0 && spent > 0)
        fprintf(stderr, "  %.1f/s  %.0f s left   ", (double)done / spent,
                spent / (double)done * (double)(p->total - done));
    fflush(stderr);
}

void progress_end(progress *p) {
    if (p->last > 0) fputc('\n', stderr);
    p->last = 0;
}

// ---------------------------------------------------------------- random numbers
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t rng_hash(uint64_t seed, uint64_t a, uint64_t b) { return mix(mix(mix(seed) ^ a) ^ b); }

rng rng_make(uint64_t seed) {
    rng r;
    for (int i = 0; i < 4; i++) r.s[i] = rng_hash(seed, (uint64_t)i, 0x72616e64);
    return r;
}

uint64_t rng_u64(rng *r) {
    uint64_t *s = r->s, x = s[1] * 5, out = (x << 7 | x >> 57) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return out;
}

double rng_uniform(rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; }

uint64_t rng_below(rng *r, uint64_t n) {
    ASSERT(n > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = rng_u64(r);
    while (x >= limit);
    return x % n;
}

double rng_normal(rng *r) {
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void rng_permutation(rng *r, int32_t *p, int n) {
    for (int i = 0; i < n; i++) p[i] = i;
    for (int i = 0; i + 1 < n; i++) {
        int j = i + (int)rng_below(r, (uint64_t)(n - i));
        int32_t t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
}

// ---------------------------------------------------------------- hashes
static void hex128(char out[33], XXH128_hash_t h) {
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

void hash_bytes(char out[33], const void *data, size_t bytes) { hex128(out, XXH3_128bits(data, bytes)); }

uint64_t hash64(const void *data, size_t bytes) { return XXH3_64bits(data, bytes); }

int hash_file(char out[33], const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return err_set("%s: cannot open: %s", path, strerror(errno));
    XXH3_state_t *st = XXH3_createState();
    XXH3_128bits_reset(st);
    size_t cap = 1 << 20, got;
    char *buf = xmalloc(cap);
    while ((got = fread(buf, 1, cap, f)) > 0) XXH3_128bits_update(st, buf, got);
    int bad = ferror(f) ? err_set("%s: cannot read: %s", path, strerror(errno)) : 0;
    hex128(out, XXH3_128bits_digest(st));
    XXH3_freeState(st);
    free(buf);
    fclose(f);
    return bad;
}

#include "version.h"  // made by the Makefile
const char *code_version(void) { return KIT_VERSION; }
