"""The innermost loop of a matrix product: a small block of C that stays in registers, written in vector instructions.

Matrix products decide how fast a GAN trains, and for these shapes (128 rows or so) the loop below with the packing in
`gemm` is faster than the BLAS libraries at hand. The block has ROWS x COLUMNS elements: as many vectors as the
processor has registers for, less those that hold a row of B and one element of A.
"""
from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = llvm.get_host_cpu_features() if hasattr(llvm, "get_host_cpu_features") else {}
if _FEATURES.get("avx512f"):  # 32 registers of 64 bytes: 12 * 2 sums, 2 of B
    VECTOR_BYTES, ROWS, VECTORS = 64, 12, 2
elif _FEATURES.get("avx2") and _FEATURES.get("fma"):  # 16 registers of 32 bytes: 6 * 2 sums, 2 of B, 1 of A
    VECTOR_BYTES, ROWS, VECTORS = 32, 6, 2
else:  # registers of 16 bytes; 32 of them on ARM, 16 on old x86
    VECTOR_BYTES, ROWS, VECTORS = 16, 6, 2


def columns(item_bytes: int) -> int:
    """COLUMNS for elements of that size."""
    return VECTORS * VECTOR_BYTES // item_bytes


def make(real: Any, packing: bool = False) -> Any:
    """The micro-kernel for float32 or float64, as a function for other kernels:

    microkernel(k, a, row_stride, step, b, c, c_stride, ahead, ahead_step): C[i, j] = sum over p < k of A[i, p] * B[p, j],
    with A[i, p] at a + i * row_stride + p * step, B[p, j] at b + p * COLUMNS + j and C[i, j] at c + i * c_stride + j.
    a, b and c are addresses; strides count elements. All ROWS x COLUMNS elements of C are written. Meanwhile the
    elements at ahead + p * ahead_step are fetched into the second-level cache, for what comes next.

    packing: the other micro-kernel, for the first block of rows: B[p, j] lies at ahead + p * ahead_step + j, and is
    written to b + p * COLUMNS + j on the way, where the other blocks of rows will find it.
    """
    bits = real.bitwidth
    lanes = VECTOR_BYTES * 8 // bits
    element = ir.FloatType() if bits == 32 else ir.DoubleType()
    vector, word, small = ir.VectorType(element, lanes), ir.IntType(64), ir.IntType(32)

    def const(value: int) -> Any:
        return ir.Constant(word, value)

    @intrinsic
    def microkernel(typing: Any, k: Any, a: Any, row_stride: Any, step: Any, b: Any, c: Any, c_stride: Any,
                    ahead: Any, ahead_step: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            k, a, row_stride, step, b, c, c_stride, ahead, ahead_step = args
            module = builder.module
            fma = cgutils.get_or_insert_function(
                module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{bits}")
            byte = ir.IntType(8).as_pointer()
            prefetch = cgutils.get_or_insert_function(
                module, ir.FunctionType(ir.VoidType(), [byte, small, small, small]), "llvm.prefetch.p0")
            a, b, c, ahead = (builder.inttoptr(x, element.as_pointer()) for x in (a, b, c, ahead))
            a_rows = [builder.gep(a, [builder.mul(row_stride, const(i))]) for i in range(ROWS)]
            c_rows = [builder.gep(c, [builder.mul(c_stride, const(i))]) for i in range(ROWS)]
            # C is on its way to the cache while the loop runs.
            for row in c_rows:
                for end in (0, VECTORS * lanes - 1):
                    place = builder.bitcast(builder.gep(row, [const(end)]), byte)
                    builder.call(prefetch, [place, small(1), small(3), small(1)])  # to write, near, data

            start, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
            zero = ir.Constant(vector, [0.0] * lanes)
            builder.cbranch(builder.icmp_signed(">", k, const(0)), loop, end)

            builder.position_at_end(loop)
            p = builder.phi(word)
            before = [[builder.phi(vector) for _ in range(VECTORS)] for _ in range(ROWS)]
            b_row = builder.mul(p, const(VECTORS * lanes))
            beside = builder.mul(p, ahead_step)

            def vectors(base: Any, row: Any) -> list[Any]:
                return [builder.bitcast(builder.gep(base, [builder.add(row, const(v * lanes))]), vector.as_pointer())
                        for v in range(VECTORS)]

            places = vectors(ahead, beside) if packing else vectors(b, b_row)
            b_vectors = [builder.load(x, align=bits // 8) for x in places]
            if packing:
                for value, x in zip(b_vectors, vectors(b, b_row), strict=True):
                    builder.store(value, x, align=bits // 8)
            else:
                place = builder.bitcast(builder.gep(ahead, [beside]), byte)
                builder.call(prefetch, [place, small(0), small(2), small(1)])  # to read, less near, data
            a_place = builder.mul(p, step)
            after = []
            for i in range(ROWS):
                value = builder.load(builder.gep(a_rows[i], [a_place]))
                value = builder.insert_element(ir.Constant(vector, ir.Undefined), value, small(0))
                value = builder.shuffle_vector(value, ir.Constant(vector, ir.Undefined),
                                               ir.Constant(ir.VectorType(small, lanes), [0] * lanes))
                after.append([builder.call(fma, [value, b_vectors[v], before[i][v]]) for v in range(VECTORS)])
            following = builder.add(p, const(1))
            builder.cbranch(builder.icmp_signed("<", following, k), loop, end)
            p.add_incoming(const(0), start)
            p.add_incoming(following, loop)

            builder.position_at_end(end)
            sums = [[builder.phi(vector) for _ in range(VECTORS)] for _ in range(ROWS)]
            for i in range(ROWS):
                for v in range(VECTORS):
                    for phi in (before[i][v], sums[i][v]):
                        phi.add_incoming(zero, start)
                        phi.add_incoming(after[i][v], loop)
            for i in range(ROWS):
                for v in range(VECTORS):
                    place = builder.bitcast(builder.gep(c_rows[i], [const(v * lanes)]), vector.as_pointer())
                    builder.store(sums[i][v], place, align=bits // 8)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), code

    return microkernel
