"""The page of `tinygan play` in a browser: every control, by mouse and by keyboard."""
from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygan.teaching.arrays import unpacked
from tinygan.teaching.play import server
from tinygan.teaching.play.engine import Engine
from tinygan.teaching.play.games import FIELDS, PRESETS, read

SMALL = "width=8&batch=16&latent=2&seed=1000"
SETTINGS = {"width": 8, "batch": 16, "latent": 2, "seed": 1000}
ARROWS = 64


@pytest.fixture
def playground() -> Iterator[server.Playground]:
    found = server.Playground()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.close()


@pytest.fixture
def opened(browser: Any, playground: server.Playground) -> Iterator[Any]:
    """A function that opens the page with a game. At the end there must have been no error, no message that was not
    expected, and no request to anywhere else."""
    contexts, troubles = [], []

    def go(game: str = SMALL, width: int = 1600, scheme: str = "light", motion: str = "reduce") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion=motion))
        view = contexts[-1].new_page()
        refused = lambda text: "Failed to load resource" in text and re.search(r"status of (400|503)", text)  # noqa: E731
        view.on("console", lambda message: troubles.append(message.text) if not refused(message.text) else None)
        view.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        view.on("request", lambda request: troubles.append(request.url) if not request.url.startswith(
            (playground.address, "data:")) else None)
        view.goto(playground.address + (f"#{game}" if game else ""))
        return view

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


def drawn(view: Any) -> Any:
    view.wait_for_selector("html[data-drawn]", timeout=60_000)
    return view


def button(view: Any, name: str) -> Any:
    return view.locator("#moves button").filter(has_text=re.compile(f"^{name}$"))


def at(view: Any, move: int) -> None:
    """Wait until the picture is that of this move."""
    view.wait_for_selector(f'#stage[data-move="{move}"]', timeout=60_000)


def longest(view: Any) -> float:
    return float(view.locator("#stage").get_attribute("data-longest"))


def of(engine: Engine) -> float:
    """The length of the longest arrow."""
    return float(np.linalg.norm(unpacked(engine.frame()["gradient"])[:ARROWS].astype(np.float64), axis=1).max())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_it_opens_at_every_width(opened, width, scheme):
    view = drawn(opened("", width, scheme))
    button(view, "Round").click()
    at(view, 1)
    button(view, "One op").click()
    view.wait_for_selector("#tape-stepper .stepper")
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    for picture in view.locator("svg[role=img]").all():
        assert picture.get_attribute("aria-label")
    for control in view.locator("button, select, input").all():
        assert control.evaluate("c => !!(c.getAttribute('aria-label') || c.textContent.trim() || c.labels.length)")
    if folder := os.environ.get("TINYGAN_SCREENSHOTS"):
        view.screenshot(path=str(Path(folder) / f"play_{width}_{scheme}.png"), full_page=True)


def test_without_a_link_it_shows_a_game_that_collapses(opened, playground):
    view = drawn(opened("", motion="no-preference"))
    view.wait_for_selector('#stage:not([data-move="0"])', timeout=60_000)  # it runs without a click
    collapses = next(preset for preset in PRESETS if preset.name == "collapses")
    assert view.get_by_role("button", name="Collapses").get_attribute("aria-pressed") == "true"
    assert view.locator("#about").inner_text() == collapses.about
    button(view, "Pause").click()
    view.wait_for_selector("#now:has-text('paused')")  # (drawn with the next frame of the browser)
    assert "paused" in view.locator("#live").text_content() and button(view, "Run").count() == 1


def test_who_wants_no_motion_starts_at_rest(opened):
    view = drawn(opened(""))
    view.wait_for_timeout(700)
    assert view.locator("#stage").get_attribute("data-move") == "0" and button(view, "Run").count() == 1


def test_steps_are_the_engines(opened):
    view, engine = drawn(opened()), Engine(read(SETTINGS))
    at(view, 0)
    assert longest(view) == pytest.approx(of(engine))
    for move, (name, does) in enumerate((("Step D", "d"), ("Step D", "d"), ("Step G", "g"), ("Round", "round")), 1):
        button(view, name).click()
        at(view, move)
        engine.move(does)
        assert longest(view) == pytest.approx(of(engine))
    assert "3 updates of D and 2 of G" in view.locator("#now").inner_text()
    frame = engine.frame()
    words = view.locator("#now").inner_text()
    assert f"G reaches {frame['modes']} of 8 clouds" in words and f"as if over {frame['effective']:.1f}" in words
    chart = view.locator("#charts svg").nth(1).get_attribute("aria-label")
    assert f"minimax {frame['norms']['minimax']:.2g}" in chart
    assert view.locator("#stage svg").first.locator("circle").count() == 256


def test_run_pause_and_back(opened):
    view = drawn(opened())
    view.get_by_label("Rounds between two pictures").select_option("1")
    button(view, "Run").click()
    view.wait_for_selector("#moves button:has-text('Pause')")
    view.wait_for_selector('#stage:not([data-move="0"])')
    button(view, "Pause").click()
    view.wait_for_selector("#moves button:has-text('Run')")
    view.wait_for_timeout(300)
    moves = int(view.locator("#back input").get_attribute("max"))
    assert moves >= 1 and view.locator("#stage").get_attribute("data-move") == str(moves)
    slider = view.locator("#back input")
    slider.focus()
    view.keyboard.press("Home")
    at(view, 0)
    view.keyboard.press("ArrowRight")
    at(view, 1)
    engine = Engine(read(SETTINGS))
    engine.move("round")
    assert longest(view) == pytest.approx(of(engine)) and f"move 1 of {moves}" in slider.get_attribute("aria-valuetext")
    button(view, "Step D").click()  # another future
    at(view, 2)
    assert slider.get_attribute("max") == "2"


def test_keys_on_the_picture(opened):
    view = drawn(opened())
    view.locator("#stage").focus()
    for move, key in enumerate(("r", "d", "g", "ArrowRight"), 1):
        view.keyboard.press(key)
        at(view, move)
    view.keyboard.press("ArrowLeft")
    at(view, 3)
    view.keyboard.press("Space")
    view.wait_for_selector("#moves button:has-text('Pause')")
    view.keyboard.press("Space")
    view.wait_for_selector("#moves button:has-text('Run')")
    view.keyboard.press("o")
    view.wait_for_selector("#tape-stepper .stepper")


def test_layers(opened):
    view = drawn(opened())
    at(view, 0)
    for name, seen in (("surface", "canvas.surface"), ("density", "canvas.density"), ("samples", "svg[aria-label='Generated points']"),
                       ("arrows", "path.arrow")):
        box = view.locator(f"[data-layer={name}]")
        assert view.locator(f"#stage {seen}").count() > 0
        box.focus()
        view.keyboard.press("Space")
        view.wait_for_selector(f"#stage {seen}", state="detached")
        if name != "samples":
            box.check()
            view.wait_for_selector(f"#stage {seen} >> nth=0", state="attached")


def test_one_op_after_the_other(opened):
    view = drawn(opened())
    rounds = Engine(read(SETTINGS)).ops()["rounds"]
    places = [sum(node["kind"] == "op" for node in one["nodes"]) + sum(node["visited"] is not None for node in one["nodes"])
              for one in rounds]
    button(view, "One op").click()
    state = view.locator("#tape-stepper .stepper:not([hidden]) .state")
    state.wait_for()
    ops = [node["op"] for node in rounds[0]["nodes"] if node["kind"] == "op"]
    assert state.inner_text().startswith(f"Forward, op 1 of {len(ops)}: {ops[0]}")
    for number, name in enumerate(ops[1:4], 2):
        button(view, "One op").click()
        assert state.inner_text().startswith(f"Forward, op {number} of {len(ops)}: {name}")
        assert view.locator('#tape-stepper .stepper:not([hidden]) .op[aria-selected="true"]').count() == 1
    for _ in range(places[0] - 4):
        button(view, "One op").click()
    assert state.inner_text().startswith("Backward")
    button(view, "One op").click()
    assert view.get_by_role("button", name="Update of G").get_attribute("aria-pressed") == "true"
    assert state.inner_text().startswith("Forward, op 1 of")
    for _ in range(places[1]):
        button(view, "One op").click()
    assert "last op" in view.locator("#alert").inner_text()
    assert view.locator("#stage").get_attribute("data-move") == "0"  # nothing of the game changed
    button(view, "Round").click()
    at(view, 1)
    assert view.locator("#tape-stepper .stepper").count() == 0  # it was about another state


def test_a_link_is_a_game(opened):
    view = drawn(opened())
    link = view.url
    assert all(f"{field.name}=" in link for field in FIELDS)
    for _ in range(3):
        button(view, "Round").click()
    at(view, 3)
    other = drawn(opened(link.partition("#")[2]))
    for _ in range(3):
        button(other, "Round").click()
    at(other, 3)
    assert longest(other) == longest(view)
    other.evaluate("location.hash = 'data=points&points=1,1;-1,-0.5&width=8&cost=hinge'")
    other.wait_for_selector("#about:has-text('2 drawn points')")
    assert "points=1%2C1%3B-1%2C-0.5" in other.url and other.locator("#field-cost").input_value() == "hinge"


@pytest.mark.parametrize(("game", "message"), [
    ("width=nine", "Units in a layer: expected a whole number from 2 to 128, got 'nine'"), ("data=spiral", "Data: expected one of"),
    ("nonsense", "no setting 'nonsense'"), ("points=1,2,3", "Drawn points: expected points"), ("minibatch=maybe", "true or false"),
    ("seed=<img src=x onerror=alert(1)>", "Seed: expected a whole number")])
def test_a_wrong_link_says_what_is_wrong(opened, game, message):
    view = opened(game)
    view.wait_for_selector("#alert:not(:empty)")
    assert message in view.locator("#alert").inner_text() and button(view, "Run").is_disabled()
    view.get_by_role("button", name="Start this game").click()  # the form can mend it
    view.get_by_role("button", name="Saturates").click()
    drawn(view)
    assert view.locator("#alert").inner_text() == ""


def test_the_form(opened):
    view = drawn(opened())
    view.locator("#field-batch").fill("a lot")
    view.get_by_role("button", name="Start this game").click()
    view.wait_for_selector("#alert:not(:empty)")
    assert "Batch: expected a whole number from 2 to 512, got 'a lot'" in view.locator("#alert").inner_text()
    view.locator("#field-batch").fill("32")
    view.locator("#field-data").select_option("moons")
    view.locator("#field-minibatch").check()
    view.locator("#field-penalty").select_option("r1")
    view.locator("#field-seed").focus()
    view.keyboard.press("Enter")
    view.wait_for_selector("#alert:has-text('choose one of the two')")
    view.locator("#field-penalty").select_option("none")
    view.get_by_role("button", name="The same with the next seed").click()
    view.wait_for_selector("#about:has-text('seed 1001')")
    assert "data=moons" in view.url and "minibatch=true" in view.url and view.locator("#alert").inner_text() == ""


def test_points_that_the_reader_draws(opened):
    view = drawn(opened())
    board = view.locator(".drawing")
    board.scroll_into_view_if_needed()
    size = board.bounding_box()["width"]
    board.click(position={"x": size * 0.75, "y": size * 0.25})
    board.focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown", "Enter", "Enter", "Backspace"):
        view.keyboard.press(key)
    assert "2 points" in view.locator(".drawn .caption").inner_text()
    view.get_by_role("button", name="Start this game").click()
    view.wait_for_selector("#about:has-text('2 drawn points')")
    points = re.search(r"points=([^&]+)", view.url.partition("data=points")[2])[1].replace("%2C", ",").replace("%3B", ";")
    (x, y), (a, b) = (map(float, pair.split(",")) for pair in points.split(";"))
    assert abs(x - 1.5) < 0.05 and abs(y - 1.5) < 0.05 and (a, b) == (-0.25, -0.25)
    button(view, "Round").click()
    at(view, 1)
    assert "of 2 drawn points" in view.locator("#now").inner_text()
    view.get_by_role("button", name="Take all points away").click()
    view.get_by_role("button", name="Start this game").click()
    view.wait_for_selector("#alert:has-text('at least 2 points')")


def test_presets_run_to_their_end(opened, playground):
    view = drawn(opened())
    view.get_by_label("Rounds between two pictures").select_option("25")
    view.get_by_role("button", name="Saturates").click()
    at(view, next(preset.rounds for preset in PRESETS if preset.name == "saturates"))
    view.wait_for_selector("#moves button:has-text('Run')")
    view.wait_for_selector("#now:has-text('G reaches 0 of 8')")
    assert len(playground.sessions) == 1  # the games before were freed


def test_two_tabs_and_a_closed_one(opened, playground):
    one, two = drawn(opened()), drawn(opened("seed=7&" + SMALL.replace("&seed=1000", "")))
    assert len(playground.sessions) == 2
    button(one, "Round").click()
    at(one, 1)
    assert two.locator("#stage").get_attribute("data-move") == "0"
    one.close()
    for _ in range(100):
        if len(playground.sessions) == 1:
            break
        two.wait_for_timeout(100)
    assert len(playground.sessions) == 1
    button(two, "Round").click()
    at(two, 1)
    drawn(two)
    two.reload()
    drawn(two)
    at(two, 0)
    for _ in range(100):
        if len(playground.sessions) == 1:
            break
        two.wait_for_timeout(100)
    assert len(playground.sessions) == 1


def test_too_many_tabs_and_a_server_that_has_ended(opened, playground):
    views = [drawn(opened()) for _ in range(server.MOST_ENGINES)]
    more = opened()
    more.wait_for_selector("#alert:has-text('games are open already')", timeout=30_000)
    playground.close()
    views[0].wait_for_selector("#alert:not(:empty)")
    assert button(views[0], "Run").is_disabled()


def test_the_colours_follow_the_system(opened):
    view = drawn(opened())
    at(view, 0)
    pixel = "[...document.querySelector('#stage canvas.density').getContext('2d').getImageData(48, 20, 1, 1).data].join()"
    light = view.evaluate(pixel)
    view.emulate_media(color_scheme="dark")
    view.wait_for_timeout(300)
    assert view.evaluate(pixel) != light
