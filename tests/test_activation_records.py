"""The activations' records on their three targets (NumPy, Numba, CUDA in the emulator), against closed forms in float64."""
from __future__ import annotations

import math
import shutil
import sys

import numpy as np
import pytest
from numba import types

from tinygan.fusion import perceptron
from tinygan.kernels import activations as records
from tinygan.kernels.activations import Activation
from tinygan.kernels.cpu.activations import functions, in_numpy
from tinygan.kernels.cuda.emulator.launcher import Emulator
from tinygan.kernels.cuda.runtime import activation_source
from tinygan.kernels.expressions import parsed
from tinygan.ops import activations as ops

SLOPE = 0.3


def logistic(x):
    return np.exp(-np.logaddexp(0, -x))


def sech2(x):
    return np.exp(2 * (np.log(2) - np.logaddexp(x, -x)))


def normal_cdf(x):
    return np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in x])


def normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def gelu_tanh():
    """x (1 + tanh(u)) / 2, where u is a polynomial, and its derivatives by the product and the chain rule."""
    u = np.polynomial.Polynomial([0, 1, 0, 0.044715]) * np.sqrt(2 / np.pi)
    return (lambda x, s: x * logistic(2 * u(x)),
            lambda x, s: logistic(2 * u(x)) + x / 2 * sech2(u(x)) * u.deriv(1)(x),
            lambda x, s: sech2(u(x)) * (u.deriv(1)(x) + x / 2 * u.deriv(2)(x) - x * np.tanh(u(x)) * u.deriv(1)(x)**2))


CLOSED_FORMS = {  # value, slope, curvature
    "identity": (lambda x, s: x, lambda x, s: np.ones_like(x), lambda x, s: np.zeros_like(x)),
    "relu": (lambda x, s: np.maximum(x, 0), lambda x, s: np.heaviside(x, 0), lambda x, s: np.zeros_like(x)),
    "leaky_relu": (lambda x, s: np.maximum(x, 0) + s * np.minimum(x, 0), lambda x, s: s + (1 - s) * np.heaviside(x, 0),
                   lambda x, s: np.zeros_like(x)),
    "tanh": (lambda x, s: np.tanh(x), lambda x, s: sech2(x), lambda x, s: -2 * np.tanh(x) * sech2(x)),
    "sigmoid": (lambda x, s: logistic(x), lambda x, s: sech2(x / 2) / 4, lambda x, s: -np.tanh(x / 2) * sech2(x / 2) / 4),
    "softplus": (lambda x, s: np.logaddexp(0, x), lambda x, s: logistic(x), lambda x, s: sech2(x / 2) / 4),
    "elu": (lambda x, s: np.maximum(x, 0) + s * np.expm1(np.minimum(x, 0)),
            lambda x, s: np.where(x > 0, 1, s * np.exp(np.minimum(x, 0))),
            lambda x, s: np.where(x > 0, 0, s * np.exp(np.minimum(x, 0)))),
    "silu": (lambda x, s: x * logistic(x), lambda x, s: logistic(x) * (1 + x * logistic(-x)),
             lambda x, s: logistic(x) * logistic(-x) * (2 + x * (logistic(-x) - logistic(x)))),
    "gelu": (lambda x, s: x * normal_cdf(x), lambda x, s: normal_cdf(x) + x * normal_density(x),
             lambda x, s: (2 - x * x) * normal_density(x)),
    "gelu_tanh": gelu_tanh(),
}
EXACTNESS = {"gelu": 2, "gelu_tanh": 8}
"""In how many times the usual error the formulas hold: that of an exponent of up to 80, before the exponential is taken."""
FORMULAS = ("value", "slope", "curvature", "slope_from_result", "curvature_from_result")
POINTS = np.array([-80, -30, -9, -3, -1, -0.5, -1e-3, -1e-30, -0.0, 0, 1e-30, 1e-3, 0.5, 1, 3, 9, 30, 80])
REALS = {"float32": types.float32, "float64": types.float64}


def by_numpy(name, which, x, slope):
    return in_numpy.formula(name, which)(x, slope)


def by_numba(name, which, x, slope):
    formula, kind = functions.formula(name, which, REALS[x.dtype.name]), x.dtype.type
    return np.array([formula(kind(value), kind(slope)) for value in x], x.dtype)


KERNEL = """
#include "runtime/common.cuh"
namespace records {
%s
}
extern "C" __global__ void evaluate(const real* x, real* out, int count, int kind, double slope, int which) {
    real s = real(slope);
    for (int i = 0; i < count; i++)
        switch (which) {
            case 0: out[i] = records::activated(x[i], kind, s); break;
            case 1: out[i] = records::slope_at(x[i], kind, s); break;
            case 2: out[i] = records::curvature_at(x[i], kind, s); break;
            case 3: out[i] = records::slope_from_result(x[i], kind, s); break;
            case 4: out[i] = records::curvature_from_result(x[i], kind, s); break;
            case 5: out[i] = records::slope_from_kept(x[i], kind, s); break;
            case 6: out[i] = records::fused_activated(x[i], kind, s); break;
            default: out[i] = records::fused_slope_at(x[i], kind, s);
        }
}
KERNEL(evaluate)
"""


def cuda(folder):
    """A function like `by_numpy` on the emulated device, for the records as they are now."""
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("the emulated device needs Linux and g++")
    (folder / "evaluate.cu").write_text(KERNEL % activation_source.cuda_source.__wrapped__())
    emulator = Emulator(folder=folder)

    def evaluate(name, which, x, slope):
        out = np.empty_like(x)
        which = which if isinstance(which, int) else FORMULAS.index(which)
        emulator.launch("evaluate", "evaluate", 1, 1, (x, out, x.size, records.CODES[name], float(slope), which), x.dtype)
        return out

    return evaluate


@pytest.fixture(scope="module")
def by_cuda(tmp_path_factory):
    return cuda(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=["numpy", "numba", "cuda"])
def target(request):
    return {"numpy": by_numpy, "numba": by_numba}.get(request.param) or request.getfixturevalue("by_cuda")


def test_every_record_has_a_closed_form():
    assert list(CLOSED_FORMS) == list(records.CODES)


@pytest.mark.parametrize("dtype, rtol", [("float32", 3e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_value_slope_and_curvature(target, name, dtype, rtol):
    x = POINTS.astype(dtype)
    for which, closed in zip(FORMULAS, CLOSED_FORMS[name], strict=False):
        found = target(name, which, x, SLOPE)
        assert found.dtype == dtype
        expected = closed(x.astype(np.float64), float(np.dtype(dtype).type(SLOPE)))
        np.testing.assert_allclose(found, expected, rtol=rtol * EXACTNESS.get(name, 1), atol=1e-40, err_msg=which)


@pytest.mark.parametrize("dtype, atol", [("float32", 3e-7), ("float64", 1e-15)])
@pytest.mark.parametrize("name", records.KNOWN_FROM_RESULT)
def test_slope_and_curvature_from_the_result(target, name, dtype, atol):
    """To the absolute error of the result."""
    x = POINTS.astype(dtype)
    y = CLOSED_FORMS[name][0](x.astype(np.float64), SLOPE).astype(dtype)
    for which, closed in zip(FORMULAS[3:], CLOSED_FORMS[name][1:], strict=True):
        np.testing.assert_allclose(target(name, which, y, SLOPE), closed(x.astype(np.float64), SLOPE), rtol=0, atol=atol, err_msg=which)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_targets_agree_at_zero(by_cuda, name, slope, dtype):
    """Where several conventions would be possible, there is one."""
    x = np.array([0.0, -0.0], dtype)
    for which in FORMULAS[:3]:
        found = [evaluate(name, which, x, slope) for evaluate in (by_numpy, by_numba, by_cuda)]
        np.testing.assert_allclose(found[1:], found[:-1], rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_nan_and_infinity(target, name):
    x = np.array([np.nan, -np.inf, np.inf], np.float32)
    found = target(name, "value", x, SLOPE)
    assert np.isnan(found[0])
    low = {"identity": -np.inf, "leaky_relu": -np.inf, "tanh": -1, "elu": -np.float32(SLOPE)}.get(name, 0)
    np.testing.assert_array_equal(found[1:], [low, 1 if name in ("tanh", "sigmoid") else np.inf])
    for which in ("slope", "curvature"):
        found = target(name, which, np.array([-np.inf, np.inf, -1e30, 1e30], np.float32), SLOPE)
        slopes = {"identity": (1, 1), "leaky_relu": (np.float32(SLOPE), 1), "tanh": (0, 0), "sigmoid": (0, 0)}.get(name, (0, 1))
        np.testing.assert_array_equal(found, np.tile(slopes if which == "slope" else (0, 0), 2))


def test_what_fused_ones_keep(by_cuda):
    x = np.array([-2, -0.5, 0, 0.5, 2], np.float32)
    for name, record in records.BY_NAME.items():
        np.testing.assert_array_equal(by_cuda(name, 5, x, SLOPE), by_cuda(name, record.kept_slope, x, SLOPE))
        fused = name in records.FUSED
        for switch, which in ((6, "value"), (7, "slope")):
            found = by_cuda(name, switch, x, SLOPE)
            np.testing.assert_array_equal(found, by_cuda(name, which, x, SLOPE) if fused else np.full(5, np.nan))


TELLS_NOTHING = ("silu", "gelu", "gelu_tanh")  # two inputs have the same result and other slopes

# One place to change


@pytest.fixture
def temporary(monkeypatch):
    """A function that replaces a record, or adds one, for all targets until the test ends."""
    def replace(record):
        every = [*(r for r in records.RECORDS if r.name != record.name)]
        every.insert(records.CODES.get(record.name, len(every)), record)
        by_name = {r.name: r for r in every}
        codes = {r.name: i for i, r in enumerate(every)}
        for module in (records, in_numpy, functions, activation_source):
            for name, value in {"RECORDS": tuple(every), "BY_NAME": by_name, "CODES": codes}.items():
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, value)
        for cached in (in_numpy.formula, functions.formula):
            cached.cache_clear()

    yield replace
    monkeypatch.undo()
    for cached in (in_numpy.formula, functions.formula):
        cached.cache_clear()


def test_the_slope_at_zero_stands_in_one_place(temporary, tmp_path):
    leaky = records.BY_NAME["leaky_relu"]
    temporary(Activation("leaky_relu", leaky.value, slope="1 if x >= 0 else slope", curvature="0", fused=True))
    x = np.array([-1, -0.0, 0, 1])
    for evaluate in (by_numpy, by_numba, cuda(tmp_path)):
        np.testing.assert_array_equal(evaluate("leaky_relu", "slope", x, SLOPE), [SLOPE, 1, 1, 1])
        np.testing.assert_array_equal(evaluate("leaky_relu", "slope_from_result", x * [SLOPE, 1, 1, 1], SLOPE), [SLOPE, 1, 1, 1])


def test_a_new_record_is_all_that_a_target_needs(temporary, tmp_path):
    temporary(Activation("softsign", "x / (1 + abs(x))", "1 / ((1 + abs(x)) * (1 + abs(x)))",
                         "(2 if x < 0 else -2) / ((1 + abs(x)) * (1 + abs(x)) * (1 + abs(x)))",
                         "(1 - abs(y)) * (1 - abs(y))", "(2 if y < 0 else -2) * (1 - abs(y)) * (1 - abs(y)) * (1 - abs(y))", fused=True))
    x, h = np.linspace(-3, 3, 20), 1e-5
    softsign = x / (1 + np.abs(x))
    difference = (softsign[2:] - softsign[:-2]) / (x[2:] - x[:-2])
    for evaluate in (by_numpy, by_numba, cuda(tmp_path)):
        np.testing.assert_allclose(evaluate("softsign", "value", x, 0.0), softsign, rtol=1e-14)
        slopes = evaluate("softsign", "slope", x, 0.0)
        np.testing.assert_allclose(slopes[1:-1], difference, atol=0.1)
        near = (evaluate("softsign", "value", x + h, 0.0) - evaluate("softsign", "value", x - h, 0.0)) / (2 * h)
        np.testing.assert_allclose(slopes, near, rtol=1e-8)
        np.testing.assert_allclose(evaluate("softsign", "slope_from_result", softsign, 0.0), slopes, rtol=1e-13)
        near = (evaluate("softsign", "slope", x + h, 0.0) - evaluate("softsign", "slope", x - h, 0.0)) / (2 * h)
        np.testing.assert_allclose(evaluate("softsign", "curvature", x, 0.0), near, rtol=1e-7)
        np.testing.assert_allclose(evaluate("softsign", "curvature_from_result", softsign, 0.0), near, rtol=1e-7)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", records.FUSED)
def test_the_result_of_a_fused_activation_tells_its_slope(name, slope):
    x = np.array([-np.inf, -2, -1e-30, -0.0, 0, 1e-30, 2, np.inf])
    with np.errstate(invalid="ignore"):
        y = by_numpy(name, "value", x, slope)
    np.testing.assert_array_equal(by_numpy(name, "slope_from_result", y, slope), by_numpy(name, "slope", x, slope))


def test_a_slope_that_the_result_does_not_tell_is_not_read_there():
    """With slope 0 the result is 0 on both sides of 0, so a slope of 1 at 0 could not be told from the slope below."""
    leaky = Activation("leaky_relu", "x if x > 0 else slope * x", "1 if x >= 0 else slope", "0", fused=True)
    assert not records.result_tells_slope(leaky, 0.0)
    assert records.result_tells_slope(leaky, 0.3)
    assert [r.name for r in records.RECORDS if not records.result_tells_slope(r, 0.0)] == list(TELLS_NOTHING)


def test_a_record_whose_result_tells_nothing_is_no_hindrance():
    """Perceptrons do without it, and all else has it."""
    assert [record.name for record in records.RECORDS if not record.is_known_from_result] == list(TELLS_NOTHING)
    for name in TELLS_NOTHING:
        with pytest.raises(ValueError, match=f"mlp: the result of '{name}' does not tell its derivatives; expected one of identity"):
            perceptron.mlp(np.ones((1, 1)), np.ones(2), [perceptron.MLPLayer(1, 1, name, 0.0)])


def test_a_perceptron_refuses_what_results_do_not_tell(monkeypatch):
    monkeypatch.setattr(perceptron, "KNOWN_FROM_RESULT", {"relu": 1})
    with pytest.raises(ValueError, match="mlp: the result of 'tanh' does not tell its derivatives; expected one of relu"):
        perceptron.mlp(np.ones((1, 1)), np.ones(2), [perceptron.MLPLayer(1, 1, "tanh", 0.0)])


@pytest.mark.parametrize("text", [
    "x * (1 - slope)", "4 / 3 * x", "-slope * x", "1 if x > 0 else -slope", "1 if x > 0 else slope * 2", "1e-05 if x > 0 else 2e-07",
    "max(slope, 0.1) * x", "decay(slope) * (2 if x < 0 else -2)", "x if x > 0 else (1 - slope) * (1 - slope) * x", "slope", "1 - slope * (2)"])
def test_what_is_computed_of_numbers_keeps_the_arrays_dtype(temporary, monkeypatch, text):
    temporary(Activation("new", text, text, text))
    monkeypatch.setattr(ops, "BY_NAME", records.BY_NAME)
    x = np.array([-2, -0.5, 0, 0.5, np.inf], np.float32)
    expected = by_numba("new", "value", x, SLOPE)
    for found in (by_numpy("new", "value", x, SLOPE), ops._formula.__wrapped__("new", "curvature")(x, SLOPE) * x.dtype.type(1)):
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape) if found.ndim else expected[0], rtol=3e-6)


# What is refused


@pytest.mark.parametrize("given, message", [
    ({"slope": ""}, "activation 'new' has no slope"),
    ({"curvature": ""}, "activation 'new' has no curvature"),
    ({"value": "exp(x)"}, "unknown name 'exp', expected one of abs, max, decay"),
    ({"value": "z"}, "unknown name 'z', expected one of x, slope"),
    ({"value": "x = 1"}, "expected one Python expression"),
    ({"slope_from_result": "1 - x * x", "fused": True}, "unknown name 'x', expected one of y, slope"),
])
def test_a_record_with_a_hole_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Activation(**{"name": "new", "value": "x", "slope": "1", "curvature": "0"} | given)


def test_a_record_without_slopes_from_results_fails_where_they_are_needed():
    record = Activation("new", "x", "1", "0")
    with pytest.raises(ValueError, match="activation 'new' has no slope_from_result"):
        record.tree("slope_from_result")


def test_a_fused_record_that_bends_has_formulas_of_its_own_from_results():
    """Another's, or the same of x, would compute another activation."""
    softsign = {"name": "new", "value": "x / (1 + abs(x))", "slope": "1 / ((1 + abs(x)) * (1 + abs(x)))", "curvature": "x", "fused": True}
    with pytest.raises(ValueError, match="activation 'new' has no slope_from_result"):
        Activation(**softsign)
    record = Activation(**softsign, slope_from_result="(1 - abs(y)) * (1 - abs(y))")
    assert not record.is_known_from_result
    with pytest.raises(ValueError, match="activation 'new' has no curvature_from_result"):
        record.tree("curvature_from_result")


def test_other_languages_are_refused():
    for text in ("x ** 2", "[x]", "x if x else 1 and 2", "lambda: x"):
        with pytest.raises(ValueError, match=r"is not in the language of expressions|unknown name"):
            functions._compiled("odd", "x", parsed(text, ("x",)), types.float64)
