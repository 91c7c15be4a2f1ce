// cpu_cudart.h - what runs kernels needs from the CUDA runtime on the CPU, whose devices are this machine's processor:
// cpu_cudart_memory.cpp (memory, devices), cpu_cudart_streams.cpp (streams, events, graphs), cpu_cudart_faults.cpp
// (errors, injected faults).
//
// It is stricter than a GPU on purpose. Environment:
//   CU_FAKE_STREAMS=lazy|eager|SEED   lazy (default): work on a stream runs only when something waits for it, as late
//                                     as CUDA allows; eager: at once; a number: a random part of the pending work after
//                                     every call
//   CU_FAKE_PROTECT=0                 device memory is unreadable to the host (PROT_NONE) unless a kernel or copy runs;
//                                     0 switches that off
//   CU_FAKE_DEVICES=N                 N devices (default 1); memory and streams belong to one; peers need
//                                     cudaDeviceEnablePeerAccess
//   CU_FAKE_PEERS=0                   a machine whose devices do not reach each other's memory; a kernel that does
//                                     faults (unless CU_FAKE_PROTECT=0)
//   CU_FAKE_MEM=BYTES                 memory per device (default 8 GiB)
//   CU_FAKE_SHARED=BYTES              shared memory that a block can have (default 163 KiB, compute capability 8.0)
//   CU_FAKE_FAIL=KIND:K               the K-th such call fails. KIND: malloc, pinned (host memory), copy, launch
//                                     (cuBLAS too), graph (capture, instantiation, launch); lost: from the K-th piece
//                                     of work on, every call fails. list: nothing fails; of every place in the program
//                                     that makes such calls, a line "KIND:K PLACE" on standard error names the first
//   CU_FAKE_LOG=1                     prints each call that enqueues or waits
//
// cpu_cuda_count(WHAT), which a test finds by its name: how often that was done. WHAT: kernel, cublas, copy and other
// pieces of work by the name that CU_FAKE_LOG prints; wait: waits of the host; drain: those for a stream's youngest
// piece of work, after which it has none.
#pragma once
#include <cuda_runtime_api.h>
#include <functional>
#include <memory>
#include <string>
namespace cpu_cuda {
// checks, then enqueues
cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> run);
// Puts work on a stream, or into the graph that the stream is being captured into.
cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<void()> run);
cudaError_t fail(cudaError_t e);  // remembers e for cudaGetLastError
void count(const char *what);
bool injected(const char *kind);           // is this the call that CU_FAKE_FAIL names?
bool may_access(const void *p, size_t n);  // by the device whose work is running
// a pointer that a kernel is given: ends the program unless the running device reaches what is there
void check_argument(const void *p);
}  // namespace cpu_cuda
