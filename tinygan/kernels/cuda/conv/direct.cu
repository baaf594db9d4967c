// The three convolution maps as matrix products. Their operands are read directly from the images.
//
// Images are channels-last: x (N, H, W, C), y (N, OH, OW, K). So are weights: (K, kH, kW, C / groups). With WIDTH = 4, four
// channels are read at once; the number of channels in a group must then be a multiple of four.
#include "matmul/product.cuh"

// The sizes of a convolution: x (images, height, width, channels), y (images, out_height, out_width, kernels). part_stride: the
// elements from one part of the split sums to the next.
struct Convolution {
    int images, height, width, channels;
    int out_height, out_width, kernels;
    int kernel_height, kernel_width;
    int stride_down, stride_across, padding_down, padding_across, dilation_down, dilation_across;
    int groups, part_stride;

    __device__ __forceinline__ int depth() const { return channels / groups; }  // the channels of a group
    __device__ __forceinline__ int group_kernels() const { return kernels / groups; }  // the kernels of a group
    __device__ __forceinline__ int taps() const { return kernel_height * kernel_width * depth(); }
};

// Divides many numbers from 0 to 2^31 - 1 by the same divisor, with a multiplication and a shift (Granlund and Montgomery 1994).
// The divisor 0 counts as 1.
struct Divisor {
    int divisor, shift;
    unsigned multiplier;
    __device__ __forceinline__ explicit Divisor(int d) : divisor(max(1, d)), shift(31) {
        while ((1LL << (shift - 31)) < divisor) shift++;
        multiplier = unsigned((1ULL << shift) / unsigned(divisor)) + 1;
    }
    __device__ __forceinline__ int quotient(int n) const {
        return int((unsigned long long)unsigned(n) * multiplier >> shift);
    }
};

// How a convolution reads along one axis. There are `count` outputs; output u is at position first + u * apart. It is the sum over
// t < taps of the weight at weight + t * weight_step times the input at u * stride + source + t * source_step. Inputs outside the
// array count as 0.
struct Axis {
    int count, first, apart, taps, weight, weight_step, stride, source, source_step;
};

__device__ __forceinline__ Axis forward_axis(int output, int kernel, int stride, int padding, int dilation) {
    return {output, 0, 1, kernel, 0, 1, stride, -padding, dilation};
}
__device__ __forceinline__ Axis forward_down(const Convolution& g) {
    return forward_axis(g.out_height, g.kernel_height, g.stride_down, g.padding_down, g.dilation_down);
}
__device__ __forceinline__ Axis forward_across(const Convolution& g) {
    return forward_axis(g.out_width, g.kernel_width, g.stride_across, g.padding_across, g.dilation_across);
}

// The axis of the adjoint. The gradient at position h of the image is the sum over i of weight i times the gradient of output
// (h + padding - i dilation) / stride, where this is a whole number. Positions h with the same remainder `phase` modulo the stride
// use the same weights. For them the adjoint is a convolution of stride 1.
__device__ __forceinline__ Axis adjoint_axis(int phase, int input, int kernel, int stride, int padding, int dilation) {
    int step = 1, weight = 0, shifted = phase + padding;
    while (step * dilation % stride) step++;
    while (weight < step && (shifted - weight * dilation) % stride) weight++;
    int taps = weight < step && weight < kernel ? (kernel - 1 - weight) / step + 1 : 0;
    return {(input - phase + stride - 1) / stride, phase, stride, taps, weight, step,
            1, taps ? (shifted - weight * dilation) / stride : 0, -(step * dilation / stride)};
}
__device__ __forceinline__ Axis adjoint_down(const Convolution& g, int phase) {
    return adjoint_axis(phase / g.stride_across, g.height, g.kernel_height, g.stride_down, g.padding_down, g.dilation_down);
}
__device__ __forceinline__ Axis adjoint_across(const Convolution& g, int phase) {
    return adjoint_axis(phase % g.stride_across, g.width, g.kernel_width, g.stride_across, g.padding_across,
                        g.dilation_across);
}

struct Place {
    int at, y, x;  // at: index in memory. y, x: row and column, which tell what is outside of the image
};

// The matrix (outputs, taps) of a convolution, read from images (N, height, width, channels). Its element is the pixel that a tap
// covers for an output. Outputs (n, u, v) and taps (i, j, c) are counted row by row; c counts `depth` channels from `data` on.
struct Windows {
    const real* data;
    int height, width, channels;
    Axis vertical, horizontal;
    Divisor by_column, by_row, by_channel, by_tap;

    __device__ __forceinline__ Windows(const real* data, int height, int width, int channels, int depth,
                                       const Axis& vertical, const Axis& horizontal)
        : data(data), height(height), width(width), channels(channels), vertical(vertical), horizontal(horizontal),
          by_column(horizontal.count), by_row(vertical.count), by_channel(depth), by_tap(horizontal.taps) {}

    __device__ __forceinline__ Place output(int m) const {
        int row = by_column.quotient(m), image = by_row.quotient(row);
        int y = (row - image * vertical.count) * vertical.stride + vertical.source;
        int x = (m - row * horizontal.count) * horizontal.stride + horizontal.source;
        return {((image * height + y) * width + x) * channels, y, x};
    }
    __device__ __forceinline__ Place tap(int k) const {
        int both = by_channel.quotient(k), i = by_tap.quotient(both);
        int y = i * vertical.source_step, x = (both - i * horizontal.taps) * horizontal.source_step;
        return {(y * width + x) * channels + k - both * by_channel.divisor, y, x};
    }
    __device__ __forceinline__ Vector<WIDTH> seen(const Place& output, const Place& tap) const {
        bool inside = unsigned(output.y + tap.y) < unsigned(height) && unsigned(output.x + tap.x) < unsigned(width);
        return inside ? *reinterpret_cast<const Vector<WIDTH>*>(data + output.at + tap.at) : Vector<WIDTH>{};
    }
};

struct OutputsByTaps : Windows {
    static constexpr bool ALONG_K = true;
    static constexpr int WIDE = WIDTH;
    typedef Place Outer;
    typedef Place Inner;
    using Windows::Windows;
    __device__ __forceinline__ Outer outer(int m) const { return output(m); }
    __device__ __forceinline__ Inner inner(int k) const { return tap(k); }
    __device__ __forceinline__ Vector<WIDTH> value(const Outer& output, const Inner& tap) const { return seen(output, tap); }
};

struct TapsByOutputs : Windows {
    static constexpr bool ALONG_K = false;
    static constexpr int WIDE = WIDTH;
    typedef Place Outer;
    typedef Place Inner;
    using Windows::Windows;
    __device__ __forceinline__ Outer outer(int n) const { return tap(n); }
    __device__ __forceinline__ Inner inner(int k) const { return output(k); }
    __device__ __forceinline__ Vector<WIDTH> value(const Outer& tap, const Inner& output) const { return seen(output, tap); }
};

// The weights as a matrix for the adjoint. Element (c, (i, j, k)) is the weight of channel c and kernel k at tap (i, j) of a
// phase.
struct AdjointWeights {
    static constexpr bool ALONG_K = false;
    static constexpr int WIDE = WIDTH;
    typedef int Outer;
    typedef int Inner;
    const real* data;
    int channels, kernel_height, kernel_width;
    Axis vertical, horizontal;
    Divisor by_kernel, by_tap;
    __device__ __forceinline__ Outer outer(int c) const { return c; }
    __device__ __forceinline__ Inner inner(int k) const {
        int both = by_kernel.quotient(k), i = by_tap.quotient(both), j = both - i * horizontal.taps;
        int row = vertical.weight + i * vertical.weight_step, column = horizontal.weight + j * horizontal.weight_step;
        return (((k - both * by_kernel.divisor) * kernel_height + row) * kernel_width + column) * channels;
    }
    __device__ __forceinline__ Vector<WIDTH> value(Outer c, Inner at) const {
        return *reinterpret_cast<const Vector<WIDTH>*>(data + at + c);
    }
};

// Writes the results of a phase. Row m is pixel (n, first + u * apart, first + v * apart) of the images, where m counts (n, u, v)
// row by row.
struct PhaseOut {
    real* out;
    int height, width, channels;
    Axis vertical, horizontal;
    Divisor by_column, by_row;
    Epilogue epilogue;
    template <int COUNT> __device__ __forceinline__ void write(int m, int n, Vector<COUNT> sums, int count) const {
        int row = by_column.quotient(m), image = by_row.quotient(row);
        int y = vertical.first + (row - image * vertical.count) * vertical.apart;
        int x = horizontal.first + (m - row * horizontal.count) * horizontal.apart;
        epilogue.apply(sums, n, count);
        write_row(out + ((image * height + y) * width + x) * channels + n, sums, count);
    }
};

// In all three maps blockIdx.x counts tiles, blockIdx.y parts of the sums, and blockIdx.z groups. If there are several parts, part
// i is written at out + i * part_stride, without bias and activation.

template <class T>
__device__ __forceinline__ void forward(const real* x, const real* weight, const real* bias, real* y, const Convolution& g,
                                        int kind, double slope) {
    int depth = g.depth(), kernels = g.group_kernels(), taps = g.taps();
    OutputsByTaps windows(x, g.height, g.width, g.channels, depth, forward_down(g), forward_across(g));
    Part part(taps, blockIdx.y, gridDim.y);
    for (int group = blockIdx.z; group < g.groups; group += gridDim.z) {
        windows.data = x + group * depth;
        Matrix<true, WIDTH> weights{weight + group * kernels * taps, taps};
        RowsOut out{y + (long long)blockIdx.y * g.part_stride + group * kernels, g.kernels,
                    {bias ? bias + group * kernels : nullptr, kind, real(slope)}};
        product<T>(g.images * g.out_height * g.out_width, kernels, part.begin, part.end, windows, weights, out);
    }
}

// Here blockIdx.z counts the phases of all groups.
template <class T>
__device__ __forceinline__ void input_grad(const real* y, const real* weight, const real* bias, real* x,
                                           const Convolution& g, int kind, double slope) {
    int depth = g.depth(), kernels = g.group_kernels(), phases = g.stride_down * g.stride_across;
    for (int z = blockIdx.z; z < g.groups * phases; z += gridDim.z) {
        int group = z / phases, phase = z % phases;
        Axis vertical = adjoint_down(g, phase), horizontal = adjoint_across(g, phase);
        if (vertical.count <= 0 || horizontal.count <= 0) continue;  // the image is smaller than the stride
        OutputsByTaps windows(y + group * kernels, g.out_height, g.out_width, g.kernels, kernels, vertical, horizontal);
        AdjointWeights weights{weight + group * kernels * g.taps(), depth, g.kernel_height, g.kernel_width, vertical,
                               horizontal, windows.by_channel, windows.by_tap};
        PhaseOut out{x + (long long)blockIdx.y * g.part_stride + group * depth, g.height, g.width, g.channels, vertical,
                     horizontal, windows.by_column, windows.by_row,
                     {bias ? bias + group * depth : nullptr, kind, real(slope)}};
        Part part(vertical.taps * horizontal.taps * kernels, blockIdx.y, gridDim.y);
        product<T>(g.images * vertical.count * horizontal.count, depth, part.begin, part.end, windows, weights, out);
    }
}

// Writes the gradient in the order of channels-last weights, (K, kH, kW, C / groups).
template <class T>
__device__ __forceinline__ void weight_grad(const real* x, const real* y, real* weight, const Convolution& g) {
    int depth = g.depth(), kernels = g.group_kernels(), taps = g.taps();
    TapsByOutputs windows(x, g.height, g.width, g.channels, depth, forward_down(g), forward_across(g));
    Part part(g.images * g.out_height * g.out_width, blockIdx.y, gridDim.y);
    for (int group = blockIdx.z; group < g.groups; group += gridDim.z) {
        windows.data = x + group * depth;
        Matrix<false, WIDTH> outputs{y + group * kernels, g.kernels};
        RowsOut out{weight + (long long)blockIdx.y * g.part_stride + group * kernels * taps, taps,
                    {nullptr, IDENTITY, real(0)}};
        product<T>(kernels, taps, part.begin, part.end, outputs, windows, out);
    }
}

#define CONVOLUTIONS(tile, T)                                                                                           \
    extern "C" __global__ __launch_bounds__(PRODUCT_THREADS, T::BLOCKS) void conv2d_##tile(                             \
        const real* x, const real* weight, const real* bias, real* y, const __grid_constant__ Convolution g, int kind,  \
        double slope) {                                                                                                 \
        forward<T>(x, weight, bias, y, g, kind, slope);                                                                 \
    }                                                                                                                   \
    KERNEL(conv2d_##tile)                                                                                               \
    extern "C" __global__ __launch_bounds__(PRODUCT_THREADS, T::BLOCKS) void input_grad_##tile(                         \
        const real* y, const real* weight, const real* bias, real* x, const __grid_constant__ Convolution g, int kind,  \
        double slope) {                                                                                                 \
        input_grad<T>(y, weight, bias, x, g, kind, slope);                                                              \
    }                                                                                                                   \
    KERNEL(input_grad_##tile)                                                                                           \
    extern "C" __global__ __launch_bounds__(PRODUCT_THREADS, T::BLOCKS) void weight_grad_##tile(                        \
        const real* x, const real* y, real* weight, const __grid_constant__ Convolution g) {                            \
        weight_grad<T>(x, y, weight, g);                                                                                \
    }                                                                                                                   \
    KERNEL(weight_grad_##tile)

CONVOLUTIONS(large, Large)
CONVOLUTIONS(small, Small)
CONVOLUTIONS(narrow, Narrow)

// Adds the parts of the gradient of channels-last weights, and reorders them: (parts, K, taps, depth) -> (K, depth, taps).
extern "C" __global__ void add_weights(const real* part, real* out, int parts, int size, int taps, int depth) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    int tap = i % taps, rest = i / taps, c = rest % depth, row = rest / depth, from = (row * taps + tap) * depth + c;
    double sum = 0;
    for (int k = 0; k < parts; k++) sum += part[(long long)k * size + from];
    out[i] = real(sum);
}
KERNEL(add_weights)
