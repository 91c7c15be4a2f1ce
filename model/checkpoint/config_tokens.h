// config_tokens - the special tokens of a config.json: several ids that end a text, and which ids it names.
#pragma once
#include <jansson.h>
#include "ckpt.h"

// Before the rest of a configuration is read: fills c->tokens; of a list of ids ("eos_token_id": [1, 2]) the first one
// stays in root.
int config_read_tokens(json_t *root, const char *path, model_config *c);
