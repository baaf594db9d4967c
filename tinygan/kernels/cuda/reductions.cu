// Sums of columns, sums of rows by an index, and softmax along rows.
#include "runtime/columns.cuh"

extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void column_sums(const real* x, int rows, int columns, int width,
                                                                         real* out, double* partial) {
    Columns c(rows, columns, width);
    double total[1];
    add_rows(c, [&](long long at, real* t) { t[0] = x[at]; }, total);
    store_totals(c, width, total, out, partial);
}
KERNEL(column_sums)

// The second stage of a sum over many rows: writes the sums of the columns of `partial` (parts, columns) to `out`, or to `wide` if
// `out` is null.
extern "C" __global__ __launch_bounds__(COLUMN_THREADS) void finish_sums(const double* partial, int parts, int columns,
                                                                         int width, real* out, double* wide) {
    Columns c(parts, columns, width);
    double total = 0;
    if (c.inside)
        for (long long part = c.line; part < parts; part += c.step) total += partial[c.at(part)];
    total = column_sum(total, width);
    if (c.line || !c.inside) return;
    if (out) out[c.column] = real(total);
    else wide[c.column] = total;
}
KERNEL(finish_sums)

// out[i] += the sum of those rows j of g (count, columns) for which index[j] == i, always in the same order. There is a block for
// each i and each piece of the columns.
extern "C" __global__ void add_rows_at(const real* g, const int* index, real* out, int count, int columns) {
    int row = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    double sum = 0;
    for (int i = 0; i < count; i++)
        if (index[i] == row) sum += g[(long long)i * columns + column];
    out[(long long)row * columns + column] += real(sum);
}
KERNEL(add_rows_at)

// out (outer, count, inner). index has the shape of g (outer, picks, inner). Element j of the middle axis of out is the sum of
// those elements of g whose index is j, always in the same order. There is a thread for each element of out.
extern "C" __global__ void sums_along(const real* g, const int* index, real* out, int size, int picks, int count, int inner) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    int j = i / inner % count;
    long long first = (long long)(i / inner / count) * picks * inner + i % inner;
    double sum = 0;
    for (int k = 0; k < picks; k++)
        if (index[first + (long long)k * inner] == j) sum += g[first + (long long)k * inner];
    out[i] = real(sum);
}
KERNEL(sums_along)

// The largest value of all threads of a block, returned to each of them. The block has whole warps, and all threads must call it.
__device__ real block_max(real value) {
    __shared__ real partial[WARP_SIZE];
    for (int mask = WARP_SIZE / 2; mask; mask /= 2) value = fmax(value, __shfl_xor_sync(WHOLE_WARP, value, mask));
    if (threadIdx.x % WARP_SIZE == 0) partial[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    int warps = blockDim.x / WARP_SIZE;
    for (int i = 0; i < warps; i++) value = fmax(value, partial[i]);
    return value;
}

// x - high, where `high` is the largest number of the row. If x is `high`, it is 0, even for +infinity; but -infinity stays.
__device__ __forceinline__ real below(real x, real high) {
    return x == high ? (x < 0 && isinf(x) ? x : real(0)) : x - high;
}

// exp(x) / sum(exp(x)) along each row of x (rows, length), or its logarithm. There is a block for each row. fmax ignores a NaN, but
// the sum does not, so the whole row becomes NaN. kernels/exponentials.py says why it is computed in this way.
extern "C" __global__ void softmax(const real* x, real* out, int length, int logarithm) {
    const real* row = x + (long long)blockIdx.x * length;
    real* result = out + (long long)blockIdx.x * length;
    real high = row[0];
    for (int i = threadIdx.x; i < length; i += blockDim.x) high = fmax(high, row[i]);
    high = block_max(high);  // it is subtracted, so that nothing overflows
    double others = 0, largest = 0;  // the sum of the exponentials below 1, and how many are exactly 1
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
        real shifted = below(row[i], high);
        if (shifted == 0) largest++;
        else others += exp(shifted);
    }
    others = block_sum(others);
    others += fmax(block_sum(largest) - 1, 0.0);
    real scale = logarithm ? real(log1p(others)) : real(1 / (1 + others));
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
        real shifted = below(row[i], high);
        result[i] = logarithm ? shifted - scale : exp(shifted) * scale;
    }
}
KERNEL(softmax)
