// Binary cross-entropy of logits. `targets` points to an array with the shape of the logits (target_step 1) or to one number
// (target_step 0). If it is null, the number `target` is used.
#include "runtime/columns.cuh"

__device__ __forceinline__ real target_of(const real* targets, int target_step, double target, long long i) {
    return targets ? targets[i * target_step] : real(target);
}

// mean(softplus(logits) - targets * logits). The logits are a matrix with one column and `rows` rows (see columns.cuh).
extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void bce_with_logits(
    const real* logits, const real* targets, int target_step, double target, int rows, int columns, int width, real* out,
    double* partial) {
    Columns c(rows, columns, width);
    double total[1];
    add_rows(c, [&](long long i, real* t) {
        real size = fabs(logits[i]), factor = target_of(targets, target_step, target, i);
        if (!(logits[i] < 0)) factor = real(1) - factor;
        t[0] = (factor == 0 ? real(0) : factor * size) + log1p(exp(-size));  // (0 times infinity must be 0 here)
    }, total);
    total[0] /= rows;
    store_totals(c, width, total, out, partial);
}
KERNEL(bce_with_logits)

// g * (sigmoid(logits) - targets) / count. g points to one number; if it is null, `number` is used.
extern "C" __global__ void bce_with_logits_grad(const real* g, double number, const real* logits, const real* targets,
                                                int target_step, double target, real* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    real scale = (g ? *g : real(number)) / real(count);
    real x = logits[i], t = target_of(targets, target_step, target, i);
    out[i] = ((real(1) - t) * sigmoid(x) - t * sigmoid(-x)) * scale;  // (sigmoid(x) - t would lose digits if nearly 0)
}
KERNEL(bce_with_logits_grad)

// gg * g / count * p * (1 - p), where p = sigmoid(logits). g and number: as above.
extern "C" __global__ void bce_with_logits_curvature(const real* gg, const real* g, double number, const real* logits, real* out,
                                                     int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    real scale = (g ? *g : real(number)) / real(count);
    out[i] = gg[i] * scale * sigmoid_slope(logits[i]);
}
KERNEL(bce_with_logits_curvature)
