// What every kernel file begins with.
//
// REAL is the type of the arrays, float or double: each file is compiled once for each. A kernel is an extern "C" function and
// is named once more at the end, KERNEL(name), which is how the emulator finds it. Whole numbers come as int, other numbers as
// double, arrays as pointers (None: null).
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

enum Activation { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, TANH = 3, SIGMOID = 4, SOFTPLUS = 5, ELU = 6 };

__device__ __forceinline__ real sigmoid(real x) {
    real tail = exp(-fabs(x));  // nothing overflows, and a small tail survives
    return (x < 0 ? tail : real(1)) / (real(1) + tail);
}

__device__ __forceinline__ real activated(real x, int kind, real slope) {
    switch (kind) {
        case RELU: return x > 0 ? x : (x == x ? real(0) : x);  // a NaN stays one
        case LEAKY_RELU: return x > 0 ? x : x * slope;
        case TANH: return tanh(x);
        case SIGMOID: return sigmoid(x);
        case SOFTPLUS: return (x > 0 ? x : (x == x ? real(0) : x)) + log1p(exp(-fabs(x)));
        case ELU: return x > 0 ? x : slope * expm1(x);
        default: return x;
    }
}

__device__ __forceinline__ real sigmoid_slope(real x) {
    real tail = exp(-fabs(x));
    return tail / ((real(1) + tail) * (real(1) + tail));  // (p (1 - p) would lose a small 1 - p)
}

// The activation's slope at x.
__device__ __forceinline__ real slope_at(real x, int kind, real slope) {
    switch (kind) {
        case RELU: return x > 0 ? real(1) : real(0);
        case LEAKY_RELU: return x > 0 ? real(1) : slope;
        case TANH: return real(4) * sigmoid_slope(x + x);
        case SIGMOID: return sigmoid_slope(x);
        case SOFTPLUS: return sigmoid(x);
        case ELU: return x > 0 ? real(1) : slope * exp(x);
        default: return real(1);
    }
}

// The same where the activation's output is y: its absolute error is that of y, so that small slopes are lost.
__device__ __forceinline__ real slope_from_output(real y, int kind, real slope) {
    switch (kind) {
        case TANH: return real(1) - y * y;
        case SIGMOID: return y * (real(1) - y);
        case SOFTPLUS: return -expm1(-y);
        case ELU: return y > 0 ? real(1) : y + slope;
        default: return slope_at(y, kind, slope);
    }
}

// The sum over the threads of a warp, in every one of them.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (int mask = WARP_SIZE / 2; mask; mask /= 2) value += __shfl_xor_sync(WHOLE_WARP, value, mask);
    return value;
}

// The sum over the threads of a block of whole warps, in every one of them; always in the same order. All must call it.
template <class T> __device__ T block_sum(T value) {
    __shared__ T partial[WARP_SIZE];
    int thread = threadIdx.x, warps = blockDim.x / WARP_SIZE;
    value = warp_sum(value);
    __syncthreads();  // of the call before
    if (thread % WARP_SIZE == 0) partial[thread / WARP_SIZE] = value;
    __syncthreads();
    value = 0;
    for (int i = 0; i < warps; i++) value += partial[i];
    return value;
}
