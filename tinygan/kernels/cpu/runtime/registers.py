"""Vector instructions for a kernel's innermost loop, written by hand.

In a Numba loop the compiler decides which values stay in registers. Where its choice is too slow, an intrinsic writes the
loop itself, with the instructions that `Registers` emits.
"""
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tinygan.kernels.cpu.runtime.simd import lanes_of, multiply_add


class Registers:
    """Emits loads, stores and multiply-adds of vectors at addresses. lanes: how many elements the vectors have; by default
    they fill a register."""

    def __init__(self, builder: Any, real: Any, lanes: int | None = None) -> None:
        self.builder, self.align = builder, real.bitwidth // 8
        self.element = ir.FloatType() if self.align == 4 else ir.DoubleType()
        self.lanes = lanes or lanes_of(real)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.word = ir.IntType(64)
        self.fma = multiply_add(builder.module, self.vector)

    def shift(self, base: Any, extra: int) -> Any:
        """base + extra."""
        return self.builder.add(base, ir.Constant(self.word, extra))

    def after(self, base: Any, step: int, times: Any, extra: int = 0) -> Any:
        """base + times * step + extra, where `times` is known only when the kernel runs."""
        b = self.builder
        return b.add(base, b.add(b.mul(times, ir.Constant(self.word, step)), ir.Constant(self.word, extra)))

    def place(self, base: Any, step: Any, times: int, extra: int = 0) -> Any:
        """base + times * step + extra, where `step` is known only when the kernel runs."""
        b = self.builder
        return b.add(base, b.add(b.mul(step, ir.Constant(self.word, times)), ir.Constant(self.word, extra)))

    def load(self, address: Any) -> Any:
        """The vector at an address."""
        return self.builder.load(self.builder.inttoptr(address, self.vector.as_pointer()), align=self.align)

    def load_everywhere(self, address: Any) -> Any:
        """A vector with the element at an address in all lanes."""
        return self.everywhere(self.builder.load(self.builder.inttoptr(address, self.element.as_pointer())))

    def everywhere(self, value: Any) -> Any:
        """A vector with a number in all lanes."""
        b, nothing, small = self.builder, ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        return b.shuffle_vector(b.insert_element(nothing, value, small(0)), nothing,
                                ir.Constant(ir.VectorType(small, self.lanes), [0] * self.lanes))

    def store(self, value: Any, address: Any) -> None:
        """Write a vector to an address."""
        self.builder.store(value, self.builder.inttoptr(address, self.vector.as_pointer()), align=self.align)

    def add_to(self, address: Any, values: Any) -> None:
        """Add the sum of a vector's lanes to the element at an address."""
        b, place = self.builder, self.builder.inttoptr(address, self.element.as_pointer())
        reduce = cgutils.get_or_insert_function(b.module, ir.FunctionType(self.element, [self.element, self.vector]),
                                                f"llvm.vector.reduce.fadd.v{self.lanes}f{self.align * 8}")
        b.store(b.call(reduce, [b.load(place), values], fastmath=("reassoc",)), place)

    def loop(self, count: Any, values: list[Any], body: Any) -> list[Any]:
        """A loop over p = 0 .. count - 1 that computes values = body(p, values) and keeps these vectors in registers. count
        must be positive. Returns the values after the last iteration."""
        b = self.builder
        start, loop, end = b.block, b.append_basic_block("loop"), b.append_basic_block("end")
        b.branch(loop)
        b.position_at_end(loop)
        p = b.phi(self.word)
        before = [b.phi(self.vector) for _ in values]
        after = body(p, before)
        following = b.add(p, ir.Constant(self.word, 1))
        b.cbranch(b.icmp_signed("<", following, count), loop, end)
        last = b.block  # the block where the body ends; the body may contain loops
        p.add_incoming(ir.Constant(self.word, 0), start)
        p.add_incoming(following, last)
        for phi, old, new in zip(before, values, after, strict=True):
            phi.add_incoming(old, start)
            phi.add_incoming(new, last)
        b.position_at_end(end)
        return after

    def add_products(self, count: Any, sums: list[Any], factors: Any) -> list[Any]:
        """For each p < count, add one product to each sum. factors(p): the two factors for each sum. Returns the sums."""
        return self.loop(count, sums, lambda p, totals: [
            self.builder.call(self.fma, [x, y, total]) for (x, y), total in zip(factors(p), totals, strict=True)])
