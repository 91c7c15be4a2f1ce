// folder - the folder of a model as it is given: itself, or the cache of the Hugging Face hub, whose folder
// models--ORGANISATION--NAME holds snapshots/HASH with links into blobs; refs/main names the HASH.
#pragma once
#include "base.h"

// The folder with the model's files; caller frees. NULL and err_set: several are there, and none is the main one.
char *model_folder(const char *dir);
