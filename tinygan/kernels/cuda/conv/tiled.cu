// The convolution triangle on tiles: the transforms before and after its matrix products (see kernels/tiles.py, tiles.py).
//
// A convolution of stride s is one of stride 1 over s * s phases of the image: position i of phase r is pixel
// s i + r - padding, and tap p of that phase is element s p + r of the kernel. A tile makes TILE x TILE outputs of
// POINTS x POINTS positions; along each axis y = AT [(G w) * (BT x)]. What is multiplied are POINTS * POINTS matrices, one
// after the other: V (tiles, phases * C) of the image, U (K, phases * C) of the weights, Y (tiles, K) of the map.
// Images are channels-last. A thread has one tile at a time of one channel; its neighbours have the channels beside it, so they
// read and write side by side. The tile is unrolled into registers, and the matrices into constants.
#include "runtime/columns.cuh"

#ifndef TILE  // as tiles.py passes them: two outputs, two taps, points 1, -1 and infinity
#define TILE 2
#define TAPS 2
#define AT {{1, 1, 0}, {1, -1, 1}}
#define G {{1, 1}, {1, -1}, {0, 1}}
#define BT {{0.5, 0.5, 0}, {0.5, -0.5, 0}, {-1, 0, 1}}
#endif

constexpr int POINTS = TILE + TAPS - 1;

template <class M> struct Transposed {
    static constexpr int ROWS = M::COLUMNS, COLUMNS = M::ROWS;
    static __device__ __forceinline__ double at(int i, int j) { return M::at(j, i); }
};

// Some rows of a matrix.
template <class M, int FIRST, int COUNT> struct Rows {
    static constexpr int ROWS = COUNT, COLUMNS = M::COLUMNS;
    static __device__ __forceinline__ double at(int i, int j) { return M::at(FIRST + i, j); }
};

struct ImageToPoints {
    static constexpr int ROWS = POINTS, COLUMNS = POINTS;
    static __device__ __forceinline__ double at(int i, int j) {
        static constexpr double matrix[ROWS][COLUMNS] = BT;
        return matrix[i][j];
    }
};
struct PointsToMap {
    static constexpr int ROWS = TILE, COLUMNS = POINTS;
    static __device__ __forceinline__ double at(int i, int j) {
        static constexpr double matrix[ROWS][COLUMNS] = AT;
        return matrix[i][j];
    }
};
struct KernelToPoints {
    static constexpr int ROWS = POINTS, COLUMNS = TAPS;
    static __device__ __forceinline__ double at(int i, int j) {
        static constexpr double matrix[ROWS][COLUMNS] = G;
        return matrix[i][j];
    }
};
typedef Transposed<ImageToPoints> PointsToImage;
typedef Transposed<PointsToMap> MapToPoints;
typedef Transposed<KernelToPoints> PointsToKernel;

// A row of the matrix times the values: once loops are unrolled, a multiplication and addition for each number but 0.
template <class M> __device__ __forceinline__ real row_times(int row, const real (&values)[M::COLUMNS]) {
    real sum = 0;
#pragma unroll
    for (int k = 0; k < M::COLUMNS; k++)
        if (M::at(row, k) != 0) sum += real(M::at(row, k)) * values[k];
    return sum;
}

// target(i, j, element (i, j) of VERTICAL source HORIZONTAL^T), where source(i, j) gives an element.
template <class VERTICAL, class HORIZONTAL, class Source, class Target>
__device__ __forceinline__ void transform(const Source& source, const Target& target) {
    real half[VERTICAL::ROWS][HORIZONTAL::COLUMNS];
#pragma unroll
    for (int j = 0; j < HORIZONTAL::COLUMNS; j++) {
        real column[VERTICAL::COLUMNS];
#pragma unroll
        for (int i = 0; i < VERTICAL::COLUMNS; i++) column[i] = source(i, j);
#pragma unroll
        for (int i = 0; i < VERTICAL::ROWS; i++) half[i][j] = row_times<VERTICAL>(i, column);
    }
#pragma unroll
    for (int i = 0; i < VERTICAL::ROWS; i++)
#pragma unroll
        for (int j = 0; j < HORIZONTAL::ROWS; j++) target(i, j, row_times<HORIZONTAL>(j, half[i]));
}

// The square of an image, or of a map, that a thread is about. Its elements are `stride` pixels apart.
struct Square {
    int image, top, left, stride, height, width, channels, channel;
    __device__ __forceinline__ bool inside(int i, int j) const {
        return unsigned(top + i * stride) < unsigned(height) && unsigned(left + j * stride) < unsigned(width);
    }
    __device__ __forceinline__ int offset(int i, int j) const {
        return ((image * height + top + i * stride) * width + left + j * stride) * channels + channel;
    }
    __device__ __forceinline__ real value(const real* images, int i, int j) const {
        return inside(i, j) ? images[offset(i, j)] : real(0);
    }
};

// The piecewise linear activations. (A tile would have the code of the others once for each of its pixels.)
__device__ __forceinline__ real bent(real x, int kind, real slope) {
    if (x > 0 || x != x || kind == IDENTITY) return x;
    return kind == RELU ? real(0) : x * slope;
}

// Tile number `tile`, counted row by row, of maps (N, OH, OW, K).
__device__ __forceinline__ Square map_square(int tile, int k, int OH, int OW, int K, int high, int wide) {
    int row = tile / wide;
    return {row / high, row % high * TILE, tile % wide * TILE, 1, OH, OW, K, k};
}

// What that tile covers of images (N, H, W, C). `channel` counts the channels of all phases.
__device__ __forceinline__ Square image_square(int tile, int channel, int H, int W, int C, int stride, int top, int left,
                                               int high, int wide) {
    int row = tile / wide, phase = channel / C;
    return {row / high, row % high * TILE * stride + phase / stride - top,
            tile % wide * TILE * stride + phase % stride - left, stride, H, W, C, channel % C};
}

// x (N, H, W, C) -> V (points, tiles, phases * C); size: of one point's matrix, which is the number of threads.
extern "C" __global__ void image_to_points(const real* x, real* v, int size, int H, int W, int C, int stride, int top,
                                           int left, int high, int wide) {
    int index = blockIdx.x * blockDim.x + threadIdx.x, depth = stride * stride * C;
    if (index >= size) return;
    Square square = image_square(index / depth, index % depth, H, W, C, stride, top, left, high, wide);
    transform<ImageToPoints, ImageToPoints>(
        [&](int i, int j) { return square.value(x, i, j); },
        [&](int i, int j, real value) { v[(i * POINTS + j) * (long long)size + index] = value; });
}
KERNEL(image_to_points)

// y (N, OH, OW, K) -> Y (points, tiles, K).
extern "C" __global__ void map_to_points(const real* y, real* out, int size, int OH, int OW, int K, int high, int wide) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    Square square = map_square(index / K, index % K, OH, OW, K, high, wide);
    transform<MapToPoints, MapToPoints>(
        [&](int i, int j) { return square.value(y, i, j); },
        [&](int i, int j, real value) { out[(i * POINTS + j) * (long long)size + index] = value; });
}
KERNEL(map_to_points)

// The last transforms. Those that MEASURE also write the moments of what each part of their rows makes, channel by channel,
// to `partial`; it takes registers that the others can do without.
#define MAP_GEOMETRY int tiles, int OH, int OW, int K, int high, int wide
#define IMAGE_GEOMETRY                                                                                                   \
    int squares, int H, int W, int C, int stride, int top, int left, int high, int wide, int down, int across
#define LAST_TRANSFORM(name, function, GEOMETRY, ...)                                                                    \
    extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void name(const real* products, const real* bias, real* out, \
                                                                      double* partial, GEOMETRY, int width, int kind,    \
                                                                      double slope) {                                    \
        function(products, bias, out, partial, __VA_ARGS__, width, kind, slope);                                         \
    }                                                                                                                    \
    KERNEL(name)

// Products (points, tiles, K) -> activation(y + bias), y (N, OH, OW, K); kind: of the piecewise linear ones. partial: (parts,
// 3, K).
template <bool MEASURE>
__device__ __forceinline__ void to_map(const real* products, const real* bias, real* y, double* partial, MAP_GEOMETRY,
                                       int width, int kind, double slope) {
    Columns c(tiles, K, width);
    long long plane = (long long)tiles * K;
    real shift = bias ? bias[c.column] : real(0);
    Measure measure;
    for (int tile = c.begin + c.line; tile < c.end && c.inside; tile += c.step) {
        Square square = map_square(tile, c.column, OH, OW, K, high, wide);
        const real* own = products + c.at(tile);
        transform<PointsToMap, PointsToMap>(
            [&](int i, int j) { return own[(i * POINTS + j) * plane]; },
            [&](int i, int j, real value) {
                if (!square.inside(i, j)) return;
                value = bent(value + shift, kind, real(slope));
                y[square.offset(i, j)] = value;
                if (MEASURE) measure.add(value);
            });
        if (MEASURE) measure.keep();
    }
    if (!MEASURE) return;
    Moments all = measure.moments().over_column(width);
    if (c.line == 0 && c.inside) all.store(partial, blockIdx.y, K, c.column);
}
LAST_TRANSFORM(points_to_map, to_map<false>, MAP_GEOMETRY, tiles, OH, OW, K, high, wide)
LAST_TRANSFORM(points_to_map_measured, to_map<true>, MAP_GEOMETRY, tiles, OH, OW, K, high, wide)

// What the tile so many below and to the right of a square's first one adds to it, from its own first position on.
template <int UP, int BACK>
__device__ __forceinline__ void add_tile(const real* products, long long plane, real (&sums)[TILE][TILE]) {
    constexpr int DOWN = UP ? TAPS - 1 : TILE, ACROSS = BACK ? TAPS - 1 : TILE;
    transform<Rows<PointsToImage, UP * TILE, DOWN>, Rows<PointsToImage, BACK * TILE, ACROSS>>(
        [&](int i, int j) { return products[(i * POINTS + j) * plane]; },
        [&](int i, int j, real value) { sums[i][j] += value; });
}

// Products (points, tiles, phases * C) -> activation(x + bias), x (N, H, W, C), likewise; partial (parts, phases, 3, C).
//
// Tiles overlap on the image. A thread owns TILE x TILE positions of a phase, those that begin where a tile does, and adds
// up what the tiles that reach them make of them: that tile and the ones above, to the left, and above on the left, of which
// it needs the last TAPS - 1 rows or columns. Squares are counted like tiles, but `down` x `across` of them, which cover the
// image. The warps of a block have squares that follow each other, and so find many of the products in its cache.
template <bool MEASURE>
__device__ __forceinline__ void to_image(const real* products, const real* bias, real* x, double* partial, IMAGE_GEOMETRY,
                                         int width, int kind, double slope) {
    int phases = stride * stride, depth = phases * C;
    Columns c(squares, depth, width);
    long long plane = (long long)(squares / (down * across)) * high * wide * depth;
    real shift = bias ? bias[c.column % C] : real(0);
    Measure measure;
    for (int number = c.begin + c.line; number < c.end && c.inside; number += c.step) {
        Square square = image_square(number, c.column, H, W, C, stride, top, left, down, across);
        int row = number / across % down, column = number % across;
        long long tile = ((long long)square.image * high + row) * wide + column;
        const real* own = products + tile * depth + c.column;
        real sums[TILE][TILE] = {};
        bool here = row < high, above = row > 0 && row <= high;
        bool middle = column < wide, before = column > 0 && column <= wide;
        if (above && before) add_tile<1, 1>(own - (long long)(wide + 1) * depth, plane, sums);
        if (above && middle) add_tile<1, 0>(own - (long long)wide * depth, plane, sums);
        if (here && before) add_tile<0, 1>(own - depth, plane, sums);
        if (here && middle) add_tile<0, 0>(own, plane, sums);
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (!square.inside(i, j)) continue;
                real value = bent(sums[i][j] + shift, kind, real(slope));
                x[square.offset(i, j)] = value;
                if (MEASURE) measure.add(value);
            }
        if (MEASURE) measure.keep();
    }
    if (!MEASURE) return;
    Moments all = measure.moments().over_column(width);
    if (c.line == 0 && c.inside) all.store(partial, blockIdx.y * phases + c.column / C, C, c.column % C);
}
#define SIZES squares, H, W, C, stride, top, left, high, wide, down, across
LAST_TRANSFORM(points_to_image, to_image<false>, IMAGE_GEOMETRY, SIZES)
LAST_TRANSFORM(points_to_image_measured, to_image<true>, IMAGE_GEOMETRY, SIZES)

// What a thread has of the weights (K, C, kH, kW): the taps of kernel `index / depth`, and of a phase and channel.
struct Taps {
    int first, row, column, stride, height, width;
    __device__ __forceinline__ Taps(int index, int C, int kH, int kW, int stride)
        : stride(stride), height(kH), width(kW) {
        int depth = stride * stride * C, phase = index % depth / C;
        first = (index / depth * C + index % C) * kH * kW;  // (depth is a multiple of C)
        row = phase / stride;
        column = phase % stride;
    }
    __device__ __forceinline__ bool exists(int i, int j) const {
        return row + i * stride < height && column + j * stride < width;
    }
    __device__ __forceinline__ int offset(int i, int j) const {
        return first + (row + i * stride) * width + column + j * stride;
    }
};

// weight (K, C, kH, kW) -> U (points, K, phases * C).
extern "C" __global__ void kernel_to_points(const real* weight, real* u, int size, int C, int kH, int kW, int stride) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    Taps taps(index, C, kH, kW, stride);
    transform<KernelToPoints, KernelToPoints>(
        [&](int i, int j) { return taps.exists(i, j) ? weight[taps.offset(i, j)] : real(0); },
        [&](int i, int j, real value) { u[(i * POINTS + j) * (long long)size + index] = value; });
}
KERNEL(kernel_to_points)

// Products (points, K, phases * C) -> weight (K, C, kH, kW).
extern "C" __global__ void points_to_kernel(const real* products, real* weight, int size, int C, int kH, int kW,
                                            int stride) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    Taps taps(index, C, kH, kW, stride);
    transform<PointsToKernel, PointsToKernel>(
        [&](int i, int j) { return products[(i * POINTS + j) * (long long)size + index]; },
        [&](int i, int j, real value) {
            if (taps.exists(i, j)) weight[taps.offset(i, j)] = value;
        });
}
KERNEL(points_to_kernel)
