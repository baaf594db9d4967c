// The beginning of every kernel file.
//
// REAL is the type of the arrays, float or double. Each file is compiled once for each of the two. A kernel is an extern "C"
// function. KERNEL(name) after its body lets the emulator find it. The parameters of a kernel are int, double, pointers (null for
// None) and structs of ints. Structs are __grid_constant__; otherwise the compiler would keep copies of them in registers.
//
// The functions that apply an activation, such as activated(x, kind, slope), are in no file. They are generated from the records
// in kernels/activations.py (see activation_source.py). source_of in launcher.py puts them between this file and a kernel file.
#pragma once

#ifndef REAL
#define REAL float
#endif

#ifndef EMULATED
#define DYNAMIC_SHARED(type, name) extern __shared__ unsigned char name##_bytes[]; type* name = reinterpret_cast<type*>(name##_bytes)
#define KERNEL(name)
#endif

typedef REAL real;
constexpr int WARP_SIZE = 32;
constexpr unsigned WHOLE_WARP = 0xFFFFFFFFu;

// The sum of the values of all threads of a warp, returned to each of them.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (int mask = WARP_SIZE / 2; mask; mask /= 2) value += __shfl_xor_sync(WHOLE_WARP, value, mask);
    return value;
}

// The sum of the values of all threads of a block, returned to each of them. It is always added in the same order. The block has
// whole warps, and all threads must call it.
template <class T> __device__ T block_sum(T value) {
    __shared__ T partial[WARP_SIZE];
    int thread = threadIdx.x, warps = blockDim.x / WARP_SIZE;
    value = warp_sum(value);
    __syncthreads();  // wait until the previous call has read `partial`
    if (thread % WARP_SIZE == 0) partial[thread / WARP_SIZE] = value;
    __syncthreads();
    value = 0;
    for (int i = 0; i < warps; i++) value += partial[i];
    return value;
}
