// device - from a name on the command line to a table of operations. The GPU's table is a shared library,
// libkit_cuda.so in the folder above the program's, so that programs start without CUDA's libraries and run where there
// are none; KIT_CUDA names another one.
#include "device.h"
#include "ranks.h"
#include "threads.h"
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double MIB = 1 << 20;

const cli_option device_rows[] = {
    {.name = "device",
     .type = CLI_STR,
     .place = offsetof(device_options, name),
     .arg = "NAME",
     .help = "where to compute: cpu, cuda (under mpirun or srun each process of a machine its own GPU), "
             "cuda:I for GPU number I, or cuda:I,J,... for GPUs that share the layers"},
    {.name = "activations",
     .type = CLI_CHOICE,
     .place = offsetof(device_options, activations),
     .arg = "TYPE",
     .help = "what matrix products multiply is rounded to this type (weights too), sums stay fp32; "
             "fp16 and bf16 run on tensor cores, bf16 on a CPU's AMX; q8_0 (CPU, no scores): 8-bit numbers where "
             "weights are in blocks",
     .names = activation_options},
    {.name = "threads",
     .type = CLI_INT,
     .place = offsetof(device_options, threads),
     .arg = "N",
     .help = THREADS_HELP,
     .max = 4096},
    {0}};

const cli_option weights_rows[] = {
    {.name = "weights",
     .type = CLI_CHOICE,
     .arg = "TYPE",
     .help = "type of the model's weights: converted on loading, matrices to blocks of 8 or 4 bits (CPU only); without "
             "it as stored, blocks of a GGUF file included (--device cuda widens them to fp32)",
     .names = weight_options},
    {0}};

const ops *device_open(const device_options *o) {
    if (o->threads) omp_set_num_threads((int)o->threads);
    return ops_open_as(o->name, o->activations);
}

const char *device_rounding(const device_options *o) {
    static const char *const after[] = {[DT_F32] = "",
                                        [DT_F16] = ", fp16 activations",
                                        [DT_BF16] = ", bf16 activations",
                                        [DT_Q8_0] = ", q8_0 activations"};
    return after[o->activations];
}

static char *library(void) {
    if (getenv("KIT_CUDA")) return xstrdup(getenv("KIT_CUDA"));
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return xstrdup("libkit_cuda.so");
    self[n] = 0;
    return xasprintf("%s/libkit_cuda.so", dirname(dirname(self)));
}

static const ops *open_cuda(const char *device, const int *index, int n) {
    char *path = library(), why[256] = "";
    const ops *o = NULL;
    if (access(path, R_OK) != 0) {
        err_set("--device %s: this build has no CUDA (%s is not there); make CUDA=1 builds it where nvcc is", device,
                path);
        free(path);
        return NULL;
    }
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ops_cuda_fn *open = NULL;
    if (lib) *(void **)&open = dlsym(lib, "ops_cuda");
    if (!open)
        err_set("--device %s: %s", device, dlerror());
    else if (!(o = open(index, n, why, sizeof why)))
        err_set("--device %s: %s", device, why);
    free(path);
    return o;
}

// Numbers of GPUs from a list like 0,2; how many, or -1.
static int list_of(const char *text, int index[OPS_PARTS]) {
    int n = 0;
    for (const char *at = text; n < OPS_PARTS; at++) {
        char *end;
        const long k = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        if (k < 0 || k > 1023 || (*end && *end != ',')) return -1;
        for (int i = 0; i < n; i++)
            if (index[i] == k) return -1;
        index[n++] = (int)k;
        at = end;
        if (!*end) return n;
    }
    return -1;
}

const ops *ops_open(const char *device) {
    int index[OPS_PARTS] = {0};
    if (strcmp(device, "cpu") == 0) return ops_cpu();
    if (strcmp(device, "cuda") == 0) return open_cuda(device, (const int[]){-1 - rank_local()}, 1);
    const int n = strncmp(device, "cuda:", 5) == 0 ? list_of(device + 5, index) : -1;
    if (n > 0) return open_cuda(device, index, n);
    err_set("--device %s: not one of cpu, cuda, cuda:0, cuda:1, cuda:0,1 and so on (at most %d different GPUs)", device,
            OPS_PARTS);
    return NULL;
}

const ops *ops_open_as(const char *device, dtype activations) {
    static ops as[DT_Q8_0 + 1];
    const ops *o = ops_open(device);
    if (!o || activations == DT_F32) return o;
    if (dtype_in_blocks(activations) && !o->host) {
        err_set("--activations q8_0: not on %s; weights in blocks are read by the CPU only", o->device);
        return NULL;
    }
    as[activations] = *o;
    as[activations].activations = activations;
    return &as[activations];
}

static int check_room(const ops *o, const size_t bytes[OPS_PARTS], const char *what) {
    for (int p = 0; p < o->parts; p++) {
        const char *name = o->use(p);
        const double need = (double)bytes[p] / MIB, room = (double)o->room() / MIB;
        if (need > room)
            return err_set(
                "%s take %.1f MiB of %s, which has %.1f MiB free%s", what, need, name, room,
                o->parts > 1 ? "" : "; smaller batches, 16-bit weights or more GPUs (cuda:0,1) take less of each");
    }
    return 0;
}

static int reserve(const ops *o, const size_t bytes[OPS_PARTS], const char *what, bool tell) {
    if (o->host) return 0;
    if (check_room(o, bytes, what) != 0) return -1;
    for (int p = 0; p < o->parts; p++) {
        if (!bytes[p]) continue;
        const char *name = o->use(p);
        if (tell)
            log_info("%s: %s take %.1f of %.1f MiB free", name, what, (double)bytes[p] / MIB, (double)o->room() / MIB);
        o->reserve(bytes[p]);
    }
    o->use(0);
    return 0;
}

int ops_plan(const ops *o, const size_t bytes[OPS_PARTS], const char *what) { return reserve(o, bytes, what, true); }

int ops_reserve(const ops *o, const size_t bytes[OPS_PARTS], const char *what) {
    return reserve(o, bytes, what, false);
}
