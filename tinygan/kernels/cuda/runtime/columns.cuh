// How blocks share a matrix (rows, columns), row-major, whose columns are summed or mapped, such as channels-last images and
// batches of vectors. columns.py chooses the grid.
//
// blockIdx.x counts groups of `width` columns, blockIdx.y parts of the rows. Neighbouring threads have neighbouring columns,
// which lie side by side in memory; a thread has one column and every `step`th row of the block's part. width is a power of
// two, 32 at most, and less for fewer columns, so that a warp of a narrow matrix has several rows instead of idle threads.
// Four rows are read before the first is used, so that a thread waits for memory once for all of them.
#pragma once
#include "runtime/common.cuh"

constexpr int COLUMN_THREADS = 256;

struct Columns {
    int columns, column, line, step;
    long long begin, end;  // of the block's rows
    bool inside;           // whether the thread has a column (else `column` is one that exists, to read from)

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
    // Where row i of the thread's column lies.
    __device__ __forceinline__ long long at(long long i) const { return i * columns + column; }
};

// The totals of the thread's rows. terms(at, t): what to add for the element there. Four terms are added in their own
// precision, the sums of those in double: cheap beside the reading, and the error does not grow with the number of rows.
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

// A map: store(at, compute(at)) for the elements of the thread's rows.
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

// The sum over the block's threads of one column, in each of them; always in the same order. All must call it.
__device__ __forceinline__ double column_sum(double value, int width) {
    __shared__ double partial[COLUMN_THREADS];
    int thread = threadIdx.x;
    __syncthreads();  // of the call before
    partial[thread] = value;
    for (int half = COLUMN_THREADS / 2; half >= width; half /= 2) {
        __syncthreads();
        if (thread < half) partial[thread] += partial[thread + half];
    }
    __syncthreads();
    return partial[thread % width];
}

// The block's totals, to `out` (TOTALS, columns), or, if that is null, to its place in `partial` (parts, TOTALS, columns).
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

// The moments of some numbers in each thread, put together over the threads of a column by the sums of squares within and
// between them (Chan, Golub, LeVeque 1979): no digits are lost to a large mean, as in the mean square less the squared mean.
struct Moments {
    double count, mean, squares;  // squares: the sum of the squared deviations from the mean

    // All must call it.
    __device__ __forceinline__ Moments over_column(int width) const {
        double all = column_sum(count, width), centre = column_sum(count * mean, width) / fmax(all, 1.0);
        return {all, centre, column_sum(squares + count * (mean - centre) * (mean - centre), width)};
    }
    __device__ __forceinline__ void write(int c, real* to_mean, real* to_var) const {
        to_mean[c] = real(mean);
        to_var[c] = real(squares / count);
    }
    // Column c of part number `part`: (parts, 3, columns).
    __device__ __forceinline__ void store(double* partial, int part, int columns, int c) const {
        double* to = partial + (long long)part * 3 * columns + c;
        to[0] = count;
        to[columns] = mean;
        to[2LL * columns] = squares;
    }
};

// What a thread keeps of the numbers that it makes, a few at a time, for their moments. It subtracts the first number from all of
// them: it is near the mean, unless it is far from the others, and then its own square is as large as what is lost.
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
    // After a few: their sums are in their own precision, those of all in double.
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
