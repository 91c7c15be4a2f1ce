// text - string operations on UTF-8. Contracts in text.h.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include "base.h"

size_t text_space(const char *s) {
    const unsigned char *u = (const unsigned char *)s;
    if ((u[0] >= 0x09 && u[0] <= 0x0d) || (u[0] >= 0x1c && u[0] <= 0x20)) return 1;
    if (u[0] == 0xc2) return u[1] == 0x85 || u[1] == 0xa0 ? 2 : 0;
    if (u[0] == 0xe1) return u[1] == 0x9a && u[2] == 0x80 ? 3 : 0;
    if (u[0] == 0xe3) return u[1] == 0x80 && u[2] == 0x80 ? 3 : 0;
    if (u[0] != 0xe2) return 0;
    if (u[1] == 0x81) return u[2] == 0x9f ? 3 : 0;
    if (u[1] != 0x80) return 0;
    return (u[2] >= 0x80 && u[2] <= 0x8a) || u[2] == 0xa8 || u[2] == 0xa9 || u[2] == 0xaf ? 3 : 0;
}

static const char *skip_space(const char *s) {
    for (size_t n; (n = text_space(s)) > 0;) s += n;
    return s;
}

bool text_blank(const char *s) { return !*skip_space(s); }

char *text_strip(char *s) {
    const char *from = skip_space(s), *end = from;
    for (const char *p = from; *p;) {
        size_t n = text_space(p);
        p += n ? n : 1;
        if (!n) end = p;
    }
    memmove(s, from, (size_t)(end - from));
    s[end - from] = 0;
    return s;
}

char *text_replace(char *s, const char *from, const char *to) {
    size_t a = strlen(from), b = strlen(to);
    ASSERT(a > 0 && b <= a);
    char *out = s;
    for (const char *in = s;;) {
        const char *hit = strstr(in, from);
        size_t n = hit ? (size_t)(hit - in) : strlen(in);
        memmove(out, in, n);
        out += n;
        if (!hit) break;
        memcpy(out, to, b);
        out += b;
        in = hit + a;
    }
    *out = 0;
    return s;
}

// PCRE2's tables make this independent of the locale.
static char *recase(const char *s, const char *replacement) {
    int code;
    size_t at, room = 2 * strlen(s) + 16;  // a mapping may take more bytes than its source, at most twice
    pcre2_code *re = pcre2_compile((PCRE2_SPTR) "\\A(.)(.*)\\z", PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL, &code, &at, NULL);
    ASSERT(re);
    char *out = xmalloc(room);
    code = pcre2_substitute(re, (PCRE2_SPTR)s, PCRE2_ZERO_TERMINATED, 0, PCRE2_SUBSTITUTE_EXTENDED, NULL, NULL,
                            (PCRE2_SPTR)replacement, PCRE2_ZERO_TERMINATED, (PCRE2_UCHAR *)out, &room);
    ASSERT(code >= 0);
    pcre2_code_free(re);
    return out;
}

char *text_capitalize(const char *s) { return recase(s, "\\u$1\\L$2"); }

char *text_lower_first(const char *s) { return recase(s, "\\l$1\\E$2"); }
