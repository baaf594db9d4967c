// Batch normalisation of (rows, channels) followed by a piecewise linear activation, with first and second gradients.
//
// The result is activation(z), where n = (x - mean) / deviation and z = n * weight + bias. Backward computes n and z again
// from x. Each thread keeps the numbers of its channel in registers; columns.cuh says how threads share the rows.
#include "runtime/columns.cuh"

// The parameters of every kernel that describe the layer.
#define LAYER const real* weight, const real* bias, double eps, const real* mean, const real* var, int kind, double slope
#define CHANNEL Channel(c.column, weight, bias, eps, mean, var, kind, slope)
#define NORMALIZATION(name) extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void name

struct Channel {
    real weight, bias, mean;
    real inverse;               // 1 / deviation
    real above, at_zero, below;  // the activation's slope for positive, zero and negative z

    __device__ __forceinline__ Channel(int c, LAYER)
        : weight(weight[c]), bias(bias[c]), mean(mean[c]), inverse(real(1) / sqrt(var[c] + real(eps))),
          above(fused_slope_at(real(1), kind, real(slope))), at_zero(fused_slope_at(real(0), kind, real(slope))),
          below(fused_slope_at(real(-1), kind, real(slope))) {}
    __device__ __forceinline__ real normal(real x) const { return (x - mean) * inverse; }
    __device__ __forceinline__ real z(real normal) const { return normal * weight + bias; }
    // The activation's slope at z.
    __device__ __forceinline__ real slope(real normal) const {
        real at = z(normal);
        return at > 0 ? above : at < 0 ? below : at_zero;
    }
};

// The mean and the biased variance of each channel, or, if `partial` is not null, the moments of the block's part.
//
// A thread subtracts its first row from all its rows, so that a large mean takes no digits. The first row is usually near the
// mean. If instead it is far from the other rows, its own squared deviation is so large that the lost digits do not matter.
NORMALIZATION(moments)(const real* x, int rows, int columns, int width, real* mean, real* var, double* partial) {
    Columns c(rows, columns, width);
    bool any = c.begin + c.line < c.end;
    real centre = any ? x[c.at(c.begin + c.line)] : real(0);
    double totals[2];
    add_rows(c, [&](long long at, real* t) {
        real d = x[at] - centre;
        t[0] = d;
        t[1] = d * d;
    }, totals);
    double count = any ? double((c.end - c.begin - c.line + c.step - 1) / c.step) : 0.0;
    double shift = any ? totals[0] / count : 0.0;
    Moments all = Moments{count, centre + shift, totals[1] - totals[0] * shift}.over_column(width);
    if (c.line || !c.inside) return;
    if (partial) all.store(partial, blockIdx.y, columns, c.column);
    else all.write(c.column, mean, var);
}
KERNEL(moments)

// Combines the moments of all parts: (parts, 3, columns) -> mean and var.
NORMALIZATION(finish_moments)(const double* partial, int parts, int columns, int width, real* mean, real* var) {
    Columns c(parts, columns, width);
    double count = 0, weighted = 0, squares = 0;
    if (c.inside)
        for (int part = c.line; part < parts; part += c.step) {
            const double* from = partial + (long long)part * 3 * columns + c.column;
            count += from[0];
            weighted += from[0] * from[columns];
        }
    count = column_sum(count, width);
    double centre = column_sum(weighted, width) / count;
    if (c.inside)
        for (int part = c.line; part < parts; part += c.step) {
            const double* from = partial + (long long)part * 3 * columns + c.column;
            double d = from[columns] - centre;
            squares += from[2LL * columns] + from[0] * d * d;
        }
    Moments all{count, centre, column_sum(squares, width)};
    if (c.line == 0 && c.inside) all.write(c.column, mean, var);
}
KERNEL(finish_moments)

// activation(z).
NORMALIZATION(batch_norm)(const real* x, real* out, int rows, int columns, int width, LAYER) {
    Columns c(rows, columns, width);
    Channel channel = CHANNEL;
    each_row(c, [&](long long at) {
        return fused_activated(channel.z(channel.normal(x[at])), kind, real(slope));
    }, [&](long long at, real y) { out[at] = y; });
}
KERNEL(batch_norm)

// The sums over the rows of the gradient of z, and of this gradient times n: (2, columns).
NORMALIZATION(gradient_sums)(const real* g, const real* x, LAYER, int rows, int columns, int width, real* out,
                             double* partial) {
    Columns c(rows, columns, width);
    Channel channel = CHANNEL;
    double totals[2];
    add_rows(c, [&](long long at, real* t) {
        real normal = channel.normal(x[at]);
        t[0] = g[at] * channel.slope(normal);
        t[1] = t[0] * normal;
    }, totals);
    store_totals(c, width, totals, out, partial);
}
KERNEL(gradient_sums)

// The gradient of x: weight / deviation * (gradient of z - (sums[0] + n * sums[1]) / rows), where sums: gradient_sums.
NORMALIZATION(input_gradient)(const real* g, const real* x, const real* sums, real* out, int rows, int columns, int width,
                              LAYER) {
    Columns c(rows, columns, width);
    Channel channel = CHANNEL;
    real scale = channel.weight * channel.inverse, plain = sums[c.column] / rows, along = sums[columns + c.column] / rows;
    each_row(c, [&](long long at) {
        real normal = channel.normal(x[at]);
        return scale * (g[at] * channel.slope(normal) - (plain + normal * along));
    }, [&](long long at, real value) { out[at] = value; });
}
KERNEL(input_gradient)

// The sums over the rows of h, of h times n, and of h times the gradient of z: (3, columns), in double.
NORMALIZATION(second_sums)(const real* h, const real* g, const real* x, LAYER, int rows, int columns, int width, real* out,
                           double* partial) {
    Columns c(rows, columns, width);
    Channel channel = CHANNEL;
    double totals[3];
    add_rows(c, [&](long long at, real* t) {
        real normal = channel.normal(x[at]);
        t[0] = h[at];
        t[1] = h[at] * normal;
        t[2] = h[at] * (g[at] * channel.slope(normal));
    }, totals);
    store_totals(c, width, totals, out, partial);
}
KERNEL(second_sums)

struct Gradients {
    real g, x;
};

// The gradients of sum(h * gradient_sums) by g and by x, for h (2, columns). By g it is (h0 + h1 n) slope. x counts through n,
// which depends on all x of its channel: h1 / deviation * (gradient of z - (sums[0] + n * sums[1]) / rows).
NORMALIZATION(gradient_sums_vjp)(const real* h, const real* g, const real* x, const real* sums, real* by_g, real* by_x,
                                 int rows, int columns, int width, LAYER) {
    Columns c(rows, columns, width);
    Channel channel = CHANNEL;
    real h0 = h[c.column], h1 = h[columns + c.column];
    real scale = h1 * channel.inverse, plain = sums[c.column] / rows, along = sums[columns + c.column] / rows;
    each_row(c, [&](long long at) {
        real normal = channel.normal(x[at]), slope = channel.slope(normal);
        return Gradients{(h0 + h1 * normal) * slope, scale * (g[at] * slope - (plain + normal * along))};
    }, [&](long long at, const Gradients& by) {
        by_g[at] = by.g;
        by_x[at] = by.x;
    });
}
KERNEL(gradient_sums_vjp)

// The gradients of sum(h * input_gradient) by g, x, weight (columns) and sums (2, columns), for h of the shape of x.
// totals: second_sums.
//
// Let r = 1 / deviation, c = weight r, s0 and s1 the two sums, and u = (gradient of z) - (s0 + n s1) / rows. Then input_gradient
// is c u. It depends on x in two ways: through n, whose gradient is a = -(c s1 / rows) h, and through r, whose derivative by x
// is -r^2 n / rows. So the gradient by x is r (a - mean(a) - n mean(a n)) - weight sum(h u) r^2 n / rows.
NORMALIZATION(input_gradient_vjp)(const real* h, const real* x, const real* sums, const double* totals,
                                  real* by_g, real* by_x, real* by_weight, real* by_sums, int rows, int columns, int width,
                                  LAYER) {
    Columns c(rows, columns, width);
    Channel channel = CHANNEL;
    double plain = totals[c.column], along = totals[columns + c.column], products = totals[2LL * columns + c.column];
    double s0 = sums[c.column], s1 = sums[columns + c.column], r = channel.inverse, scale = channel.weight * r;
    double of_u = products - (s0 * plain + s1 * along) / rows;  // sum(h u)
    double a = -r * scale * s1 / rows;
    if (blockIdx.y == 0 && c.line == 0 && c.inside) {
        by_weight[c.column] = real(r * of_u);
        by_sums[c.column] = real(-scale * plain / rows);
        by_sums[columns + c.column] = real(-scale * along / rows);
    }
    real k0 = real(-a * plain / rows), k1 = real(-(a * along + scale * of_u * r) / rows), k2 = real(a), k3 = real(scale);
    each_row(c, [&](long long at) {
        real normal = channel.normal(x[at]);
        return Gradients{k3 * h[at] * channel.slope(normal), k0 + k1 * normal + k2 * h[at]};
    }, [&](long long at, const Gradients& by) {
        by_g[at] = by.g;
        by_x[at] = by.x;
    });
}
KERNEL(input_gradient_vjp)
