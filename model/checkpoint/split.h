// split - cuts a text by a regular expression, GPT-2's or that of a tokenizer.json, and GPT-2's 256 printable symbols
// for bytes. GPT-2's pieces are those of
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// (Radford et al. 2019, encoder.py of the published code), one after the other, without gaps. A byte that is no part
// of a well-formed UTF-8 sequence (RFC 3629) counts as one character that is neither letter, digit nor space.
#pragma once
#include "base.h"

typedef struct split_rule split_rule;  // the compiled expression; may be shared by threads
split_rule *split_rule_new(void);      // GPT-2's
// Any expression in the syntax of Oniguruma, which the `tokenizers` library uses. What PCRE2 reads otherwise is
// translated (\s, \S, \d) or refused by name: NULL and err_set.
split_rule *split_rule_parse(const char *expression);
split_rule *split_rule_text(const char *text);  // matches this text
void split_rule_free(split_rule *r);            // NULL is allowed

// A walk over one text: split_begin, split_next until false, split_end. The text must outlive it.
typedef struct {
    const split_rule *rule;
    const char *text;
    char *copy;
    size_t bytes, at, end;  // between at and end lies a match that has been found already
    bool failed;
    void *match;
} split;
void split_begin(split *s, const split_rule *r, const char *text, size_t bytes);
// The next piece: a match of the expression or what lies between two of them. Together they are the text. False: the
// text is at its end, or the expression needs more steps than PCRE2 allows (then failed, and err_set).
bool split_next(split *s, size_t *begin, size_t *end, bool *matched);
void split_end(split *s);

// Length of the well-formed UTF-8 sequence at p, 1-4; 0: there is none within the `left` bytes.
size_t utf8_length(const char *p, size_t left);

// The symbol of a byte: 33-126, 161-172 and 174-255 are the characters of those code points; the 68 others, in
// ascending order, are U+0100, U+0101, ... symbol_byte gives -1 for a code point that is no symbol.
int symbol_of_byte(int byte);
int symbol_byte(int code_point);
// Writes the UTF-8 form of the symbols of bytes[0..n) and a zero: at most 2n+1 bytes. The length without the zero.
size_t symbols_write(char *out, const char *bytes, size_t n);
// Reads back what symbols_write wrote: the number of bytes, at most strlen(symbols); -1 if a character is no symbol.
int symbols_read(char *out, const char *symbols);
