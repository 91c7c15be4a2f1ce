// test_scratch - the arena: what is taken is aligned and apart, stays while the arena grows, and comes back after a
// release; after a warm-up nothing is allocated; threads have arenas of their own; a release that does not match ends
// the program.
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base.h"
#include "scratch.h"

enum { PIECES = 40 };

// Sizes from 1 byte to 400 KB, in no order: they open several blocks.
static size_t size_of(int i) { return 1 + (size_t)i * 2654435761u % 4001 * (i % 7 == 3 ? 100 : 1); }

static void take_all(uint8_t *piece[PIECES]) {
    for (int i = 0; i < PIECES; i++) {
        piece[i] = scratch_take(size_of(i));
        assert_int_equal((uintptr_t)piece[i] % 64, 0);
        memset(piece[i], i + 1, size_of(i));
    }
}

static void check_all(uint8_t *piece[PIECES]) {
    for (int i = 0; i < PIECES; i++)
        for (size_t k = 0; k < size_of(i); k++) assert_int_equal(piece[i][k], i + 1);
}

static void pieces_are_apart_and_stay(void **state) {
    (void)state;
    uint8_t *outer[PIECES], *inner[PIECES];
    const scratch_point a = scratch_mark();
    take_all(outer);
    const scratch_point b = scratch_mark();
    take_all(inner);
    check_all(outer);
    check_all(inner);
    scratch_release(b);
    const scratch_point c = scratch_mark();
    uint8_t *next = scratch_take(1);
    assert_ptr_equal(next, inner[0]);  // what was released is taken first
    scratch_release(c);
    check_all(outer);
    scratch_release(a);
}

// The blocks that the first pass opened become one, in which a second pass has its memory in a row, and so has every
// pass after it.
static void nothing_is_allocated_after_the_first_pass(void **state) {
    (void)state;
    uint8_t *first[PIECES], *then[PIECES];
    for (int pass = 0; pass < 4; pass++) {
        const scratch_point mark = scratch_mark();
        take_all(pass < 2 ? first : then);
        for (int i = 0; i < PIECES && pass > 1; i++) assert_ptr_equal(then[i], first[i]);
        for (int i = 1; i < PIECES && pass > 0; i++) {
            uint8_t *const *at = pass < 2 ? first : then;
            const size_t apart = (size_t)(at[i] - at[i - 1]);
            assert_true(apart >= size_of(i - 1) && apart < size_of(i - 1) + 2 * 64);
        }
        scratch_release(mark);
    }
}

static void sizes_up_to_many_megabytes(void **state) {
    (void)state;
    const scratch_point a = scratch_mark();
    uint8_t *small = scratch_take(3);
    memcpy(small, "abc", 3);
    for (size_t bytes = 0; bytes <= (size_t)64 << 20; bytes = bytes ? 2 * bytes : 1) {
        const scratch_point b = scratch_mark();
        uint8_t *large = scratch_take(bytes);
        if (bytes) large[0] = large[bytes - 1] = 9;
        scratch_release(b);
    }
    assert_memory_equal(small, "abc", 3);
    scratch_release(a);
}

// All threads hold memory at the same time.
static void threads_have_their_own(void **state) {
    (void)state;
    enum { THREADS = 4, NUMBERS = 5000 };
    int bad = 0, *held[THREADS];
#pragma omp parallel num_threads(THREADS) reduction(+ : bad)
    {
        const int me = omp_get_thread_num();
        const scratch_point mark = scratch_mark();
        bad += mark.depth != 1;
        held[me] = scratch_take(sizeof(int) * NUMBERS);
        for (int k = 0; k < NUMBERS; k++) held[me][k] = me;
#pragma omp barrier
        const int other = (me + 1) % omp_get_num_threads();
        for (int k = 0; k < NUMBERS; k++) bad += held[other][k] != other;
#pragma omp barrier
        scratch_release(mark);
    }
    assert_int_equal(bad, 0);
}

static void out_of_order(void) {
    const scratch_point a = scratch_mark();
    (void)scratch_mark();
    scratch_release(a);
}
static void twice(void) {
    const scratch_point a = scratch_mark();
    scratch_release(a);
    scratch_release(a);
}
static void without_mark(void) { scratch_take(8); }

static void mistakes_end_the_program(void **state) {
    (void)state;
    void (*const mistake[])(void) = {out_of_order, twice, without_mark};
    for (int i = 0; i < 3; i++) {
        fflush(NULL);
        const pid_t child = fork();
        if (!child) {
            freopen("/dev/null", "w", stderr);
            mistake[i]();
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_apart_and_stay), cmocka_unit_test(nothing_is_allocated_after_the_first_pass),
        cmocka_unit_test(sizes_up_to_many_megabytes), cmocka_unit_test(threads_have_their_own),
        cmocka_unit_test(mistakes_end_the_program)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
