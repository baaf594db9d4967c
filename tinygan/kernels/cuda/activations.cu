// Activations, element by element: x, y and g lie in one order, out too.
#include "runtime/common.cuh"

extern "C" __global__ void activation(const real* x, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = activated(x[i], kind, real(slope));
}
KERNEL(activation)

// g times the activation's slope at x.
extern "C" __global__ void activation_grad(const real* g, const real* x, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = g[i] * slope_at(x[i], kind, real(slope));
}
KERNEL(activation_grad)

// The same where the activation's output is y.
extern "C" __global__ void activation_grad_from_output(const real* g, const real* y, real* out, int count, int kind,
                                                       double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = g[i] * slope_from_output(y[i], kind, real(slope));
}
KERNEL(activation_grad_from_output)
