// config_tokens - of a config.json: its special tokens (several ids may end a text; which it names), and whether it
// says that the weights are quantised.
#pragma once
#include <jansson.h>
#include "ckpt.h"

// Before the rest of a configuration is read: fills c->tokens; of a list of ids ("eos_token_id": [1, 2]) the first one
// stays in root.
int config_read_tokens(json_t *root, const char *path, model_config *c);
// After tensors were refused: says before the remembered line that the weights are quantised, where config.json does.
void config_blame_quantisation(const char *dir);
bool config_says_quantised(const char *dir);
