// mode - names of sound and compat. Contract in mode.h.
#include "mode.h"
#include "base.h"
#include <string.h>

const char *const mode_names[MODES + 1] = {[MODE_SOUND] = "sound", [MODE_COMPAT] = "compat"};
const char *const mode_suffixes[MODES] = {[MODE_SOUND] = "", [MODE_COMPAT] = "_compat"};

mode_kind mode_named(const char *name) {
    mode_kind mode = MODE_SOUND;
    while (mode < MODES && strcmp(mode_names[mode], name) != 0) mode++;
    ASSERT(mode < MODES);
    return mode;
}
