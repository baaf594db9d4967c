"""What is chosen by name stands in one table, which the GANs, the settings of runs and the command line share."""
from __future__ import annotations

import ast
import dataclasses
import math
import pathlib
import re
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, gans, nn, training
from tinygan.gans import latent
from tinygan.gans.batches import Logits
from tinygan.random import Key
from tinygan.runs.settings import Resume, Settings, complete
from tinygan.runs.variants import VARIANTS, is_younger, on_resume
from tinygan.tables import lookup


def players() -> tuple[nn.Sequential, nn.Sequential]:
    return nn.Sequential(nn.Dense(3, 5)), nn.Sequential(nn.Dense(5, 1))


# -- costs ---------------------------------------------------------------------------------------------------------------


REAL, FAKE = np.array([[-3.0], [0.25], [2.0], [0.0]]), np.array([[1.5], [-0.75], [0.5], [-2.5]])


def forms(formula: str, **values: object) -> list[float]:
    """The value of each form that a formula gives, computed by Python's own mathematics."""
    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    names = {"r": REAL, "f": FAKE, "D": sigmoid, "x": REAL, "G": lambda z: z, "z": FAKE, "mean": np.mean, "log": np.log,
             "exp": np.exp, "max": np.maximum, "softplus": np.vectorize(lambda x: math.log1p(math.exp(x))), **values}
    return [float(eval(form, {}, names)) for form in formula.split(" = ")]


@pytest.mark.parametrize("name", gans.COSTS)
@pytest.mark.parametrize("together", [True, False], ids=["one pass", "two passes"])
def test_a_cost_is_its_formulas(name: str, together: bool) -> None:
    cost = gans.COSTS[name]
    real, fake = tg.Tensor(REAL), tg.Tensor(FAKE)
    logits = Logits(tg.concatenate([real, fake]) if together else (real, fake))
    assert cost.name == name and cost.source
    for target in (1.0, 0.9) if cost.targets else (1.0,):
        found = cost.d_loss(logits, target).item()
        for value in forms(cost.d_formula, t=target):
            assert value == pytest.approx(found, rel=1e-12), cost.d_formula
    found = cost.g_loss(fake, real if cost.pairs else None).item()
    for value in forms(cost.g_formula):
        assert value == pytest.approx(found, rel=1e-12), cost.g_formula
    assert (" t" in cost.d_formula) == cost.targets and ("r" in re.findall(r"\b\w\b", cost.g_formula)) == cost.pairs


@pytest.mark.parametrize("name", gans.PENALTIES)
def test_a_penalty_is_its_formula(name: str) -> None:
    penalty = gans.PENALTIES[name]
    g = np.random.default_rng(0).standard_normal((4, 2, 3, 3))
    length = np.sqrt(np.square(g.reshape(4, -1)).sum(1))  # |g|, the norm over all values of an image
    expected = eval(penalty.formula.replace("|g|", "length"), {}, {"length": length, "mean": np.mean})
    assert np.mean(penalty.of_gradients(g)) == pytest.approx(expected, rel=1e-12)
    assert penalty.name == name and penalty.source and penalty.of_gradients(g).shape == (4,)


@pytest.mark.parametrize("name", gans.COSTS)
def test_a_gan_minimises_the_cost_that_it_names(name: str) -> None:
    gan = gans.VanillaGAN(*players(), 3, cost=name, key=Key(0))
    logits, real = tg.Tensor(np.array([[-1.0], [0.5]], np.float32)), tg.Tensor(np.array([[0.25], [2.0]], np.float32))
    assert gan.g_loss(logits, real).item() == gans.COSTS[name].g_loss(logits, real).item()


# -- names that are not there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument, table", [
    ("cost", gans.COSTS), ("noise", gans.NOISES), ("order", gans.ORDERS)])
def test_an_unknown_name_is_an_error_with_all_names_whenever_it_is_given(argument: str, table: dict[str, object]) -> None:
    message = f"unknown {argument} 'pink', expected one of {', '.join(table)}"
    with pytest.raises(ValueError, match=message):
        gans.UnrolledGAN(*players(), 3, **{argument: "pink"})
    gan = gans.UnrolledGAN(*players(), 3, key=Key(0))
    setattr(gan, argument, "pink")
    with pytest.raises(ValueError, match=message):
        gan.step(np.zeros((4, 5), np.float32))


HINGE = gans.COSTS["hinge"]


@pytest.mark.parametrize("wrong, message", [
    ({"d_loss": lambda logits, target: np.float32(1)}, "d_loss of the cost 'own' should return a Tensor of one number, .* got float32"),
    ({"g_loss": lambda fake, real: fake}, r"g_loss of the cost 'own' should return a Tensor of one number, .* of shape \(4, 1\)"),
    ({"g_loss": lambda fake: fake}, r"g_loss of the cost 'own' should take two arguments \(fake, real\), but it takes \(fake\)"),
    ({"d_loss": lambda real, fake, target: real}, r"d_loss of the cost 'own' should take two arguments \(logits, target\)")])
def test_a_mistake_in_an_own_cost_is_told(wrong: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gans.COSTS, "own", HINGE._replace(name="own", **wrong))
    with pytest.raises(TypeError, match=f"VanillaGAN: {message}"):
        gans.VanillaGAN(*players(), 3, cost="own", key=Key(0)).step(np.zeros((4, 5), np.float32))


def test_real_images_that_a_cost_does_not_get_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = HINGE._replace(name="own", g_loss=lambda fake, real: tg.mean(tg.sub(fake, real)))
    monkeypatch.setitem(gans.COSTS, "own", cost)
    with pytest.raises(TypeError) as caught:
        gans.VanillaGAN(*players(), 3, cost="own", key=Key(0)).step(np.zeros((4, 5), np.float32))
    assert caught.value.__notes__ == ["(in g_loss of the cost 'own'; it gets no `real`, because it has pairs=False)"]


def test_what_is_no_name_is_refused_too() -> None:
    with pytest.raises(ValueError, match="Here: thing should be a name, one of a, b, got list"):
        lookup({"a": 1, "b": 2}, "Here", "thing", [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"VanillaGAN: cost should be a name, one of minimax, .*, got Cost"):
        gans.VanillaGAN(*players(), 3, cost=gans.COSTS["minimax"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="interpolate: unknown noise 'pink', expected one of normal, uniform, bernoulli"):
        latent.interpolate(np.zeros(3), np.ones(3), 4, "pink")
    with pytest.raises(ValueError, match="unknown preset 'none', expected one of collapsing"):
        complete(training.VanillaSettings, {"preset": "none"})


@pytest.mark.parametrize("field, table", [
    ("cost", gans.COSTS), ("noise", gans.NOISES), ("order", gans.ORDERS), ("networks", gans.NETWORKS)])
def test_settings_and_command_line_offer_the_table(field: str, table: dict[str, object],
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    for name in table:
        assert getattr(training.UnrolledSettings(**{field: name}), field) == name
    with pytest.raises(ValueError, match=f"{field}: expected one of {', '.join(table)}, got 'pink'"):
        training.UnrolledSettings(**{field: "pink"})
    with pytest.raises(SystemExit):
        cli.main(["train", "unrolled", "--" + field.replace("_", "-"), "pink"])
    told = capsys.readouterr().err
    assert "invalid choice: 'pink'" in told and all(name in told for name in table)


@pytest.mark.parametrize("noise", gans.NOISES)
def test_walks_between_latent_vectors_follow_the_table(noise: str) -> None:
    a, b = np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.5])
    walk = latent.linear if gans.NOISES[noise].straight else latent.spherical
    np.testing.assert_array_equal(latent.interpolate(a, b, 5, noise), walk(a, b, 5))


# -- what may change when a run is resumed -------------------------------------------------------------------------------


def test_every_setting_says_whether_it_may_change() -> None:
    """The answers that run folders have relied on so far; a setting that is not listed here is FIXED."""
    expected = {**dict.fromkeys(("data_dir", "run_dir", "resume", "quiet", "device", "capture"), Resume.UNRECORDED),
                **dict.fromkeys(("image_size", "channels", "background", "skip_bad_files"), Resume.SAME_IMAGES),
                **dict.fromkeys(("epochs", "evaluate", "record", "log"), Resume.FREE)}
    names = {item.name for variant in VARIANTS.values() for item in dataclasses.fields(variant.settings)}
    assert {name: on_resume(name) for name in names} == {name: expected.get(name, Resume.FIXED) for name in names}
    assert {name for name in names if is_younger(name)} == {
        "precision", "g_learning_rate", "gradient_penalty", "r1", "r2", "beta2", "ema"}
    assert on_resume("nobody's") is Resume.FIXED and not is_younger("nobody's")


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_another_default_is_all_that_a_variant_changes_of_a_field(variant: training.Variant) -> None:
    shared = {item.name: item.metadata for item in dataclasses.fields(Settings)}
    for item in dataclasses.fields(variant.settings):
        assert item.name not in shared or item.metadata == shared[item.name]


def test_a_programs_own_run_dir_is_not_recorded_either() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(training.VanillaSettings):
        run_dir: str = "runs/mine"
        colour: str = "red"

    assert Mine().deciding() == {**training.VanillaSettings().deciding(), "colour": "red"}
    assert "run_dir" not in Mine().deciding()


# -- the room ------------------------------------------------------------------------------------------------------------


def test_the_gans_know_nothing_of_captured_steps() -> None:
    for path in pathlib.Path(gans.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("tinygan.capture", "tinygan.listening"), path.name
                assert not {"CONTEXT", "capture"} & {alias.name for alias in node.names}, path.name
            elif isinstance(node, ast.Attribute):
                assert node.attr not in ("capture", "listener"), path.name
