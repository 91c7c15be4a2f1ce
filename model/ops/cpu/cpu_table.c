// cpu_table - the CPU's table of operations (ops.h). Matrix products are CBLAS calls, single-threaded each, on tiles
// that depend on one sequence only; OpenMP shares the tiles out. So the bits do not depend on the thread count or on
// the rest of the batch.
#include "cpu.h"
#include "cpu_team.h"

const ops cpu_ops = {
#define OP(type, name, args) .name = cpu_##name,
#include "ops_all.h"
#undef OP
    .device = "cpu", .about = "CPU", .host = true, .parts = 1};

const ops *ops_cpu(void) {
    cpu_blas_one_thread();
    cpu_short_slices();
    return &cpu_ops;
}
