// split - GPT-2's cut of a text into pieces, and its 256 printable symbols for bytes.
// The pieces are those of
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// (Radford et al. 2019, encoder.py of the published code), one after the other, without gaps. A byte that is no part
// of a well-formed UTF-8 sequence (RFC 3629) counts as one character that is neither letter, digit nor space.
#pragma once
#include "base.h"

typedef struct split_rule split_rule;  // the compiled expression; may be shared by threads
split_rule *split_rule_new(void);
void split_rule_free(split_rule *r);  // NULL is allowed

// A walk over one text: split_begin, split_next until false, split_end. The text must outlive it.
typedef struct {
    const split_rule *rule;
    const char *text;
    char *copy;
    size_t bytes, at;
    void *match;
} split;
void split_begin(split *s, const split_rule *r, const char *text, size_t bytes);
bool split_next(split *s, size_t *begin, size_t *end);
void split_end(split *s);

// The symbol of a byte: 33-126, 161-172 and 174-255 are the characters of those code points; the 68 others, in
// ascending order, are U+0100, U+0101, ... symbol_byte gives -1 for a code point that is no symbol.
int symbol_of_byte(int byte);
int symbol_byte(int code_point);
// Writes the UTF-8 form of the symbols of bytes[0..n) and a zero: at most 2n+1 bytes. The length without the zero.
size_t symbols_write(char *out, const char *bytes, size_t n);
// Reads back what symbols_write wrote: the number of bytes, at most strlen(symbols); -1 if a character is no symbol.
int symbols_read(char *out, const char *symbols);
