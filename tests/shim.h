// shim - the CUDA table of operations for a test: the library that KIT_CUDA names, or CUDA on the CPU (tests/cuda)
// where it was built.
#pragma once
#include "ops.h"
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Sets KIT_CUDA to CUDA on the CPU, unless it names a library already.
static inline void shim_name(void) {
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (getenv("KIT_CUDA") || n <= 0) return;
    self[n] = 0;
    char *path = xasprintf("%s/shim/libkit_cuda.so", dirname(dirname(self)));
    setenv("KIT_CUDA", path, 1);
    free(path);
}

// NULL, after a line on standard output, where there is none; a library that cannot be used ends the test. device: of
// the command line.
static inline const ops *shim_open_as(const char *device) {
    shim_name();
    if (!getenv("KIT_CUDA") || access(getenv("KIT_CUDA"), R_OK) != 0) {
        printf("SKIP: %s is not built: CUDA's headers are not there\n",
               getenv("KIT_CUDA") ? getenv("KIT_CUDA") : "the library");
        return NULL;
    }
    const ops *gpu = ops_open(device);
    if (!gpu) die(1, "%s", err_get());
    return gpu;
}
static inline const ops *shim_open(void) { return shim_open_as("cuda"); }

// How often CUDA on the CPU did something (cpu_cudart.h) since the program began; -1: of another library nothing is
// known.
static inline long shim_count(const char *what) {
    typedef long count_fn(const char *);
    void *library = dlopen(getenv("KIT_CUDA"), RTLD_NOW | RTLD_NOLOAD);
    count_fn *count = library ? (count_fn *)(uintptr_t)dlsym(library, "cpu_cuda_count") : NULL;
    return count ? count(what) : -1;
}
