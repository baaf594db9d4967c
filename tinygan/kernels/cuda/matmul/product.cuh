// One tiled matrix product: the core of products.cu, and of the convolutions in conv/direct.cu.
//
// A block computes one tile of out = a b. It moves along k in steps of DEPTH. In each step the threads fetch the values of the
// next step into registers, multiply the values of this step, which are in shared memory, and then put the fetched values into
// the other half of the shared memory. So one barrier for each step is enough, and the multiplications hide the latency of memory.
//
// An operand is a class that reads elements. Both operands are indexed by (outer, k), where outer is a row of a or a column of b:
//     static constexpr bool ALONG_K     true if elements are contiguous along k, else along outer; neighbouring threads follow
//     Outer outer(int i)                what a thread computes once for each of its rows (columns)
//     Inner inner(int k)                what it computes in each step for each of its k
//     Vector<WIDE> value(Outer, Inner)  the element; if WIDE is 4, also the next three in memory
// WIDE = 4 needs aligned memory. The contiguous axis and the bounds of k must then be multiples of 4.
// With the macro TF32 = 1 (and REAL float) the tensor cores multiply. They round the operands to 10 bits of mantissa.
#pragma once
#include "runtime/common.cuh"

#ifndef TF32
#define TF32 0
#endif
#ifndef WIDTH
#define WIDTH 1  // of both operands
#endif
#if TF32 && (defined(EMULATED) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
#define TENSOR_CORES 1
#else
#define TENSOR_CORES 0  // (on Turing, which has no tensor cores for TF32, products are computed in float32)
#endif

// The threads of a block are arranged as DOWN x ACROSS. Each has ROW_GROUPS x COLUMN_GROUPS squares of 4 x 4 sums. The squares of
// neighbouring threads are neighbours, so that these threads read neighbouring numbers in shared memory.
template <int DOWN_, int ACROSS_, int ROW_GROUPS_, int COLUMN_GROUPS_, int DEPTH_, int BLOCKS_> struct Tile {
    static constexpr int DOWN = DOWN_, ACROSS = ACROSS_, ROW_GROUPS = ROW_GROUPS_, COLUMN_GROUPS = COLUMN_GROUPS_;
    static constexpr int DEPTH = DEPTH_, THREADS = DOWN * ACROSS;
    static constexpr int ROWS = 4 * DOWN * ROW_GROUPS, COLUMNS = 4 * ACROSS * COLUMN_GROUPS;
    // How many blocks a multiprocessor must have registers for: while one waits for memory, another multiplies.
    static constexpr int BLOCKS = sizeof(real) == 4 ? BLOCKS_ : 1;
};
typedef Tile<16, 16, 2, 2, TENSOR_CORES ? 16 : 8, 2> Large;  // 128 x 128
typedef Tile<16, 16, 1, 1, 16, 3> Small;                     // 64 x 64
typedef Tile<64, 4, 1, 1, 8, 2> Narrow;                      // 256 x 16
constexpr int PRODUCT_THREADS = 256;                         // in all three kinds of tile

// COUNT numbers that are read or written at once.
template <int COUNT> struct alignas(COUNT * sizeof(real) > 16 ? 16 : COUNT * sizeof(real)) Vector {
    real at[COUNT];
};

// What a thread fetches from an operand. SPAN: the rows (columns) of the tile. STRIDE: the stride of k in shared memory.
template <class T, class Operand, int SPAN, int STRIDE> struct Feed {
    static constexpr bool ALONG_K = Operand::ALONG_K;
    static constexpr int WIDE = Operand::WIDE;
    // BESIDE threads read contiguous memory. Along k they read 8 numbers together: memory is read in pieces of at least that size.
    static constexpr int BESIDE = (ALONG_K ? 8 : SPAN) / WIDE, APART = T::THREADS / BESIDE;
    static constexpr int LINES = ALONG_K ? (SPAN + APART - 1) / APART : 1;
    static constexpr int STEPS = ALONG_K ? T::DEPTH / 8 : (T::DEPTH + APART - 1) / APART;

    Operand operand;
    int line, offset;
    typename Operand::Outer outer[LINES];
    Vector<WIDE> fetched[LINES][STEPS];

    // Threads beyond the last row read the last row. Their sums are not written.
    __device__ __forceinline__ Feed(const Operand& operand, int first, int count) : operand(operand) {
        int thread = threadIdx.x, beside = thread % BESIDE * WIDE, apart = thread / BESIDE;
        line = ALONG_K ? apart : beside;
        offset = ALONG_K ? beside : apart;
#pragma unroll
        for (int i = 0; i < LINES; i++)
            outer[i] = operand.outer(min(first + line + i * APART, count - (ALONG_K ? 1 : WIDE)));
    }
    __device__ __forceinline__ int k_of(int step) const { return offset + step * (ALONG_K ? 8 : APART); }
    __device__ __forceinline__ void fetch(int begin, int end) {
#pragma unroll
        for (int j = 0; j < STEPS; j++) {
            int k = k_of(j);
            bool inside = k < T::DEPTH && begin + k < end;
            typename Operand::Inner inner{};
            if (inside) inner = operand.inner(begin + k);
#pragma unroll
            for (int i = 0; i < LINES; i++) fetched[i][j] = inside ? operand.value(outer[i], inner) : Vector<WIDE>{};
        }
    }
    template <class Sums> __device__ __forceinline__ void put(real* tile) const {
#pragma unroll
        for (int j = 0; j < STEPS; j++)
#pragma unroll
            for (int i = 0; i < LINES; i++) {
                int k = k_of(j), at = line + i * APART;
                if (k >= T::DEPTH || at >= SPAN) continue;
                Vector<WIDE> numbers = fetched[i][j];
#pragma unroll
                for (int w = 0; w < WIDE; w++) numbers.at[w] = Sums::operand(numbers.at[w]);
                if (ALONG_K) {
#pragma unroll
                    for (int w = 0; w < WIDE; w++) tile[(k + w) * STRIDE + at] = numbers.at[w];
                } else {
                    *reinterpret_cast<Vector<WIDE>*>(tile + k * STRIDE + at) = numbers;
                }
            }
    }
};

#if TENSOR_CORES

__device__ __forceinline__ float to_tf32(float x) {
#if defined(EMULATED)
    unsigned bits = __float_as_uint(x);
    return isfinite(x) ? __uint_as_float((bits + 0x1000u) & ~0x1FFFu) : x;
#elif defined(__CUDA_ARCH__)
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
#else
    return x;
#endif
}

// sum += a b, for a (16 x 8) and b (8 x 8) that are spread over the threads of a warp. With g = lane / 4 and t = lane % 4, a thread
// holds these elements of a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); of b: (t, g), (t + 4, g); of the sum: (g, 2t),
// (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void multiply_add(float (&sum)[4], const float (&a)[4], const float (&b)[2]) {
#if defined(EMULATED)
    static float held[1024][6];
    int thread = threadIdx.x, lane = thread % WARP_SIZE, first = thread - lane;
    for (int i = 0; i < 4; i++) held[thread][i] = a[i];
    for (int i = 0; i < 2; i++) held[thread][4 + i] = b[i];
    __syncwarp();
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 8; k++) {
            int column = lane % 4 * 2 + i % 2;
            sum[i] += held[first + lane / 4 * 4 + k % 4][i / 2 + k / 4 * 2] * held[first + column * 4 + k % 4][4 + k / 4];
        }
    __syncwarp();
#elif defined(__CUDA_ARCH__)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
                   "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#endif
}

// The sums of a tile. Each warp has a rectangle of pieces, and a piece has 16 x 8 sums.
template <class T> struct Sums {
    static constexpr int PAD = 8;  // so the 4 x 8 numbers that a warp reads at once are in 32 different banks
    static constexpr int WARPS_ACROSS = T::COLUMNS >= 64 ? 4 : 1, WARPS_DOWN = T::THREADS / WARP_SIZE / WARPS_ACROSS;
    static constexpr int DOWN = T::ROWS / WARPS_DOWN / 16, ACROSS = T::COLUMNS / WARPS_ACROSS / 8;
    float sum[DOWN][ACROSS][4] = {};
    int row, column, g, t;

    __device__ __forceinline__ Sums() {
        int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
        row = warp / WARPS_ACROSS * DOWN * 16;
        column = warp % WARPS_ACROSS * ACROSS * 8;
        g = lane / 4;
        t = lane % 4;
    }
    static __device__ __forceinline__ float operand(float x) { return to_tf32(x); }
    __device__ __forceinline__ void multiply(const real* a, const real* b) {
#pragma unroll
        for (int k = 0; k < T::DEPTH; k += 8) {
            const real *low = a + (k + t) * (T::ROWS + PAD) + row + g, *high = low + 4 * (T::ROWS + PAD);
            const real *left = b + (k + t) * (T::COLUMNS + PAD) + column + g, *right = left + 4 * (T::COLUMNS + PAD);
            float y[ACROSS][2];
#pragma unroll
            for (int j = 0; j < ACROSS; j++) y[j][0] = left[j * 8], y[j][1] = right[j * 8];
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                float x[4] = {low[i * 16], low[i * 16 + 8], high[i * 16], high[i * 16 + 8]};
#pragma unroll
                for (int j = 0; j < ACROSS; j++) multiply_add(sum[i][j], x, y[j]);
            }
        }
    }
    template <class Out>
    __device__ __forceinline__ void write(int first_row, int first_column, int M, int N, const Out& out) {
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int m = first_row + row + i * 16 + half * 8 + g, n = first_column + column + j * 8 + 2 * t;
                    Vector<2> pair = {{sum[i][j][2 * half], sum[i][j][2 * half + 1]}};
                    if (m < M && n < N) out.write(m, n, pair, min(2, N - n));
                }
    }
};

#else

template <class T> struct Sums {
    static constexpr int PAD = 4;  // keeps groups of 4 aligned, and puts 8 neighbours in k of 4 rows into 32 different banks
    Vector<4> sum[T::ROW_GROUPS][4][T::COLUMN_GROUPS] = {};
    int row, column;

    __device__ __forceinline__ Sums() : row(threadIdx.x / T::ACROSS * 4), column(threadIdx.x % T::ACROSS * 4) {}
    static __device__ __forceinline__ real operand(real x) { return x; }
    __device__ __forceinline__ void multiply(const real* a, const real* b) {
#pragma unroll
        for (int k = 0; k < T::DEPTH; k++) {
            Vector<4> x[T::ROW_GROUPS], y[T::COLUMN_GROUPS];
#pragma unroll
            for (int i = 0; i < T::ROW_GROUPS; i++)
                x[i] = *reinterpret_cast<const Vector<4>*>(a + k * (T::ROWS + PAD) + row + i * 4 * T::DOWN);
#pragma unroll
            for (int j = 0; j < T::COLUMN_GROUPS; j++)
                y[j] = *reinterpret_cast<const Vector<4>*>(b + k * (T::COLUMNS + PAD) + column + j * 4 * T::ACROSS);
#pragma unroll
            for (int i = 0; i < T::ROW_GROUPS; i++)
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int j = 0; j < T::COLUMN_GROUPS; j++)
#pragma unroll
                        for (int c = 0; c < 4; c++) sum[i][r][j].at[c] += x[i].at[r] * y[j].at[c];
        }
    }
    template <class Out>
    __device__ __forceinline__ void write(int first_row, int first_column, int M, int N, const Out& out) {
#pragma unroll
        for (int i = 0; i < T::ROW_GROUPS; i++)
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int j = 0; j < T::COLUMN_GROUPS; j++) {
                    int m = first_row + row + i * 4 * T::DOWN + r, n = first_column + column + j * 4 * T::ACROSS;
                    if (m < M && n < N) out.write(m, n, sum[i][r][j], min(4, N - n));
                }
    }
};

#endif

// An operand that is a matrix in memory. ALONG: true if it is contiguous along k, else along outer.
template <bool ALONG, int WIDE_> struct Matrix {
    static constexpr bool ALONG_K = ALONG;
    static constexpr int WIDE = WIDE_;
    typedef int Outer;
    typedef int Inner;
    const real* data;
    int stride;  // of the axis that is not contiguous
    __device__ __forceinline__ Outer outer(int i) const { return ALONG ? i * stride : i; }
    __device__ __forceinline__ Inner inner(int k) const { return ALONG ? k : k * stride; }
    __device__ __forceinline__ Vector<WIDE> value(Outer row, Inner at) const {
        return *reinterpret_cast<const Vector<WIDE>*>(data + row + at);
    }
};

// Computes the block's tile of out (M, N) = the sum over k from k_begin to k_end of a(m, k) b(n, k). blockIdx.x counts the tiles
// row by row; blocks beyond the last tile do nothing. All PRODUCT_THREADS threads of a block must call it.
// out.write(m, n, sums, count) is called with a Vector of sums; the first `count` belong to row m, columns n, n + 1, ...
template <class T, class A, class B, class Out>
__device__ __forceinline__ void product(int M, int N, int k_begin, int k_end, const A& a, const B& b, const Out& out) {
    static_assert(T::THREADS == PRODUCT_THREADS, "the host starts blocks of PRODUCT_THREADS threads");
    constexpr int A_STRIDE = T::ROWS + Sums<T>::PAD, B_STRIDE = T::COLUMNS + Sums<T>::PAD;
    alignas(16) __shared__ real a_tiles[2][T::DEPTH * A_STRIDE];
    alignas(16) __shared__ real b_tiles[2][T::DEPTH * B_STRIDE];
    int across = (N + T::COLUMNS - 1) / T::COLUMNS;
    int first_row = blockIdx.x / across * T::ROWS, first_column = blockIdx.x % across * T::COLUMNS;
    if (first_row >= M) return;
    Sums<T> sums;
    if (k_begin < k_end) {
        Feed<T, A, T::ROWS, A_STRIDE> feed_a(a, first_row, M);
        Feed<T, B, T::COLUMNS, B_STRIDE> feed_b(b, first_column, N);
        feed_a.fetch(k_begin, k_end);
        feed_b.fetch(k_begin, k_end);
        feed_a.template put<Sums<T>>(a_tiles[0]);
        feed_b.template put<Sums<T>>(b_tiles[0]);
        __syncthreads();
        for (int k = k_begin, half = 0;; half ^= 1) {
            k += T::DEPTH;
            bool more = k < k_end;
            if (more) {
                feed_a.fetch(k, k_end);
                feed_b.fetch(k, k_end);
            }
            sums.multiply(a_tiles[half], b_tiles[half]);
            if (!more) break;
            feed_a.template put<Sums<T>>(a_tiles[half ^ 1]);
            feed_b.template put<Sums<T>>(b_tiles[half ^ 1]);
            __syncthreads();
        }
        __syncthreads();  // before the next product overwrites the tiles
    }
    sums.write(first_row, first_column, M, N, out);
}

// Part number `part` of a sum over `count` numbers that is split into `parts`: from begin to end. It begins at a multiple of 4.
struct Part {
    int begin, end;
    __device__ __forceinline__ Part(int count, int part, int parts) {
        int size = ((count + parts - 1) / parts + 3) / 4 * 4;
        begin = min(count, part * size);
        end = min(count, begin + size);
    }
};

// Most activations are long code. So it is called, and not inlined for each sum of a thread.
static __device__ __noinline__ real called_activation(real x, int kind, real slope) { return activated(x, kind, slope); }

// Adds the bias and applies the activation to the sums of columns n, n + 1, ...
struct Epilogue {
    const real* bias;  // null: none
    int kind;
    real slope;
    template <int COUNT> __device__ __forceinline__ void apply(Vector<COUNT>& sums, int n, int count) const {
        if (bias) {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                if (i < count) sums.at[i] += bias[n + i];
        }
        if (kind == LEAKY_RELU) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) sums.at[i] = value_of_leaky_relu(sums.at[i], slope);
        } else if (kind != IDENTITY) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) sums.at[i] = called_activation(sums.at[i], kind, slope);
        }
    }
    __device__ __forceinline__ real operator()(real x, int n) const {
        Vector<1> sum = {{x}};
        apply(sum, n, 1);
        return sum.at[0];
    }
};

// Writes `count` numbers of a row: all at once if all are wanted and the address is aligned, else one by one.
template <int COUNT> __device__ __forceinline__ void write_row(real* to, const Vector<COUNT>& sums, int count) {
    if (count == COUNT && reinterpret_cast<unsigned long long>(to) % sizeof(Vector<COUNT>) == 0) {
        *reinterpret_cast<Vector<COUNT>*>(to) = sums;
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            if (i < count) to[i] = sums.at[i];
    }
}

// Writes results to a matrix with contiguous rows, which are `stride` elements apart.
struct RowsOut {
    real* out;
    int stride;
    Epilogue epilogue;
    template <int COUNT> __device__ __forceinline__ void write(int m, int n, Vector<COUNT> sums, int count) const {
        epilogue.apply(sums, n, count);
        write_row(out + (long long)m * stride + n, sums, count);
    }
};
