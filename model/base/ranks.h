// ranks - one command run as several processes (mpirun, srun): which of them this is, by the launcher's variables, so
// that nothing needs MPI to build.
#pragma once

int rank_number(void);  // 0 .. rank_count() - 1
int rank_count(void);   // 1 without a launcher
int rank_quiet(void);   // of every process but 0: what it prints on stdout goes nowhere. 0, or -1 and err_set
int rank_local(void);   // among the processes of this machine
