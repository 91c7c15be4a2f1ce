// scratch - memory that a computation needs while it runs: an arena of the calling thread. A mark is set, memory is
// taken, and a release gives back all that was taken since the mark:
//
//     const scratch_point mark = scratch_mark();
//     float *sums = scratch_floats(n);
//     ...
//     scratch_release(mark);
//
// Marks are released in reverse order, by the thread that set them. Memory is taken between a mark and its release
// only. All this ends the program where it is not so. Other threads may use the memory until it is released. Taking
// memory moves a pointer. Once the arena is as large as what a thread has needed at a time, nothing is allocated. The
// arena goes when its thread ends.
#pragma once
#include <stddef.h>

typedef struct {
    char *at;
    int block, depth;
} scratch_point;

scratch_point scratch_mark(void);
void *scratch_take(size_t bytes);  // 64-byte aligned, not cleared
void scratch_release(scratch_point mark);

static inline float *scratch_floats(size_t n) { return scratch_take(n * sizeof(float)); }
