// orders - a test of the CUDA table once more with other settings of CUDA on the CPU, as only a new process can: a
// block's threads in another order (CUH_ORDER), other streams (CU_FAKE_STREAMS), other devices.
#pragma once
#include "base.h"
#include <stdio.h>
#include <stdlib.h>

// self: this program's name; tests: those that cmocka's filter lets through; settings: of the environment.
static inline int again(const char *self, const char *tests, const char *settings) {
    char *command = xasprintf("CU_FAKE_PROTECT=0 %s '%s' '%s' 2>&1", settings, self, tests);
    const int bad = system(command);
    if (bad) fprintf(stderr, "FAIL: %s\n", command);
    free(command);
    return bad != 0;
}

// The orders and streams that every operation must not depend on, beside those of this process; in one of them blocks
// have the 99 KB of shared memory of small GPUs.
static inline int in_other_orders(const char *self) {
    int bad = again(self, "every_operation", "CUH_ORDER=rev CU_FAKE_STREAMS=eager");
    bad |= again(self, "every_operation", "CUH_ORDER=1 CU_FAKE_STREAMS=2 CU_FAKE_SHARED=101376");
    bad |= again(self, "every_operation", "CUH_ORDER=20261 CU_FAKE_STREAMS=7");
    return bad;
}
