"""The playground without a browser: its games, its engine, its server, and the command that starts it."""
from __future__ import annotations

import http.client
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli
from tinygan.gans.costs import COSTS
from tinygan.metrics import mixture_coverage
from tinygan.random import Key
from tinygan.teaching.arrays import unpacked
from tinygan.teaching.play import frames, page, server, session
from tinygan.teaching.play.engine import Engine, MoveError, StoppedError
from tinygan.teaching.play.games import EXTENT, FIELDS, PRESETS, GameError, read

SMALL = {"width": 8, "batch": 16, "latent": 2, "seed": 1000}
HEART = [[0.0, -1.5], [1.5, 0.5], [-1.5, 0.5], [0.75, 1.25], [-0.75, 1.25]]


def weights(engine: Engine) -> list[np.ndarray]:
    return [np.array(p) for player in (engine.gan.generator, engine.gan.discriminator) for p in player.parameters()]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Games


def test_defaults_make_a_game_and_every_setting_is_in_it():
    game = read({})
    assert list(game.settings) == [field.name for field in FIELDS] and read(game.settings).settings == game.settings
    assert read(json.loads(json.dumps(game.settings))).settings == game.settings  # as a link carries it


@pytest.mark.parametrize(("settings", "message"), [
    ([], "expected an object"),
    (None, "expected an object"),
    ({"colour": 1}, "no setting 'colour'"),
    ({"data": "spiral"}, "Data: expected one of ring, grid"),
    ({"data": ["ring"]}, "Data: expected one of"),
    ({"modes": 0}, "from 1 to 16, got 0"),
    ({"modes": 2.5}, "a whole number from 1 to 16, got 2.5"),
    ({"modes": True}, "a whole number"),
    ({"modes": "8"}, "a whole number"),
    ({"modes": None}, "a whole number"),
    ({"sigma": math.nan}, "from 0.01 to 0.5, got nan"),
    ({"sigma": math.inf}, "from 0.01 to 0.5, got inf"),
    ({"width": 10**400}, "Units in a layer: expected a whole number"),
    ({"g_rate": -1e-3}, "Learning rate of G"),
    ({"d_rate": "fast"}, "Learning rate of D: expected a number"),
    ({"minibatch": 1}, "expected true or false"),
    ({"cost": "hope"}, "Cost: expected one of minimax"),
    ({"cost": "x" * 10_000}, "..."),
    ({"points": "1,2"}, "a list of points"),
    ({"points": [[1, 2, 3]]}, "Drawn points: expected points"),
    ({"points": [[1, math.nan]]}, "Drawn points: expected points"),
    ({"points": [[1, 10**400]]}, "Drawn points: expected points"),
    ({"points": [[0, 0]] * 401}, "at most 400 points, got 401"),
    ({"data": "points"}, "draw at least 2 points, got 0"),
    ({"penalty": "r1", "minibatch": True}, "choose one of the two"),
    ({"unroll_steps": 11}, "Updates ahead"),
    ({"seed": -1}, "Seed"),
])
def test_what_makes_no_game_is_named(settings, message):
    with pytest.raises(GameError) as error:
        read(settings)
    assert message in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("settings", [
    {}, {"data": "grid", "side": 3}, {"data": "moons"}, {"data": "points", "points": HEART}, {"activation": "tanh", "g_layers": 3},
    {"d_layers": 1, "activation": "leaky_relu"}, {"optimizer": "sgd"}, {"noise": "bernoulli"}, {"unroll_steps": 2}, {"d_steps": 3},
    {"minibatch": True}, {"minibatch": True, "unroll_steps": 1}, {"penalty": "r1", "unroll_steps": 1}, {"penalty": "r2"},
    {"penalty": "gradient-penalty", "penalty_weight": 10, "cost": "wasserstein"}, *({"cost": cost} for cost in COSTS)])
def test_every_kind_of_game_can_be_played(settings):
    engine = Engine(read({**SMALL, **settings}))
    before = weights(engine)
    for name in ("round", "d", "g", "round"):
        engine.move(name)
    frame = json.loads(json.dumps(engine.frame(), allow_nan=False))
    assert frame["move"] == 4 and frame["finite"] and not same(before, weights(engine))
    assert unpacked(frame["points"]).shape == (frames.SAMPLES, 2) and np.isfinite(unpacked(frame["surface"])).all()
    assert {round_["name"] for round_ in engine.ops()["rounds"]} == {"update of G", "update of D"}
    json.dumps([engine.opening(), engine.ops()], allow_nan=False)


def test_the_density_is_that_of_the_data():
    engine = Engine(read({**SMALL, "data": "grid", "side": 2, "sigma": 0.4}))
    shown = frames.density(engine.mixture)
    line = np.linspace(-EXTENT, EXTENT, frames.SIDE)
    points = engine.mixture.sample(200_000, Key(0))
    step = line[1] - line[0]
    edges = np.append(line - step / 2, line[-1] + step / 2)
    counts = np.histogram2d(points[:, 1], points[:, 0], [edges, edges])[0]  # rows by y
    coarse = lambda a: a.reshape(12, 8, 12, 8).sum((1, 3)) / a.sum()  # noqa: E731
    np.testing.assert_allclose(coarse(counts), coarse(shown), atol=2e-3)
    assert shown.max() == 1


# The engine


def test_a_round_is_a_step_of_the_gan():
    game = read({**SMALL, "d_steps": 2})
    engine, gan = Engine(game), game.gan(Key(1000))
    mixture = game.mixture()
    for i in range(3):
        engine.move("round")
        gan.step(np.concatenate([mixture.sample(16, Key(1000).fold("data").fold(2 * i + j)) for j in range(2)]))
    state = engine.gan.state_dict()
    assert all(np.array_equal(value, state[name]) for name, value in gan.state_dict().items())


@pytest.mark.parametrize("settings", [{}, {"unroll_steps": 2}, {"d_steps": 3}, {"minibatch": True}, {"cost": "relativistic"}])
def test_single_updates_make_up_a_round(settings):
    one, other = (Engine(read({**SMALL, **settings})) for _ in range(2))
    for _ in range(2):
        one.move("round")
        for name in [*"d" * one.gan.d_steps, "g"]:
            other.move(name)
    assert same(weights(one), weights(other)) and one.gan.keys.count == other.gan.keys.count
    assert one.updates == other.updates and one.gan.steps == other.gan.steps


def test_a_step_of_one_player_moves_no_weight_of_the_other():
    engine = Engine(read(SMALL))
    for name, moved in (("d", "discriminator"), ("g", "generator")):
        before = {player: [np.array(p) for p in getattr(engine.gan, player).parameters()] for player in ("generator", "discriminator")}
        engine.move(name)
        for player, values in before.items():
            assert same(values, [np.array(p) for p in getattr(engine.gan, player).parameters()]) == (player != moved)


def test_the_seed_decides_everything():
    one, two, three = Engine(read(SMALL)), Engine(read(SMALL)), Engine(read({**SMALL, "seed": 1001}))
    for engine in (one, two, three):
        for _ in range(5):
            engine.move("round")
            engine.frame() if engine is two else None  # to look changes nothing
    assert same(weights(one), weights(two)) and not same(weights(one), weights(three))
    assert one.frame() == two.frame()


@pytest.mark.parametrize("settings", [{}, {"unroll_steps": 1}, {"minibatch": True}, {"penalty": "gradient-penalty"}])
def test_looking_changes_nothing(settings):
    engine = Engine(read({**SMALL, **settings}))
    engine.move("round")
    before = {name: np.array(value) for name, value in engine.gan.state_dict().items()}
    engine.frame()
    engine.ops()
    after = engine.gan.state_dict()
    assert all(np.array_equal(value, after[name]) for name, value in before.items())


def test_back_to_an_earlier_step_and_on_again(monkeypatch):
    monkeypatch.setattr("tinygan.teaching.play.engine._MOST_KEPT", 4)  # so that states are dropped on the way
    engine = Engine(read(SMALL))
    moves = [("round", "d", "g", "d")[i % 4] for i in range(100)]
    seen = [engine.frame()]
    for name in moves:
        engine.move(name)
        seen.append(engine.frame())
    assert len(engine._kept) <= 5
    for to in (3, 99, 0, 100, 57, 58, 56, 17):
        engine.go(to)
        assert {**engine.frame(), "moves": 0} == {**seen[to], "moves": 0}
    engine.move("g")  # another future
    assert engine.frame()["moves"] == 18 and max(engine._kept) <= 18
    with pytest.raises(MoveError, match="moves 0 to 18"):
        engine.go(19)


def test_a_game_that_diverges_says_so_and_can_go_back():
    engine = Engine(read({**SMALL, "optimizer": "sgd", "g_rate": 10.0, "d_rate": 10.0, "cost": "wasserstein"}))
    with pytest.raises(MoveError, match=r"diverged|could not be made"):
        for _ in range(3000):
            engine.move("round")
    json.dumps(engine.frame(), allow_nan=False)
    engine.go(1)
    assert engine.frame()["finite"]
    engine.move("d")


def test_arrows_and_norms_are_those_of_grad():
    engine = Engine(read({**SMALL, "cost": "minimax"}))
    for _ in range(20):
        engine.move("round")
    frame = engine.frame()
    x = tg.Tensor(np.asarray(engine.gan.generator(engine.z)), requires_grad=True)
    f = engine.gan.discriminator(x)
    costs = {"minimax": -tg.softplus(f), "non-saturating": tg.softplus(-f), "maximum-likelihood": -tg.exp(f)}
    for name, cost in costs.items():
        gradient = np.asarray(tg.grad(tg.sum(cost), x, retain_graph=True))
        assert math.isclose(frame["norms"][name], np.linalg.norm(gradient, axis=1).mean(), rel_tol=1e-4)
        if name == "minimax":
            np.testing.assert_allclose(unpacked(frame["gradient"]), gradient, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(unpacked(frame["logits"]), np.asarray(f).ravel(), rtol=1e-5)
    np.testing.assert_array_equal(unpacked(frame["points"]), np.asarray(x))


def test_arrows_of_an_unrolled_game_look_ahead():
    """The gradient is the slope of L_G after real updates of the discriminator on moved points: compared with differences."""
    engine = Engine(read({**SMALL, "unroll_steps": 3, "activation": "tanh", "optimizer": "sgd", "d_rate": 0.5}))
    for network in (engine.gan.generator, engine.gan.discriminator):
        network.astype(np.float64)
    engine.move("round")
    gan, real, key = engine.gan, engine.real.astype(np.float64), gan_key(engine)
    points = np.array(gan.sample(z=engine.z), np.float64)
    found = frames.arrows(gan, points, real)
    assert gan_key(engine) == key
    start = [np.array(p) for p in gan.discriminator.parameters()]

    def cost(points: np.ndarray) -> float:
        ours = [tg.Tensor(w, requires_grad=True) for w in start]
        for _ in range(3):
            loss = tg.mean(tg.softplus(-logits(ours, real))) + tg.mean(tg.softplus(logits(ours, points)))
            ours = [tg.Tensor(np.asarray(w) - 0.5 * np.asarray(g), requires_grad=True)
                    for w, g in zip(ours, tg.grad(loss, ours), strict=True)]
        return float(np.asarray(tg.mean(tg.softplus(-logits(ours, points)))))

    def logits(w: list[Any], x: np.ndarray) -> Any:
        for i in (0, 2):
            x = tg.tanh(tg.matmul(x, w[i].T) + w[i + 1])
        return tg.matmul(x, w[4].T) + w[5]

    for at in ((0, 0), (3, 1), (200, 0)):
        step = np.zeros_like(points)
        step[at] = 1e-3
        assert math.isclose(found[at], (cost(points + step) - cost(points - step)) / 2e-3, rel_tol=1e-3, abs_tol=1e-8)


def test_an_unrolled_games_frame_has_these_arrows():
    engine = Engine(read({**SMALL, "unroll_steps": 3, "optimizer": "sgd", "d_rate": 0.5}))
    engine.move("round")
    frame = engine.frame()
    points = unpacked(frame["points"])
    found = len(points) * frames.arrows(engine.gan, points, engine.real)  # of n L_G
    np.testing.assert_allclose(unpacked(frame["gradient"]), found, rtol=1e-4, atol=1e-6)
    assert math.isclose(frame["norm"], np.linalg.norm(found, axis=1).mean(), rel_tol=1e-4)
    assert not math.isclose(frame["norm"], frame["norms"]["non-saturating"], rel_tol=1e-3)  # without the way ahead


def gan_key(engine: Engine) -> tuple[bytes, int]:
    return np.asarray(engine.gan.keys.key.data).tobytes(), engine.gan.keys.count


def test_the_surface_is_the_discriminator():
    engine = Engine(read(SMALL))
    engine.move("round")
    shown = frames.surface(engine.gan, np.zeros((0, 2), np.float32))
    line = np.linspace(-EXTENT, EXTENT, len(shown))
    for row, column in ((0, 0), (5, 60), (63, 20)):
        place = np.array([[line[column], line[row]]], np.float32)
        assert math.isclose(shown[row, column], float(np.asarray(engine.gan.discriminator(place))[0, 0]), rel_tol=1e-4, abs_tol=1e-6)


def test_the_surface_of_a_discriminator_that_compares_points():
    engine = Engine(read({**SMALL, "minibatch": True}))
    for _ in range(10):
        engine.move("round")
    fake = np.array(engine.gan.sample(z=engine.z))
    shown = frames.surface(engine.gan, fake)
    line = np.linspace(-EXTENT, EXTENT, len(shown))
    for row, column in ((0, 0), (31, 4), (10, 20)):  # the place as one more point of a batch of 65: its mean is over 64 others
        batch = np.concatenate([[[line[column], line[row]]], fake[:64]]).astype(np.float32)
        assert math.isclose(shown[row, column], float(np.asarray(engine.gan.discriminator(batch))[0, 0]), rel_tol=1e-3, abs_tol=1e-5)


# Presets: what they promise


def played(name: str, **changes: Any) -> tuple[list[dict[str, Any]], np.ndarray, float]:
    """Frames of the last third of a preset's rounds, every 10 rounds; how far G's points moved; processor seconds."""
    preset = next(preset for preset in PRESETS if preset.name == name)
    begun = time.process_time()
    engine = Engine(read({**preset.settings, **changes}))
    first, seen = unpacked(engine.frame(())["points"]), []
    for i in range(1, preset.rounds + 1):
        engine.move("round")
        if i % 10 == 0 and 3 * i > 2 * preset.rounds:
            seen.append(engine.frame(()))
            samples = engine.gan.sample(z=engine.z)
            assert seen[-1]["modes"] == mixture_coverage(samples, engine.mixture.centres, engine.mixture.sigma).modes
    moved = float(np.linalg.norm(unpacked(seen[-1]["points"]) - first, axis=1).mean())
    return seen, moved, time.process_time() - begun


def mean(seen: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([frame[name] for frame in seen]))


def test_presets_are_complete_links():
    assert [preset.name for preset in PRESETS] == ["saturates", "collapses", "cured by unrolling", "cured by minibatch discrimination"]
    for preset in PRESETS:
        assert preset.game().seed == 1000 and set(preset.game().settings) == {field.name for field in FIELDS}
        assert len(preset.about.split()) <= 60


def test_the_preset_that_saturates():
    seen, moved, _ = played("saturates")
    norms = {name: np.mean([frame["norms"][name] for frame in seen]) for name in seen[0]["norms"]}
    assert norms["non-saturating"] > 1000 * norms["minimax"] and norms["minimax"] < 0.01  # 4 and 0.001
    assert moved < 0.1 and mean(seen, "modes") == 0
    assert np.mean([frame["stats"]["d_fake"] for frame in seen]) < 0.01
    healthy, further, _ = played("saturates", cost="non-saturating")
    assert further > 1.5 and mean(healthy, "norm") > 10 * norms["minimax"]


def test_the_presets_that_collapse_and_are_cured():
    collapsed, _, _ = played("collapses")
    assert mean(collapsed, "effective") < 2.5 and max(frame["modes"] for frame in collapsed) <= 2
    for name in ("cured by unrolling", "cured by minibatch discrimination"):
        cured, _, seconds = played(name)
        assert mean(cured, "effective") > 7 and mean(cured, "modes") > 7  # of 8, by 256 points
        assert mean(cured, "high_quality") > 0.3
        assert seconds < 60  # of processor time: 30 seconds of two cores; 5 to 8 are usual


# The server


class Client:
    """A browser's tab, in as far as the server sees it."""

    def __init__(self, playground: server.Playground) -> None:
        self.playground, self.host = playground, f"127.0.0.1:{playground.port}"

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.playground.port, timeout=60)
        try:
            given = {"Origin": f"http://{self.host}", "Content-Type": "application/json"} if method == "POST" else {}
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content, {**given, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get_content_type()
            return answer.status, json.loads(text) if kind == "application/json" else text, answer.headers
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        return self.request("POST", f"/{self.playground.token}/{path}", body, headers)[:2]

    @contextmanager
    def tab(self, settings: dict[str, Any]) -> Iterator[Tab]:
        tab = Tab(self, settings)
        try:
            yield tab
        finally:
            tab.close()


class Tab:
    def __init__(self, client: Client, settings: dict[str, Any]) -> None:
        self.client = client
        self.connection = http.client.HTTPConnection("127.0.0.1", client.playground.port, timeout=60)
        self.connection.request("POST", f"/{client.playground.token}/open", json.dumps({"settings": settings}),
                                {"Origin": f"http://{client.host}", "Content-Type": "application/json"})
        self.answer = self.connection.getresponse()
        self.status = self.answer.status
        self.first = self.line()

    def line(self) -> Any:
        return json.loads(self.answer.readline())

    def do(self, command: Any) -> tuple[int, Any]:
        return self.client.post(f"do/{self.first['id']}", command)

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


@contextmanager
def serving(**settings: Any) -> Iterator[Client]:
    playground = server.Playground(**settings)
    thread = threading.Thread(target=playground.serve_forever, kwargs={"poll_interval": 0.05})
    before = threading.active_count()
    thread.start()
    try:
        yield Client(playground)
    finally:
        playground.shutdown()
        thread.join()
        playground.close()
        assert threading.active_count() == before  # no thread is left
        assert playground.sessions == {} or not playground.sessions


@pytest.fixture
def client() -> Iterator[Client]:
    with serving() as found:
        yield found


def until(true: Any, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(true())


def test_the_page_is_one_answer_that_loads_nothing(client):
    status, text, headers = client.request("GET", f"/{client.playground.token}/")
    text = text.decode()
    assert status == 200 and headers.get_content_type() == "text/html"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r'(src|href)="(?!#|data:)', text) and "{{" not in text
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert page.written()[0].decode() == text and client.playground.server_address[0] == "127.0.0.1"


def test_nothing_without_the_token(client):
    token = client.playground.token
    other = server.Playground(0)
    other.server_close()
    assert len(token) >= 20 and other.token != token
    for path in ("/", "/wrong/", f"/{token[:-1]}/", f"/{token}x/", f"/{token}", "/favicon.ico", "//", f"/%2e%2e/{token}/"):
        status, answer, _ = client.request("GET", path)
        assert status == 404 and token not in json.dumps(answer), path
    for path in ("play.js", "../setup.py", "web/play.js", "etc/passwd", "%2e%2e/x", "open"):
        assert client.request("GET", f"/{token}/{path}")[0] == 404
    assert client.request("POST", "/wrong/open", {})[0] == 404


@pytest.mark.parametrize("host", ["example.org", "example.org:{port}", "127.0.0.1", "127.0.0.1:1", "", "localhost:{port}.example.org"])
def test_only_under_its_own_name(client, host):
    status, answer, _ = client.request("GET", f"/{client.playground.token}/", headers={"Host": host.format(port=client.playground.port)})
    assert status == 403 and "loopback" in answer["error"]


@pytest.mark.parametrize("origin", ["http://example.org", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://localhost:{port}", ""])
def test_only_its_own_page(client, origin):
    path = f"/{client.playground.token}/open"
    status, answer, _ = client.request("POST", path, {"settings": SMALL}, {"Origin": origin.format(port=client.playground.port)})
    assert status == 403 and "another page" in answer["error"] and not client.playground.sessions
    if origin == "http://example.org":
        assert client.request("GET", f"/{client.playground.token}/", headers={"Origin": origin})[0] == 403
        assert client.request("GET", f"/{client.playground.token}/", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403


def test_a_post_without_an_origin_is_refused(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.playground.port, timeout=20)
    connection.request("POST", f"/{client.playground.token}/open", b"{}", {"Content-Type": "application/json"})
    assert connection.getresponse().status == 403
    connection.close()


def test_localhost_is_this_machine_too(client):
    host = f"localhost:{client.playground.port}"
    assert client.request("GET", f"/{client.playground.token}/", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"{", 400), (b"[1]", 400), (b'"x"', 400), (b"\xff\xfe", 400), (b"[" * 60_000, 400), (b'{"settings": 3}', 400),
    (b'{"settings": {"width": NaN}}', 400), (b'{"settings": {"width": 1e999}}', 400), (b'{"settings": {"nothing": 1}}', 400),
    (b" " * (server.LARGEST + 1), 413)])
def test_bad_requests_get_a_message(client, capsys, body, status):
    found, answer = client.post("open", body)
    assert found == status and answer["error"] and "Traceback" not in answer["error"]
    assert not client.playground.sessions and capsys.readouterr().err == ""
    assert client.request("GET", f"/{client.playground.token}/")[0] == 200  # it goes on


def test_other_bad_requests(client):
    path = f"/{client.playground.token}/open"
    assert client.request("POST", path, b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert client.request("POST", path, b"{}", {"Content-Length": "-1"})[0] in (400, 411)
    assert client.post("elsewhere", {})[0] == 404 and client.post("do/nobody", {})[0] == 410
    assert client.request("PUT", path, b"{}")[0] == 501


@pytest.mark.parametrize(("command", "message"), [
    ({}, "do: expected"), ({"do": "dance"}, "do: expected"), ({"do": None}, "do: expected"), ({"do": ["round"]}, "do: expected"),
    ({"do": "round", "times": 0}, "times: expected a whole number from 1 to 100"), ({"do": "round", "times": 1e9}, "times"),
    ({"do": "round", "times": "1"}, "times"), ({"do": "go"}, "to: expected"), ({"do": "go", "to": 1}, "from 0 to 0"),
    ({"do": "go", "to": -1}, "to"), ({"do": "go", "to": 0.5}, "to"), ({"do": "run", "times": 101}, "times"),
    ({"do": "run", "until": 0}, "until"), ({"do": "look", "layers": ["x"]}, "layers"), ({"do": "look"}, "layers"),
    ({"do": "look", "layers": [[]]}, "layers"), ({"do": "x" * 1000}, "do: expected")])
def test_bad_commands_get_a_message(client, command, message):
    with client.tab(SMALL) as tab:
        status, answer = tab.do(command)
        assert status == 400 and message in answer["error"] and len(answer["error"]) < 300
        assert tab.do({"do": "round"})[1]["frame"]["move"] == 1  # and the engine goes on


def test_commands(client):
    with client.tab(SMALL) as tab:
        assert tab.status == 200 and tab.first["kind"] == "opened" and tab.first["frame"]["move"] == 0
        assert tab.first["settings"] == read(SMALL).settings | {"points": []}
        engine = Engine(read(SMALL))
        for command in ("d", "d", "g", "round"):
            engine.move(command)
            assert tab.do({"do": command})[1]["frame"] == json.loads(json.dumps(engine.frame()))
        engine.go(2)
        assert tab.do({"do": "go", "to": 2})[1]["frame"] == json.loads(json.dumps(engine.frame()))
        frame = tab.do({"do": "look", "layers": ["samples"]})[1]["frame"]
        assert "surface" not in frame
        assert [one["name"] for one in tab.do({"do": "ops"})[1]["ops"]["rounds"]] == ["update of D", "update of G"]


def test_a_run_streams_frames_until_it_is_paused(client):
    with client.tab(SMALL) as tab:
        assert tab.do({"do": "run", "times": 3})[1] == {"running": True}
        lines = [tab.line() for _ in range(4)]
        assert [line["frame"]["move"] for line in lines] == [3, 6, 9, 12] and all(line["running"] for line in lines)
        at = tab.do({"do": "pause"})[1]["frame"]["move"]
        assert tab.do({"do": "round"})[1]["frame"]["move"] == at + 1
        tab.do({"do": "run", "times": 5, "until": at + 8})
        while (line := tab.line())["running"]:
            pass
        assert line["frame"]["move"] == at + 8
        engine = Engine(read(SMALL))
        for _ in range(at + 8):
            engine.move("round")
        assert line["frame"] == json.loads(json.dumps(engine.frame()))


def test_a_run_that_diverges_stops_with_a_message(client):
    with client.tab({**SMALL, "optimizer": "sgd", "g_rate": 10, "d_rate": 10, "cost": "wasserstein"}) as tab:
        tab.do({"do": "run", "times": 100})
        while (line := tab.line())["kind"] == "frame":
            pass
        assert line["kind"] == "stopped" and re.search("diverged|could not be made", line["error"])
        assert tab.do({"do": "go", "to": 1})[0] == 200


def test_two_tabs_have_two_engines_and_a_closed_one_frees_its_own(client):
    with client.tab(SMALL) as one, client.tab({**SMALL, "seed": 1001}) as two:
        assert one.first["id"] != two.first["id"] and len(client.playground.sessions) == 2
        one.do({"do": "run", "times": 1})
        for _ in range(3):
            two.do({"do": "round"})
        assert one.line()["frame"]["move"] == 1 and two.do({"do": "round"})[1]["frame"]["move"] == 4
        one.close()  # in the middle of a run
        assert until(lambda: list(client.playground.sessions) == [two.first["id"]])
        assert one.do({"do": "round"})[0] == 410 and two.do({"do": "round"})[1]["frame"]["move"] == 5
        two.close()  # and at rest
        assert until(lambda: not client.playground.sessions)


def test_there_are_at_most_so_many_engines(client):
    tabs = [Tab(client, SMALL) for _ in range(server.MOST_ENGINES)]
    status, answer = client.post("open", {"settings": SMALL})
    assert status == 503 and "Close one" in answer["error"]
    tabs.pop().close()
    assert until(lambda: len(client.playground.sessions) < server.MOST_ENGINES)
    tabs.append(Tab(client, SMALL))
    assert tabs[-1].status == 200
    for tab in tabs:
        tab.close()


def test_an_idle_engine_is_freed():
    with serving(idle=1.0) as client, client.tab(SMALL) as tab:
        line = tab.line()
        assert line["kind"] == "closed" and "without a command" in line["error"]
        assert until(lambda: not client.playground.sessions) and tab.answer.readline() == b""


def test_a_fault_of_the_engine_is_told_and_not_the_end(client, monkeypatch):
    with client.tab(SMALL) as tab:
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "ops", lambda self: 1 / 0)
            status, answer = tab.do({"do": "ops"})
            assert status == 500 and "ZeroDivisionError" in answer["error"] and "Traceback" not in answer["error"]
        assert tab.do({"do": "ops"})[0] == 200


def test_the_server_closes_in_the_middle_of_runs():
    begun = time.monotonic()
    with serving() as client:
        tabs = [Tab(client, SMALL) for _ in range(2)]
        for tab in tabs:
            tab.do({"do": "run", "times": 100})
            tab.line()
    assert time.monotonic() - begun < 60
    for tab in tabs:
        tab.close()


def test_a_stopped_session_ends_within_a_command():
    """Not only between two commands: a hundred rounds of a large game may take long."""
    one = session.Session(read(SMALL))
    answer = one.ask({"do": "round", "times": 100})
    waiting = one.ask({"do": "round"})
    one.stop()
    with pytest.raises(StoppedError):
        one.turn(1)
    one.end()
    assert one.engine.at == 0 and answer.result(1) == waiting.result(1) == session.GONE


def test_a_frame_costs_little(capsys):
    """What a frame of the two-layer game costs of one processor: a round, the frame, and its JSON."""
    one = session.Session(read({}))
    one.ask({"do": "run", "times": 1})
    one.turn(1)
    lines, begun = [], 0.0
    for i in range(24):
        begun = time.process_time() if i == 4 else begun
        lines.append(json.dumps(one.turn(1)))
    cost = (time.process_time() - begun) / 20
    assert len(lines[-1]) < 30_000
    print(f"{1000 * cost:.1f} ms a frame, {len(lines[-1]):,} bytes")
    assert cost < 0.5  # a bound for any machine; 20 frames a second need 0.05


# The command


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_it_cleanly(busy):
    program = "import sys, threading, atexit; from tinygan.cli import main; code = main(['play', '--no-browser']); " \
              "print('threads', threading.active_count()); sys.exit(code)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
                                    "NUMBA_NUM_THREADS": "1"})  # so that the engine's pool has no threads to count
    tab = None
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", process.stdout.readline())
        assert found
        if busy:
            there = type("There", (), {"port": int(found[1]), "token": found[2]})()
            tab = Tab(Client(there), SMALL)
            tab.do({"do": "run", "times": 100})
            tab.line()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        if tab:
            tab.close()
    assert process.returncode in (0, 130) and "Traceback" not in err and err == ""
    assert "has ended" in out and "threads 1" in out


def test_a_port_that_is_taken(capsys):
    taken = server.Playground(0)
    try:
        assert cli.main(["play", "--no-browser", "--port", str(taken.port)]) == 2
    finally:
        taken.server_close()
    assert f"--port {taken.port}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["play", "--port", "70000"])
