"""The formulas of the ops, and one entry of each vjp worked out with numbers: they are those that `grad` computed."""
from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.ops.activations import BY_NAME
from tinygan.runs.variants import VARIANTS
from tinygan.teaching.formulas import FORMULAS, formula_of, spoken, work_out
from tinygan.teaching.rounds import BATCH, trace_round
from tinygan.teaching.slopes import SLOPES
from tinygan.teaching.tape import trace

SHAPES = {"discogan": (4, 28, 28)}  # coloured digits: one channel and three
SMALL = {"width": 4, "hidden": 16, "classes": 10, "blocks": 1, "kernels": 3, "dimensions": 2, "bottleneck": 8}
GAMES = [(name, {}) for name in VARIANTS] + [
    ("vanilla", {"cost": cost}) for cost in ("minimax", "maximum-likelihood", "least-squares", "hinge", "relativistic")
] + [("vanilla", {"r1": 1.0, "r2": 0.5}), ("vanilla", {"cost": "wasserstein", "gradient_penalty": 10.0}),
     ("unrolled", {"networks": "dcgan"}), ("unrolled", {"gradient_penalty": 1.0}), ("conditional", {"conditioning": "projection"})]


def build(name, settings):
    variant = VARIANTS[name]
    known = {item.name for item in fields(variant.settings)}
    small = {setting: value for setting, value in SMALL.items() if setting in known}
    gan = variant.build(variant.settings(**{**small, **settings}), SHAPES.get(name, (1, 28, 28)))
    return gan, np.random.default_rng(0).uniform(-1, 1, (BATCH, *SHAPES.get(name, (1, 28, 28)))).astype(np.float32)


def agree(traced, back, seen):
    """Every visit of a pass back, worked out: the sums are the entries that the vjps returned."""
    for visit in back.visits:
        entry = traced[visit.id]
        seen.add(entry.name)
        worked = work_out(traced, visit)
        assert len(worked) == sum(part is not None for part in visit.parts), entry.name
        for one in worked:
            part, shape = visit.parts[one.input].astype(np.float64), np.shape(traced.inputs_of(entry)[one.input])
            part = part.reshape(part.shape or ())
            new = part.ndim - len(shape)
            expected = part.sum(tuple(range(new)))
            expected = expected.sum(tuple(i for i, n in enumerate(shape) if n == 1 != expected.shape[i]), keepdims=True)[one.at]
            largest = max(float(np.abs(visit.gradient).max()), abs(float(expected)))
            np.testing.assert_allclose(one.total, expected, rtol=2e-4, atol=2e-6 * largest, err_msg=entry.name)
            number = float(one.text.rpartition(" = ")[2].replace("\N{MINUS SIGN}", "-"))
            np.testing.assert_allclose(number, one.total, rtol=6e-3, atol=1e-30)


@pytest.mark.parametrize(("name", "settings"), GAMES, ids=[f"{name} {settings}" for name, settings in GAMES])
def test_every_op_of_a_round_has_formulas_and_they_compute_what_grad_computed(name, settings):
    gan, real = build(name, settings)
    rounds = trace_round(gan, real, np.arange(BATCH) if gan.takes_labels else None)
    assert [one.player for one in rounds] == ["discriminator", "generator"]
    for one in rounds:
        for entry in one.traced:
            if entry.kind == "op":
                formula = formula_of(entry)
                assert formula is not None, f"no formula for {entry.name}, {entry.source}"
                assert not set("{}@") & set(formula.forward + formula.vjp), (formula.forward, formula.vjp)
        for back in one.traced.passes:
            agree(one.traced, back, set())
