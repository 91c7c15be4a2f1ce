// ranks - the variables of Open MPI, MPICH and Slurm. Contract in ranks.h.
#include "ranks.h"
#include "base.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RANK, COUNT, LOCAL, VARIABLES };
enum { MOST = 1 << 20 };  // processes; a larger number is no launcher's
static const char *const launchers[][VARIABLES] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"}};

// A whole number of at least 0; -1: the variable is not set, empty or something else.
static int number(const char *name) {
    const char *text = getenv(name);
    char *end;
    const long x = text ? strtol(text, &end, 10) : -1;
    return text && end != text && *end == 0 && x >= 0 && x <= MOST ? (int)x : -1;
}

// The first launcher that says which process of how many this is.
static int of_launcher(int variable, int alone) {
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const int rank = number(launchers[i][RANK]), count = number(launchers[i][COUNT]);
        if (rank >= 0 && rank < count) return number(launchers[i][variable]);
    }
    return alone;
}

int rank_number(void) { return of_launcher(RANK, 0); }
int rank_count(void) { return of_launcher(COUNT, 1); }
int rank_local(void) {
    const int local = of_launcher(LOCAL, 0);
    return local >= 0 ? local : 0;
}

int rank_quiet(void) {
    if (rank_number() == 0 || freopen("/dev/null", "w", stdout)) return 0;
    return err_set("/dev/null: cannot open: %s", strerror(errno));
}
