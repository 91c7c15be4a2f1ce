// gz - files that gzip has compressed.
#pragma once
#include "base.h"

bool gz_named(const char *path);  // it ends in .gz
// As file_read, decompressed where the name ends in .gz. NULL and err_set, where the file is cut or damaged, too.
char *gz_read(const char *path, size_t *bytes);
