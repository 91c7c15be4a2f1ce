// child - a process of our own at the other end of two pipes: what contenders of a benchmark run in, so that none
// inherits the other's memory and threads.
#pragma once
#include "base.h"
#include <sys/resource.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;
    FILE *to, *from;
} child;  // its standard input, line by line, and its standard output

// True in the child, whose standard input and output are the pipes and which holds no other file; it must end by exit.
// Ends the program where no process can be had.
bool child_fork(child *c);
// Runs a program in a child; argument[0] is looked for in PATH. The child ends with a line and status 1 where it cannot
// be run.
void child_start(child *c, const char *const *argument);
// Closes the pipes (to may be NULL: closed already) and waits; 0, or -1 where it did not end with status 0. used (NULL:
// not wanted): what it took.
int child_end(child *c, struct rusage *used);
// PATH of a file of the source tree that this program was built in (build/VARIANT/bin); caller frees.
char *child_script(const char *path);
