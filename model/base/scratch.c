// scratch - a list of blocks, each used from its beginning on. A block cannot move while somebody uses it, so what does
// not fit opens another one. When all is released, the blocks become one of their size together. Contract in scratch.h.
#include "scratch.h"
#include "base.h"
#include <pthread.h>
#include <stdlib.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes)   ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)0)
#endif

enum {
    ALIGN = 64,
    LEAST = 1 << 16,  // bytes of the first block
    BLOCKS = 48,      // each is as large as those before together, so that many hold any memory
#if defined(__SANITIZE_ADDRESS__)
    GAP = ALIGN  // bytes after what is taken that nobody may touch
#else
    GAP = 0
#endif
};

typedef struct {
    char *base;
    size_t bytes;
} block;
typedef struct {
    char *at, *end;  // what is left of the block in use
    int now, depth;  // the block in use; marks that are set
    int n;           // blocks, some of them perhaps after the one in use
    block block[BLOCKS];
} arena;

static _Thread_local arena mine;
static pthread_key_t owner;

static void free_from(arena *a, int first) {
    while (a->n > first) {
        const block *b = &a->block[--a->n];
        ASAN_UNPOISON_MEMORY_REGION(b->base, b->bytes);
        free(b->base);
    }
}

static void free_all(void *of) { free_from(of, 0); }

static void make_key(void) {
    const int failed = pthread_key_create(&owner, free_all);
    ASSERT(!failed);
}

static void add_block(arena *a, size_t bytes) {
    ASSERT(a->n < BLOCKS);
    a->block[a->n++] = (block){xaligned(bytes), bytes};
    ASAN_POISON_MEMORY_REGION(a->block[a->n - 1].base, bytes);
}

static void use_block(arena *a, int k) {
    a->now = k;
    a->at = a->block[k].base;
    a->end = a->at + a->block[k].bytes;
}

static void begin(arena *a) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    pthread_setspecific(owner, a);  // OpenMP ends threads when their number changes
    add_block(a, LEAST);
    use_block(a, 0);
}

static size_t bytes_of(const arena *a) {
    size_t all = 0;
    for (int k = 0; k < a->n; k++) all += a->block[k].bytes;
    return all;
}

static void next_block(arena *a, size_t bytes) {
    const int next = a->now + 1;
    if (next < a->n && a->block[next].bytes < bytes) free_from(a, next);
    if (next == a->n) {
        const size_t all = bytes_of(a);
        add_block(a, bytes > all ? bytes : all);
    }
    use_block(a, next);
}

static void join_blocks(arena *a) {
    const size_t all = bytes_of(a);
    free_from(a, 0);
    add_block(a, all);
    use_block(a, 0);
}

scratch_point scratch_mark(void) {
    arena *a = &mine;
    if (!a->n) begin(a);
    return (scratch_point){a->at, a->now, ++a->depth};
}

void *scratch_take(size_t bytes) {
    arena *a = &mine;
    const size_t room = (bytes + ALIGN - 1) / ALIGN * ALIGN + GAP;
    ASSERT(a->depth > 0);
    if ((size_t)(a->end - a->at) < room) next_block(a, room);
    char *p = a->at;
    a->at += room;
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
    return p;
}

void scratch_release(scratch_point mark) {
    arena *a = &mine;
    ASSERT(mark.depth == a->depth);
    a->depth--;
    if (a->now != mark.block) use_block(a, mark.block);
    a->at = mark.at;
    ASAN_POISON_MEMORY_REGION(a->at, (size_t)(a->end - a->at));
    if (!a->depth && a->n > 1) join_blocks(a);
}
