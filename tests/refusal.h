// refusal - what tests expect of bad input: an error of one line that says why.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base.h"

static inline void expect_error(int bad, const char *part) {
    if (bad == 0) fail_msg("accepted, but this should be refused: %s", part);
    if (!strstr(err_get(), part)) fail_msg("\"%s\" should say \"%s\"", err_get(), part);
    if (strchr(err_get(), '\n')) fail_msg("more than one line: %s", err_get());
}
