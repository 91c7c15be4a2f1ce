// pickle - the tensors in a pickle of torch.save, read by a machine that executes nothing (torch/_utils.py,
// torch/serialization.py): names of classes stand for values of its own, calls of harmless ones for a value that is
// never looked at, and any other name ends the reading.
#pragma once
#include "ckpt.h"

typedef struct pickle pickle;

// A storage that a pickle names; its data lie outside the pickle.
typedef struct {
    const char *key;  // n_key bytes, in the pickle
    size_t n_key;
    size_t count, width;  // elements, bytes of each
    const char *type;     // as in "float32"
    const uint8_t *data;  // filled by the caller
} pickle_storage;

// Runs the pickle that begins bytes[0..n); caller frees with pickle_free. NULL and err_set.
pickle *pickle_run(const uint8_t *bytes, size_t n, const char *path);
void pickle_free(pickle *p);
size_t pickle_length(const pickle *p);                     // of the pickle in bytes
pickle_storage *pickle_storages(const pickle *p, int *n);  // to be filled
int pickle_text(const pickle *p, int i,
                const char **text);  // bytes of entry i of the list that it is; -1: there is none
// The named tensors of the dict that it is, or of its entry "state_dict", "model" and so on; what else the dict holds
// is left out. Data point into the storages, or are copies (made) where these are not row major.
int pickle_tensors(const pickle *p, tensor **tensors, int *n);
