// mode - names of sound and compat. Contract in mode.h.
#include "mode.h"

const char *const mode_names[MODES + 1] = {[MODE_SOUND] = "sound", [MODE_COMPAT] = "compat"};
const char *const mode_suffixes[MODES] = {[MODE_SOUND] = "", [MODE_COMPAT] = "_compat"};
