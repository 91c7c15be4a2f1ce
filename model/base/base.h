// base - what every file may use: errors, memory, clock, logging, progress, random numbers, hashes.
// Three kinds of error: ASSERT for our own bugs; x* helpers that end the program when a
// resource is missing; err_set + return -1 for the outside world (files, options, data), printed by the *_main.c.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// ---------------------------------------------------------------- errors
// A broken invariant of our own: prints place and condition, aborts. On in every build.
#define ASSERT(cond) ((cond) ? (void)0 : assert_fail(#cond, __FILE__, __LINE__))
_Noreturn void assert_fail(const char *cond, const char *file, int line);
// Remembers one line "what, where, what to do" for err_get and returns -1, so that callers write return err_set(..).
// The text belongs to the thread that set it.
int err_set(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Puts "prefix: " before the remembered line and returns -1.
int err_prefix(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *err_get(void);
// Prints "PROGRAM: text" on stderr and exits; status 1 failure, 2 usage.
_Noreturn void die(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Ends what the program printed: exits 1 with a line if part of it could not be written (a full disk). The last call of
// a main that prints.
void stdout_end(void);
// The name that die and messages carry; set by cli_parse.
extern const char *program_name;

// ---------------------------------------------------------------- memory: never NULL, the program ends instead
void *xmalloc(size_t bytes);
void *xcalloc(size_t n, size_t bytes);
void *xrealloc(void *p, size_t bytes);
void *xaligned(size_t bytes);  // 64-byte aligned, freed with free
// 64-byte aligned, all bytes 0. A page costs memory and time once it is written, so that room nobody uses is free.
void *xcleared(size_t bytes);
void xcleared_free(void *p);  // NULL allowed
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Growable array: VEC_PUSH(vec, count, capacity, value)
#define VEC_PUSH(v, n, cap, x)                                                                                         \
    do {                                                                                                               \
        if ((n) == (cap)) {                                                                                            \
            (cap) = (cap) ? 2 * (cap) : 16;                                                                            \
            (v) = xrealloc((v), (size_t)(cap) * sizeof *(v));                                                          \
        }                                                                                                              \
        (v)[(n)++] = (x);                                                                                              \
    } while (0)

// ---------------------------------------------------------------- text and files
// Whole file as one zero-terminated block; NULL and err_set on failure. *bytes may be NULL.
char *file_read(const char *path, size_t *bytes);
bool file_exists(const char *path);
bool path_there(const char *path);  // also a link to nowhere
// Why a path cannot be opened (errno), in words for a link to nowhere; -1.
int err_open(const char *path);
// Says so and returns -1 where a file begins as a pointer of Git LFS does, whole or cut; else 0.
int check_lfs(const char *path, const void *bytes, size_t n);
// Says so and returns -1 where path is a folder, or an HDF5 file that a file of another kind would replace; else 0.
int check_out(const char *path);
// The name of the file that a link leads to, or path itself: what a rename would replace. The caller's.
char *file_target(const char *path);
// Buffered text or binary output that appears under its name only when complete: written to PATH.tmp, synced, renamed.
// A device or a pipe (/dev/stdout, /dev/null) is written as it is.
typedef struct {
    FILE *f;
    char *path, *tmp;  // tmp NULL: a device or a pipe
} file_out;
int file_out_open(file_out *o, const char *path);  // check_out first
// reports every earlier write error (full disk) here; on failure the old file stays
int file_out_close(file_out *o);
void file_out_abandon(file_out *o);  // removes the unfinished file; safe on {0}

// ---------------------------------------------------------------- clock, log, progress
double clock_s(void);  // monotonic seconds
enum { UTC_DATE = 24 };
void utc_date(char out[UTC_DATE]);                                          // now, as 2026-05-31T23:59:00Z
double peak_memory_mib(void);                                               // that this process has held so far
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  // one line on stderr
// A bar with rate and time left on stderr, only on a terminal; silent otherwise.
typedef struct {
    const char *label;
    double start, last;
    long total;
} progress;
void progress_begin(progress *p, const char *label, long total);
void progress_at(progress *p, long done);
void progress_end(progress *p);

// ---------------------------------------------------------------- random numbers
// Stateless: a well-mixed 64-bit value of up to three keys (splitmix64 finaliser over each).
uint64_t rng_hash(uint64_t seed, uint64_t a, uint64_t b);
// xoshiro256** stream.
typedef struct {
    uint64_t s[4];
} rng;
rng rng_make(uint64_t seed);
uint64_t rng_u64(rng *r);
double rng_uniform(rng *r);                       // [0, 1), 53 bits
uint64_t rng_below(rng *r, uint64_t n);           // unbiased, n > 0
double rng_normal(rng *r);                        // Box-Muller
void rng_permutation(rng *r, int32_t *p, int n);  // p becomes a permutation of 0..n-1 (Fisher-Yates from the front:
                                                  // entry i depends on n and draws 0..i only)

// ---------------------------------------------------------------- hashes for provenance
// XXH3 128-bit, as 32 hex digits in out[33].
void hash_bytes(char out[33], const void *data, size_t bytes);
int hash_file(char out[33], const char *path);
uint64_t hash64(const void *data, size_t bytes);  // XXH3 64-bit
const char *code_version(void);                   // git describe of the tree at build time, or "unknown"
