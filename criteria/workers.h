// workers - processes that compute parts (parts.h) of one command beside process 0, which lays their folder, waits and
// merges. A worker that dies leaves the rest of its share to process 0.
#pragma once
#include <stdbool.h>

// Process 0 of several calls this before anything that takes time. It shows that it lives, until it ends, by the lock
// of DIR. 0, or -1 and err_set.
int leader_begin(const char *dir);
// Worker `rank` waits, as long as process 0 lives, for it to lay DIR for this plan, and shows that it lives itself
// by a lock. The lock; WORKER_LATE: finished(ctx) says that process 0 has done all of it already; -1 and err_set where
// nothing was seen of process 0 for worker_patience seconds.
extern double worker_patience;
enum { WORKER_LATE = -2 };
int worker_begin(const char *dir, const char *plan, int rank, bool (*finished)(void *ctx), void *ctx);
void worker_end(const char *dir, int rank, int lock);
// Process 0 waits until no worker of 1 .. ranks - 1 is at work.
void workers_wait(const char *dir, int ranks);
