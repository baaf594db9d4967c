// The optimisers' updates, in place, over a whole list of arrays in one launch.
//
// table: for each array the addresses of its parameter, gradient and two slots, and its size (5 numbers of 64 bits). chunks:
// for each block the array it works on and where it begins there. settings: float64, as `backends/cpu.py` names them.
#include "runtime/common.cuh"

constexpr int CHUNK = 2048;  // elements of a block
constexpr int COLUMNS = 5;

struct Chunk {
    real *p, *first, *second;
    const real* g;
    int begin, end;
    __device__ __forceinline__ Chunk(const unsigned long long* table, const int* chunks) {
        const unsigned long long* row = table + (long long)chunks[2 * blockIdx.x] * COLUMNS;
        p = reinterpret_cast<real*>(row[0]);
        g = reinterpret_cast<const real*>(row[1]);
        first = reinterpret_cast<real*>(row[2]);
        second = reinterpret_cast<real*>(row[3]);
        begin = chunks[2 * blockIdx.x + 1];
        end = min(int(row[4]), begin + CHUNK);
    }
};

// How large a finite gradient may enter a mean square, which gets `share` of its square (see kernels/squares.py).
constexpr real LARGEST = real(sizeof(real) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308);
constexpr double MARGIN = 0.999;

__device__ __forceinline__ real most(double share) { return real(MARGIN * sqrt(double(LARGEST)) / sqrt(share)); }

__device__ __forceinline__ real limited(real g, real most) {
    if (!(fabs(g) <= LARGEST)) return g;
    return g > most ? most : g < -most ? -most : g;
}

// The mean square with another part's square added; NaN stays NaN.
__device__ __forceinline__ real held(real decayed, real part) {
    real square = decayed + part * part;
    return square > LARGEST ? LARGEST : square;
}

extern "C" __global__ void adam(const unsigned long long* table, const int* chunks, const double* s) {
    Chunk c(table, chunks);
    double rate = s[0], decay = s[4];
    bool decoupled = s[5] != 0;
    real beta1 = real(s[1]), beta2 = real(s[2]), eps = real(s[3]), rest1 = real(1 - s[1]), rest2 = real(sqrt(1 - s[2]));
    real limit = most(1 - s[2]), step = real(rate / s[6]), root = real(1 / sqrt(s[7]));
    real keep = decoupled ? real(1 - rate * decay) : real(1), added = decoupled ? real(0) : real(decay);
    for (int i = c.begin + threadIdx.x; i < c.end; i += blockDim.x) {
        real p = c.p[i], g = limited(c.g[i] + added * p, limit);
        real m = beta1 * c.first[i] + rest1 * g, v = held(beta2 * c.second[i], rest2 * g);
        c.first[i] = m;
        c.second[i] = v;
        c.p[i] = keep * p - step * m / (sqrt(v) * root + eps);
    }
}
KERNEL(adam)

extern "C" __global__ void rmsprop(const unsigned long long* table, const int* chunks, const double* s) {
    Chunk c(table, chunks);
    real rate = real(s[0]), decay = real(s[1]), rest = real(sqrt(1 - s[1])), eps = real(s[2]), added = real(s[3]);
    real limit = most(1 - s[1]);
    for (int i = c.begin + threadIdx.x; i < c.end; i += blockDim.x) {
        real p = c.p[i], g = limited(c.g[i] + added * p, limit), v = held(decay * c.first[i], rest * g);
        c.first[i] = v;
        c.p[i] = p - rate * g / (sqrt(v) + eps);
    }
}
KERNEL(rmsprop)

extern "C" __global__ void sgd(const unsigned long long* table, const int* chunks, const double* s) {
    Chunk c(table, chunks);
    real rate = real(s[0]), momentum = real(s[1]), added = real(s[3]);
    bool nesterov = s[2] != 0;
    for (int i = c.begin + threadIdx.x; i < c.end; i += blockDim.x) {
        real p = c.p[i], g = c.g[i] + added * p, v = momentum * c.first[i] + g;
        c.first[i] = v;
        c.p[i] = p - rate * (nesterov ? g + momentum * v : v);
    }
}
KERNEL(sgd)
