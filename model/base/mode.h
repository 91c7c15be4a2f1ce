// mode - what --mode chooses: sound, the exact definitions, or compat, the formulas, mask rules and settings of
// ShadowLLM's published code (METHOD 1.3). Also a store's, a predictor's and a result's, where its name is kept.
#pragma once

typedef enum { MODE_SOUND, MODE_COMPAT, MODES } mode_kind;
extern const char *const mode_names[MODES + 1];  // "sound", "compat"; NULL at the end
extern const char *const mode_suffixes[MODES];   // "", "_compat": of groups and datasets of a store
static inline mode_kind mode_other(mode_kind mode) { return mode == MODE_SOUND ? MODE_COMPAT : MODE_SOUND; }
