// test_workers - a worker waits for process 0 as long as that lives, however long it takes to begin, and no longer.
#include "parts.h"
#include "store.h"
#include "workers.h"
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *dir;
static bool never(void *ctx) { return (void)ctx, false; }
static bool always(void *ctx) { return (void)ctx, true; }

// Process 0, which has begun when this returns: lives for `seconds`, then lays the folder where `lays`, and stays until
// it is killed.
static pid_t leader(double seconds, bool lays) {
    int ready[2];
    char begun = 0;
    assert_int_equal(pipe(ready), 0);
    const pid_t p = fork();
    if (p) {
        assert_int_equal(read(ready[0], &begun, 1), 1);
        assert_true(begun);
        close(ready[0]), close(ready[1]);
        return p;
    }
    begun = leader_begin(dir) == 0;
    if (write(ready[1], &begun, 1) != 1 || !begun) _exit(1);
    usleep((useconds_t)(seconds * 1e6));
    parts all = {0};
    if (!lays) _exit(0);
    if (parts_open(&all, dir, "plan\n", 4)) _exit(1);
    for (;;) pause();
}
static void end(pid_t p) {
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
}

static void nobody_comes(void **state) {
    (void)state;
    const double start = clock_s();
    assert_int_equal(worker_begin(dir, "plan\n", 1, never, NULL), -1);
    assert_non_null(strstr(err_get(), "no sign of process 0 for 0.5 s"));
    assert_true(clock_s() - start >= worker_patience);
}

static void late_but_alive(void **state) {
    (void)state;
    const pid_t zero = leader(4 * worker_patience, true);
    const int lock = worker_begin(dir, "plan\n", 1, never, NULL);
    end(zero);
    assert_true(lock >= 0);
    worker_end(dir, 1, lock);
    assert_int_equal(parts_remove(dir), 0);
}

// A worker that had no time to look for longer than its patience looks once more before it gives up.
static void stopped_itself(void **state) {
    (void)state;
    const pid_t zero = leader(4 * worker_patience, true), worker = fork();
    if (!worker) _exit(worker_begin(dir, "plan\n", 1, never, NULL) < 0);
    usleep((useconds_t)(worker_patience / 2 * 1e6));
    kill(worker, SIGSTOP);
    usleep((useconds_t)(2 * worker_patience * 1e6));
    kill(worker, SIGCONT);
    int status;
    assert_int_equal(waitpid(worker, &status, 0), worker);
    end(zero);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(parts_remove(dir), 0);
}

static void dies_before_it_begins(void **state) {
    (void)state;
    const pid_t zero = leader(2 * worker_patience, false);
    assert_int_equal(worker_begin(dir, "plan\n", 1, never, NULL), -1);
    end(zero);
}

static void all_is_done(void **state) {
    (void)state;
    assert_int_equal(worker_begin(dir, "plan\n", 1, always, NULL), WORKER_LATE);
}

int main(void) {
    char base[] = "/tmp/workersXXXXXX";
    if (!mkdtemp(base)) return 1;
    dir = xasprintf("%s/out.parts", base);
    worker_patience = 0.5;
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_comes), cmocka_unit_test(late_but_alive),
                                       cmocka_unit_test(stopped_itself), cmocka_unit_test(dies_before_it_begins),
                                       cmocka_unit_test(all_is_done)};
    const int failed = cmocka_run_group_tests_name("workers", tests, NULL, NULL);
    char *lock = xasprintf("%s.lock", dir);
    unlink(lock);
    free(lock);
    free(dir);
    if (rmdir(base)) return 1;
    return failed;
}
