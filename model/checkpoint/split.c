// split - GPT-2's cut of a text into pieces by PCRE2, and the symbols of bytes. Contract in split.h.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "split.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

// White_Space of Unicode, written out: PCRE2's own \s also takes U+180E, which ceased to be a space in Unicode 6.3.
#define SPACES                                                                                                         \
    "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

struct split_rule {
    pcre2_code *code;
};

split_rule *split_rule_new(void) {
    static const char expression[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+"
                                     "|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+";
    int error;
    size_t where;
    split_rule *r = xmalloc(sizeof *r);
    r->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &error, &where, NULL);
    ASSERT(r->code);
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
    return r;
}

void split_rule_free(split_rule *r) {
    if (r) pcre2_code_free(r->code);
    free(r);
}

// Length of the well-formed UTF-8 sequence at p, 1-4; 0: there is none.
static size_t utf8_length(const unsigned char *p, size_t left) {
    unsigned c = p[0];
    if (c < 0x80) return 1;
    size_t n = 0;
    if (c >= 0xc2 && c <= 0xdf) n = 2;
    if (c >= 0xe0 && c <= 0xef) n = 3;
    if (c >= 0xf0 && c <= 0xf4) n = 4;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    // the second byte tells overlong forms, surrogates and what lies beyond U+10FFFF
    bool bad = (c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
               (c == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

void split_begin(split *s, const split_rule *r, const char *text, size_t bytes) {
    *s = (split){.rule = r, .text = text, .bytes = bytes, .match = pcre2_match_data_create(1, NULL)};
    if (!s->match) die(1, "out of memory: no room to split a text");
    for (size_t i = 0; i < bytes;) {
        size_t n = utf8_length((const unsigned char *)text + i, bytes - i);
        if (n == 0) {
            if (!s->copy) s->text = s->copy = xstrndup(text, bytes);
            s->copy[i] = 1;  // a control character: one byte as well, and no letter, digit or space either
        }
        i += n ? n : 1;
    }
}

bool split_next(split *s, size_t *begin, size_t *end) {
    if (s->at == s->bytes) return false;
    int rc = pcre2_match(s->rule->code, (PCRE2_SPTR)s->text, s->bytes, s->at, PCRE2_NO_UTF_CHECK, s->match, NULL);
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->match);
    ASSERT(rc == 1 && found[0] == s->at && found[1] > s->at);  // every character begins one of the alternatives
    *begin = s->at;
    *end = s->at = found[1];
    return true;
}

void split_end(split *s) {
    pcre2_match_data_free(s->match);
    free(s->copy);
    *s = (split){0};
}

int symbol_of_byte(int b) {
    if (b <= 32) return 256 + b;
    if (b >= 127 && b <= 160) return 256 + 33 + b - 127;
    return b == 173 ? 256 + 67 : b;
}

int symbol_byte(int c) {
    if (c >= 256 && c <= 256 + 32) return c - 256;
    if (c >= 256 && c < 256 + 67) return c - 256 - 33 + 127;
    if (c >= 256) return c == 256 + 67 ? 173 : -1;
    return c >= 0 && symbol_of_byte(c) == c ? c : -1;
}

size_t symbols_write(char *out, const char *bytes, size_t n) {
    char *p = out;
    for (size_t i = 0; i < n; i++) {
        int c = symbol_of_byte((unsigned char)bytes[i]);
        if (c >= 0x80) *p++ = (char)(0xc0 | c >> 6);
        *p++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    *p = 0;
    return (size_t)(p - out);
}

int symbols_read(char *out, const char *symbols) {
    const unsigned char *p = (const unsigned char *)symbols;
    int n = 0;
    while (*p) {
        int c = *p++;
        if (c >= 0x80) {  // every symbol beyond ASCII takes two bytes
            if (c < 0xc2 || c > 0xdf || (*p & 0xc0) != 0x80) return -1;
            c = (c & 0x1f) << 6 | (*p++ & 0x3f);
        }
        int b = symbol_byte(c);
        if (b < 0) return -1;
        out[n++] = (char)b;
    }
    return n;
}
