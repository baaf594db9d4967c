// Matrix products of strided operands, and the sums over rows that go with them.
//
// A_ALONG_K, B_ALONG_K: whether the numbers of a row of a (a column of b) lie side by side, else those of a column (a row).
#include "matmul/product.cuh"

#ifndef A_ALONG_K
#define A_ALONG_K 1
#endif
#ifndef B_ALONG_K
#define B_ALONG_K 0
#endif

// out[p] (M, N) = a[p] (M, K) b[p] (K, N), P of each: blockIdx.x tiles, blockIdx.y parts of the sum, blockIdx.z products.
// With parts > 1, part i of the sum goes to out + i * part_stride, without bias and activation.
template <class T>
__device__ __forceinline__ void products(const real* a, const real* b, real* out, const real* bias, int P, int M, int N,
                                         int K, int a_batch, int b_batch, int out_batch, int a_stride, int b_stride,
                                         int out_stride, int part_stride, int kind, double slope) {
    Part part(K, blockIdx.y, gridDim.y);
    for (int p = blockIdx.z; p < P; p += gridDim.z) {
        Matrix<A_ALONG_K, WIDTH> left{a + (long long)p * a_batch, a_stride};
        Matrix<B_ALONG_K, WIDTH> right{b + (long long)p * b_batch, b_stride};
        real* to = out + (long long)blockIdx.y * part_stride + (long long)p * out_batch;
        product<T>(M, N, part.begin, part.end, left, right, RowsOut{to, out_stride, {bias, kind, real(slope)}});
    }
}

#define PRODUCTS(name, T)                                                                                                   \
    extern "C" __global__ __launch_bounds__(PRODUCT_THREADS, T::BLOCKS) void name(                                          \
        const real* a, const real* b, real* out, const real* bias, int P, int M, int N, int K, int a_batch, int b_batch,    \
        int out_batch, int a_stride, int b_stride, int out_stride, int part_stride, int kind, double slope) {               \
        products<T>(a, b, out, bias, P, M, N, K, a_batch, b_batch, out_batch, a_stride, b_stride, out_stride, part_stride,  \
                    kind, slope);                                                                                           \
    }                                                                                                                       \
    KERNEL(name)

PRODUCTS(product_large, Large)
PRODUCTS(product_small, Small)
PRODUCTS(product_narrow, Narrow)

// The parts of split sums, added: out[p, m, n] = activation(sum over i of part[i, p, m, n] + bias[n]), part dense. Numbers
// of out lie at p * out_batch + m * out_stride + n.
extern "C" __global__ void add_parts(const real* part, real* out, const real* bias, int parts, int size, int M, int N,
                                     int out_batch, int out_stride, int kind, double slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    double sum = 0;
    for (int k = 0; k < parts; k++) sum += part[(long long)k * size + i];
    int n = i % N, row = i / N;
    Epilogue epilogue{bias, kind, real(slope)};
    out[(long long)(row / M) * out_batch + (long long)(row % M) * out_stride + n] = epilogue(real(sum), n);
}
KERNEL(add_parts)

// A matrix (M, K), its rows `stride` apart, times a vector: a warp for each row.
extern "C" __global__ void matrix_vector(const real* a, const real* vector, real* out, const real* bias, int M, int K,
                                         int stride, int vector_stride, int out_stride, int bias_stride, int kind,
                                         double slope) {
    int m = (blockIdx.x * blockDim.x + threadIdx.x) / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    if (m >= M) return;
    const real* row = a + (long long)m * stride;
    real sums[4] = {};  // four, for more loads under way and shorter sums
    for (int k = lane; k < K; k += 4 * WARP_SIZE)
        for (int i = 0; i < 4; i++)
            if (k + i * WARP_SIZE < K)
                sums[i] += row[k + i * WARP_SIZE] * vector[(long long)(k + i * WARP_SIZE) * vector_stride];
    real sum = warp_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (lane == 0) out[(long long)m * out_stride] = Epilogue{bias, kind, real(slope)}(sum, m * bias_stride);
}
KERNEL(matrix_vector)

// Sums over the rows of x (K, N), rows `stride` apart, each times its number of `vector` (null: once). blockIdx.y counts
// parts of the rows, whose sums lie part_stride apart in out. A block has 32 columns and 8 warps, which take every 8th row.
extern "C" __global__ void column_sums(const real* x, const real* vector, real* out, int K, int N, int stride,
                                       int vector_stride, int part_stride) {
    __shared__ double partial[8][WARP_SIZE];
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, n = blockIdx.x * WARP_SIZE + lane;
    Part part(K, blockIdx.y, gridDim.y);
    double sum = 0;
    for (int first = part.begin + warp; first < part.end && n < N; first += 8 * 4) {
        real few = 0;  // short sums in the arrays' type, which is faster
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
KERNEL(column_sums)
