// op_cover - that no operation of a group is without a test: each has a case, or an entry that names the file in which
// it is tested; that file calls it.
#pragma once
#include "base.h"
#include "opt_fixture.h"

typedef struct {
    const char *op, *file;
} op_elsewhere;

static inline void check_call(const char *op, const char *file) {
    size_t bytes;
    char *text = file_read(file, &bytes), *call = xasprintf("->%s(", op);
    if (!text) fail_msg("%s", err_get());
    if (!memmem(text, bytes, call, strlen(call))) fail_msg("%s, which is said to test %s, does not call it", file, op);
    free(text), free(call);
}

// names: those of the group. op(i): that of case i.
static inline void check_cover(const char *const *names, int n_names, const char *(*op)(int i), int n_cases,
                               const op_elsewhere *elsewhere, int n_elsewhere) {
    for (int k = 0; k < n_names; k++) {
        int here = 0, others = 0;
        for (int i = 0; i < n_cases; i++) here += strcmp(op(i), names[k]) == 0;
        for (int i = 0; i < n_elsewhere; i++) others += strcmp(elsewhere[i].op, names[k]) == 0;
        if (here + others != 1)
            fail_msg("operation %s has %d cases here and is named %d times as tested elsewhere; one is wanted",
                     names[k], here, others);
    }
    for (int i = 0; i < n_cases + n_elsewhere; i++) {
        const char *name = i < n_cases ? op(i) : elsewhere[i - n_cases].op;
        bool known = false;
        for (int k = 0; k < n_names; k++) known |= strcmp(name, names[k]) == 0;
        if (!known) fail_msg("%s is no operation of this group", name);
    }
    for (int i = 0; i < n_elsewhere; i++) check_call(elsewhere[i].op, elsewhere[i].file);
}
