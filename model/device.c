// device - from a name on the command line to a table of operations. The GPU's table is a shared library, libkit_cuda.so in the folder
// above the program's, so that programs start without CUDA's libraries and run where there are none; KIT_CUDA names another one.
#include "ops.h"
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char ops_devices[] = "where to compute: cpu, cuda, or cuda:I for GPU number I";

static char *library(void) {
    if (getenv("KIT_CUDA")) return xstrdup(getenv("KIT_CUDA"));
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return xstrdup("libkit_cuda.so");
    self[n] = 0;
    return xasprintf("%s/libkit_cuda.so", dirname(dirname(self)));
}

static const ops *open_cuda(const char *device, int index) {
    char *path = library(), why[256] = "";
    const ops *o = NULL;
    if (access(path, R_OK) != 0) {
        err_set("--device %s: this build has no CUDA (%s is not there); make CUDA=1 builds it where nvcc is", device, path);
        free(path);
        return NULL;
    }
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ops_cuda_fn *open = NULL;
    if (lib) *(void **)&open = dlsym(lib, "ops_cuda");
    if (!open) err_set("--device %s: %s", device, dlerror());
    else if (!(o = open(index, why, sizeof why))) err_set("--device %s: %s", device, why);
    free(path);
    return o;
}

const ops *ops_open(const char *device) {
    char *end = NULL;
    if (strcmp(device, "cpu") == 0) return ops_cpu();
    if (strcmp(device, "cuda") == 0) return open_cuda(device, 0);
    const long index = strncmp(device, "cuda:", 5) == 0 && device[5] >= '0' && device[5] <= '9' ? strtol(device + 5, &end, 10) : -1;
    if (index >= 0 && index < 1024 && !*end) return open_cuda(device, (int)index);
    err_set("--device %s: not one of cpu, cuda, cuda:0, cuda:1 and so on", device);
    return NULL;
}

int ops_plan(const ops *o, size_t bytes, const char *what) {
    if (o->host) return 0;
    const double mib = 1 << 20, need = (double)bytes / mib, room = (double)o->room() / mib;
    if (need > room) return err_set("%s take %.1f MiB, and %s (%s) has %.1f MiB free", what, need, o->device, o->about, room);
    log_info("%s (%s): %s take %.1f of %.1f MiB free", o->device, o->about, what, need, room);
    o->reserve(bytes);
    return 0;
}
