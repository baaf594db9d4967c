// The CUDA thread model on a CPU, for tests without a GPU. g++ includes this file before a kernel file.
//
// Blocks run one after another. The threads of a block are fibres on one host thread. __syncthreads and warp shuffles switch to
// the next fibre until all have arrived. A barrier that not all threads reach is an error. With -DHOST_THREADS the threads are
// host threads, and barriers are those of C++20. This is slow, but ThreadSanitizer can find races.
#pragma once

// Few headers, because they take longer to compile than most kernels.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>
#if defined(HOST_THREADS)
#include <barrier>
#include <memory>
#include <thread>
#else
#include <csetjmp>
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <dlfcn.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define EMULATED 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __grid_constant__
#define __shared__ static
#define __constant__ static const
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// NVRTC has these functions in the global namespace, overloaded for float and double.
using std::abs; using std::ceil; using std::cos; using std::exp; using std::expm1; using std::floor; using std::fma;
using std::fabs; using std::fmax; using std::fmin; using std::isfinite; using std::isinf; using std::isnan; using std::log; using std::log1p;
using std::pow; using std::rint; using std::sin; using std::sqrt; using std::tanh;
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((std::uint64_t(a) * b) >> 32); }
inline float __uint_as_float(unsigned x) { float y; std::memcpy(&y, &x, 4); return y; }
inline unsigned __float_as_uint(float x) { unsigned y; std::memcpy(&y, &x, 4); return y; }
inline int __float_as_int(float x) { int y; std::memcpy(&y, &x, 4); return y; }
inline float __int_as_float(int x) { float y; std::memcpy(&y, &x, 4); return y; }
template <class T> T __ldg(const T* p) { return *p; }

namespace emulator {

constexpr int WARP = 32;
constexpr std::size_t STACK = 128 * 1024;

#if defined(HOST_THREADS)
#define OF_EACH_THREAD thread_local
#else
#define OF_EACH_THREAD  // (a fibre may go on in another host thread, and must not keep an address of the first one's)
#endif
inline OF_EACH_THREAD uint3 thread_index, block_index;
inline dim3 block_size, grid_size;
inline std::vector<unsigned char> dynamic_shared;

inline int linear() {
    return int((thread_index.z * block_size.y + thread_index.y) * block_size.x + thread_index.x);
}
inline int threads() { return int(block_size.x * block_size.y * block_size.z); }
inline void place(int thread) {
    thread_index = {thread % block_size.x, thread / block_size.x % block_size.y, thread / (block_size.x * block_size.y)};
}

[[noreturn]] inline void stop(const char* message) {
    std::fprintf(stderr, "CUDA emulator: %s (block %u, %u, %u)\n", message, block_index.x, block_index.y, block_index.z);
    std::abort();
}

#if defined(HOST_THREADS)

inline std::unique_ptr<std::barrier<>> block_barrier;
inline std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;

inline void sync_block() { block_barrier->arrive_and_wait(); }
inline void sync_warp() { warp_barriers[linear() / WARP]->arrive_and_wait(); }

template <class Body> void run_block(uint3 block, const Body& body) {
    int n = threads();
    block_barrier = std::make_unique<std::barrier<>>(n);
    warp_barriers.clear();
    for (int first = 0; first < n; first += WARP) warp_barriers.push_back(std::make_unique<std::barrier<>>(std::min(WARP, n - first)));
    std::vector<std::thread> all;
    for (int i = 0; i < n; i++)
        all.emplace_back([&, i] {
            block_index = block;
            place(i);
            body();
            warp_barriers[i / WARP]->arrive_and_drop();
            block_barrier->arrive_and_drop();
        });
    for (auto& thread : all) thread.join();
}

#else

// A fibre runs one thread of each block. Between blocks it waits, so it is never deleted.
struct Fibre {
    ucontext_t context;
#if !defined(__SANITIZE_ADDRESS__)
    std::jmp_buf place;
#endif
    unsigned char* stack = new unsigned char[STACK];
    bool done = true, begun = false;
};
inline std::vector<Fibre*> fibres;
inline ucontext_t scheduler;
inline int current, alive;
inline bool moved;  // whether any fibre has made progress in this round
struct Barrier { int expected = 0, arrived = 0; unsigned generation = 0; };
inline Barrier of_block;
inline std::vector<Barrier> of_warp;
inline void (*run_body)();  // the kernel, with its arguments

#if defined(__SANITIZE_ADDRESS__)
inline const void* scheduler_stack; inline std::size_t scheduler_size;
// swapcontext of the C library. The sanitizer's version forgets the bounds of local arrays on the other stack.
inline const auto swap = reinterpret_cast<int (*)(ucontext_t*, const ucontext_t*)>(
    dlsym(dlopen("libc.so.6", RTLD_LAZY), "swapcontext"));
// Switches from one stack to another, and tells the sanitizer.
inline void go(ucontext_t& from, const ucontext_t& to, const void* stack, std::size_t size) {
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack, size);
    swap(&from, &to);
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
}
inline void enter(Fibre& f) { go(scheduler, f.context, f.stack, STACK); }
inline void yield() { go(fibres[current]->context, scheduler, scheduler_stack, scheduler_size); }
inline void begin() { __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size); }
#else
inline std::jmp_buf scheduler_place;
// swapcontext would call the operating system at every switch, for the signal mask, and take ten times as long. So a fibre's
// context is used only the first time.
inline void enter(Fibre& f) {
    if (_setjmp(scheduler_place)) return;
    if (f.begun) _longjmp(f.place, 1);
    f.begun = true;
    setcontext(&f.context);
}
inline void yield() {
    if (!_setjmp(fibres[current]->place)) _longjmp(scheduler_place, 1);
}
inline void begin() {}
#endif

inline void release(Barrier& b) {
    if (b.arrived && b.arrived == b.expected) { b.arrived = 0; b.generation++; }
}
inline void wait(Barrier& b) {
    unsigned generation = b.generation;
    b.arrived++;
    moved = true;
    release(b);
    while (b.generation == generation) yield();
    moved = true;
}
inline void sync_block() { wait(of_block); }
inline void sync_warp() { wait(of_warp[linear() / WARP]); }

template <class Body> struct Running { static inline const Body* body; };

inline void fibre_main() {
    begin();
    for (;;) {
        run_body();
        fibres[current]->done = moved = true;
        alive--;
        Barrier& warp = of_warp[linear() / WARP];
        of_block.expected--; warp.expected--;  // nobody waits for threads that have returned
        release(of_block); release(warp);
        yield();
    }
}

inline void add_fibre() {
    Fibre& f = *fibres.emplace_back(new Fibre);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, fibre_main, 0);
}

template <class Body> void run_block(uint3 block, const Body& body) {
    int n = threads();
    block_index = block;
    Running<Body>::body = &body;
    run_body = [] { (*Running<Body>::body)(); };
    while (int(fibres.size()) < n) add_fibre();
    of_block = {n};
    of_warp.assign((n + WARP - 1) / WARP, {});
    for (int i = 0; i < n; i++) {
        of_warp[i / WARP].expected++;
        fibres[i]->done = false;
    }
    for (alive = n; alive;) {
        moved = false;
        for (current = 0; current < n; current++) {
            if (fibres[current]->done) continue;
            place(current);
            enter(*fibres[current]);
        }
        if (!moved) stop("a barrier that not all threads of the block (or warp) reach");  // all that are left wait
    }
}

#endif

inline std::vector<std::uint64_t> slots(1024);  // the value that each thread of the block passes to its warp

template <class T> T shuffle(T value, int from) {
    static_assert(sizeof(T) <= 8);
    int self = linear(), first = self / WARP * WARP;
    std::memcpy(&slots[self], &value, sizeof(T));
    sync_warp();
    int source = first + from;
    if (from < 0 || from >= WARP || source >= threads()) source = self;
    std::memcpy(&value, &slots[source], sizeof(T));
    sync_warp();
    return value;
}

template <class... P, std::size_t... I>
auto bound(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    auto values = std::make_tuple(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
    return [kernel, values] { std::apply(kernel, values); };
}

template <class... P> void run(void (*kernel)(P...), const unsigned* grid, const unsigned* block, unsigned shared, void** arguments) {
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    if (threads() > 1024) stop("more than 1024 threads in a block");
    auto body = bound(kernel, arguments, std::index_sequence_for<P...>());
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                dynamic_shared.assign(shared, 0xFF);  // NaN, so that tests notice memory that is read before it is written
                dynamic_shared.shrink_to_fit();
                run_block({x, y, z}, body);
            }
}

// How many parameters a kernel has. If `sizes` is not null, the bytes of each parameter are written to it.
template <class... P> int parameters(void (*)(P...), std::size_t* sizes) {
    if (sizes) ((*sizes++ = sizeof(P)), ...);
    return sizeof...(P);
}

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
inline void __syncthreads() { emulator::sync_block(); }
inline void __syncwarp(unsigned = 0xFFFFFFFFu) { emulator::sync_warp(); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) { return emulator::shuffle(value, (emulator::linear() % 32) ^ mask); }
template <class T> T __shfl_down_sync(unsigned, T value, int by) { return emulator::shuffle(value, emulator::linear() % 32 + by); }
template <class T> T __shfl_sync(unsigned, T value, int lane) { return emulator::shuffle(value, lane); }

#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::dynamic_shared.data())
#define KERNEL(name)                                                                                                   \
    extern "C" void emulate_##name(const unsigned* grid, const unsigned* block, unsigned shared, void** arguments) {   \
        emulator::run(name, grid, block, shared, arguments);                                                          \
    }                                                                                                                  \
    extern "C" int parameters_##name(std::size_t* sizes) { return emulator::parameters(name, sizes); }
