// Random numbers by Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Word i is word i % 4 of
// the block with counter first + i / 4, so a number depends only on the key and on its place. Each thread makes one block of four words
// and from it four float32 numbers, or two float64 numbers.
#include "runtime/common.cuh"

struct alignas(16) Words {
    unsigned at[4];
};

__device__ __forceinline__ Words block_of_words(unsigned counter, const unsigned* key) {
    unsigned c0 = counter, c1 = 0, c2 = 0, c3 = 0, k0 = key[0], k1 = key[1];
#pragma unroll
    for (int i = 0; i < 10; i++) {
        unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

constexpr int NUMBERS = sizeof(real) == 4 ? 4 : 2;  // from one block of words
struct alignas(16) Numbers {
    real at[NUMBERS];
};

// Numbers in [0, 1), from the upper 24 bits of one word for float, or the upper 53 bits of two words for double.
__device__ __forceinline__ Numbers unit(const Words& words) {
    Numbers u;
#pragma unroll
    for (int i = 0; i < NUMBERS; i++) {
        if (sizeof(real) == 4) {
            u.at[i] = real(words.at[i] >> 8) * real(1.0 / 16777216.0);
        } else {
            unsigned long long bits = ((unsigned long long)words.at[2 * i % 4] << 32 | words.at[(2 * i + 1) % 4]) >> 11;
            u.at[i] = real(bits) * real(1.0 / 9007199254740992.0);
        }
    }
    return u;
}

// Writes the numbers of a thread to their place in `out`. This is one store of 16 bytes, if `out` has room for all of them and is
// aligned. (A view may not be aligned.)
template <class T, class Made> __device__ __forceinline__ void store(const Made& made, T* out, int block, int count) {
    constexpr int OF_THREAD = sizeof(Made) / sizeof(T);
    int first = block * OF_THREAD;
    if (count - first >= OF_THREAD && reinterpret_cast<unsigned long long>(out) % sizeof(Made) == 0) {
        *reinterpret_cast<Made*>(out + first) = made;
    } else {
#pragma unroll
        for (int i = 0; i < OF_THREAD; i++) {
            if (first + i < count) out[first + i] = made.at[i];
        }
    }
}

// a * b, rounded as on the CPU: the compiler must not make a fused multiply-add of it.
__device__ __forceinline__ float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double rounded_product(double a, double b) { return __dmul_rn(a, b); }

extern "C" __global__ void bits(const unsigned* key, unsigned* out, int count, int first) {
    int block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block <= (count - 1) / 4) store(block_of_words(unsigned(first) + block, key), out, block, count);
}
KERNEL(bits)

// Uniform numbers in [low, high). below: the largest number below high; it replaces `high`, which rounding may give.
extern "C" __global__ void uniform(const unsigned* key, real* out, int count, int first, double low, double scale, double below) {
    int block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block > (count - 1) / NUMBERS) return;
    Numbers u = unit(block_of_words(unsigned(first) + block, key));
#pragma unroll
    for (int i = 0; i < NUMBERS; i++) u.at[i] = fmin(rounded_product(u.at[i], real(scale)) + real(low), real(below));
    store(u, out, block, count);
}
KERNEL(uniform)

// Normal numbers (Box and Muller 1958). For float32, logarithm, sine and cosine are the polynomials of the CPU's kernel; see
// kernels/cpu/random/compiled.py.
__device__ __forceinline__ float logarithm(float x) {
    int bits = __float_as_int(x), n = (bits - 0x3F3504F3) >> 23;
    float f = __int_as_float(bits - (int)((unsigned)n << 23)) - 1.0f;
    float p = -0.0736286787f;
    p = p * f + 0.126203275f;
    p = p * f - 0.132021042f;
    p = p * f + 0.14227114f;
    p = p * f - 0.166213699f;
    p = p * f + 0.199998266f;
    p = p * f - 0.250008519f;
    p = p * f + 0.33333354f;
    return float(n) * 0.6931471805599453f + (f * f * (f * p - 0.5f) + f);
}

__device__ __forceinline__ void normal_pair(float u, float turns, float* x, float* y) {
    float radius = sqrt(-2.0f * logarithm(1.0f - u)), quarters = turns * 4.0f;
    float nearest = floor(quarters + 0.5f), r = (quarters - nearest) * 1.5707963267948966f, square = r * r;
    float s = -0.000195159528f;
    s = s * square + 0.00833216576f;
    s = s * square - 0.166666547f;
    float c = 2.44358844e-05f;
    c = c * square - 0.00138873418f;
    c = c * square + 0.0416666462f;
    float sine = r + r * square * s, cosine = 1.0f - 0.5f * square + square * square * c;
    int turn = int(nearest);
    bool odd = turn & 1;
    float a = odd ? sine : cosine, b = odd ? cosine : sine;
    *x = radius * ((turn + 1) & 2 ? -a : a);
    *y = radius * (turn & 2 ? -b : b);
}

__device__ __forceinline__ void normal_pair(double u, double turns, double* x, double* y) {
    double radius = sqrt(-2.0 * log(1.0 - u)), angle = turns * 6.283185307179586;
    *x = radius * cos(angle);
    *y = radius * sin(angle);
}

extern "C" __global__ void normal(const unsigned* key, real* out, int count, int first) {
    int block = blockIdx.x * blockDim.x + threadIdx.x;
    if (block > (count - 1) / NUMBERS) return;
    Numbers u = unit(block_of_words(unsigned(first) + block, key)), x;
#pragma unroll
    for (int i = 0; i < NUMBERS; i += 2) normal_pair(u.at[i], u.at[i + 1], &x.at[i], &x.at[i + 1]);
    store(x, out, block, count);
}
KERNEL(normal)
