// The updates of the optimisers, in place, for a whole list of arrays in one launch.
//
// table: for each parameter its address, the addresses of its gradient and of its two slots (arrays of state), and its size, as
// 5 numbers of 64 bits. chunks: for each block, the row of the table and the first element that it updates. settings: defined in
// kernels/optimizer_settings.py. tinygan/optim/rules.py states the rules as mathematics.
#include "runtime/common.cuh"

// Python defines these macros: CHUNK, how many elements a block updates; MARGIN, see kernels/squares.py; the names of settings.
struct SGD { double SGD_MEMBERS; };
struct RMSProp { double RMSPROP_MEMBERS; };
struct Adam { double ADAM_MEMBERS; };

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

constexpr real LARGEST = real(sizeof(real) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308);  // the largest finite number

// The largest gradient that a mean square takes in, where the mean adds `share` times its square (see kernels/squares.py).
__device__ __forceinline__ real most(double share) { return real(MARGIN * sqrt(double(LARGEST)) / sqrt(share)); }

__device__ __forceinline__ real limited(real g, real most) {
    if (!(fabs(g) <= LARGEST)) return g;
    return g > most ? most : g < -most ? -most : g;
}

// decayed + part^2, at most LARGEST. NaN stays NaN.
__device__ __forceinline__ real held(real decayed, real part) {
    real square = decayed + part * part;
    return square > LARGEST ? LARGEST : square;
}

// rules.adam
extern "C" __global__ void adam(const unsigned long long* table, const int* chunks, const Adam* settings) {
    Chunk c(table, chunks);
    Adam s = *settings;
    bool decoupled = s.decoupled != 0;
    real beta1 = real(s.beta1), rest1 = real(1 - s.beta1), beta2 = real(s.beta2), rest2 = real(sqrt(1 - s.beta2));
    real limit = most(1 - s.beta2), step = real(s.learning_rate / s.correction1);
    real root = real(1 / sqrt(s.correction2)), eps = real(s.eps), added = decoupled ? real(0) : real(s.weight_decay);
    real keep = decoupled ? real(1 - s.learning_rate * s.weight_decay) : real(1);
    for (int i = c.begin + threadIdx.x; i < c.end; i += blockDim.x) {
        real p = c.p[i], g = limited(c.g[i] + added * p, limit);
        real m = beta1 * c.first[i] + rest1 * g, v = held(beta2 * c.second[i], rest2 * g);
        c.first[i] = m;
        c.second[i] = v;
        c.p[i] = keep * p - step * m / (sqrt(v) * root + eps);
    }
}
KERNEL(adam)

// rules.rmsprop
extern "C" __global__ void rmsprop(const unsigned long long* table, const int* chunks, const RMSProp* settings) {
    Chunk c(table, chunks);
    RMSProp s = *settings;
    real rate = real(s.learning_rate), decay = real(s.decay), rest = real(sqrt(1 - s.decay)), eps = real(s.eps);
    real limit = most(1 - s.decay), added = real(s.weight_decay);
    for (int i = c.begin + threadIdx.x; i < c.end; i += blockDim.x) {
        real p = c.p[i], g = limited(c.g[i] + added * p, limit), v = held(decay * c.first[i], rest * g);
        c.first[i] = v;
        c.p[i] = p - rate * g / (sqrt(v) + eps);
    }
}
KERNEL(rmsprop)

// rules.sgd
extern "C" __global__ void sgd(const unsigned long long* table, const int* chunks, const SGD* settings) {
    Chunk c(table, chunks);
    SGD s = *settings;
    real rate = real(s.learning_rate), momentum = real(s.momentum), added = real(s.weight_decay);
    bool nesterov = s.nesterov != 0;
    for (int i = c.begin + threadIdx.x; i < c.end; i += blockDim.x) {
        real p = c.p[i], g = c.g[i] + added * p, v = momentum * c.first[i] + g;
        c.first[i] = v;
        c.p[i] = p - rate * (nesterov ? g + momentum * v : v);
    }
}
KERNEL(sgd)
