// threads - the quota of control groups. Contract in threads.h.
//
// /proc/self/cgroup names the group of this process in each hierarchy, as "number:controllers:path"; version 2 has no
// controllers there. /proc/self/mountinfo says where a hierarchy is mounted and which of its groups is on top there: a
// container may see its own only. Manuals: cgroups(7), proc(5); Linux, Documentation/admin-guide/cgroup-v2.rst
// (cpu.max) and Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).
#include "threads.h"
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

// A list such as "cpu,cpuacct" holds the word.
static bool lists(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",\n") == n && strncmp(p, word, n) == 0) return true;
    return false;
}

// The first two numbers of a file that is one line; 0: it is not there, or says "max".
static int read_numbers(const char *root, const char *dir, const char *name, double *a, double *b) {
    char *path = xasprintf("%s%s/%s", root, dir, name);
    FILE *f = fopen(path, "r");
    const int n = f ? fscanf(f, "%lf %lf", a, b) : 0;
    if (f) fclose(f);
    free(path);
    return n > 0 ? n : 0;
}

static double quota_of(const char *root, const char *dir, bool v2) {
    double quota = 0, period = 0, none;
    const bool there = v2 ? read_numbers(root, dir, "cpu.max", &quota, &period) == 2
                          : read_numbers(root, dir, "cpu.cfs_quota_us", &quota, &none) == 1 &&
                                read_numbers(root, dir, "cpu.cfs_period_us", &period, &none) == 1;
    return there && quota > 0 && period > 0 ? quota / period : INFINITY;
}

// The group of this process in the hierarchy of version 2 or of version 1's controller cpu.
static bool own_group(const char *root, bool v2, char path[PATH_MAX]) {
    char *name = xasprintf("%s/proc/self/cgroup", root), line[PATH_MAX + 256], controllers[256];
    FILE *f = fopen(name, "r");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        const char *from = strchr(line, ':'), *to = from ? strchr(from + 1, ':') : NULL;
        if (!to) continue;
        snprintf(controllers, sizeof controllers, "%.*s", (int)(to - from - 1), from + 1);
        found = v2 ? !*controllers : lists(controllers, "cpu");
        if (found) snprintf(path, PATH_MAX, "%.*s", (int)strcspn(to + 1, "\n"), to + 1);
    }
    if (f) fclose(f);
    free(name);
    return found;
}

// The smallest quota from the group up to the one that is mounted: `top` in the hierarchy, `at` in the file system.
static double quota_below(const char *root, const char *top, const char *at, bool v2) {
    char group[PATH_MAX], dir[2 * PATH_MAX];
    double least = INFINITY;
    if (!own_group(root, v2, group)) return least;
    const size_t n = strcmp(top, "/") == 0 ? 0 : strlen(top);
    const bool inside = strncmp(group, top, n) == 0 && (!group[n] || group[n] == '/') && !strstr(group, "..");
    snprintf(dir, sizeof dir, "%s%s", at, inside ? group + n : "");
    for (const size_t mount = strlen(at); strlen(dir) >= mount;) {
        least = fmin(least, quota_of(root, dir, v2));
        char *slash = strrchr(dir, '/');
        if (!slash) break;
        *slash = 0;
    }
    return least;
}

double threads_quota(const char *root) {
    char *name = xasprintf("%s/proc/self/mountinfo", root), line[3 * PATH_MAX], top[PATH_MAX], at[PATH_MAX], type[32],
         options[1024];
    FILE *f = fopen(name, "r");
    double least = INFINITY;
    while (f && fgets(line, sizeof line, f)) {
        const char *after = strstr(line, " - ");
        if (!after || sscanf(line, "%*s %*s %*s %4095s %4095s", top, at) != 2 ||
            sscanf(after, " - %31s %*s %1023s", type, options) != 2)
            continue;
        const bool v2 = strcmp(type, "cgroup2") == 0;
        if (v2 || (strcmp(type, "cgroup") == 0 && lists(options, "cpu")))
            least = fmin(least, quota_below(root, top, at, v2));
    }
    if (f) fclose(f);
    free(name);
    return least;
}

void threads_begin(void) {
    const char *own = getenv("OMP_NUM_THREADS");
    const double quota = ceil(threads_quota("")), most = omp_get_max_threads();
    if ((!own || !*own) && quota < most) omp_set_num_threads((int)quota);
}
