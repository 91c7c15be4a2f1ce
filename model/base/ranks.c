// ranks - the variables of Open MPI, MPICH and Slurm. Contract in ranks.h.
#include "ranks.h"
#include "base.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *const *names, int otherwise) {
    for (int i = 0; names[i]; i++)
        if (getenv(names[i])) return atoi(getenv(names[i]));
    return otherwise;
}

int rank_number(void) {
    return number((const char *const[]){"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", NULL}, 0);
}
int rank_count(void) {
    return number((const char *const[]){"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", NULL}, 1);
}
int rank_local(void) {
    return number((const char *const[]){"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", NULL}, 0);
}

int rank_quiet(void) {
    if (rank_number() == 0 || freopen("/dev/null", "w", stdout)) return 0;
    return err_set("/dev/null: cannot open: %s", strerror(errno));
}
