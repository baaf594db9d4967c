// The convolution triangle on tiles: the transforms before and after its matrix products (see kernels/winograd.py, tiled.py).
//
// A convolution of stride s is a convolution of stride 1 over s * s phases of the image. Along an axis, position i of phase r is
// pixel s i + r - padding, and tap p of this phase is element s p + r of the kernel. A tile makes TILE x TILE outputs from
// POINTS x POINTS positions; along each axis y = AT [(G w) * (BT x)]. For each of the POINTS * POINTS points there is a matrix
// product. Its matrices are V (tiles, phases * C) of the image, U (K, phases * C) of the weights and Y (tiles, K) of the map.
//
// Images are channels-last. A thread works on one channel and on one tile at a time. Neighbouring threads have neighbouring
// channels, so they access neighbouring memory. The elements of a tile are in registers, and those of the matrices are constants.
#include "runtime/columns.cuh"

#ifndef TILE  // an example of what tiled.py defines: two outputs, two taps, points 1, -1 and infinity
#define TILE 2
#define TAPS 2
#define AT {{1, 1, 0}, {1, -1, 1}}
#define G {{1, 1}, {1, -1}, {0, 1}}
#define BT {{0.5, 0.5, 0}, {0.5, -0.5, 0}, {-1, 0, 1}}
#endif

constexpr int POINTS = TILE + TAPS - 1;

// The sizes of a convolution on tiles: images (N, height, width, channels), maps (N, out_height, out_width, kernels).
// padding_down: rows above the image. padding_across: columns to its left. down x across tiles cover a map.
struct Tiling {
    int height, width, channels;
    int out_height, out_width, kernels;
    int kernel_height, kernel_width;
    int stride, padding_down, padding_across;
    int down, across;

    __device__ __forceinline__ int phases() const { return stride * stride; }
    __device__ __forceinline__ int depth() const { return phases() * channels; }
};

template <class M> struct Transposed {
    static constexpr int ROWS = M::COLUMNS, COLUMNS = M::ROWS;
    static __device__ __forceinline__ double at(int i, int j) { return M::at(j, i); }
};

// Rows FIRST to FIRST + COUNT - 1 of a matrix.
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

// A row of the matrix times the values. When the loop is unrolled, only numbers other than 0 cost a multiply-add.
template <class M> __device__ __forceinline__ real row_times(int row, const real (&values)[M::COLUMNS]) {
    real sum = 0;
#pragma unroll
    for (int k = 0; k < M::COLUMNS; k++)
        if (M::at(row, k) != 0) sum += real(M::at(row, k)) * values[k];
    return sum;
}

// Calls target(i, j, value) for each element (i, j) of VERTICAL source HORIZONTAL^T. source(i, j) returns an element of source.
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

// The square of one channel of an image, or of a map, that a thread works on. Its elements are `stride` pixels apart.
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

// The square of the maps that belongs to tile number `tile`. Tiles are counted row by row.
__device__ __forceinline__ Square map_square(int tile, int kernel, const Tiling& g) {
    int row = tile / g.across;
    return {row / g.down, row % g.down * TILE, tile % g.across * TILE, 1, g.out_height, g.out_width, g.kernels, kernel};
}

// The square of the images that belongs to tile number `tile`. Each image has down x across tiles. `channel` counts the channels
// of all phases.
__device__ __forceinline__ Square image_square(int tile, int channel, const Tiling& g, int down, int across) {
    int row = tile / across, phase = channel / g.channels;
    return {row / down, row % down * TILE * g.stride + phase / g.stride - g.padding_down,
            tile % across * TILE * g.stride + phase % g.stride - g.padding_across, g.stride, g.height, g.width, g.channels,
            channel % g.channels};
}

// Images -> V (points, tiles, phases * C). There is a thread for each of the `size` elements of the matrix of one point.
extern "C" __global__ void image_to_points(const real* x, real* v, int size, const __grid_constant__ Tiling g) {
    int index = blockIdx.x * blockDim.x + threadIdx.x, depth = g.depth();
    if (index >= size) return;
    Square square = image_square(index / depth, index % depth, g, g.down, g.across);
    transform<ImageToPoints, ImageToPoints>(
        [&](int i, int j) { return square.value(x, i, j); },
        [&](int i, int j, real value) { v[(i * POINTS + j) * (long long)size + index] = value; });
}
KERNEL(image_to_points)

// Maps -> Y (points, tiles, K).
extern "C" __global__ void map_to_points(const real* y, real* out, int size, const __grid_constant__ Tiling g) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    Square square = map_square(index / g.kernels, index % g.kernels, g);
    transform<MapToPoints, MapToPoints>(
        [&](int i, int j) { return square.value(y, i, j); },
        [&](int i, int j, real value) { out[(i * POINTS + j) * (long long)size + index] = value; });
}
KERNEL(map_to_points)

// The work that threads share: each channel has `total` pieces, down x across of them for each image. width: see columns.cuh.
struct Pieces {
    int total, down, across, width;
};

// The last transforms apply the bias and a fused activation. (The code of other activations is long, and unrolling would repeat
// it for each pixel of a tile.) Their threads share the pieces as columns.cuh says. If MEASURE, they also write to `partial`, for
// each part of the pieces and each channel, the moments of the pixels. That needs more registers, so there are two versions.
#define LAST_TRANSFORM(name, function)                                                                                   \
    extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void name(                                                   \
        const real* products, const real* bias, real* out, double* partial, const __grid_constant__ Tiling g,            \
        const __grid_constant__ Pieces pieces, int kind, double slope) {                                                 \
        function(products, bias, out, partial, g, pieces, kind, slope);                                                  \
    }                                                                                                                    \
    KERNEL(name)

// Products (points, tiles, K) -> activation(maps + bias). The pieces are tiles. partial: (parts, 3, K).
template <bool MEASURE>
__device__ __forceinline__ void to_map(const real* products, const real* bias, real* y, double* partial, const Tiling& g,
                                       const Pieces& tiles, int kind, double slope) {
    Columns c(tiles.total, g.kernels, tiles.width);
    long long plane = (long long)tiles.total * g.kernels;
    real shift = bias ? bias[c.column] : real(0);
    Measure measure;
    for (int tile = c.begin + c.line; tile < c.end && c.inside; tile += c.step) {
        Square square = map_square(tile, c.column, g);
        const real* own = products + c.at(tile);
        transform<PointsToMap, PointsToMap>(
            [&](int i, int j) { return own[(i * POINTS + j) * plane]; },
            [&](int i, int j, real value) {
                if (!square.inside(i, j)) return;
                value = fused_activated(value + shift, kind, real(slope));
                y[square.offset(i, j)] = value;
                if (MEASURE) measure.add(value);
            });
        if (MEASURE) measure.keep();
    }
    if (!MEASURE) return;
    Moments all = measure.moments().over_column(tiles.width);
    if (c.line == 0 && c.inside) all.store(partial, blockIdx.y, g.kernels, c.column);
}
LAST_TRANSFORM(points_to_map, to_map<false>)
LAST_TRANSFORM(points_to_map_measured, to_map<true>)

// Adds the contribution of one tile to the sums of a square. This is the tile that begins where the square begins. With UP it is
// the tile above, with BACK the tile to the left. products: those of the tile.
template <int UP, int BACK>
__device__ __forceinline__ void add_tile(const real* products, long long plane, real (&sums)[TILE][TILE]) {
    constexpr int DOWN = UP ? TAPS - 1 : TILE, ACROSS = BACK ? TAPS - 1 : TILE;
    transform<Rows<PointsToImage, UP * TILE, DOWN>, Rows<PointsToImage, BACK * TILE, ACROSS>>(
        [&](int i, int j) { return products[(i * POINTS + j) * plane]; },
        [&](int i, int j, real value) { sums[i][j] += value; });
}

// Products (points, tiles, phases * C) -> activation(images + bias). partial: (parts, phases, 3, C).
//
// Tiles overlap on the image. A thread owns a square of TILE x TILE positions of a phase, which begins where a tile begins. It
// adds up the contributions of four tiles: this tile, and the last TAPS - 1 rows or columns of the tiles above it, to its left,
// and above to its left. The pieces are these squares; they cover the image. The warps of a block have neighbouring squares, so
// they find many of the products in the cache.
template <bool MEASURE>
__device__ __forceinline__ void to_image(const real* products, const real* bias, real* x, double* partial, const Tiling& g,
                                         const Pieces& squares, int kind, double slope) {
    int depth = g.depth();
    Columns c(squares.total, depth, squares.width);
    long long plane = (long long)(squares.total / (squares.down * squares.across)) * g.down * g.across * depth;
    real shift = bias ? bias[c.column % g.channels] : real(0);
    Measure measure;
    for (int number = c.begin + c.line; number < c.end && c.inside; number += c.step) {
        Square square = image_square(number, c.column, g, squares.down, squares.across);
        int row = number / squares.across % squares.down, column = number % squares.across;
        long long tile = ((long long)square.image * g.down + row) * g.across + column;
        const real* own = products + tile * depth + c.column;
        real sums[TILE][TILE] = {};
        bool here = row < g.down, above = row > 0 && row <= g.down;
        bool middle = column < g.across, before = column > 0 && column <= g.across;
        if (above && before) add_tile<1, 1>(own - (long long)(g.across + 1) * depth, plane, sums);
        if (above && middle) add_tile<1, 0>(own - (long long)g.across * depth, plane, sums);
        if (here && before) add_tile<0, 1>(own - depth, plane, sums);
        if (here && middle) add_tile<0, 0>(own, plane, sums);
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                if (!square.inside(i, j)) continue;
                real value = fused_activated(sums[i][j] + shift, kind, real(slope));
                x[square.offset(i, j)] = value;
                if (MEASURE) measure.add(value);
            }
        if (MEASURE) measure.keep();
    }
    if (!MEASURE) return;
    Moments all = measure.moments().over_column(squares.width);
    if (c.line == 0 && c.inside)
        all.store(partial, blockIdx.y * g.phases() + c.column / g.channels, g.channels, c.column % g.channels);
}
LAST_TRANSFORM(points_to_image, to_image<false>)
LAST_TRANSFORM(points_to_image_measured, to_image<true>)

// The taps of the weights (K, C, kH, kW) that a thread works on: those of kernel `index / depth`, of one phase and one channel.
struct Taps {
    int first, row, column, stride, height, width;
    __device__ __forceinline__ Taps(int index, const Tiling& g)
        : stride(g.stride), height(g.kernel_height), width(g.kernel_width) {
        int depth = g.depth(), phase = index % depth / g.channels;
        first = (index / depth * g.channels + index % g.channels) * height * width;  // (depth is a multiple of channels)
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
extern "C" __global__ void kernel_to_points(const real* weight, real* u, int size, const __grid_constant__ Tiling g) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    Taps taps(index, g);
    transform<KernelToPoints, KernelToPoints>(
        [&](int i, int j) { return taps.exists(i, j) ? weight[taps.offset(i, j)] : real(0); },
        [&](int i, int j, real value) { u[(i * POINTS + j) * (long long)size + index] = value; });
}
KERNEL(kernel_to_points)

// Products (points, K, phases * C) -> weight (K, C, kH, kW).
extern "C" __global__ void points_to_kernel(const real* products, real* weight, int size, const __grid_constant__ Tiling g) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    Taps taps(index, g);
    transform<PointsToKernel, PointsToKernel>(
        [&](int i, int j) { return products[(i * POINTS + j) * (long long)size + index]; },
        [&](int i, int j, real value) {
            if (taps.exists(i, j)) weight[taps.offset(i, j)] = value;
        });
}
KERNEL(points_to_kernel)
