// Binary cross-entropy of logits. Targets: an array like the logits (target_step 1), one number in memory (0), or, where the
// pointer is null, `target`.
#include "columns.cuh"

__device__ __forceinline__ real target_of(const real* targets, int target_step, double target, long long i) {
    return targets ? targets[i * target_step] : real(target);
}

// mean(softplus(logits) - targets * logits): a sum over `rows` logits, one column (see columns.cuh).
extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void bce_with_logits(
    const real* logits, const real* targets, int target_step, double target, int rows, int columns, int width, real* out,
    double* partial) {
    Columns c(rows, columns, width);
    double total[1];
    add_rows(c, [&](long long i, real* t) {
        real x = logits[i];
        // The tail is added last, so that a small loss is not lost in a large logit.
        t[0] = (x > 0 ? x : (x == x ? real(0) : x)) - target_of(targets, target_step, target, i) * x + log1p(exp(-fabs(x)));
    }, total);
    total[0] /= rows;
    store_totals(c, width, total, out, partial);
}
KERNEL(bce_with_logits)

// g * (sigmoid(logits) - targets) / count; g in memory or, where the pointer is null, `number`.
extern "C" __global__ void bce_with_logits_grad(const real* g, double number, const real* logits, const real* targets,
                                                int target_step, double target, real* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    real scale = (g ? *g : real(number)) / real(count);
    out[i] = (sigmoid(logits[i]) - target_of(targets, target_step, target, i)) * scale;
}
KERNEL(bce_with_logits_grad)

// gg * g / count * p * (1 - p), for p = sigmoid(logits).
extern "C" __global__ void bce_with_logits_curvature(const real* gg, const real* g, double number, const real* logits, real* out,
                                                     int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    real scale = (g ? *g : real(number)) / real(count), tail = exp(-fabs(logits[i]));
    out[i] = gg[i] * scale * (tail / ((real(1) + tail) * (real(1) + tail)));  // (1 - p would lose a small p (1 - p))
}
KERNEL(bce_with_logits_curvature)
