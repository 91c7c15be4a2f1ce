// cpu_cudart_state.h - what the parts of the CUDA runtime on the CPU share: work, streams, events, graphs, blocks of
// memory, the environment.
#pragma once
#include "cpu_cudart.h"
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <vector>
namespace cpu_cuda {
struct Op {
    std::function<void()> fn;
    std::vector<std::shared_ptr<Op>> deps;
    bool done = false;
    int dev = 0;
    bool alone = false;  // touches memory of its own device only, and of peers
};
using OpP = std::shared_ptr<Op>;
struct Node {
    std::function<void()> fn;
    std::vector<int> deps;
    int dev = 0;  // as of Op
    bool alone = false;
};
struct Graph {
    std::vector<Node> nodes;
};
struct Stream;
struct Capture {
    Graph *g;
    std::map<Stream *, int> last;
    Stream *origin;
};
struct Stream {
    int dev = 0;
    bool blocking = true;
    OpP last;
    Capture *cap = nullptr;
};
struct Event {
    OpP op;
    std::shared_ptr<double> ms;
    Capture *cap = nullptr;
    int node = -1;
};

using Lock = std::lock_guard<std::recursive_mutex>;
extern std::recursive_mutex big;
extern std::set<Stream *> &streams;
extern thread_local int cur_dev;
extern thread_local int run_dev;  // device whose work runs on this thread; -1: the host
extern bool lost;

static inline const char *env(const char *k, const char *otherwise) { return getenv(k) ? getenv(k) : otherwise; }
int n_dev();
void note(const char *f, ...);  // a line with CU_FAKE_LOG

// cpu_cudart_memory.cpp
enum class Where { host, pinned, device, beyond };  // beyond: begins in a block and ends outside
Where where(const void *p, size_t n);
void close_others(int dev);  // within a Running: leaves open what a kernel of this device may touch
void open_all();
struct Running {  // device memory is open while one lives
    Running();
    ~Running();
};

// cpu_cudart_streams.cpp
Stream *find(cudaStream_t s, int dev);
bool capturing();
cudaError_t wait_stream(cudaStream_t st);
cudaError_t wait_device(int dev);
}  // namespace cpu_cuda
