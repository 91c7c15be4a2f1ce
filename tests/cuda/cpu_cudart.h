// cpu_cudart.h - what the two ways of running kernels need from the CUDA runtime on the CPU (cpu_cudart.cpp).
#pragma once
#include <cuda_runtime_api.h>
#include <functional>
#include <memory>
#include <string>
namespace cpu_cuda {
cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> run); // checks, then enqueues
cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<void()> run);
cudaError_t fail(cudaError_t e);          // remembers e for cudaGetLastError
bool injected(const char *kind);          // is this the call that CU_FAKE_FAIL names?
bool may_access(const void *p, size_t n); // by the device whose work is running
} // namespace cpu_cuda
