// Matrix products of strided operands, products of a matrix and a vector, and sums of columns.
//
// A_ALONG_K: 1 if the rows of a are contiguous, 0 if its columns are. B_ALONG_K: 1 if the columns of b are contiguous, 0 if its
// rows are.
#include "matmul/product.cuh"

#ifndef A_ALONG_K
#define A_ALONG_K 1
#endif
#ifndef B_ALONG_K
#define B_ALONG_K 0
#endif

// *_batch: strides between the products of a batch. *_stride: strides of the axis that is not contiguous. part_stride: stride
// between the parts of split sums.
struct Layout {
    int batches, rows, columns, depth;
    int a_batch, b_batch, out_batch;
    int a_stride, b_stride, out_stride;
    int part_stride;
};

// out[p] (rows, columns) = a[p] (rows, depth) b[p] (depth, columns). blockIdx.x counts tiles, blockIdx.y parts of the sum, and
// blockIdx.z products. If there are several parts, part i is written at out + i * part_stride, without bias and activation.
template <class T>
__device__ __forceinline__ void products(const real* a, const real* b, real* out, const real* bias, const Layout& layout,
                                         int kind, double slope) {
    Part part(layout.depth, blockIdx.y, gridDim.y);
    for (int p = blockIdx.z; p < layout.batches; p += gridDim.z) {
        Matrix<A_ALONG_K, WIDTH> left{a + (long long)p * layout.a_batch, layout.a_stride};
        Matrix<B_ALONG_K, WIDTH> right{b + (long long)p * layout.b_batch, layout.b_stride};
        real* to = out + (long long)blockIdx.y * layout.part_stride + (long long)p * layout.out_batch;
        product<T>(layout.rows, layout.columns, part.begin, part.end, left, right,
                   RowsOut{to, layout.out_stride, {bias, kind, real(slope)}});
    }
}

#define PRODUCTS(name, T)                                                                                               \
    extern "C" __global__ __launch_bounds__(PRODUCT_THREADS, T::BLOCKS) void name(                                      \
        const real* a, const real* b, real* out, const real* bias, const __grid_constant__ Layout layout, int kind,     \
        double slope) {                                                                                                 \
        products<T>(a, b, out, bias, layout, kind, slope);                                                              \
    }                                                                                                                   \
    KERNEL(name)

PRODUCTS(product_large, Large)
PRODUCTS(product_small, Small)
PRODUCTS(product_narrow, Narrow)

struct PartsLayout {
    int parts, size, rows, columns, out_batch, out_stride;
};

// Adds the parts of split sums: out[p, m, n] = activation(sum over i of part[i, p, m, n] + bias[n]). `part` is C-contiguous.
// Element (p, m, n) of out is at p * out_batch + m * out_stride + n.
extern "C" __global__ void add_parts(const real* part, real* out, const real* bias,
                                     const __grid_constant__ PartsLayout layout, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= layout.size) return;
    double sum = 0;
    for (int k = 0; k < layout.parts; k++) sum += part[(long long)k * layout.size + i];
    int n = i % layout.columns, row = i / layout.columns, p = row / layout.rows, m = row % layout.rows;
    Epilogue epilogue{bias, kind, real(slope)};
    out[(long long)p * layout.out_batch + (long long)m * layout.out_stride + n] = epilogue(real(sum), n);
}
KERNEL(add_parts)

struct VectorLayout {
    int rows, depth, stride, vector_stride, out_stride, bias_stride;
};

// A matrix (rows, depth) times a vector, with a warp for each row. Rows are `stride` elements apart.
extern "C" __global__ void matrix_vector(const real* a, const real* vector, real* out, const real* bias,
                                         const __grid_constant__ VectorLayout layout, int kind, double slope) {
    int m = (blockIdx.x * blockDim.x + threadIdx.x) / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    if (m >= layout.rows) return;
    const real* row = a + (long long)m * layout.stride;
    real sums[4] = {};  // four sums: more loads at the same time, and shorter sums are more exact
    for (int first = lane; first < layout.depth; first += 4 * WARP_SIZE)
        for (int i = 0; i < 4; i++) {
            int k = first + i * WARP_SIZE;
            if (k < layout.depth) sums[i] += row[k] * vector[(long long)k * layout.vector_stride];
        }
    real sum = warp_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (lane == 0) out[(long long)m * layout.out_stride] = Epilogue{bias, kind, real(slope)}(sum, m * layout.bias_stride);
}
KERNEL(matrix_vector)

// A vector (K) times x (K, N), whose rows are `stride` elements apart. A null pointer stands for a vector of ones. blockIdx.y
// counts parts of the rows; the sums of a part are written at out + part * part_stride. A block has 32 columns and 8 warps. Each
// warp takes every 8th row.
extern "C" __global__ void vector_matrix(const real* x, const real* vector, real* out, int K, int N, int stride,
                                         int vector_stride, int part_stride) {
    __shared__ double partial[8][WARP_SIZE];
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, n = blockIdx.x * WARP_SIZE + lane;
    Part part(K, blockIdx.y, gridDim.y);
    double sum = 0;
    for (int first = part.begin + warp; first < part.end && n < N; first += 8 * 4) {
        real few = 0;  // short sums are added in the type of the arrays, which is faster
        for (int k = first; k < min(first + 8 * 4, part.end); k += 8)
            few += x[(long long)k * stride + n] * (vector ? vector[(long long)k * vector_stride] : real(1));
        sum += few;
    }
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp || n >= N) return;
    double total = 0;
    for (int i = 0; i < 8; i++) total += partial[i][lane];
    out[(long long)blockIdx.y * part_stride + n] = real(total);
}
KERNEL(vector_matrix)
