// cpu_team - threads that share a short piece of work: the products and the attention of few rows and the choice of
// units, some dozen pieces of 10 to 1000 us for each token. OpenMP's threads share the longer ones.
//
// Between two pieces a thread spins for a while and then sleeps. Sleeping and waking takes some 20 us, which short
// pieces cannot spare; spinning takes a core from whoever else wants it, and where others do, the thread that is waited
// for may be without a core for milliseconds. So each thread learns from its last wait how long to spin.
#pragma once

typedef void team_work(void *of, int thread);

// Calls work(of, 0 .. threads - 1), each in its own thread, 0 in the caller's, and returns when all are done. From
// within such work, or within a parallel region of OpenMP, they are called one after the other.
void cpu_team(int threads, team_work *work, void *of);

// Asks the kernel for short time slices for this thread and those that it starts; an older kernel takes no notice.
void cpu_short_slices(void);
