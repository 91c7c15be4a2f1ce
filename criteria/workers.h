// workers - processes that compute parts (parts.h) of one command beside process 0, which lays their folder, waits and merges. A worker that dies leaves
// the rest of its share to process 0.
#pragma once
#include <stdbool.h>

// Of worker `rank`: waits for process 0 to lay DIR for this plan, and shows that it lives by a lock. The lock; WORKER_LATE: finished(ctx) says that process 0 has
// done all of it already; -1 and err_set after a minute.
enum { WORKER_LATE = -2 };
int  worker_begin(const char *dir, const char *plan, int rank, bool (*finished)(void *ctx), void *ctx);
void worker_end(const char *dir, int rank, int lock);
// Of process 0: until no worker of 1 .. ranks - 1 is at work.
void workers_wait(const char *dir, int ranks);
