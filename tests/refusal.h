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

// A copy of text in which the first `from` is `to`.
static inline char *changed(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    assert_non_null(at);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}
