// pickle_impl - what the machine (pickle.c) leaves behind for pickle_tensors.c.
#pragma once
#include "pickle.h"

// OPAQUE: a value that nothing looks at.
typedef enum { NONE, BOOL, INT, TEXT, TUPLE, DICT, LIST, MARK, GLOBAL, STORAGE, TENSOR, OPAQUE } kind;
extern const char *const pickle_kind_names[];

typedef struct {
    kind kind;
    // BOOL, INT; GLOBAL: which; DICT, LIST: its number; TUPLE, STORAGE, TENSOR: index of its first item, of itself
    int64_t x;
    const uint8_t *text;  // TEXT
    size_t n;             // bytes of TEXT, items of TUPLE
} value;
typedef struct {
    int64_t dict;
    value key, item;  // of a LIST the key is None
} setting;
typedef struct {
    int storage, rank;
    int64_t offset, dim[4], stride[4];
} view;

// Classes and functions that mean something here; from N_CALLS on the classes of storages (pickle_names.c).
typedef enum {
    ORDERED_DICT,
    DEFAULT_DICT,
    REBUILD_V2,
    REBUILD_V1,
    PARAMETER,
    PARAMETER_STATE,
    FROM_TYPE,
    N_CALLS
} pickle_call;
// What a name stands for: one of these, a value that nothing looks at, or the end of the reading.
enum { GLOBAL_HARMLESS = -1, GLOBAL_FOREIGN = -2 };
int pickle_global(const char *name);
const char *pickle_global_name(int64_t global);
const char *pickle_storage_type(int64_t global, size_t *width);  // as in "float32", and the bytes of an element

struct pickle {
    const char *path;
    const uint8_t *begin, *at, *end;
    value *stack, *memo, *items;  // items: of all tuples
    int n_stack, cap_stack, n_memo, cap_memo, n_items, cap_items;
    pickle_storage *storages;
    int n_storages, cap_storages;
    view *views;
    int n_views, cap_views;
    setting *settings;  // every dict[key] = item and every item of a list, in order
    int n_settings, cap_settings;
    int64_t n_dicts;
    value result;
};

// err_set with the place.
void pickle_complain(const pickle *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int64_t pickle_elements(const view *t);  // -1: too many
bool pickle_is_text(const value *v, const char *s);
