// Minibatch discrimination of m (N, B, C): for each of the B kernels, how near each example is to the others, and the
// derivatives.
//
// For one kernel let e_ij = exp(-sum over c of |m_ic - m_jc|), and let s_ijc be the sign of m_ic - m_jc. Sums over j are over
// all examples other than i. g is the gradient of o, and h has the shape of m.
//     similarity   o_i  = sum_j e_ij
//     gradient     d_ic = -sum_j (g_i + g_j) e_ij s_ijc
//     second       the gradients of <h, d>. The signs are piecewise constant. With q_ij = sum over c of (h_ic - h_jc) s_ijc:
//         by g     -sum_j q_ij e_ij
//         by m     sum_j (g_i + g_j) q_ij e_ij s_ijc
//
// A block has 32 examples i of one kernel. It goes through all j, 32 at a time, and keeps both in shared memory. Each lane has
// one example i, and each of the 8 warps takes 4 of the 32 examples j. At the end the sums of the warps are added in order.
// Each pair is computed twice, once for each of its examples, so that no thread adds to the sum of another.
// Each thread keeps the sums for the gradient by m in registers. So blockIdx.y counts pieces of 16 dimensions, and all pieces
// compute the same e_ij.
#include "runtime/common.cuh"

constexpr int EXAMPLES = 32, WARPS = 8, OTHERS = EXAMPLES / WARPS, DIMENSIONS = 16;
constexpr int PAIR_THREADS = EXAMPLES * WARPS;

// The numbers of 32 examples, dimension by dimension. One more column spreads writes over the banks of shared memory.
typedef real Tile[DIMENSIONS][EXAMPLES + 1];

struct Pairs {
    int N, B, C, b, first, lane, warp;

    __device__ __forceinline__ Pairs(int N, int B, int C)
        : N(N), B(B), C(C), b(blockIdx.x % B), first(blockIdx.x / B * EXAMPLES), lane(threadIdx.x % EXAMPLES),
          warp(threadIdx.x / EXAMPLES) {}
    __device__ __forceinline__ int i() const { return first + lane; }

    // Load examples `from` to `from` + 31 and dimensions `c` to `c` + 15 of an array like m. Missing ones become 0.
    __device__ __forceinline__ void load(Tile tile, const real* array, int from, int c) const {
        for (int at = threadIdx.x; at < DIMENSIONS * EXAMPLES; at += PAIR_THREADS) {
            int k = at % DIMENSIONS, example = at / DIMENSIONS, n = from + example;
            tile[k][example] = n < N && c + k < C ? array[((long long)n * B + b) * C + c + k] : real(0);
        }
    }

    // The sum of the values that all warps have for the thread's example i, added in order. All threads must call it.
    __device__ __forceinline__ real added(real value) const {
        __shared__ real partial[WARPS][EXAMPLES];
        __syncthreads();  // wait until the previous call has read `partial`
        partial[warp][lane] = value;
        __syncthreads();
        double sum = 0;
        for (int w = 0; w < WARPS; w++) sum += partial[w][lane];
        return real(sum);
    }
};

__device__ __forceinline__ real signed_by(real difference, real value) {
    return difference > 0 ? value : difference < 0 ? -value : real(0);
}

// For the thread's example i and its 4 examples j among those from `others` on: near[k] = e_ij, or 0 if j is i or does not
// exist. If SECOND, also q[k] = q_ij. The last piece of dimensions is still in the tiles afterwards. All threads must call it.
template <bool SECOND>
__device__ __forceinline__ void nearness(const Pairs& p, const real* m, const real* h, int others, Tile* tiles,
                                         real (&near)[OTHERS], real (&q)[OTHERS]) {
    for (int k = 0; k < OTHERS; k++) near[k] = q[k] = 0;
    for (int c = 0; c < p.C; c += DIMENSIONS) {
        __syncthreads();  // wait until the old tiles have been read
        p.load(tiles[0], m, p.first, c);
        p.load(tiles[1], m, others, c);
        if (SECOND) {
            p.load(tiles[2], h, p.first, c);
            p.load(tiles[3], h, others, c);
        }
        __syncthreads();
        for (int d = 0; d < min(DIMENSIONS, p.C - c); d++) {
            real own = tiles[0][d][p.lane], own_h = SECOND ? tiles[2][d][p.lane] : real(0);
            #pragma unroll
            for (int k = 0; k < OTHERS; k++) {
                real difference = own - tiles[1][d][p.warp * OTHERS + k];
                near[k] += fabs(difference);
                if (SECOND) q[k] += signed_by(difference, own_h - tiles[3][d][p.warp * OTHERS + k]);
            }
        }
    }
    #pragma unroll
    for (int k = 0; k < OTHERS; k++) {
        int j = others + p.warp * OTHERS + k;
        near[k] = j < p.N && j != p.i() ? exp(-near[k]) : real(0);
    }
}

// Writes by_m for the block's piece of dimensions, and, if SECOND, by_g.
template <bool SECOND>
__device__ __forceinline__ void gradients(const Pairs& p, const real* m, const real* g, const real* h, real* by_g,
                                          real* by_m) {
    __shared__ Tile tiles[SECOND ? 4 : 2];
    int piece = blockIdx.y * DIMENSIONS, i = p.i();
    real own_g = i < p.N ? g[(long long)i * p.B + p.b] : real(0), total = 0, sums[DIMENSIONS] = {};
    for (int others = 0; others < p.N; others += EXAMPLES) {
        real weights[OTHERS], q[OTHERS];
        nearness<SECOND>(p, m, h, others, tiles, weights, q);
        #pragma unroll
        for (int k = 0; k < OTHERS; k++) {
            int j = others + p.warp * OTHERS + k;
            if (SECOND) {
                weights[k] *= q[k];
                total -= weights[k];
            } else {
                weights[k] = -weights[k];
            }
            weights[k] *= own_g + (j < p.N ? g[(long long)j * p.B + p.b] : real(0));
        }
        if (gridDim.y > 1) {  // (with one piece, it is still in the tiles)
            __syncthreads();
            p.load(tiles[0], m, p.first, piece);
            p.load(tiles[1], m, others, piece);
            __syncthreads();
        }
        #pragma unroll
        for (int d = 0; d < DIMENSIONS; d++) {
            if (piece + d >= p.C) break;
            #pragma unroll
            for (int k = 0; k < OTHERS; k++)
                sums[d] += signed_by(tiles[0][d][p.lane] - tiles[1][d][p.warp * OTHERS + k], weights[k]);
        }
    }
    #pragma unroll
    for (int d = 0; d < DIMENSIONS; d++) {
        if (piece + d >= p.C) break;
        real sum = p.added(sums[d]);
        if (p.warp == 0 && i < p.N) by_m[((long long)i * p.B + p.b) * p.C + piece + d] = sum;
    }
    if (!SECOND) return;
    total = p.added(total);
    if (blockIdx.y == 0 && p.warp == 0 && i < p.N) by_g[(long long)i * p.B + p.b] = total;
}

#define PAIRS(name) extern "C" __global__ __launch_bounds__(PAIR_THREADS) void name

PAIRS(similarity)(const real* m, real* out, int N, int B, int C) {
    __shared__ Tile tiles[2];
    Pairs p(N, B, C);
    real total = 0;
    for (int others = 0; others < N; others += EXAMPLES) {
        real near[OTHERS], q[OTHERS];
        nearness<false>(p, m, nullptr, others, tiles, near, q);
        total += (near[0] + near[1]) + (near[2] + near[3]);
    }
    total = p.added(total);
    if (p.warp == 0 && p.i() < N) out[(long long)p.i() * B + p.b] = total;
}
KERNEL(similarity)

PAIRS(gradient)(const real* m, const real* g, real* by_m, int N, int B, int C) {
    gradients<false>(Pairs(N, B, C), m, g, nullptr, nullptr, by_m);
}
KERNEL(gradient)

PAIRS(second)(const real* m, const real* g, const real* h, real* by_g, real* by_m, int N, int B, int C) {
    gradients<true>(Pairs(N, B, C), m, g, h, by_g, by_m);
}
KERNEL(second)
