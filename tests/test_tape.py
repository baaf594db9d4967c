"""The tape: what was computed, in which order, and which gradients came where."""
from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.teaching.rounds import BATCH, trace_round
from tinygan.teaching.tape import trace

ROOT = Path(tg.__file__).parent.parent


def leaf(*values, dtype=np.float64):
    return tg.Tensor(np.array(values, dtype), requires_grad=True)


def networks(dtype=np.float32):
    generator = nn.Sequential(nn.Dense(3, 5), nn.LeakyReLU(0.2), nn.Dense(5, 2), nn.Tanh())
    discriminator = nn.Sequential(nn.Dense(2, 4), nn.LeakyReLU(0.2), nn.Dense(4, 1))
    for seed, network in enumerate((generator, discriminator)):
        network.initialize(tg.random.Key(seed)).astype(dtype)
    return generator, discriminator


def game(**settings):
    return tg.gans.VanillaGAN(*networks(), 3, **settings)


REAL = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)


def named(traced, name):
    return next(entry for entry in traced if entry.name == name)


def test_it_holds_every_op_with_its_inputs_and_its_value():
    x = leaf(1.0, 2.0)
    traced = trace(lambda x: tg.sum(tg.mul(tg.exp(x), 3.0)), x)
    assert [(e.kind, e.name, e.parents) for e in traced] == [
        ("input", "x", []), ("op", "exp", [0]), ("op", "mul", [1, None]), ("op", "sum", [2])]
    np.testing.assert_array_equal(traced[1].value, np.exp([1.0, 2.0]))
    assert traced.inputs_of(traced[2])[1] == 3.0
    assert float(traced[3].value) == float(traced.result)
    assert "#2    mul(#1, 3)" in repr(traced)


def test_values_are_copies():
    weight = tg.Parameter(np.ones(2, np.float32))
    traced = trace(lambda: tg.mul(weight, 2.0))
    weight.assign([5.0, 5.0])
    np.testing.assert_array_equal(traced[0].value, [1.0, 1.0])


def test_a_parameter_that_was_written_to_is_another_entry():
    weight = tg.Parameter(np.ones(2, np.float32))

    def twice():
        tg.exp(weight)
        weight.assign([2.0, 2.0])
        tg.exp(weight)

    kinds = [(entry.kind, entry.value[0]) for entry in trace(twice) if entry.kind == "parameter"]
    assert kinds == [("parameter", 1.0), ("parameter", 2.0)]


def test_file_and_line_are_those_of_the_ops_definition():
    traced = trace(lambda: tg.grad(tg.tanh(leaf(1.0)).sum(), []))
    for (file, line), word in ((traced[1].source, "def _activation"), (traced[1].vjp_source, "_activation.vjp")):
        text = (ROOT / file).read_text(encoding="utf-8").splitlines()
        assert any(word in one for one in text[line - 1:line + 3]), (file, line)
    assert traced[0].source == ("", 0)


@tg.op(saves=(0,))
def users(B, x):
    return x * x


@users.vjp
def _(needs, g, x):
    return (tg.mul(g, tg.mul(x, 2.0)),)


def test_an_op_of_the_users_own():
    x = leaf(3.0)
    traced = trace(lambda x: tg.grad(tg.sum(users(x)), x), x)
    file, line = traced[1].source
    assert (Path(file).name, line) == ("test_tape.py", inspect.unwrap(users.forward).__code__.co_firstlineno)
    np.testing.assert_array_equal(traced.gradient(traced[0]), [6.0])


def test_gradients_and_visits():
    x, w = leaf(1.0, -2.0), leaf(0.5, 3.0)

    def loss(x, w):
        y = tg.mul(x, w)
        return tg.grad(tg.sum(tg.add(tg.exp(y), y)), [x, w])

    traced = trace(loss, x, w)
    back, = traced.passes
    names = [traced[visit.id].name for visit in back.visits]
    assert names == ["sum", "add", "exp", "mul"]
    assert [back.visited(traced[i].id) for i in (0, 2)] == [None, 3]
    y = np.array([0.5, -6.0])
    np.testing.assert_allclose(traced.gradient(named(traced, "mul")), np.exp(y) + 1)  # both uses added up
    np.testing.assert_allclose(traced.gradient(named(traced, "exp")), [1.0, 1.0])
    for entry, expected in zip((traced[0], traced[1]), traced.result, strict=True):
        np.testing.assert_array_equal(traced.gradient(entry), expected)
    assert set(back.ends) == {0, 1}


def test_two_passes_have_gradients_of_their_own():
    x = leaf(2.0)

    def both(x):
        y = tg.mul(x, x)
        return tg.grad(y, x, retain_graph=True), tg.grad(y, x, grad_outputs=np.array([10.0]))

    traced = trace(both, x)
    assert [float(traced.gradient(traced[0], k)[0]) for k in (0, 1)] == [4.0, 40.0]


def test_a_detached_value_is_linked_but_not_tracked():
    x = leaf(2.0)
    traced = trace(lambda x: tg.grad(tg.sum(tg.mul(tg.exp(x).detach(), x)), x), x)
    first, second = named(traced, "mul").inputs
    assert (traced[first.id].name, first.tracked) == ("exp", False)
    assert (traced[second.id].name, second.tracked) == ("x", True)
    assert named(traced, "exp").id not in traced.passes[0].gradients


def test_numpys_own_slice_of_a_known_array_is_a_part_of_it():
    array = np.arange(6.0).reshape(2, 3)
    traced = trace(lambda array: tg.exp(array[:, 1:]), array)
    assert [(e.name, e.parents) for e in traced] == [("array", []), ("part", [0]), ("exp", [1])]


def test_what_a_recorded_pass_computes_is_on_the_tape():
    x = leaf(2.0)

    def penalty(x):
        g = tg.grad(tg.sum(tg.exp(x)), x, create_graph=True)
        return tg.grad(tg.sum(tg.mul(g, g)), x)

    traced = trace(penalty, x)
    assert [back.create_graph for back in traced.passes] == [True, False]
    inside = [entry.name for entry in traced if entry.during == 0]
    assert inside == ["broadcast_to", "mul"]
    np.testing.assert_allclose(traced.gradient(traced[0]), 2 * np.exp(4.0))  # d/dx of exp(x)^2
    np.testing.assert_allclose(traced.gradient(traced[0], 0), np.exp(2.0))


def test_a_checkpoint_and_backward():
    x = leaf(0.5)
    traced = trace(lambda x: tg.sum(tg.checkpoint(lambda a: tg.exp(tg.exp(a)), x)).backward(), x)
    np.testing.assert_allclose(traced.gradient(traced[0]), np.exp(np.exp(0.5)) * np.exp(0.5))
    assert named(traced, "checkpoint").parents == [0]


def test_a_graph_that_is_older_than_the_trace():
    x = leaf(0.5)
    y = tg.sum(tg.exp(x))
    traced = trace(lambda: tg.grad(y, x))
    np.testing.assert_allclose(traced.passes[0].gradients[traced.passes[0].ends[0]], np.exp([0.5]))
    assert [traced[visit.id].name for visit in traced.passes[0].visits] == ["sum", "exp"]


def test_layers_and_their_names():
    gan = game()
    traced = trace(gan.g_gradients, gan.latent(2), networks={"generator": gan.generator, "discriminator": gan.discriminator})
    layers = list(dict.fromkeys(entry.place.layer for entry in traced if entry.place.player == "generator"))
    assert layers == ["generator.0 Dense(3 -> 5)", "generator.1 LeakyReLU(0.2)", "generator.2 Dense(5 -> 2)",
                      "generator.3 Tanh()"]
    assert {entry.name for entry in traced if entry.kind == "parameter"} == {
        f"{player}.{path}" for player in ("generator", "discriminator")
        for path, _ in getattr(gan, player).named_parameters()}
    assert traced[0].name == "z"


def test_a_layer_that_runs_twice_is_in_two_places():
    gan = game(penalties={"gradient-penalty": 1.0})
    traced = trace(gan.d_gradients, REAL[:2], gan.latent(2), networks={"discriminator": gan.discriminator})
    calls = {entry.place.call for entry in traced if entry.place.layer.startswith("discriminator.0") and entry.kind == "op"}
    assert len(calls) == 2


def test_the_trace_computes_the_same_as_without_it():
    runs = []
    for traced in (False, True):
        gan = game(penalties={"r1": 1.0})
        with tg.fusion(False):
            for _ in range(2):
                if traced:
                    trace(gan.step, REAL)
                else:
                    gan.step(REAL)
        runs.append(gan.state_dict())
    for name, array in runs[0].items():
        np.testing.assert_array_equal(array, runs[1][name], err_msg=name)


# -- one round -------------------------------------------------------------------------------------------------------


def test_a_round_is_a_real_update_and_changes_nothing():
    gan, twin = game(), game()
    for one in (gan, twin):
        one.step(REAL)
    before, settings = gan.state_dict(), set(vars(gan))
    rounds = trace_round(gan, REAL)
    assert set(vars(gan)) == settings
    for name, array in gan.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    with tg.fusion(False):
        expected = twin.step(REAL[:BATCH])
    losses = [float(one.traced.result[0]) for one in rounds]
    np.testing.assert_array_equal(losses, [float(expected.d_loss), float(expected.g_loss)])


def test_whose_gradients_an_update_fills_and_what_it_takes_as_constant():
    of_d, of_g = trace_round(game(), REAL)
    assert (of_d.name, of_g.name) == ("update of D", "update of G")
    for one, player in ((of_d, "discriminator"), (of_g, "generator")):
        assert {name for name, _, filled in one.leaves if filled} == {
            f"{player}.{path}" for path, _ in one.networks[player].named_parameters()}
    images, = of_d.taken_as_constants()
    assert images.value.shape == (BATCH, 2) and images.place.player == "generator"
    assert not of_g.taken_as_constants() and of_g.made()[0].id in of_g.back.gradients
    through = {of_g.traced[visit.id].place.player for visit in of_g.back.visits}
    assert {"generator", "discriminator"} <= through  # it goes through D, and fills none of D's weights
    assert not [entry for entry in of_d.traced if entry.place.player == "generator" and entry.id in of_d.back.gradients]


def test_gradients_of_a_round_are_those_of_grad_and_of_finite_differences():
    generator, discriminator = networks(np.float64)
    gan = tg.gans.VanillaGAN(generator, discriminator, 3)
    z = np.random.default_rng(1).normal(size=(2, 3))
    traced = trace(gan.g_gradients, z, networks={"generator": generator, "discriminator": discriminator})
    _, expected = gan.g_gradients(z)
    for (path, parameter), gradient in zip(generator.named_parameters(), expected, strict=True):
        found = traced.gradient(named(traced, f"generator.{path}"))
        np.testing.assert_allclose(found, gradient.numpy(), rtol=1e-12)
        value, at, losses = parameter.numpy().copy(), tuple(np.array(parameter.shape) // 2), []
        for step in (1e-6, -1e-6):
            moved = value.copy()
            moved[at] += step
            parameter.assign(moved)
            losses.append(float(gan.g_gradients(z)[0]))
        parameter.assign(value)
        np.testing.assert_allclose(found[at], (losses[0] - losses[1]) / 2e-6, rtol=1e-6, atol=1e-9)


def test_of_several_updates_one_is_traced_and_it_says_so():
    gan = game(d_steps=3)
    of_d, of_g = trace_round(gan, REAL)
    assert "3 such updates" in of_d.note and not of_g.note and gan.d_steps == 3


def test_an_unrolled_gan_looks_one_update_ahead():
    gan = tg.gans.UnrolledGAN(*networks(), 3, unroll_steps=4, truncate=2)
    _, of_g = trace_round(gan, REAL)
    assert "4 updates ahead" in of_g.note
    assert [back.create_graph for back in of_g.traced.passes] == [True, False]
    assert [entry.name for entry in of_g.traced].count("advance") == 1
    assert (gan.unroll_steps, gan.truncate, gan.rematerialize) == (4, 2, True)


def test_after_an_error_the_gan_is_as_before():
    gan = game()
    before, settings = gan.state_dict(), set(vars(gan))
    with pytest.raises(ValueError):
        trace_round(gan, np.zeros((2, 7), np.float32))
    assert set(vars(gan)) == settings and gan.d_steps == 1
    for name, array in gan.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_too_few_images():
    with pytest.raises(ValueError, match="expected at least 2 images, got 1"):
        trace_round(game(), REAL[:1])


def test_a_round_on_each_device(device):
    gan = game().to(device)
    of_d, of_g = trace_round(gan, REAL)
    on_cpu = trace_round(game(), REAL)
    for one, other in zip((of_d, of_g), on_cpu, strict=True):
        assert [entry.name for entry in one.traced] == [entry.name for entry in other.traced]
        for id_, gradient in other.back.gradients.items():
            found = one.back.gradients[id_]
            assert type(found) is np.ndarray
            np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6)
