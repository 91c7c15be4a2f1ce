// runtime_test - the test of CUDA on the CPU itself: lazy streams, events, graphs of one device and two, peers, faults,
// protected memory, kernels given the host's, cuBLAS in stream order. What it holds to is what the tests of the
// product's CUDA code rely on.
#include <cstdio>
#include <cstdlib>
#include <csetjmp>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>
#ifndef __CUDACC__
#include "cu_host.h"
#else
#define CU_LAUNCH(k, g, b, s, st, ...) k<<<g, b, s, st>>>(__VA_ARGS__)
#endif
#include <cuda_runtime.h>
#include <cublas_v2.h>
__global__ void add(float *x, float v, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += v;
}
__global__ void mul(float *x, float v, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= v;
}
// Blocks of 96 whose last warp leaves: the sum of the first, which the second waits for, comes to both.
__global__ void sum_of_one_warp(float *x) {
    __shared__ float sum;
    if (threadIdx.x >= 64) return;
    float v = x[threadIdx.x];
    for (int far = 16; threadIdx.x < 32 && far; far /= 2) v += __shfl_xor_sync(~0u, v, far);
    if (threadIdx.x == 5) sum = v;
    __syncthreads();
    x[threadIdx.x] = sum;
}
// Half a warp waits for the other, and that for the block.
__global__ void deadlock(float *x) {
    if (threadIdx.x < 16)
        __syncwarp();
    else
        __syncthreads();
    x[threadIdx.x] = 0;
}
static int bad;
#define OK(c)                                                                                                          \
    do {                                                                                                               \
        if (!(c)) {                                                                                                    \
            bad++;                                                                                                     \
            printf("FAIL line %d: %s\n", __LINE__, #c);                                                                \
        }                                                                                                              \
    } while (0)
static sigjmp_buf jb;
static void segv(int) { siglongjmp(jb, 1); }
__attribute__((noinline)) static bool can_read(const volatile float *p) {
    volatile bool read = false;
    signal(SIGSEGV, segv);
    if (!sigsetjmp(jb, 1)) {
        (void)p[0];
        read = true;
    }
    signal(SIGSEGV, SIG_DFL);
    return read;
}
template <class F> static bool aborts(F work) {
    int status = 0;
    const pid_t child = fork();
    if (!child) {
        fclose(stderr);
        work();
        _exit(0);
    }
    return waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
int main() {
    setenv("CU_FAKE_DEVICES", "2", 0);
    const int n = 1000;
    float *d, *h, *hp;
    cudaStream_t a, b;
    cudaEvent_t e, e2;
    h = (float *)calloc(n, 4);
    OK(!cudaMallocHost((void **)&hp, n * 4));
    OK(!cudaMalloc((void **)&d, n * 4));
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreate(&e);
    cudaEventCreate(&e2);
    OK(!cudaMemsetAsync(d, 0, n * 4, a));
    CU_LAUNCH(add, 4, 256, 0, a, d, 1.0f, n);
    hp[0] = -1;
    cudaMemcpyAsync(hp, d, n * 4, cudaMemcpyDeviceToHost, a);
    const char *m = getenv("CU_FAKE_STREAMS");
    if (!m || !strcmp(m, "lazy")) OK(hp[0] == -1);  // not yet: nobody waited
    cudaEventRecord(e, a);
    cudaStreamWaitEvent(b, e, 0);
    CU_LAUNCH(mul, 4, 256, 0, b, d, 3.0f, n);
    cudaStreamSynchronize(b);
    OK(hp[0] == 1 && hp[n - 1] == 1);
    cudaMemcpy(h, d, n * 4, cudaMemcpyDeviceToHost);
    OK(h[0] == 3 && h[n - 1] == 3);
    // graph with a forked branch
    cudaGraph_t g;
    cudaGraphExec_t x;
    float *d2;
    cudaMalloc((void **)&d2, n * 4);
    cudaMemset(d2, 0, n * 4);
    cudaDeviceSynchronize();
    OK(!cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal));
    CU_LAUNCH(add, 4, 256, 0, a, d, 1.0f, n);
    cudaEventRecord(e, a);
    cudaStreamWaitEvent(b, e, 0);
    CU_LAUNCH(add, 4, 256, 0, b, d2, 2.0f, n);
    cudaEventRecord(e2, b);
    CU_LAUNCH(mul, 4, 256, 0, a, d, 2.0f, n);
    cudaStreamWaitEvent(a, e2, 0);
    void *none = nullptr;
    // h is pageable: a replay might find it gone
    OK(cudaMemcpyAsync(h, d, 4, cudaMemcpyDeviceToHost, a) == cudaErrorStreamCaptureUnsupported);
    OK(cudaMalloc(&none, 4) == cudaErrorStreamCaptureUnsupported &&
       cudaStreamSynchronize(a) == cudaErrorStreamCaptureUnsupported);
    cudaGetLastError();
    OK(!cudaStreamEndCapture(a, &g));
    OK(!cudaGraphInstantiate(&x, g, 0));
    cudaMemcpy(h, d, n * 4, cudaMemcpyDeviceToHost);
    OK(h[5] == 3);  // captured, not run
    for (int i = 0; i < 3; i++) OK(!cudaGraphLaunch(x, a));
    cudaStreamSynchronize(a);
    cudaMemcpy(h, d, n * 4, cudaMemcpyDeviceToHost);
    OK(h[5] == ((3 + 1) * 2 + 1) * 2 * 2 + 2);
    cudaMemcpy(h, d2, n * 4, cudaMemcpyDeviceToHost);
    OK(h[5] == 6);
    // host access to device memory faults
    const char *p = getenv("CU_FAKE_PROTECT");
    if (!p || atoi(p)) OK(!can_read(d));
    OK(can_read(hp));
    // cuBLAS in stream order
    cublasHandle_t cb;
    cublasCreate(&cb);
    cublasSetStream(cb, a);
    float one = 1, zero = 0;
    float *A;
    cudaMalloc((void **)&A, 16);
    float ha[4] = {1, 2, 3, 4}, hc[4];
    cudaMemcpy(A, ha, 16, cudaMemcpyHostToDevice);
    float *C;
    cudaMalloc((void **)&C, 16);
    OK(!cublasSgemm(cb, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, A, 2, A, 2, &zero, C, 2));
    cudaStreamSynchronize(a);
    cudaMemcpy(hc, C, 16, cudaMemcpyDeviceToHost);
    OK(hc[0] == 7 && hc[3] == 22);
    // threads that wait for each other
    float *sums;
    cudaMalloc((void **)&sums, n * 4);
    for (int i = 0; i < 64; i++) h[i] = i;
    cudaMemcpy(sums, h, 64 * 4, cudaMemcpyHostToDevice);
    CU_LAUNCH(sum_of_one_warp, 1, 96, 0, a, sums);
    cudaStreamSynchronize(a);
    cudaMemcpy(h, sums, 64 * 4, cudaMemcpyDeviceToHost);
    for (int i = 0; i < 64; i++) OK(h[i] == 496);
    cudaFree(sums);
    OK(aborts([&] {
        CU_LAUNCH(deadlock, 1, 32, 0, a, d);
        cudaStreamSynchronize(a);
    }));
    // work that is given memory of the host
    OK(aborts([&] {
        CU_LAUNCH(add, 4, 256, 0, a, h, 1.0f, n);
        cudaStreamSynchronize(a);
    }));
    OK(aborts([&] {
        cublasSgemm(cb, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, A, 2, ha, 2, &zero, C, 2);
        cudaStreamSynchronize(a);
    }));
    int nd;
    cudaGetDeviceCount(&nd);
    OK(nd == 2);
    if (nd > 1) {
        float *q;
        cudaSetDevice(1);
        cudaMalloc((void **)&q, n * 4);
        cudaMemcpyPeer(q, 1, d2, 0, n * 4);
        CU_LAUNCH(add, 4, 256, 0, 0, q, 1.0f, n);
        cudaMemcpy(h, q, n * 4, cudaMemcpyDeviceToHost);
        OK(h[3] == 7);
        CU_LAUNCH(add, 4, 256, 0, a, q, 1.0f, n);
        OK(cudaGetLastError() == cudaErrorInvalidResourceHandle);
        // a graph of both devices, whose kernels run each as its own
        cudaStream_t c;
        cudaStreamCreateWithFlags(&c, cudaStreamNonBlocking);
        cudaSetDevice(0);
        OK(!cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal));
        CU_LAUNCH(add, 4, 256, 0, a, d2, 1.0f, n);
        OK(cudaMemcpyPeerAsync(q, 1, d2, 0, n * 4, a) == cudaErrorStreamCaptureUnsupported);
        cudaGetLastError();
        cudaMemcpyAsync(q, d2, n * 4, cudaMemcpyDefault, a);
        cudaEventRecord(e, a);
        cudaStreamWaitEvent(c, e, 0);
        cudaSetDevice(1);
        CU_LAUNCH(mul, 4, 256, 0, c, q, 2.0f, n);
        cudaEventRecord(e2, c);
        cudaSetDevice(0);
        cudaStreamWaitEvent(a, e2, 0);
        cudaGraph_t both;
        cudaGraphExec_t run;
        OK(!cudaStreamEndCapture(a, &both));
        OK(!cudaGraphInstantiate(&run, both, 0));
        OK(!cudaGraphLaunch(run, a));
        cudaStreamSynchronize(a);
        cudaMemcpy(h, q, n * 4, cudaMemcpyDeviceToHost);
        OK(h[3] == 14);
        cudaGraphExecDestroy(run);
        cudaGraphDestroy(both);
        cudaStreamDestroy(c);
    }
    void *big = 0;
    OK(cudaMalloc(&big, (size_t)1 << 50) == cudaErrorMemoryAllocation && !big);
    cudaGetLastError();
    OK(cudaMemcpy(h, (char *)d + n * 4 - 8, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    cudaGetLastError();
    CU_LAUNCH(add, 1, 2048, 0, a, d, 1.0f, n);
    OK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    cudaEventDestroy(e);
    cudaEventDestroy(e2);
    free(h);
    printf(bad ? "%d FAILED\n" : "RUNTIME OK\n", bad);
    return bad != 0;
}
