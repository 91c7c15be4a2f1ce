// text - the few string operations that the published pre-processing is made of, on UTF-8 (bad bytes are ordinary
// symbols).
#pragma once
#include <stdbool.h>
#include <stddef.h>

// Bytes of the white-space character at s (0: none there). White space is what Python's str.isspace and re's \s take
// for it: U+0009-000D, 001C-0020, 0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000. s ends with a zero byte.
size_t text_space(const char *s);
bool text_blank(const char *s);  // nothing but white space
char *text_strip(char *s);       // in place: white space off both ends; returns s
// in place, left to right, no rescan; `to` is not longer
char *text_replace(char *s, const char *from, const char *to);
// Copies with Unicode's one-to-one case mappings: the first character upper case and the rest lower case, or only the
// first character lower case. s is valid UTF-8. Caller frees.
char *text_capitalize(const char *s);
char *text_lower_first(const char *s);
