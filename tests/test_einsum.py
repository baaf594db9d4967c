"""einsum against NumPy's, finite differences and PyTorch: diagonals, ellipses, implicit outputs, axes of size 1."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg

CASES = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),  # implicit output
    ("ba,cb", (2, 3), (4, 2)),  # implicit, in alphabetical order
    ("ij->ji", (2, 3)),
    ("ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("i,j->ij", (2,), (3,)),
    ("i,i->", (3,), (3,)),
    ("i,i", (3,), (3,)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (2, 2, 3)),
    ("iji->ij", (2, 3, 2)),
    ("jii->ij", (3, 2, 2)),
    ("iiij->ji", (2, 2, 2, 3)),
    ("ijij->ij", (2, 3, 2, 3)),
    ("iijj->ij", (2, 2, 3, 3)),
    ("ii,i->i", (3, 3), (3,)),
    ("...ij,...jk->...ik", (2, 2, 3), (2, 3, 2)),
    ("...ij,jk->...ik", (4, 2, 3), (3, 2)),
    ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),  # ellipses of different length
    ("...,...", (2, 3), (3,)),
    ("i...->...", (2, 3, 2)),
    ("i...j->j...i", (2, 3, 2)),
    ("...ii->...i", (3, 2, 2)),
    ("...i", (2, 3)),
    ("ij,kl->", (2, 3), (2, 2)),
    ("ij,j,jk->ik", (2, 3), (3,), (3, 2)),
    ("i,ij,ik,il->jkl", (2,), (2, 2), (2, 2), (2, 1)),
    (" i j , j k -> i k ", (2, 3), (3, 2)),
    ("Ab,bA->A", (2, 3), (3, 2)),
    ("ij,jk->ik", (2, 1), (3, 4)),  # size 1 broadcasts
    ("ij,ij->ij", (1, 3), (2, 1)),
    ("ij,ij->", (1, 3), (2, 3)),
    ("i,i->i", (1,), (3,)),
    (",i->i", (), (3,)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
]


def loops(subscripts, *arrays):
    """NumPy's einsum, without its optimiser."""
    return np.einsum(subscripts, *arrays, optimize=False)


@pytest.mark.parametrize("case", CASES, ids=str)
@given(layout=layouts, seed=seeds)
def test_values(case, layout, seed):
    subscripts, *shapes = case
    arrays = [values(seed + i, shape) for i, shape in enumerate(shapes)]
    check_both_modes(lambda *xs: tg.einsum(subscripts, *xs), loops(subscripts, *arrays), *arrays, layout=layout, rtol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(case):
    subscripts, *shapes = case
    check(lambda *xs: tg.einsum(subscripts, *xs), *[values(i, shape) for i, shape in enumerate(shapes)])


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_torch(device, case):
    torch = pytest.importorskip("torch")
    subscripts, *shapes = case
    agree(lambda *xs: tg.einsum(subscripts, *xs), lambda *xs: torch.einsum(subscripts, *xs),
          *[values(i, shape) for i, shape in enumerate(shapes)], device=device)


@st.composite
def expressions(draw):
    sizes = {letter: draw(st.integers(1, 3)) for letter in "ijkl"}
    inputs = draw(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3))
    output = "".join(draw(st.permutations(sorted(set("".join(inputs)))))[:draw(st.integers(0, 4))])
    return ",".join(inputs) + "->" + output, [tuple(sizes[c] for c in letters) for letters in inputs]


@given(case=expressions(), seed=seeds, layout=layouts)
def test_random_expressions(case, seed, layout):
    subscripts, shapes = case
    arrays = [values(seed + i, shape) for i, shape in enumerate(shapes)]
    check_both_modes(lambda *xs: tg.einsum(subscripts, *xs), loops(subscripts, *arrays), *arrays, rtol=1e-11)
    check(lambda *xs: tg.einsum(subscripts, *xs), *arrays, layout=layout)


X = np.ones((2, 3))


@pytest.mark.parametrize("subscripts, operands, error, message", [
    ("ij,jk->ik", [X, X], ValueError, r"einsum: .*\(2, 3\), \(2, 3\)"),
    ("ij,jk->ik", [X], ValueError, "einsum: 'ij,jk->ik' names 2 operands, got 1"),
    ("ijk->i", [X], ValueError, r"einsum: 'ijk' does not fit an operand of shape \(2, 3\)"),
    ("", [X], ValueError, "einsum: '' does not fit"),
    ("..ij->ij", [X], ValueError, r"einsum: '\.\.ij' in '\.\.ij->ij' should hold three dots \(an ellipsis\) at most once"),
    ("....ij->ij", [X], ValueError, r"einsum: '\.\.\.\.ij' in .* should hold three dots \(an ellipsis\) at most once"),
    ("i...j...->ij", [X], ValueError, r"einsum: 'i\.\.\.j\.\.\.' in .* should hold three dots \(an ellipsis\) at most once"),
    ("...i...->...", [X], ValueError, r"einsum: '\.\.\.i\.\.\.' in .* should hold three dots \(an ellipsis\) at most once"),
    ("...i->...i...", [X], ValueError, r"einsum: '\.\.\.i\.\.\.' in .* should hold three dots \(an ellipsis\) at most once"),
    ("ij->z", [X], ValueError, "einsum: 'ij->z' is not a valid expression"),
    ("ij->ii", [X], ValueError, "einsum: 'ij->ii' is not a valid expression"),
    ("i1->i", [X], ValueError, "einsum: 'i1->i' is not a valid expression"),
    ("ij->->", [X], ValueError, "einsum: 'ij->->' is not a valid expression"),
    ("ii->i", [X], ValueError, r"einsum: the axes named 'i' of an operand of shape \(2, 3\) differ in size"),
    ("...,...", [X, np.ones((4, 3))], ValueError, r"einsum: .*\(2, 3\), \(4, 3\)"),
    ("ij->i", [[1.0]], TypeError, "einsum: expected a Tensor or an array, got list"),
    (X, ["ij->ij"], TypeError, "einsum: .* str"),
    ("ij->i", [X.astype(int)], TypeError, "needs float32 or float64, got int64"),
    ("ij,ij->i", [X, X.astype(np.float32)], TypeError, "einsum: inputs of different precision"),
])
def test_errors(subscripts, operands, error, message):
    with pytest.raises(error, match=message):
        tg.einsum(subscripts, *operands)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_captured_step_with_its_gradients(other_device, case):
    subscripts, *shapes = case
    if any(0 in shape for shape in shapes):
        pytest.skip("a step on nothing")
    arrays = [values(i, shape).astype(np.float32) for i, shape in enumerate(shapes)]

    def step(*xs):
        leaves = [tg.Tensor(x, requires_grad=True) for x in xs]
        y = tg.einsum(subscripts, *leaves)
        return [y, *tg.grad(tg.sum(tg.mul(y, y)), leaves)]

    captured, on_device = tg.capture(step), [tg.to_device(a, other_device) for a in arrays]
    for _ in range(3):
        found = captured(*on_device)
    for got, expected in zip(found, step(*arrays), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
