// op_group - whether every operation of a group has a case. The file that includes this has defined OP_GROUP, the
// header of the group in model/ops, OP_ELSEWHERE, what op_cover.h wants of operations tested in other files, with a
// comma after each (empty: there are none), and cases [CASES] with the name of each one's operation in op.
#pragma once
#include "op_cover.h"

static const char *op_of(int i) { return cases[i].op; }

static void no_operation_is_forgotten(void **state) {
    (void)state;
    static const char *const names[] = {
#define OP(type, name, args) #name,
#include OP_GROUP
#undef OP
    };
    static const op_elsewhere elsewhere[] = {OP_ELSEWHERE{0}};
    check_cover(names, sizeof names / sizeof *names, op_of, CASES, elsewhere, sizeof elsewhere / sizeof *elsewhere - 1);
}
