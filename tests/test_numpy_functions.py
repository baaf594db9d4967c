"""NumPy's functions on Tensors: what runs on the values, and what would lose a gradient and is refused."""
from __future__ import annotations

import io

import numpy as np
import pytest
from helpers import to_device, to_numpy

import tinygan as tg

A = np.array([[1.0, 2.0, 3.0], [0.5, 4.0, 1.0]], np.float32)
B = np.array([2.0, 1.0, 0.5], np.float32)


def recorded(a=A):
    return tg.Tensor(a, requires_grad=True)


# Calls that would make a constant of a Tensor, and the function of tinygan that the error names.
CUTS = {
    "concatenate": (lambda t: np.concatenate([t]), "concatenate"),
    "concatenate of both": (lambda t: np.concatenate((A, t)), "concatenate"),
    "stack": (lambda t: np.stack([A, t]), "stack"),
    "vstack": (lambda t: np.vstack([t, t]), "concatenate"),
    "hstack": (lambda t: np.hstack([t, A]), "concatenate"),
    "where": (lambda t: np.where(A > 1, t, 0.0), "where"),
    "dot": (lambda t: np.dot(t, B), "matmul"),
    "dot from the left": (lambda t: np.dot(A.T, t), "matmul"),
    "tensordot": (lambda t: np.tensordot(t, t, 2), "einsum"),
    "outer": (lambda t: np.outer(t, B), "einsum"),
    "einsum": (lambda t: np.einsum("ij->i", t), "einsum"),
    "sum": (lambda t: np.sum(t), "sum"),
    "mean": (lambda t: np.mean(t, 0), "mean"),
    "var": (lambda t: np.var(t, axis=1), "var"),
    "max": (lambda t: np.max(t), "max"),
    "amin": (lambda t: np.amin(t), "min"),
    "clip": (lambda t: np.clip(t, 0, 1), "clip"),
    "reshape": (lambda t: np.reshape(t, (3, 2)), "reshape"),
    "ravel": (lambda t: np.ravel(t), "reshape"),
    "transpose": (lambda t: np.transpose(t), "transpose"),
    "swapaxes": (lambda t: np.swapaxes(t, 0, 1), "transpose"),
    "squeeze": (lambda t: np.squeeze(t), "squeeze"),
    "expand_dims": (lambda t: np.expand_dims(t, 0), "expand_dims"),
    "broadcast_to": (lambda t: np.broadcast_to(t, (4, 2, 3)), "broadcast_to"),
    "flip": (lambda t: np.flip(t, 0), "flip"),
    "split": (lambda t: np.split(t, 3, 1), "split"),
    "pad": (lambda t: np.pad(t, 1), "pad"),
    "take": (lambda t: np.take(t, [0], 1), "getitem"),
    "by keyword": (lambda t: np.sum(a=t), "sum"),
    "deep in a list": (lambda t: np.block([[A, t]]), "concatenate"),
}
UFUNCS = {
    "exp": (np.exp, "exp"), "log": (np.log, "log"), "sqrt": (np.sqrt, "sqrt"), "tanh": (np.tanh, "tanh"),
    "absolute": (np.abs, "abs"), "negative": (np.negative, "neg"), "square": (np.square, "mul"), "sin": (np.sin, "sin"),
    "maximum": (lambda t: np.maximum(t, 0), "maximum"), "sum of add": (np.add.reduce, "sum"),
    "into an array": (lambda t: np.exp(t, out=np.ones((2, 3), np.float32)), "array + tensor"),
    "with where": (lambda t: np.add(A, t, where=A > 1), "add"),
}


@pytest.mark.parametrize("call, name", CUTS.values(), ids=CUTS)
def test_what_would_cut_a_gradient_names_the_function_to_use(call, name):
    with pytest.raises(TypeError, match=rf"np\.\w+ would lose the gradient of a Tensor: use tinygan\.{name}, or np\.asarray"):
        call(recorded())
    with pytest.raises(TypeError, match="would lose the gradient"):
        call(recorded() * 2)
    if name in tg.__all__:
        assert callable(getattr(tg, name))


@pytest.mark.parametrize("call", [pair[0] for pair in CUTS.values()], ids=CUTS)
def test_a_tensor_that_is_not_recorded_is_the_array_of_its_values(call):
    expected = call(A)
    results = [call(tg.Tensor(A)), call(recorded().detach()), call(np.asarray(recorded()))]
    with tg.no_grad():
        results.append(call(recorded()))
    for result in results:
        parts = zip(result, expected, strict=True) if isinstance(expected, list) else [(result, expected)]
        for part, right in parts:
            assert not isinstance(part, tg.Tensor)
            np.testing.assert_array_equal(part, right)


def test_functions_that_tinygan_does_not_have_are_refused_too():
    for call in (np.median, np.linalg.inv, np.fft.fft, lambda t: np.percentile(t, 50), np.unique, np.sort):
        with pytest.raises(TypeError, match=r"np\.[\w.]+ would lose the gradient of a Tensor: .* np\.asarray\(tensor\) gives its"):
            call(recorded(np.eye(2, dtype=np.float32)))
    assert np.median(tg.Tensor(A)) == np.median(A)


@pytest.mark.parametrize("call, name", UFUNCS.values(), ids=UFUNCS)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_ufuncs_name_the_function_to_use(call, name, requires_grad):
    with pytest.raises(TypeError, match=rf"np\.\w+(\.\w+)? (takes no|of a) Tensor.*{name.replace('+', '.')}.*np\.asarray"):
        call(tg.Tensor(A, requires_grad=requires_grad))


def test_functions_that_describe_compare_print_or_save_run_on_the_values(tmp_path):
    t = recorded()
    assert np.shape(t) == (2, 3) and np.ndim(t) == 2 and np.size(t) == 6
    assert np.allclose(t, A) and np.array_equal(t, A) and not np.array_equal(t, A + 1) and np.isclose(t, A).all()
    np.testing.assert_array_equal(t, A)
    np.testing.assert_allclose(t, A)
    np.testing.assert_array_almost_equal(t, A)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(t, A + 1)
    assert np.array2string(t) == np.array2string(A)
    assert np.argmax(t) == np.argmax(A) and np.count_nonzero(t) == 6
    assert np.zeros_like(t).shape == (2, 3) and np.zeros_like(t).dtype == np.float32
    np.save(tmp_path / "a.npy", t)
    np.savez(tmp_path / "a.npz", t=t)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), A)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["t"], A)
    text = io.StringIO()
    np.savetxt(text, t)
    assert len(text.getvalue().splitlines()) == 2
    array = np.empty((2, 3), np.float32)
    np.copyto(array, t)
    np.testing.assert_array_equal(array, A)


def test_arrays_on_the_left_of_an_operator_are_recorded(device):
    a, b = to_device(A, device), to_device(B, device)
    t = tg.Tensor(b, requires_grad=True)
    sums = {"add": (a + t, np.full(3, 2)), "sub": (a - t, np.full(3, -2)), "mul": (a * t, A.sum(0)),
            "div": (a / t, -A.sum(0) / B**2), "pow": (a**t, (A**B * np.log(A)).sum(0)), "matmul": (a @ t, A.sum(0)),
            "np.multiply": (np.multiply(a, t) if device != "cuda" else a * t, A.sum(0)),
            "scalar": (np.float64(3) * t, np.full(3, 3)), "float32": (np.float32(3) - t, np.full(3, -1))}
    for name, (y, gradient) in sums.items():
        assert isinstance(y, tg.Tensor) and y.dtype == np.float32, name
        np.testing.assert_allclose(to_numpy(tg.grad(tg.sum(y), t, retain_graph=True)), gradient, rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(to_numpy(a > t), A > B)
    np.testing.assert_array_equal(to_numpy(a == t), A == B)
    np.testing.assert_array_equal(to_numpy(a <= t), A <= B)


def test_numpy_functions_on_a_device(other_device):
    t = tg.Tensor(to_device(A, other_device), requires_grad=True)
    with pytest.raises(TypeError, match=r"use tinygan\.concatenate"):
        np.concatenate([t])
    np.testing.assert_array_equal(np.concatenate([t.detach(), t.detach()]), np.concatenate([A, A]))
    np.testing.assert_array_equal(np.asarray(t), A)


def test_a_list_of_recorded_tensors_is_no_tensor():
    x, y = recorded(B), recorded(B)
    for values in ([x, y], (x, y), [[x], [y]]):
        with pytest.raises(TypeError, match=r"Tensor: a list of Tensors would lose their gradients: use tinygan\.stack"):
            tg.Tensor(values)
    np.testing.assert_array_equal(tg.Tensor([x.detach(), y.detach()]), [B, B])
    with tg.no_grad():
        np.testing.assert_array_equal(tg.Tensor([x, y]), [B, B])
