// How blocks share a row-major matrix (rows, columns) whose columns are summed or mapped. Such matrices are channels-last images
// and batches of vectors. columns.py chooses the grid.
//
// blockIdx.x counts groups of `width` columns, blockIdx.y counts parts of the rows. A thread has one column, and every `step`th row
// of the block's part. Neighbouring threads have neighbouring columns, which are neighbours in memory. width is a power of two and
// at most 32. If the matrix has fewer columns width is smaller, so that a warp works on several rows and no thread is idle.
// Four rows are read before the first is used, so that a thread waits for memory only once for all four.
#pragma once
#include "runtime/common.cuh"

constexpr int COLUMN_THREADS = 256;

struct Columns {
    int columns, column, line, step;
    long long begin, end;  // the rows of the block's part
    bool inside;           // whether the thread has a column (if not, `column` is the last one, which is safe to read)

    __device__ __forceinline__ Columns(int rows, int columns, int width)
        : columns(columns), column(blockIdx.x * width + threadIdx.x % width), line(threadIdx.x / width),
          step(COLUMN_THREADS / width), begin(first(rows, blockIdx.y, gridDim.y)),
          end(first(rows, blockIdx.y + 1, gridDim.y)), inside(column < columns) {
        column = min(column, columns - 1);
    }
    // The first row of a part.
    static __device__ __forceinline__ long long first(int rows, int part, int parts) {
        return (long long)rows * part / parts;
    }
    // The index in memory of row i in the thread's column.
    __device__ __forceinline__ long long at(long long i) const { return i * columns + column; }
};

// Computes the totals of the thread's rows. terms(at, t) writes the terms for the element at index `at` to t. Four terms are added
// in their own precision, and the sums of four in double. That is cheap compared with reading, and the error does not grow with the
// number of rows.
template <int TOTALS, class Terms>
__device__ __forceinline__ void add_rows(const Columns& c, Terms terms, double (&totals)[TOTALS]) {
    for (int k = 0; k < TOTALS; k++) totals[k] = 0;
    if (!c.inside) return;
    long long i = c.begin + c.line;
    for (; i + 3 * c.step < c.end; i += 4 * c.step) {
        real t[4][TOTALS];
        #pragma unroll
        for (int row = 0; row < 4; row++) terms(c.at(i + row * c.step), t[row]);
        #pragma unroll
        for (int k = 0; k < TOTALS; k++) totals[k] += double((t[0][k] + t[1][k]) + (t[2][k] + t[3][k]));
    }
    for (; i < c.end; i += c.step) {
        real t[TOTALS];
        terms(c.at(i), t);
        #pragma unroll
        for (int k = 0; k < TOTALS; k++) totals[k] += double(t[k]);
    }
}

// Calls store(at, compute(at)) for the index `at` of every element in the thread's rows.
template <class Compute, class Store>
__device__ __forceinline__ void each_row(const Columns& c, Compute compute, Store store) {
    if (!c.inside) return;
    long long i = c.begin + c.line;
    for (; i + 3 * c.step < c.end; i += 4 * c.step) {
        decltype(compute(i)) t[4];
        #pragma unroll
        for (int row = 0; row < 4; row++) t[row] = compute(c.at(i + row * c.step));
        #pragma unroll
        for (int row = 0; row < 4; row++) store(c.at(i + row * c.step), t[row]);
    }
    for (; i < c.end; i += c.step) store(c.at(i), compute(c.at(i)));
}

// The sum of the values of all threads with the same column, returned to each of them. It is always added in the same order. All
// threads of the block must call it.
__device__ __forceinline__ double column_sum(double value, int width) {
    __shared__ double partial[COLUMN_THREADS];
    int thread = threadIdx.x;
    __syncthreads();  // wait until the previous call has read `partial`
    partial[thread] = value;
    for (int half = COLUMN_THREADS / 2; half >= width; half /= 2) {
        __syncthreads();
        if (thread < half) partial[thread] += partial[thread + half];
    }
    __syncthreads();
    return partial[thread % width];
}

// Writes the totals of the block to `out` (TOTALS, columns), or, if that is null, to `partial` (parts, TOTALS, columns).
template <int TOTALS>
__device__ __forceinline__ void store_totals(const Columns& c, int width, const double (&totals)[TOTALS], real* out,
                                             double* partial) {
    #pragma unroll
    for (int k = 0; k < TOTALS; k++) {
        double sum = column_sum(totals[k], width);
        if (c.line || !c.inside) continue;
        if (out) out[(long long)k * c.columns + c.column] = real(sum);
        else partial[((long long)blockIdx.y * TOTALS + k) * c.columns + c.column] = sum;
    }
}

// The moments of some numbers. The moments of several threads are combined by adding the sums of squares within and between them
// (Chan, Golub, LeVeque 1979). So a large mean takes no digits, as it would in E[x^2] - E[x]^2.
struct Moments {
    double count, mean, squares;  // squares: the sum of the squared deviations from the mean

    // The moments of all threads with the same column together. All threads of the block must call it.
    __device__ __forceinline__ Moments over_column(int width) const {
        double all = column_sum(count, width), centre = column_sum(count * mean, width) / fmax(all, 1.0);
        return {all, centre, column_sum(squares + count * (mean - centre) * (mean - centre), width)};
    }
    __device__ __forceinline__ void write(int c, real* to_mean, real* to_var) const {
        to_mean[c] = real(mean);
        to_var[c] = real(squares / count);
    }
    // Write to column c of part number `part` of `partial`, (parts, 3, columns).
    __device__ __forceinline__ void store(double* partial, int part, int columns, int c) const {
        double* to = partial + (long long)part * 3 * columns + c;
        to[0] = count;
        to[columns] = mean;
        to[2LL * columns] = squares;
    }
};

// Measures the moments of the numbers that a thread computes, a few at a time. It subtracts the first number from all of them, so
// that a large mean takes no digits. The first number is usually near the mean. If instead it is far from the others, its own
// squared deviation is so large that the lost digits do not matter.
struct Measure {
    double sum = 0, squares = 0;
    real few_sum = 0, few_squares = 0, centre = 0;
    int count = 0;

    __device__ __forceinline__ void add(real x) {
        if (!count++) centre = x;
        real d = x - centre;
        few_sum += d;
        few_squares += d * d;
    }
    // Call it after a few numbers: they are added in their own precision, and their sums in double.
    __device__ __forceinline__ void keep() {
        sum += few_sum;
        squares += few_squares;
        few_sum = few_squares = 0;
    }
    __device__ __forceinline__ Moments moments() const {
        double shift = sum / max(count, 1);
        return {double(count), centre + shift, squares - sum * shift};
    }
};
