// pickle_names - the classes and functions that a pickle may name, and what they stand for. Contract in pickle_impl.h.
#include "pickle_impl.h"
#include <string.h>

static const char *const calls[N_CALLS] = {"collections.OrderedDict",
                                           "collections.defaultdict",
                                           "torch._utils._rebuild_tensor_v2",
                                           "torch._utils._rebuild_tensor",
                                           "torch._utils._rebuild_parameter",
                                           "torch._utils._rebuild_parameter_with_state",
                                           "torch._tensor._rebuild_from_type_v2"};
static const struct {
    const char *name, *type;
    size_t width;
} storages[] = {{"torch.FloatStorage", "float32", 4},
                {"torch.HalfStorage", "float16", 2},
                {"torch.BFloat16Storage", "bfloat16", 2},
                {"torch.DoubleStorage", "float64", 8},
                {"torch.LongStorage", "int64", 8},
                {"torch.IntStorage", "int32", 4},
                {"torch.ShortStorage", "int16", 2},
                {"torch.CharStorage", "int8", 1},
                {"torch.ByteStorage", "uint8", 1},
                {"torch.BoolStorage", "bool", 1},
                {"torch.ComplexFloatStorage", "complex64", 8},
                {"torch.ComplexDoubleStorage", "complex128", 16},
                {"torch.QInt8Storage", "qint8", 1},
                {"torch.QUInt8Storage", "quint8", 1},
                {"torch.QInt32Storage", "qint32", 4},
                {"torch.storage.UntypedStorage", "bytes", 1}};
enum { N_STORAGES = sizeof storages / sizeof *storages };
// What else files of training hold; nothing of it is made. A name that ends with a dot is that of a module.
static const char *const harmless[] = {"torch.",
                                       "collections.",
                                       "numpy.",
                                       "pathlib.",
                                       "omegaconf.",
                                       "transformers.",
                                       "argparse.Namespace",
                                       "_codecs.encode",
                                       "copy_reg._reconstructor",
                                       "copyreg._reconstructor"};
static const char *const builtins[] = {"set", "frozenset", "list",   "dict",  "tuple", "int",   "float", "complex",
                                       "str", "bytearray", "object", "range", "slice", "bytes", "bool"};

static bool is_harmless(const char *name) {
    static const char *const modules[] = {"builtins.", "__builtin__."};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        const size_t n = strlen(harmless[i]);
        if (harmless[i][n - 1] == '.' ? !strncmp(name, harmless[i], n) : !strcmp(name, harmless[i])) return true;
    }
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
            if (!strncmp(name, modules[k], strlen(modules[k])) && !strcmp(name + strlen(modules[k]), builtins[i]))
                return true;
    return false;
}

int pickle_global(const char *name) {
    for (int g = 0; g < N_CALLS; g++)
        if (!strcmp(name, calls[g])) return g;
    for (int s = 0; s < N_STORAGES; s++)
        if (!strcmp(name, storages[s].name)) return N_CALLS + s;
    return is_harmless(name) ? GLOBAL_HARMLESS : GLOBAL_FOREIGN;
}

const char *pickle_global_name(int64_t global) {
    return global < N_CALLS ? calls[global] : storages[global - N_CALLS].name;
}

const char *pickle_storage_type(int64_t global, size_t *width) {
    *width = storages[global - N_CALLS].width;
    return storages[global - N_CALLS].type;
}
