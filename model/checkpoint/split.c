// split - the cut of a text into pieces by PCRE2, and the symbols of bytes. Contract in split.h.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "split.h"
#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

// White_Space of Unicode, written out: PCRE2's own \s also takes U+180E, which ceased to be a space in Unicode 6.3.
#define SPACES                                                                                                         \
    "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

struct split_rule {
    pcre2_code *code;
};

// ---------------------------------------------------------------- expressions
static split_rule *compile(const char *expression, uint32_t options) {
    int error;
    size_t where;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF | options, &error, &where, NULL);
    if (!code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(error, why, sizeof why);
        err_set("the regular expression \"%.200s\" cannot be compiled: %s", expression, (const char *)why);
        return NULL;
    }
    uint32_t empty = 0;
    pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty) {
        pcre2_code_free(code);
        err_set("the regular expression \"%.200s\" may match no character, which is not implemented", expression);
        return NULL;
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
    split_rule *r = xmalloc(sizeof *r);
    r->code = code;
    return r;
}

split_rule *split_rule_new(void) {
    split_rule *r = compile("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+"
                            "|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+",
                            0);
    ASSERT(r);
    return r;
}

split_rule *split_rule_text(const char *text) { return compile(text, PCRE2_LITERAL); }

// One escape at p (after its backslash) into out; 0 and err_set: it means something else in PCRE2, or may.
static int put_escape(FILE *out, const char *p, bool in_class) {
    if (*p == 's')
        fputs(in_class ? SPACES : "[" SPACES "]", out);
    else if (*p == 'S' && !in_class)
        fputs("[^" SPACES "]", out);
    else if (*p == 'd')
        fputs("\\p{Nd}", out);
    else if (*p == 'D')
        fputs("\\P{Nd}", out);
    else if (*p && (strchr("pPrntfAz", *p) || ispunct((unsigned char)*p)))
        fprintf(out, "\\%c", *p);
    else
        return -1;
    return 0;
}

// Oniguruma's syntax (Ruby's) into PCRE2's: what both read alike is copied. -1: the character at *p is not.
static int translate(FILE *out, const char **p) {
    bool in_class = false;
    for (; **p; ++*p) {
        const char c = **p, next = (*p)[1];
        if (c == '\\') {
            if (put_escape(out, *p + 1, in_class)) return -1;
            ++*p;
            if ((**p == 'p' || **p == 'P') && (*p)[1] == '{')  // a property's name, whose } ends no count
                while (**p != '}' && (*p)[1]) fputc(*++*p, out);
            continue;
        }
        if (in_class && (c == '[' || (c == '&' && next == '&'))) return -1;  // sets within sets
        if (!in_class && (c == '^' || c == '$')) return -1;                  // there: of every line
        if (!in_class && c == '}' && next == '+') return -1;                 // there: a loop of a loop
        if (c == '[') in_class = true;
        if (c == ']') in_class = false;
        fputc(c, out);
        if (c == '[' && next == '^') fputc(*++*p, out);
    }
    return 0;
}

split_rule *split_rule_parse(const char *expression) {
    char *text = NULL;
    size_t n;
    const char *p = expression;
    FILE *out = open_memstream(&text, &n);
    const int bad = translate(out, &p);
    fclose(out);
    split_rule *r = NULL;
    if (bad)
        err_set("the regular expression \"%.200s\" holds \"%.2s\" at byte %zu, which is not implemented", expression, p,
                (size_t)(p - expression));
    else
        r = compile(text, 0);
    free(text);
    return r;
}

void split_rule_free(split_rule *r) {
    if (r) pcre2_code_free(r->code);
    free(r);
}

// ---------------------------------------------------------------- walking
size_t utf8_length(const char *text, size_t left) {
    const unsigned char *p = (const unsigned char *)text;
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
        size_t n = utf8_length(text + i, bytes - i);
        if (n == 0) {
            if (!s->copy) s->text = s->copy = xstrndup(text, bytes);
            s->copy[i] = 1;  // a control character: one byte as well, and no letter, digit or space either
        }
        i += n ? n : 1;
    }
}

bool split_next(split *s, size_t *begin, size_t *end, bool *matched) {
    if (s->at == s->bytes || s->failed) return false;
    *begin = s->at;
    *matched = s->end > s->at;  // one that was found when what lies before it was given out
    if (*matched) {
        *end = s->at = s->end;
        return true;
    }
    const PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    int rc = pcre2_match(s->rule->code, text, s->bytes, s->at, PCRE2_NO_UTF_CHECK, s->match, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(s->rule->code, text, s->bytes, s->at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, NULL);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        s->failed = true;
        err_set("a regular expression of the tokenizer gives up on a text of %zu bytes (PCRE2 error %d)", s->bytes, rc);
        return false;
    }
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->match);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *end = s->at = s->bytes;
    } else if (found[0] > s->at) {
        *end = s->at = found[0];
        s->end = found[1];
    } else {
        *matched = true;
        *end = s->at = found[1];
    }
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
