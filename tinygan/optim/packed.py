"""One update of many parameters as one op.

The parameters and their slots are in one array, packed (1 + slots, elements): row 0 holds the parameters, and each other row
a slot. The op runs the rule's kernel. Its gradient is computed by another kernel if the rule has one, and
otherwise from the rule's definition in ops, which also gives all higher derivatives.
"""
from __future__ import annotations

__all__ = ["advance", "advance_grad", "gradients_of_advance"]

from typing import TYPE_CHECKING, Any

from tinygan.graph import op
from tinygan.ops import concatenate, expand_dims, getitem, stack
from tinygan.pullback import pullback

if TYPE_CHECKING:
    from tinygan.optim.optimizers import Optimizer


@op(saves=(0, 1))
def advance(B: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    """Update number `count`: packed (1 + slots, N) and the gradient (N,) -> packed after the update."""
    new = packed.copy()
    rows = [[new[i]] for i in range(len(new))]
    getattr(B, optimizer.rule.kernel)(rows[0], [gradient], *rows[1:], optimizer.settings_of(count))
    return new


@advance.vjp
def _(needs: Any, g: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    both = advance_grad(g, packed, gradient, optimizer=optimizer, count=count)
    return needs[0] and getitem(both, slice(0, -1)), needs[1] and getitem(both, -1)


@op(saves=(0, 1, 2))
def advance_grad(B: Any, g: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    """The gradients of `advance` with respect to packed and to the gradient, joined: (1 + slots + 1, N)."""
    kernel = optimizer.rule.grad_kernel
    if kernel is None or optimizer.weight_decay:
        return gradients_of_advance(optimizer, g, packed, gradient, count)
    return getattr(B, kernel)(g, packed, gradient, optimizer.settings_of(count))


@advance_grad.vjp
def _(needs: Any, h: Any, g: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    def definition(g: Any, packed: Any, gradient: Any) -> Any:
        return gradients_of_advance(optimizer, g, packed, gradient, count)

    return pullback(definition, (g, packed, gradient), h, needs)


def gradients_of_advance(optimizer: Optimizer, g: Any, packed: Any, gradient: Any, count: int) -> Any:
    """`advance_grad`, computed from the rule's definition. It is differentiable."""
    settings = optimizer.constants_at(count)

    def advanced(packed: Any, gradient: Any) -> Any:
        p, *slots = (getitem(packed, i) for i in range(packed.shape[0]))
        return stack(optimizer.rule.update(p, gradient, slots, settings))

    by_packed, by_gradient = pullback(advanced, (packed, gradient), g, (True, True))
    return concatenate([by_packed, expand_dims(by_gradient, 0)])
