"""Vector registers, for intrinsics: where the compiler's own vectors will not do, a kernel's innermost loop is written in
instructions on whole registers."""
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tinygan.kernels.cpu.matmul.microkernel import multiply_add
from tinygan.kernels.cpu.runtime import simd as transform


class Registers:
    """Emits loads, stores and multiply-adds of vectors at addresses."""

    def __init__(self, builder: Any, real: Any) -> None:
        self.builder, self.align = builder, real.bitwidth // 8
        self.element = ir.FloatType() if self.align == 4 else ir.DoubleType()
        self.lanes = transform.lanes_of(real)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.word = ir.IntType(64)
        self.fma = multiply_add(builder.module, self.vector)

    def shift(self, base: Any, extra: int) -> Any:
        """base + extra."""
        return self.builder.add(base, ir.Constant(self.word, extra))

    def after(self, base: Any, step: int, times: Any, extra: int = 0) -> Any:
        """base + times * step + extra, where `times` is known when it runs."""
        b = self.builder
        return b.add(base, b.add(b.mul(times, ir.Constant(self.word, step)), ir.Constant(self.word, extra)))

    def place(self, base: Any, step: Any, times: int, extra: int = 0) -> Any:
        """base + times * step + extra, where `step` is."""
        b = self.builder
        return b.add(base, b.add(b.mul(step, ir.Constant(self.word, times)), ir.Constant(self.word, extra)))

    def load(self, address: Any) -> Any:
        return self.builder.load(self.builder.inttoptr(address, self.vector.as_pointer()), align=self.align)

    def load_everywhere(self, address: Any) -> Any:
        """One element, in all lanes."""
        return self.everywhere(self.builder.load(self.builder.inttoptr(address, self.element.as_pointer())))

    def everywhere(self, value: Any) -> Any:
        """A number, in all lanes."""
        b, nothing, small = self.builder, ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        return b.shuffle_vector(b.insert_element(nothing, value, small(0)), nothing,
                                ir.Constant(ir.VectorType(small, self.lanes), [0] * self.lanes))

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, self.vector.as_pointer()), align=self.align)

    def add_to(self, address: Any, values: Any) -> None:
        """Add all lanes to one element."""
        b, place = self.builder, self.builder.inttoptr(address, self.element.as_pointer())
        reduce = cgutils.get_or_insert_function(b.module, ir.FunctionType(self.element, [self.element, self.vector]),
                                                f"llvm.vector.reduce.fadd.v{self.lanes}f{self.align * 8}")
        b.store(b.call(reduce, [b.load(place), values], fastmath=("reassoc",)), place)

    def loop(self, count: Any, values: list[Any], body: Any) -> list[Any]:
        """For p < count (which is positive) values = body(p, values); the last ones."""
        b = self.builder
        start, loop, end = b.block, b.append_basic_block("loop"), b.append_basic_block("end")
        b.branch(loop)
        b.position_at_end(loop)
        p = b.phi(self.word)
        before = [b.phi(self.vector) for _ in values]
        after = body(p, before)
        following = b.add(p, ir.Constant(self.word, 1))
        b.cbranch(b.icmp_signed("<", following, count), loop, end)
        last = b.block  # of the body, which may have loops of its own
        p.add_incoming(ir.Constant(self.word, 0), start)
        p.add_incoming(following, last)
        for phi, old, new in zip(before, values, after, strict=True):
            phi.add_incoming(old, start)
            phi.add_incoming(new, last)
        b.position_at_end(end)
        return after

    def add_products(self, count: Any, sums: list[Any], factors: Any) -> list[Any]:
        """For p < count add a product to each sum; factors(p) are pairs to multiply."""
        return self.loop(count, sums, lambda p, totals: [
            self.builder.call(self.fma, [x, y, total]) for (x, y), total in zip(factors(p), totals, strict=True)])
