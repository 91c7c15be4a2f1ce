// workers - processes beside process 0. Contract in workers.h.
#include "workers.h"
#include "parts.h"
#include "store.h"
#include <stdlib.h>
#include <unistd.h>

double worker_patience = 60;

static char *leading;  // folder
static int lead = -1;

static void leader_end(void) { store_unlock(leading, lead); }

int leader_begin(const char *dir) {
    // a worker that looks at the lock has it for a moment
    for (int tries = 0; tries < 50 && (lead = store_lock(dir)) < 0; tries++) usleep(20000);
    if (lead < 0) return -1;
    leading = xstrdup(dir);
    return atexit(leader_end) ? err_set("atexit: no room") : 0;
}

static char *lock_name(const char *dir, int rank) { return xasprintf("%s/worker-%d", dir, rank); }

int worker_begin(const char *dir, const char *plan, int rank, bool (*finished)(void *ctx), void *ctx) {
    char *name = lock_name(dir, rank);
    int lock = -1;
    double seen = clock_s();
    for (int tries = 0;; tries++) {
        if (parts_match(dir, plan)) {
            lock = store_lock(name);
            if (lock >= 0 && !parts_match(dir, plan)) {  // process 0 was done with it, and removed it meanwhile
                store_unlock(name, lock);
                lock = -1;
            }
        } else if (tries % 10 == 9 && finished(ctx))
            lock = WORKER_LATE;
        if (lock != -1) break;
        if (store_locked(dir)) seen = clock_s();
        // only a look that finds nobody ends the wait, not a worker that had no time to look
        else if (clock_s() - seen >= worker_patience)
            break;
        usleep(100000);
    }
    free(name);
    if (lock == -1 && finished(ctx)) lock = WORKER_LATE;
    return lock == -1 ? err_set("%s: no sign of process 0 for %g s; did it fail?", dir, worker_patience) : lock;
}

void worker_end(const char *dir, int rank, int lock) {
    char *name = lock_name(dir, rank);
    store_unlock(name, lock);
    free(name);
}

void workers_wait(const char *dir, int ranks) {
    for (int r = 1; r < ranks; r++) {
        char *name = lock_name(dir, r);
        // held while the worker works, free when it is done or dead
        for (int lock; (lock = store_lock(name)) < 0;) usleep(100000);
        free(name);
    }
}
