// workers - processes beside process 0. Contract in workers.h.
#include "workers.h"
#include "parts.h"
#include "store.h"
#include <stdlib.h>
#include <unistd.h>

static char *lock_name(const char *dir, int rank) { return xasprintf("%s/worker-%d", dir, rank); }

int worker_begin(const char *dir, const char *plan, int rank, bool (*finished)(void *ctx), void *ctx) {
    char *name = lock_name(dir, rank);
    int lock = -1;
    for (int tries = 0; tries < 600 && lock == -1; tries++) {
        if (parts_match(dir, plan)) lock = store_lock(name);
        else if (tries % 10 == 9 && finished(ctx)) lock = WORKER_LATE;
        if (lock == -1) usleep(100000);
    }
    free(name);
    return lock == -1 ? err_set("%s: process 0 did not begin within a minute", dir) : lock;
}

void worker_end(const char *dir, int rank, int lock) {
    char *name = lock_name(dir, rank);
    store_unlock(name, lock);
    free(name);
}

void workers_wait(const char *dir, int ranks) {
    for (int r = 1; r < ranks; r++) {
        char *name = lock_name(dir, r);
        for (int lock; (lock = store_lock(name)) < 0;) usleep(100000);  // held while the worker works, free when it is done or dead
        free(name);
    }
}
