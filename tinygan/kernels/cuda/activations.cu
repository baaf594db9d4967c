// Activations, element by element: x, y and g lie in the same order, and so does out. The functions of one number are made
// from kernels/activations.py; see runtime/activation_source.py.
#include "runtime/common.cuh"

extern "C" __global__ void activation(const real* x, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = activated(x[i], kind, real(slope));
}
KERNEL(activation)

// g times the activation's slope. kept: what backward keeps, the result of a fused activation and the input of another.
extern "C" __global__ void activation_grad(const real* g, const real* kept, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = g[i] * slope_from_kept(kept[i], kind, real(slope));
}
KERNEL(activation_grad)

// g times the activation's slope where its result is y.
extern "C" __global__ void activation_grad_from_result(const real* g, const real* y, real* out, int count, int kind,
                                                       double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = g[i] * slope_from_result(y[i], kind, real(slope));
}
KERNEL(activation_grad_from_result)

// The activation's second derivative where its result is y.
extern "C" __global__ void curvature(const real* y, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = curvature_from_result(y[i], kind, real(slope));
}
KERNEL(curvature)
