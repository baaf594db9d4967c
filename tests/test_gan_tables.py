"""What is chosen by name stands in one table, which the GANs, the settings of runs and the command line share."""
from __future__ import annotations

import ast
import dataclasses
import math
import pathlib

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, gans, nn, training
from tinygan.gans import latent
from tinygan.random import Key
from tinygan.runs.settings import Resume, Settings, complete
from tinygan.runs.variants import VARIANTS, is_younger, on_resume
from tinygan.tables import lookup


def players() -> tuple[nn.Sequential, nn.Sequential]:
    return nn.Sequential(nn.Dense(3, 5)), nn.Sequential(nn.Dense(5, 1))


# -- costs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gans.GENERATOR_COSTS)
def test_a_cost_is_its_formula(name: str) -> None:
    """Every form that the formula gives, computed by Python's own mathematics."""
    cost = gans.GENERATOR_COSTS[name]
    l = np.array([[-3.0], [0.25], [2.0], [0.0]])  # noqa: E741 (as the formulas call it)
    names = {"l": l, "D": 1 / (1 + np.exp(-l)), "mean": np.mean, "log": np.log, "exp": np.exp,
             "softplus": np.vectorize(lambda x: math.log1p(math.exp(x)))}
    found = float(cost.of_logits(tg.Tensor(l)).item())
    forms = cost.formula.split(" = ")
    assert cost.name == name and cost.source and forms
    for form in forms:
        assert eval(form.replace("log D", "log(D)"), {}, names) == pytest.approx(found, rel=1e-12), form


@pytest.mark.parametrize("name", gans.GENERATOR_COSTS)
def test_a_gan_minimises_the_cost_that_it_names(name: str) -> None:
    gan = gans.VanillaGAN(*players(), 3, generator_cost=name, key=Key(0))
    logits = tg.Tensor(np.array([[-1.0], [0.5]], np.float32))
    assert gan.g_loss(logits).item() == gans.GENERATOR_COSTS[name].of_logits(logits).item()


# -- names that are not there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument, table", [
    ("generator_cost", gans.GENERATOR_COSTS), ("noise", gans.NOISES), ("order", gans.ORDERS)])
def test_an_unknown_name_is_an_error_with_all_names_whenever_it_is_given(argument: str, table: dict[str, object]) -> None:
    message = f"unknown {argument} 'pink', expected one of {', '.join(table)}"
    with pytest.raises(ValueError, match=message):
        gans.UnrolledGAN(*players(), 3, **{argument: "pink"})
    gan = gans.UnrolledGAN(*players(), 3, key=Key(0))
    setattr(gan, argument, "pink")
    with pytest.raises(ValueError, match=message):
        gan.step(np.zeros((4, 5), np.float32))


def test_what_is_no_name_is_unknown_too() -> None:
    with pytest.raises(ValueError, match=r"Here: unknown thing \[1\], expected one of a, b"):
        lookup({"a": 1, "b": 2}, "Here", "thing", [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="interpolate: unknown noise 'pink', expected one of normal, uniform, bernoulli"):
        latent.interpolate(np.zeros(3), np.ones(3), 4, "pink")
    with pytest.raises(ValueError, match="unknown preset 'none', expected one of collapsing"):
        complete(training.VanillaSettings, {"preset": "none"})


@pytest.mark.parametrize("field, table", [
    ("generator_cost", gans.GENERATOR_COSTS), ("noise", gans.NOISES), ("order", gans.ORDERS), ("networks", gans.NETWORKS)])
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
                **dict.fromkeys(("epochs", "evaluate"), Resume.FREE)}
    names = {item.name for variant in VARIANTS.values() for item in dataclasses.fields(variant.settings)}
    assert {name: on_resume(name) for name in names} == {name: expected.get(name, Resume.FIXED) for name in names}
    assert {name for name in names if is_younger(name)} == {"precision", "g_learning_rate"}
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
