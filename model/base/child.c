// child - processes with pipes. Contract in child.h.
#include "child.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool child_fork(child *c) {
    int in[2], out[2];
    fflush(NULL);
    if (pipe(in) != 0 || pipe(out) != 0 || (c->pid = fork()) < 0) die(1, "cannot start a process: %s", strerror(errno));
    if (c->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close_range(3, ~0u, 0);  // the pipes of the others, too, or they would never see the end of their input
        return true;
    }
    close(in[0]);
    close(out[1]);
    c->to = fdopen(in[1], "w");
    c->from = fdopen(out[0], "r");
    setvbuf(c->to, NULL, _IOLBF, 0);
    return false;
}

void child_start(child *c, const char *const *argument) {
    if (!child_fork(c)) return;
    execvp(argument[0], (char *const *)argument);
    die(1, "%s: %s", argument[0], strerror(errno));
}

int child_end(child *c, struct rusage *used) {
    int status = 0;
    struct rusage own;
    if (c->to) fclose(c->to);
    fclose(c->from);
    const bool gone = wait4(c->pid, &status, 0, used ? used : &own) < 0;
    return gone || status != 0 ? -1 : 0;
}

char *child_script(const char *path) {
    char *program = realpath("/proc/self/exe", NULL);
    char *script = xasprintf("%.*s/../../../%s", program ? (int)(strrchr(program, '/') - program) : 0,
                             program ? program : "", path);
    free(program);
    return script;
}
