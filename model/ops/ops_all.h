// ops_all - all operations, group by group (ops.h).
#include "ops_memory.h"
#include "ops_transformer.h"
#include "ops_live.h"
#include "ops_criteria.h"
#include "ops_nets.h"
