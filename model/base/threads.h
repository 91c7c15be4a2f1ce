// threads - how many threads a program begins with.
#pragma once
#include "base.h"

// Processors' worth of time that the control groups of this process (Linux's cgroups, version 1 or 2) allow: the
// smallest quota / period of its group and of those above it. INFINITY where nothing is limited or can be read. root is
// put before /proc and the mount points: "" but in tests.
double threads_quota(const char *root);

// OpenMP's default: OMP_NUM_THREADS where it is set, else as many threads as there are processors in the affinity mask,
// but no more than the quota rounded up. More threads than that would be stopped together for the rest of each period.
void threads_begin(void);

#define THREADS_HELP "threads; 0: as many as OMP_NUM_THREADS, or the affinity mask and the control group, allow"
