// The suite's CUDA kernels on the host, for tests without a GPU: threads of a block are fibers that take turns at barriers
// and shuffles, blocks run one after another. Slow, exact in what the kernel computes, silent about races between blocks.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <cstdlib>
#include <utility>
#include <ucontext.h>

struct uint3_ { unsigned x, y, z; };
static uint3_ blockIdx, blockDim, gridDim, threadIdx;

struct Fiber { ucontext_t context; char* stack; uint3_ index; bool done; };
static Fiber fibers[1024];
static ucontext_t scheduler;
static int current, count;
static int arrived, generation, warp_arrived[32], warp_generation[32];
static float slots[1024];

static void yield_() { swapcontext(&fibers[current].context, &scheduler); }
static void barrier(int& here, int& turn, int width) {
    if (++here == width) { here = 0; ++turn; return; }
    for (int mine = turn; turn == mine;) yield_();
}
static void warp_barrier() { int w = current / 32; barrier(warp_arrived[w], warp_generation[w], 32); }

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __align__(n) alignas(n)
#define __syncthreads() barrier(arrived, generation, count)
template <class T> static T __shfl_xor_sync(unsigned, T v, int o) {
    int me = current;
    std::memcpy(&slots[me], &v, 4);
    warp_barrier();
    T r;
    std::memcpy(&r, &slots[me ^ o], 4);
    warp_barrier();
    return r;
}
static int __popc(unsigned v) { return __builtin_popcount(v); }
static float atomicAdd(float* to, float v) { float old = *to; *to += v; return old; }
static float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
using std::min;
static inline float to_float(unsigned short h) { _Float16 f; std::memcpy(&f, &h, 2); return (float)f; }
static inline unsigned short to_half(float x) { _Float16 f = (_Float16)x; unsigned short h; std::memcpy(&h, &f, 2); return h; }

#define PERFBOARD_HOST
#include "kernels.cu"

static void (*thunk)(void**);
static void** arguments;
static void enter() { thunk(arguments); fibers[current].done = true; yield_(); }

template <class... A, std::size_t... I>
static void invoke(void (*k)(A...), void** a, std::index_sequence<I...>) { k(*(A*)a[I]...); }
template <class... A> static void invoke(void (*k)(A...), void** a) { invoke(k, a, std::index_sequence_for<A...>{}); }

#define KERNEL(name) { #name, [](void** a) { invoke(name, a); } }
static struct { const char* name; void (*run)(void**); } table[] = {
    KERNEL(empty), KERNEL(strided_copy), KERNEL(relu), KERNEL(gelu), KERNEL(add), KERNEL(silu_mul), KERNEL(reduce),
    KERNEL(rmsnorm), KERNEL(layernorm), KERNEL(softmax), KERNEL(attend_1), KERNEL(attend_4), KERNEL(attend_8),
    KERNEL(attend_join), KERNEL(weight_rows_int4_1), KERNEL(weight_rows_int4_8), KERNEL(weight_rows_int2_1),
    KERNEL(weight_rows_int2_8), KERNEL(weight_tiles_int4), KERNEL(weight_tiles_int2), KERNEL(lookup), KERNEL(popcount_rows),
    KERNEL(popcount_tiles)};

static void run_block() {
    arrived = 0;
    std::memset(warp_arrived, 0, sizeof warp_arrived);
    for (int t = 0; t < count; ++t) {
        Fiber& f = fibers[t];
        f.index = {unsigned(t), 0, 0};
        f.done = false;
        if (!f.stack) f.stack = (char*)std::malloc(65536);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack;
        f.context.uc_stack.ss_size = 65536;
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    for (int left = count; left;)
        for (int t = 0; t < count; ++t) {
            if (fibers[t].done) continue;
            current = t;
            threadIdx = fibers[t].index;
            swapcontext(&scheduler, &fibers[t].context);
            left -= fibers[t].done;
        }
}

// 0 done, 1 no kernel of that name.
extern "C" int launch(const char* name, int gx, int gy, int gz, int threads, void** args) {
    for (auto& entry : table) {
        if (std::strcmp(entry.name, name)) continue;
        thunk = entry.run; arguments = args; count = threads;
        gridDim = {unsigned(gx), unsigned(gy), unsigned(gz)};
        blockDim = {unsigned(threads), 1, 1};
        for (int z = 0; z < gz; ++z) for (int y = 0; y < gy; ++y) for (int x = 0; x < gx; ++x) {
            blockIdx = {unsigned(x), unsigned(y), unsigned(z)};
            run_block();
        }
        return 0;
    }
    return 1;
}
