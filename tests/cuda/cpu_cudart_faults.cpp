// cpu_cudart_faults.cpp - errors of the CUDA runtime on the CPU and their names, and the faults that CU_FAKE_FAIL asks
// for (cpu_cudart.h).
#include "cpu_cudart_state.h"
#include <cstdarg>
#include <cstdio>
#include <dlfcn.h>
#include <execinfo.h>

namespace cpu_cuda {
static thread_local cudaError_t last_error;
bool lost;

void note(const char *f, ...) {
    static bool on = getenv("CU_FAKE_LOG");
    if (!on) return;
    va_list a;
    va_start(a, f);
    fputs("cuda-on-cpu: ", stderr);
    vfprintf(stderr, f, a);
    fputc('\n', stderr);
    va_end(a);
}

static auto &counts = *new std::map<std::string, long>;
void count(const char *what) {
    Lock g(big);
    counts[what]++;
}

cudaError_t fail(cudaError_t e) {
    if (e) last_error = e;
    return e;
}

__attribute__((noinline)) static void list_site(const char *what) {
    enum { FRAMES = 5, OWN = 3 };  // past this runtime: the launcher, the operation; OWN: this function, a sanitizer's
    static std::map<std::string, long> calls;
    static std::set<std::string> seen;
    void *at[FRAMES + OWN];
    std::string site = what;
    const int n = backtrace(at, FRAMES + OWN);
    int first = 0;
    while (first < OWN && first < n && at[first] != __builtin_return_address(0)) first++;
    for (int i = first; i < n && i < first + FRAMES; i++) {  // offsets within a library: the same in every process
        Dl_info d;
        char offset[32];
        snprintf(offset, sizeof offset, ".%zx", dladdr(at[i], &d) ? (size_t)((char *)at[i] - (char *)d.dli_fbase) : 0);
        site += offset;
    }
    const long k = ++calls[what];
    if (seen.insert(site).second) fprintf(stderr, "%s:%ld %s\n", what, k, site.c_str());
}

bool injected(const char *what) {
    static const std::string asked = env("CU_FAKE_FAIL", ""), kind = asked.substr(0, asked.find(':'));
    static long k = kind.size() < asked.size() ? atol(asked.c_str() + kind.size() + 1) : -1;
    Lock g(big);
    if (kind == "list") list_site(what);
    return kind == what && --k == 0;
}

static const struct {
    cudaError_t code;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "device lost"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
};
}  // namespace cpu_cuda
using namespace cpu_cuda;
extern "C" __attribute__((visibility("default"))) long cpu_cuda_count(const char *what) {
    Lock g(big);
    return counts.count(what) ? counts[what] : 0;
}

extern "C" {
cudaError_t cudaGetLastError(void) {
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return lost ? cudaErrorDevicesUnavailable : e;
}
cudaError_t cudaPeekAtLastError(void) { return lost ? cudaErrorDevicesUnavailable : last_error; }
const char *cudaGetErrorName(cudaError_t e) {
    for (auto &known : errors)
        if (known.code == e) return known.name;
    return "cudaError";
}
const char *cudaGetErrorString(cudaError_t e) {
    for (auto &known : errors)
        if (known.code == e) return known.text;
    return "error";
}
}
