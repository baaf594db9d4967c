"""The sections of the page that explains a run: what the discriminator tells the generator, where gradients flow, who talks
to whom. Their numbers are read back out of the JSON."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_runs import SMALL, digits, train
from test_recorder import KEY, by_differences, logits_by_loops, points_gan

import tinygan as tg
from tinygan import nn
from tinygan.gans.costs import COSTS
from tinygan.runs.errors import RunError
from tinygan.teaching.activity import SATURATED
from tinygan.teaching.arrays import numbers, packed, unpacked
from tinygan.teaching.messages import SIDE_BY_SIDE
from tinygan.teaching.players import host, players
from tinygan.teaching.records import Absent, Run, read_records
from tinygan.teaching.sections import coupling, flow, signal
from tinygan.teaching.sections.findings import Curves, findings, unequal, won
from tinygan.teaching.sections.likeness import EARLY, distance_of_data, likeness, mean_distance
from tinygan.teaching.sections.names import activation_names, kinds
from tinygan.teaching.sections.positions import Position, moment, percent, short, thinned
from tinygan.teaching.updates import unchanged

COUPLED = {"minibatch": ["minibatch discrimination"], "dcgan": ["batch norm"], "discogan": ["batch norm"],
           "infogan": ["batch norm"], "conditional": ["batch norm"]}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A recorded run of a variant, made when it is asked for."""
    root = tmp_path_factory.mktemp("runs")
    file, made = digits(root), {}

    def find(name: str) -> Run:
        if name not in made:
            train(name, root / name, file)
            made[name] = root / name
        return Run(made[name])

    return find


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("name", SMALL)
def test_every_variant_records_and_has_its_sections(runs, name):
    run = runs(name)
    state = run.gan.state_dict()
    assert [record.step for record in run.records][:4] == [0, 1, 2, 4] and run.records[-1].step == run.step
    told, flows, coupled = signal.build(run), flow.build(run), coupling.build(run)
    assert isinstance(told, dict) and isinstance(flows, dict)
    for section in (told, flows):
        assert words(section["text"]) <= 60 and section["alt"]
        json.dumps(section, allow_nan=False)
        assert section["steps"] == [record.step for record in run.records]
        assert section["epochs"][-1] == 2
    images = unpacked(told["images"])
    assert images.shape[:2] == (len(told["steps"]), 16) and images.dtype == np.uint8
    assert images.shape[2:] == ((3 if name == "discogan" else 1), 28, 28)
    assert unpacked(told["gradient"]).shape == images.shape and unpacked(told["logits"]).shape == images.shape[:2]
    assert (told["costs"] is None) == (not COSTS[run.gan.cost].log_odds)
    for letter, player in (("g", "generator"), ("d", "discriminator")):
        curves = flows["players"][player]
        assert curves["layers"] == list(dict(getattr(run.gan, player).named_parameters()))
        for which in ("gradient_norm", "update_ratio", "weight_norm"):
            assert len(curves[which]) == len(curves["layers"])
            last = [values[-1] for values in curves[which]]
            np.testing.assert_allclose([np.nan if x is None else x for x in last], run.records[-1][f"{letter}.{which}"], rtol=1e-4)
        assert [row[0] for row in curves["gradient_norm"]] == [None] * len(curves["layers"])  # no step leads to the start
        activity = flows["activations"][player]
        assert activity["layers"] and len(activity["dead"]) == len(activity["layers"])
        for recorded, dead, saturated in zip(run.records[-1].about[player]["activations"], activity["dead"], activity["saturated"], strict=True):
            assert (dead[-1] is None) == (recorded.split()[-1] != "relu")  # a dash on the page: a LeakyReLU cannot be dead
            assert (saturated[-1] is None) == (recorded.split()[-1] not in ("tanh", "sigmoid"))
    if name not in COUPLED:
        assert isinstance(coupled, Absent) and "judges every image by itself" in coupled.reason
    else:
        json.dumps(coupled, allow_nan=False)
        matrix, without = unpacked(coupled["matrix"]), unpacked(coupled["without"])
        assert coupled["layers"] == COUPLED[name] and words(coupled["text"]) <= 60
        apart = ~np.eye(16, dtype=bool)
        assert matrix.shape == (16, 16) and (matrix[apart] > 0).mean() > 0.9
        assert (without[apart] == 0).all() and (np.diag(without) > 0).all()
        lengths = f"(mean lengths {short(np.diag(matrix).mean())} and {short(np.diag(without).mean())})"
        ratio = np.diag(matrix).mean() / np.diag(without).mean()
        how = "as strong as" if abs(ratio - 1) < 0.05 else "stronger than" if ratio > 1 else "weaker than"
        assert f"{how} without it {lengths}" in coupled["diagonal"]
    after = run.gan.state_dict()
    assert all(state[key].tobytes() == after[key].tobytes() for key in state)


@pytest.mark.parametrize("name", ["vanilla", "dcgan", "minibatch", "unrolled", "conditional"])
def test_the_numbers_of_the_page_are_those_of_grad(runs, name):
    """At the checkpoint, from the definition: L_G of the 16 images, which the generator makes as in training."""
    run = runs(name)
    gan, section, z = run.gan, signal.build(run), run.records[0]["z"]
    with unchanged(gan):
        x = tg.Tensor(host(gan.generator(z)), requires_grad=True)
        logits = gan.judge(z)(x)
        loss = gan.g_loss(logits)
        expected = tg.grad(loss, x).numpy()
    found = unpacked(section["gradient"])[-1] * unpacked(section["scale"])[-1].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(unpacked(section["logits"])[-1], logits.numpy()[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(unpacked(section["images"])[-1], np.clip((x.numpy() + 1) * 127.5, 0, 255), atol=0.51)
    own = SIDE_BY_SIDE.index(gan.cost)
    norms = np.sqrt(np.square(expected).sum((1, 2, 3)))
    np.testing.assert_allclose(unpacked(section["norms"])[-1][own], norms, rtol=1e-3)
    if not section["coupled"]:  # each image has the same direction under every cost: the slopes say how long
        slopes = unpacked(section["slopes"])[-1]
        np.testing.assert_allclose(unpacked(section["norms"])[-1] / np.abs(slopes), np.tile(norms / np.abs(slopes[own]), (3, 1)), rtol=1e-3)


# -- the matrix of section e ------------------------------------------------------------------------------------------------


def jacobian_lengths(function: Any, x: np.ndarray) -> np.ndarray:
    """|d f_i / d x_j| of a function (N, 2) -> (N,), by finite differences."""
    rows = [np.sqrt(np.square(by_differences(lambda x, i=i: function(x)[i], x)).sum(1)) for i in range(len(x))]
    return np.array(rows)


def test_the_matrix_is_that_of_finite_differences():
    gan = points_gan(coupled=True)
    shown = players(gan, KEY.normal((5, 3), np.float64))
    matrix, images = coupling.coupling(shown, KEY)
    np.testing.assert_allclose(matrix, jacobian_lengths(lambda x: logits_by_loops(gan, x), images), atol=1e-8)
    assert matrix[~np.eye(5, dtype=bool)].min() > 0
    layers = [gan.discriminator[2]]
    first, last = gan.discriminator[0], gan.discriminator[3]
    projected = host(gan.discriminator[:3](images))[:, 6:]  # the similarities, from here on constants

    def constant(x: np.ndarray) -> np.ndarray:
        h = np.concatenate([np.tanh(x @ first.weight.numpy().T + first.bias.numpy()), projected], 1)
        return (h @ last.weight.numpy().T + last.bias.numpy())[:, 0]

    with coupling.uncoupled(layers):
        without, again = coupling.coupling(shown, KEY)
        np.testing.assert_allclose(host(gan.discriminator(images))[:, 0], logits_by_loops(gan, images))  # the same logits
    np.testing.assert_allclose(without, jacobian_lengths(constant, images), atol=1e-8)
    np.testing.assert_array_equal(again, images)
    assert "forward" not in vars(layers[0])


@pytest.mark.parametrize("layer", [nn.BatchNorm(6), nn.MinibatchStd()])
def test_statistics_of_the_batch_couple_it(layer):
    network = nn.Sequential(nn.Dense(2, 6), nn.Tanh(), layer, nn.Tanh(), nn.Dense(6 + isinstance(layer, nn.MinibatchStd), 1))
    gan = tg.gans.VanillaGAN(nn.Sequential(nn.Dense(3, 2)), network, 3, key=KEY)
    gan.generator.astype(np.float64)
    network.astype(np.float64)
    shown = players(gan, KEY.normal((5, 3), np.float64))
    matrix, images = coupling.coupling(shown, KEY)
    with unchanged(gan):
        np.testing.assert_allclose(matrix, jacobian_lengths(lambda x: host(network(x))[:, 0], images), atol=1e-7)
    with coupling.uncoupled([layer]):
        without, _ = coupling.coupling(shown, KEY)
        np.testing.assert_allclose(host(network(images)), host(nn.Sequential(*network)(images)))
    apart = ~np.eye(5, dtype=bool)
    assert (without[apart] == 0).all() and matrix[apart].min() > 0 and np.diag(without).min() > 0


class Own(nn.Module):
    """A layer of the user's own, of which nothing is known."""

    def forward(self, x: Any) -> Any:
        return x - tg.mean(x, 0)


def test_a_users_own_layer_has_no_matrix_without_it(runs):
    run = runs("minibatch")
    before = run.gan
    generator, discriminator = before.generator, nn.Sequential(nn.Flatten(), nn.Dense(784, 4), Own(), nn.Dense(4, 1))
    run.gan = tg.gans.VanillaGAN(generator, discriminator, 100, key=KEY)
    section = coupling.build(run)
    assert section["without"] is None and section["layers"] == ["Own"] and "diagonal" not in section["text"]


# -- runs without a recording -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 3 epochs without --record."""
    root = tmp_path_factory.mktemp("plain")
    train("vanilla", root / "run", digits(root), epochs=3, record=False)
    return root


def test_without_a_recording_the_sections_show_the_checkpoint(plain):
    run = Run(plain / "run")
    assert run.records == [] and run.step == 24 and run.epoch == 3
    state = run.gan.state_dict()
    section, flows = signal.build(run), flow.build(run)
    assert section["steps"] == flows["steps"] == [24] and section["epochs"] == [3]
    assert unpacked(section["images"]).shape == (1, 16, 1, 28, 28)
    gradients = [row[0] for row in flows["players"]["generator"]["gradient_norm"]]
    assert all(norm > 0 for norm in gradients)  # of a step that was rehearsed on the run's data
    after = run.gan.state_dict()
    assert all(state[key].tobytes() == after[key].tobytes() for key in state)


def test_a_recording_would_have_had_the_same_images(plain, runs, tmp_path):
    train("vanilla", tmp_path / "run", plain / "squares.npz", epochs=3)
    section, recorded = signal.build(Run(plain / "run")), signal.build(Run(tmp_path / "run"))
    assert section["steps"][-1] == recorded["steps"][-1] == 24  # 24 is no due step: the checkpoint comes after the records
    np.testing.assert_array_equal(unpacked(section["images"])[-1], unpacked(recorded["images"])[-1])
    np.testing.assert_array_equal(unpacked(section["logits"])[-1], unpacked(recorded["logits"])[-1])


def test_without_the_data_too(plain, tmp_path):
    shutil.copytree(plain / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["data_dir"] = str(tmp_path / "nowhere")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    run = Run(tmp_path / "run")
    assert "no longer at" in run.dataset().reason and isinstance(run.batch(3), Absent)
    assert signal.build(run)["steps"] == [24]
    section = flow.build(run)
    assert section["players"]["generator"]["gradient_norm"][0] == [None] and "--record" in section["text"]
    assert section["activations"]["generator"]["std"][0][0] > 0


def test_a_run_reads_back(runs, tmp_path):
    run = runs("vanilla")
    initial = run.initial()
    assert initial.steps == 0 and run.gan.steps == run.step == 16
    first = run.records[0]
    z, images = first["z"], first["images"]
    np.testing.assert_allclose(images, np.clip((initial.sample(z=z) + 1) * 127.5, 0, 255), atol=0.51)
    assert run.dataset().name.startswith("array:") and run.batch(5, start=62).shape == (5, 1, 28, 28)
    assert run.settings.record and run.settings.batch_size == 8 and run.steps_per_epoch == 8
    assert set(run.history) >= {"d_loss", "g_loss"} and repr(first).startswith("Record(")
    with pytest.raises(RunError, match="is not a folder"):
        Run(tmp_path / "nothing")
    assert read_records(tmp_path / "nothing") == []


# -- what the sections say ----------------------------------------------------------------------------------------------------


def test_at_most_30_positions_are_shown_and_the_ends_among_them():
    assert thinned(range(7), 30) == list(range(7))
    chosen = thinned(range(75), 30)
    assert len(chosen) == 30 and (chosen[0], chosen[-1]) == (0, 74) and np.diff(chosen).max() <= 3


def test_numbers_are_json():
    array = np.array([[1, np.nan, np.inf, 123456.7, 1e-30]])
    assert numbers(array) == [[1, None, None, 123460, 1e-30]] and numbers(None) is None
    for dtype in ("u8", "f16", "f32"):
        values = np.arange(6).reshape(2, 3)
        found = json.loads(json.dumps(packed(values, dtype)))
        np.testing.assert_array_equal(unpacked(found), values)
        assert found["shape"] == [2, 3] and found["dtype"] == dtype
    assert [short(x) for x in (0.01234, 3.44e-6, 123.4, 1234567, 0, np.inf)] == ["0.012", "3.4e-06", "120", "1,200,000", "0", "not finite"]
    assert [percent(x) for x in (0.834, 0.004, 0, 1, 1e-9)] == ["83 %", "0.4 %", "0 %", "100 %", "less than 0.0001 %"]


def curves(records: int, **arrays: Any) -> tuple[list[Position], Curves]:
    """Two layers and two activations at steps 0, 1, 2, 4, ..., then epochs 1, 2, 3, .... Nothing is remarkable but what
    `arrays` (records, 2) say."""
    steps = [0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300, 400, 500, 600][:records]
    every = {name: np.ones((records, 2)) for name in ("gradient_norm", "weight_norm", "std")}
    every |= {"update_ratio": np.full((records, 2), 1e-3), "dead": np.zeros((records, 2)), "saturated": np.zeros((records, 2))}
    every |= {name: np.array(values, float) for name, values in arrays.items()}
    for name in ("gradient_norm", "update_ratio"):
        every[name][0] = np.nan
    found = Curves("generator", ["0.weight", "2.weight"], ["0 relu", "2 tanh"], every, np.array([True, True]), 0.81)
    return [Position(step, step / 100, {}, {}) for step in steps], found


def column(records: int, change: int, before: float, after: float, other: float) -> np.ndarray:
    """A curve that changes at a record, beside one that is constant."""
    return np.stack([np.where(np.arange(records) < change, before, after), np.full(records, other)], 1)


def sentences(moments: list[Position], found: Curves) -> list[str]:
    return [finding["sentence"] for finding in findings(moments, found)]


def test_a_healthy_run_has_no_findings():
    assert findings(*curves(12)) == []
    assert findings(*curves(12, gradient_norm=column(12, 6, 1, 9, 0.02))) == []
    assert findings(*curves(12, dead=column(12, 6, 0, 0.05, 0), saturated=column(12, 6, 0, 0, 0.3))) == []


def both_curves(records: int, g_ratio: Any, d_ratio: Any) -> tuple[list[Position], dict[str, Curves]]:
    """Both players' curves with these update ratios, a number or one for each record."""
    found = {}
    for player, ratio in (("generator", g_ratio), ("discriminator", d_ratio)):
        moments, one = curves(records, update_ratio=np.ones((records, 2)) * np.reshape(ratio, (-1, 1)))
        found[player] = one._replace(player=player)
    return moments, found


def test_a_player_that_runs_ahead_is_told_with_both_learning_rates():
    assert unequal(*both_curves(12, 1e-3, 2e-3), (2e-4, 2e-4)) == []
    (told,) = unequal(*both_curves(12, 6e-3, 3e-4), (4e-4, 2e-5))
    assert told["player"] == "generator" and "20 times as far as the discriminator's" in told["sentence"]
    assert "The learning rates are 0.0004 (generator) and 2e-05 (discriminator)." in told["verdict"]
    (told,) = unequal(*both_curves(12, 4e-5, 9e-4), (None, None))
    assert told["player"] == "discriminator" and "the generator cannot follow" in told["verdict"] and "rates" not in told["verdict"]
    changing = np.where(np.arange(12) < 6, 1e-3, 5e-2)
    (told,) = unequal(*both_curves(12, changing, 1e-3), (None, None))
    assert "more than 10 times as far since" in told["sentence"]


def test_a_discriminator_that_has_won_is_not_blamed_for_its_gradients():
    vanishing = {"player": "discriminator", "what": "vanishing gradients", "verdict": "Bad"}
    assert "It has won" in won(vanishing)["verdict"]
    for other in ({**vanishing, "player": "generator"}, {**vanishing, "what": "saturated"}):
        assert won(other) == other


def test_findings_name_the_layer_and_the_epoch_in_which_they_began():
    tanh = column(12, 11 - 1, 0.2, 0.834, 0)[:, ::-1]
    assert findings(*curves(12, saturated=tanh)) == [{
        "layer": "2 tanh", "player": "generator", "what": "saturated", "since_epoch": 3,
        "sentence": f"generator.2 tanh: 83 % of its outputs are at their limits (beyond {SATURATED}) at epoch 4, and more than 50 % since epoch 3.",
        "verdict": "No alarm: 81 % of the data's values are too."}]
    more, = findings(*curves(12, saturated=np.where(tanh == 0.834, 0.97, tanh)))
    assert more["verdict"].startswith("A bad sign") and "Only 81 % of the data's values" in more["verdict"]
    hidden, = findings(*curves(12, saturated=tanh[:, ::-1]))
    assert hidden["verdict"] == "A bad sign: hardly any gradient passes through them."  # a hidden layer has no data beside it
    assert sentences(*curves(12, dead=column(12, 9, 0, 0.5, 0))) == [
        "generator.0 relu: 50 % of its units are 0 for every image at epoch 4, and more than 10 % since epoch 2."]
    assert sentences(*curves(12, gradient_norm=column(12, 7, 1, 2e-6, 1))) == [
        "the gradient of generator.0 is 2e-06 of that of generator.2 at epoch 4, and below 0.001 since step 64."]
    grown = curves(12, gradient_norm=np.stack([np.r_[np.ones(9), [500] * 3], np.r_[np.ones(9), [80] * 3]], 1))
    assert sentences(*grown) == ["the gradient of generator.0 is 500 times what it was in the first steps at epoch 4, and more than 100 times since epoch 2."]
    assert sentences(*curves(12, update_ratio=np.full((12, 2), 1e-8))) == [
        "generator: a step moves its weights by 1e-08 of their length at most at epoch 4, and below 1e-06 at every record of the run."]


def test_a_player_that_stops_learning_is_told_even_if_it_recovers():
    """Minimax in the first epoch: all gradients of the generator vanish together, and later they come back."""
    share = np.ones(12)
    share[4:8] = [1e-4, 1e-5, 2e-5, 1e-4]
    found = findings(*curves(12, gradient_norm=np.stack([share, 2 * share], 1)))
    assert [finding["what"] for finding in found] == ["vanishing gradients"] and found[0]["since_epoch"] == 1
    assert found[0]["sentence"] == ("generator: all its gradients together are 0.0001 of what they were at their largest at step 64, "
                                    "and below 0.001 from step 8 to step 64.")
    assert findings(*curves(12, gradient_norm=np.stack([np.where(np.arange(12) == 5, 1e-5, 1)] * 2, 1))) == []  # a single record


def test_activations_are_called_as_on_the_tape():
    network = nn.Sequential(nn.Dense(3, 4), nn.LeakyReLU(0.2), nn.Dense(4, 4), nn.PReLU(), nn.Dense(4, 2), nn.Flatten(), nn.Tanh())
    assert activation_names(network, ["0 leaky_relu", "3 prelu", "4 tanh"]) == ["1 LeakyReLU(0.2)", "3 PReLU", "6 Tanh"]
    assert activation_names(network, ["0 tanh"]) == ["0 Dense(3 \N{RIGHTWARDS ARROW} 4), tanh"]  # no Tanh before the next parameters
    assert activation_names(network, ["tanh"]) == ["tanh"]
    assert kinds(network)["2"] == "Dense(4 \N{RIGHTWARDS ARROW} 4)" and kinds(network)["6"] == "Tanh"


@pytest.mark.parametrize("name", ["vanilla", "minibatch"])
def test_the_flow_names_its_activations_after_their_layers(runs, name):
    run = runs(name)
    for player, told in flow.build(run)["activations"].items():
        modules = dict(getattr(run.gan, player).named_modules())
        for layer in told["layers"]:
            assert layer.partition("(")[0].split() == [layer.split()[0], type(modules[layer.split()[0]]).__name__]
            assert isinstance(modules[layer.split()[0]], nn.Activation)


def gap(steps: list[int], ratios: list[float]) -> str:
    """What is said of records in which non-saturating pulls so many times as hard as minimax."""
    order = {"minimax": lambda ratio: 1 / ratio, "non-saturating": lambda ratio: 1.0, "maximum-likelihood": lambda ratio: 0.5}
    return signal._compared([Position(step, step / 100, {"norms": np.array([[order[cost](ratio)] * 2 for cost in SIDE_BY_SIDE])}, {})
                             for step, ratio in zip(steps, ratios, strict=True)])


def test_saturation_is_said_from_one_threshold_on():
    assert gap([0, 100, 700, 900], [30, 2, 7.7, 3]) == (
        "Minimax falls furthest behind non-saturating at epoch 7: its gradient is 7.7 times smaller there. On this run's logits it never "
        "saturates (10 times or more).")
    assert "behind non-saturating at step 64: its" in gap([0, 64, 900], [1, 12, 3])
    assert gap([0, 64, 900], [1, 12, 3]).endswith("12 times smaller there. On this run's logits it saturates (10 times or more).")
    assert gap([0, 64, 900], [1, 4, 1 / 20]).startswith("Minimax falls furthest behind non-saturating at step 64: its gradient is 4 times")
    assert gap([0, 100, 200], [9, 0.5, 0.4]) == ("Minimax pulls harder than non-saturating at every record, at least 2 times as hard: it does not "
                                                 "saturate.")
    assert "its gradient is more than 1,000,000 times smaller there" in gap([300], [3e7])
    assert gap([300], [4]).startswith("Minimax is behind non-saturating: its gradient is 4 times smaller there. On")
    assert gap([0, 100, 200], [5, 1.01, 1]) == "Minimax pulls as hard as non-saturating, or harder at every record: it does not saturate."


def test_the_beginning_has_one_name():
    assert moment(Position(0, 0.0, {}, {})) == moment(Position(0, None, {}, {})) == "the start"
    assert [moment(Position(step, step / 100, {}, {})) for step in (64, 100, 230)] == ["step 64", "epoch 1", "epoch 3"]


def test_what_lasts_comes_first_and_infinity_is_told():
    early = np.zeros((12, 2))
    early[2:6, 0] = 0.4
    late = column(12, 9, 0, 0.9, 0)
    found = findings(*curves(12, dead=early, saturated=late))
    assert [finding["what"] for finding in found] == ["saturated", "dead units"]
    assert "generator: its gradients are not finite since epoch 1." in sentences(*curves(12, gradient_norm=column(12, 8, 1, np.inf, 1)))


# -- samples that are alike ---------------------------------------------------------------------------------------------------


def spread(*sizes: float, step: int = 500) -> list[Position]:
    """Records of 16 points whose mean distances are these, after 0, `step`, 2 `step`, ... steps; 1000 steps are an epoch."""
    points = KEY.normal((16, 2), np.float64)
    points /= mean_distance(points)
    return [Position(i * step, i * step / 1000, {"images": size * points}, {}) for i, size in enumerate(sizes)]


def test_the_distance_is_the_mean_over_all_pairs():
    images = KEY.normal((5, 1, 3, 2), np.float64)
    pairs = [np.linalg.norm(images[i] - images[j]) for i in range(5) for j in range(i)]
    assert mean_distance(images) == pytest.approx(np.mean(pairs)) and mean_distance(np.ones((4, 3))) == 0


def test_samples_that_stay_alike_are_told_with_numbers():
    assert likeness(spread(0.1, 0.3, 0.2, 0.1, 0.1, 0.7), 2) == (
        "The 16 images are alike at every record of the run: at epoch 3, the distance between two of them is 0.7 on average, which is 35 % of "
        "the 2 between two of the data. Below 50 % we call them alike. This is mode collapse: the generator makes much the same of every latent "
        "vector, so the discriminator sends nearly the same message to all of them.")
    assert "Usual in the first 2,000 steps" in likeness(spread(0.1, 0.3, 0.7), 2) and EARLY == 2000
    assert likeness(spread(0.1, 1.5, 1.4, 0.7, 0.2), 2).startswith("The 16 images are alike since epoch 2: at epoch 2, the distance between two of them is 0.2 on")
    gone = likeness(spread(0.1, 1.5, 0.7, 0.2, 0.3, 1.4, 1.9), 2)
    assert gone.startswith("The 16 images were alike from epoch 1 to epoch 2: at epoch 2, the distance between two of them is 0.3") and "collapse" in gone


def test_samples_of_a_healthy_run_are_not_called_alike():
    assert likeness(spread(0.1, 0.3, 0.7, 1.1, 1.9, 2.1), 2) == ""  # they were at first: every generator begins so
    assert likeness(spread(0.1, 1.5, 1.4, 0.9, 1.8), 2) == ""  # a single record
    assert likeness(spread(0.1, 0.1), None) == ""


def test_the_sentence_compares_with_the_runs_data(runs):
    run = runs("vanilla")
    real = run.batch(64)
    pairs = [np.linalg.norm(real[i] - real[j]) for i in range(64) for j in range(i)]
    assert distance_of_data(run, (1, 28, 28)) == pytest.approx(np.mean(pairs), rel=1e-6) and distance_of_data(run, (2,)) is None
    own = mean_distance(run.records[-1]["images"] / 127.5 - 1)
    told = signal.build(run)["alike"]
    assert f"two of them is {short(own)} on average, which is {percent(own / np.mean(pairs))} of" in told and "all pixels" in told
    assert distance_of_data(runs("discogan"), (3, 28, 28)) is None
