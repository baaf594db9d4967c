"""The innermost loop of a matrix product, in vector instructions. It computes a small block of C, which stays in registers.

Matrix products decide how fast a GAN trains. For the shapes of GANs (about 128 rows) this loop, with the packing in `gemm`,
is faster than the BLAS libraries that were measured. The block has ROWS x COLUMNS elements. It fills all vector registers
except those for a row of B and for one element of A.
"""
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, multiply_add

VECTORS_PER_ROW = 2  # vector registers for a row of the block
# With 32 registers of 64 bytes: 12 * 2 for sums, 2 for B. With 16 registers of 32 or 16 bytes (ARM has 32): 6 * 2 for sums,
# 2 for B, 1 for A.
ROWS = 12 if VECTOR_BYTES == 64 else 6


def columns(item_bytes: int) -> int:
    """COLUMNS for elements of that size."""
    return VECTORS_PER_ROW * VECTOR_BYTES // item_bytes


def make(real: Any, packing: bool = False) -> Any:
    """The micro-kernel for float32 or float64, as a function for other kernels:

    microkernel(k, a, row_stride, step, b, b_step, c, c_stride, adding, ahead, ahead_step, beside, beside_step)

    It computes C[i, j] = sum over p < k of A[i, p] * B[p, j] for all ROWS x COLUMNS elements; if `adding`, it adds this sum
    to C[i, j] instead. A[i, p] is at a + i * row_stride + p * step, B[p, j] at b + p * b_step + j, and C[i, j] at
    c + i * c_stride + j. a, b and c are addresses; strides count elements. Meanwhile the elements at ahead + p * ahead_step
    and at beside + p * beside_step are prefetched into the second-level cache, for the blocks that come next.

    packing: make the other micro-kernel, for the first block of rows. It reads B[p, j] at ahead + p * ahead_step + j, and
    also writes it to b + p * b_step + j, where the other blocks of rows will read it.

    This function is long because it writes the loop's instructions one by one, unrolled over the rows.
    """
    size = real.bitwidth // 8
    lanes = VECTOR_BYTES // size
    element = ir.FloatType() if size == 4 else ir.DoubleType()
    vector, word, small = ir.VectorType(element, lanes), ir.IntType(64), ir.IntType(32)
    byte = ir.IntType(8).as_pointer()

    def const(value: int) -> Any:
        return ir.Constant(word, value)

    @intrinsic
    def microkernel(typing: Any, k: Any, a: Any, row_stride: Any, step: Any, b: Any, b_step: Any, c: Any, c_stride: Any,
                    adding: Any, ahead: Any, ahead_step: Any, beside: Any, beside_step: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # (Long because it writes the loop's instructions one by one.)
            # The loop is a function of its own, called once for each block. Inside a task with its many variables, the
            # compiler would not keep all variables of the loop in registers.
            name = f"microkernel_{size}_{int(packing)}"
            function = builder.module.globals.get(name)
            if function is None:
                function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [word] * 13), name)
                function.linkage = "internal"
                function.attributes.add("noinline")
                function.attributes.add("nounwind")
                define(function)
            builder.call(function, args)
            return context.get_dummy_value()

        def define(function: Any) -> None:
            builder = ir.IRBuilder(function.append_basic_block("entry"))
            k, a, row_stride, step, b, b_step, c, c_stride, adding, ahead, ahead_step, beside, beside_step = function.args
            fma = multiply_add(builder.module, vector)
            prefetch = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [byte, small, small, small]), "llvm.prefetch.p0")

            def fetch(address: Any, write: int, locality: int) -> None:
                builder.call(prefetch, [builder.inttoptr(address, byte), small(write), small(locality), small(1)])

            def in_bytes(elements: Any) -> Any:
                return builder.mul(elements, const(size))

            def vectors(address: Any) -> list[Any]:
                return [builder.inttoptr(builder.add(address, const(v * VECTOR_BYTES)), vector.as_pointer())
                        for v in range(VECTORS_PER_ROW)]

            def branch(condition: Any, name: str) -> tuple[Any, Any, Any]:
                """The basic blocks before, inside and after an `if`."""
                blocks = builder.block, builder.append_basic_block(name), builder.append_basic_block(f"after {name}")
                builder.cbranch(condition, *blocks[1:])
                return blocks

            c_rows = [builder.add(c, builder.mul(in_bytes(c_stride), const(i))) for i in range(ROWS)]
            for row in c_rows:  # prefetch C while the loop runs
                for end in (0, VECTORS_PER_ROW * VECTOR_BYTES - 1):
                    fetch(builder.add(row, const(end)), 1, 3)
            zero = ir.Constant(vector, [0.0] * lanes)
            begin, load, ready = branch(builder.icmp_signed("!=", adding, const(0)), "load")
            builder.position_at_end(load)
            loaded = [[builder.load(place, align=size) for place in vectors(row)] for row in c_rows]
            builder.branch(ready)
            builder.position_at_end(ready)
            first = [[builder.phi(vector) for _ in range(VECTORS_PER_ROW)] for _ in range(ROWS)]
            a_rows = [builder.add(a, builder.mul(in_bytes(row_stride), const(i))) for i in range(ROWS)]
            start, loop, end = branch(builder.icmp_signed(">", k, const(0)), "loop")

            builder.position_at_end(loop)
            p = builder.phi(word)
            before = [[builder.phi(vector) for _ in range(VECTORS_PER_ROW)] for _ in range(ROWS)]
            b_row = builder.add(b, builder.mul(p, in_bytes(b_step)))
            ahead_row = builder.add(ahead, builder.mul(p, in_bytes(ahead_step)))
            b_vectors = [builder.load(place, align=size) for place in vectors(ahead_row if packing else b_row)]
            if packing:
                for value, place in zip(b_vectors, vectors(b_row), strict=True):
                    builder.store(value, place, align=size)
            else:
                fetch(ahead_row, 0, 2)
            fetch(builder.add(beside, builder.mul(p, in_bytes(beside_step))), 0, 2)
            a_place = builder.mul(p, in_bytes(step))
            after = []
            for i in range(ROWS):
                value = builder.load(builder.inttoptr(builder.add(a_rows[i], a_place), element.as_pointer()))
                value = builder.insert_element(ir.Constant(vector, ir.Undefined), value, small(0))
                value = builder.shuffle_vector(value, ir.Constant(vector, ir.Undefined),
                                               ir.Constant(ir.VectorType(small, lanes), [0] * lanes))
                after.append([builder.call(fma, [value, b_vectors[v], before[i][v]]) for v in range(VECTORS_PER_ROW)])
            following = builder.add(p, const(1))
            builder.cbranch(builder.icmp_signed("<", following, k), loop, end)
            p.add_incoming(const(0), start)
            p.add_incoming(following, loop)

            builder.position_at_end(end)
            sums = [[builder.phi(vector) for _ in range(VECTORS_PER_ROW)] for _ in range(ROWS)]
            for i in range(ROWS):
                for v in range(VECTORS_PER_ROW):
                    first[i][v].add_incoming(zero, begin)
                    first[i][v].add_incoming(loaded[i][v], load)
                    for phi in (before[i][v], sums[i][v]):
                        phi.add_incoming(first[i][v], start)
                        phi.add_incoming(after[i][v], loop)
                for value, place in zip(sums[i], vectors(c_rows[i]), strict=True):
                    builder.store(value, place, align=size)
            builder.ret_void()

        return types.void(*[types.int64] * 13), code

    return microkernel
