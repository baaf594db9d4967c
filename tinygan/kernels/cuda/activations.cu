// Elementwise activations. All arrays have their elements in the same order. The functions of one number, such as activated,
// are generated from the records in kernels/activations.py; see runtime/activation_source.py.
#include "runtime/common.cuh"

extern "C" __global__ void activation(const real* x, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = activated(x[i], kind, real(slope));
}
KERNEL(activation)

// g times the activation's slope. kept: what backward keeps, the result of a fused activation or the input of any other.
extern "C" __global__ void activation_grad(const real* g, const real* kept, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = g[i] * slope_from_kept(kept[i], kind, real(slope));
}
KERNEL(activation_grad)

// g times the activation's slope, computed from its result y.
extern "C" __global__ void activation_grad_from_result(const real* g, const real* y, real* out, int count, int kind,
                                                       double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = g[i] * slope_from_result(y[i], kind, real(slope));
}
KERNEL(activation_grad_from_result)

// The activation's second derivative, computed from its result y.
extern "C" __global__ void curvature(const real* y, real* out, int count, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = curvature_from_result(y[i], kind, real(slope));
}
KERNEL(curvature)
