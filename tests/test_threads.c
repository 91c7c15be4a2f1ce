// test_threads - the quota of control groups, read from files laid out as Linux has them: version 2 and version 1,
// limits of groups above, groups seen from inside a container, systems without any. And threads that share pieces of
// work: each does its own, once a piece, in whatever number and from wherever they are called.
#include "cpu_team.h"
#include "threads.h"
#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char root[] = "/tmp/test_threads.XXXXXX";

static void remove_all(void) {
    char *command = xasprintf("rm -rf %s/*", root);
    assert_int_equal(system(command), 0);
    free(command);
}

// A file of the made system, with its folders.
static void put(const char *name, const char *text) {
    char *path = xasprintf("%s%s", root, name);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        mkdir(path, 0777);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

static int begin(void **state) {
    (void)state;
    put("/proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
    return 0;
}

static int end(void **state) {
    (void)state;
    remove_all();
    return 0;
}

static void is(double want) {
    const double got = threads_quota(root);
    if (!(got == want)) fail_msg("a quota of %g, wanted %g", got, want);
}

static void without_groups(void **state) {
    (void)state;
    is(INFINITY);
    put("/proc/self/cgroup", "0::/user.slice\n");  // a hierarchy that is not mounted
    is(INFINITY);
}

static void version_2(void **state) {
    (void)state;
    put("/proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                                "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    put("/proc/self/cgroup", "0::/system.slice/job.scope\n");
    is(INFINITY);
    put("/sys/fs/cgroup/system.slice/job.scope/cpu.max", "max 100000\n");
    is(INFINITY);
    put("/sys/fs/cgroup/system.slice/job.scope/cpu.max", "150000 100000\n");
    is(1.5);
    put("/sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n");  // of the group above
    is(0.5);
    put("/sys/fs/cgroup/system.slice/cpu.max", "800000 100000\n");
    is(1.5);
    put("/sys/fs/cgroup/other.slice/cpu.max", "1000 100000\n");  // another's
    is(1.5);
    put("/sys/fs/cgroup/system.slice/job.scope/cpu.max", "0 0\n");
    is(8);
}

// A container sees its own group on top of the mount, and perhaps a path that only the host knows.
static void in_a_container(void **state) {
    (void)state;
    put("/proc/self/mountinfo", "31 23 0:26 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
    put("/proc/self/cgroup", "0::/docker/1f\n");
    is(3);
    put("/sys/fs/cgroup/inner/cpu.max", "200000 100000\n");
    put("/proc/self/cgroup", "0::/docker/1f/inner\n");
    is(2);
    put("/proc/self/cgroup", "0::/docker/1f0/inner\n");
    is(3);
    put("/proc/self/cgroup", "0::/../other\n");
    is(3);
}

static void version_1(void **state) {
    (void)state;
    put("/proc/self/mountinfo", "33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
                                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
                                "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "4:cpuset:/narrow\n3:cpu,cpuacct:/slurm/job_7\n0::/\n");
    put("/sys/fs/cgroup/cpuset/narrow/cpu.cfs_quota_us", "1\n");
    is(INFINITY);
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us", "100000\n");
    is(INFINITY);
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us", "250000\n");
    is(2.5);
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us", "200000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us", "50000\n");
    is(2.5);
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    is(1);
}

// A user's own number is never changed.
static void own_number(void **state) {
    (void)state;
    const int before = omp_get_max_threads();
    setenv("OMP_NUM_THREADS", "3", 1);
    omp_set_num_threads(4099);
    threads_begin();
    assert_int_equal(omp_get_max_threads(), 4099);
    unsetenv("OMP_NUM_THREADS");
    omp_set_num_threads(before);
    threads_begin();
    assert_in_range(omp_get_max_threads(), 1, before);
}

// ---------------------------------------------------------------- shared work
enum { MOST = 5, PIECES = 2000 };
typedef struct {
    int count[MOST];
    pthread_t who[MOST];
} work_done;

static void note(void *of, int thread) {
    work_done *d = of;
    d->count[thread]++;
    d->who[thread] = pthread_self();
}

static void each_does_its_own(void **state) {
    (void)state;
    work_done d = {0};
    int want[MOST] = {0};
    for (int k = 0; k < PIECES; k++) {
        const int threads = 1 + k % MOST;
        cpu_team(threads, note, &d);
        for (int t = 0; t < MOST; t++) {  // all are done when it returns
            want[t] += t < threads;
            assert_int_equal(d.count[t], want[t]);
        }
        if (k % 100 == 0) usleep(300);  // long enough for the others to fall asleep
    }
    assert_true(pthread_equal(d.who[0], pthread_self()));
    for (int t = 1; t < MOST; t++) assert_false(pthread_equal(d.who[t], d.who[t - 1]));
}

static void share_again(void *of, int thread) {
    work_done *all = of;
    cpu_team(MOST, note, all + thread);
}

static void within_other_work(void **state) {
    (void)state;
    work_done all[2 * MOST] = {0};
    cpu_team(MOST, share_again, all);
#pragma omp parallel for num_threads(MOST)
    for (int i = 0; i < MOST; i++) cpu_team(MOST, note, all + MOST + i);
    for (int i = 0; i < 2 * MOST; i++)
        for (int t = 0; t < MOST; t++) assert_int_equal(all[i].count[t], 1);
}

int main(void) {
    if (!mkdtemp(root)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_groups, begin, end),
        cmocka_unit_test_setup_teardown(version_2, begin, end),
        cmocka_unit_test_setup_teardown(in_a_container, begin, end),
        cmocka_unit_test_setup_teardown(version_1, begin, end),
        cmocka_unit_test(own_number),
        cmocka_unit_test(each_does_its_own),
        cmocka_unit_test(within_other_work),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(root) != 0 || failed;
}
