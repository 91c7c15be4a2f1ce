// orders - a test of the CUDA table once more, with a block's threads in another order (CUH_ORDER) and other streams (CU_FAKE_STREAMS), as only a new
// process can.
#pragma once
#include "base.h"
#include <stdio.h>
#include <stdlib.h>

// self: this program's name; tests: those that cmocka's filter lets through.
static inline int again(const char *self, const char *tests, const char *order, const char *streams) {
    char *command = xasprintf("CUH_ORDER=%s CU_FAKE_STREAMS=%s CU_FAKE_PROTECT=0 '%s' '%s' 2>&1", order, streams, self, tests);
    const int bad = system(command);
    if (bad) fprintf(stderr, "FAIL: %s\n", command);
    free(command);
    return bad != 0;
}

// The orders and streams that every operation must not depend on, beside those of this process.
static inline int in_other_orders(const char *self) {
    int bad = again(self, "every_operation", "rev", "eager");
    bad |= again(self, "every_operation", "1", "2");
    bad |= again(self, "every_operation", "20261", "7");
    return bad;
}
