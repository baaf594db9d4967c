"""The page that explains a run: `tinygan explain`. Its numbers are read out of the HTML, and as a reader sees them, in a browser."""
from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_runs import SMALL, digits, train

import tinygan as tg
from tinygan import cli
from tinygan.gans.costs import COSTS
from tinygan.random import Key
from tinygan.teaching import page
from tinygan.teaching.arrays import packed, unpacked
from tinygan.teaching.messages import message as message_of
from tinygan.teaching.messages import surface
from tinygan.teaching.players import players
from tinygan.teaching.records import Absent, Run
from tinygan.teaching.sections import ahead
from tinygan.teaching.sections.positions import fixed_inputs

WIDTHS = 360, 800, 1600
LARGEST = 5_000_000  # bytes of a page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of a recorded run of a variant, made when it is asked for: (path, run)."""
    root = tmp_path_factory.mktemp("runs")
    file, made = digits(root), {}

    def find(name: str, **changes: Any) -> tuple[Path, Run]:
        if name not in made:
            train(name, root / name, file, **changes)
            made[name] = page.explain(root / name), Run(root / name)
        return made[name]

    return find


def content(path: Path) -> dict[str, Any]:
    """The JSON of a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def message(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Logits and dL_G/dG(z) of the run's fixed latents at its last state, by `tg.grad`."""
    z = fixed_inputs(run)["z"]
    images = tg.Tensor(np.asarray(run.gan.generator(z)), requires_grad=True)
    logits = run.gan.discriminator(images)
    gradient = tg.grad(COSTS[run.gan.cost].g_loss(logits, None), images)
    return np.asarray(logits).ravel(), np.asarray(gradient)


# The file, without a browser


@pytest.mark.parametrize("name", SMALL)
def test_every_variant_has_a_page(pages, name):
    path, run = pages(name)
    text, found = path.read_text(encoding="utf-8"), content(path)
    assert path == run.path / "explain.html" and len(text) < LARGEST
    assert list(found["sections"]) == [section.name for section in page.SECTIONS]
    for section in page.SECTIONS:
        told = found["sections"][section.name]
        assert f'<section id="{section.name}"' in text
        assert told.get("absent") or (len(told["text"].split()) <= 60 and told["alt"])
    assert "{{" not in text.partition("<script")[0]  # all names of the templates were filled in
    assert not re.search(r'(src|href)="(?!#)', text)  # nothing is loaded


def test_what_does_not_apply_says_why(pages):
    sections = content(pages("vanilla")[0])["sections"]
    assert "unrolled" in sections["ahead"]["absent"] and "minibatch" in sections["coupling"]["absent"]
    assert "absent" not in content(pages("unrolled")[0])["sections"]["ahead"]
    assert "absent" not in content(pages("minibatch")[0])["sections"]["coupling"]


def test_a_run_that_was_not_recorded(tmp_path, capsys):
    train("vanilla", tmp_path / "run", digits(tmp_path), record=False, epochs=1)
    assert cli.main(["explain", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert "page.html" in out and "--record" in err
    found = content(tmp_path / "page.html")
    assert found["about"]["records"] == 0 and len(found["sections"]["signal"]["steps"]) == 1


def test_samples_that_are_alike_are_told_in_words(pages):
    found = content(pages("vanilla")[0])  # 16 steps: an untrained generator's images
    told = found["sections"]["signal"]["alike"].replace(" %", "\N{NO-BREAK SPACE}%").replace(" -1 ", " \N{MINUS SIGN}1 ")
    assert f'<p class="finding">{told}' in page.render(found["about"], found["sections"])
    found["sections"]["signal"]["alike"] = ""
    assert 'class="finding"' not in page.render(found["about"], found["sections"])


def test_errors(tmp_path, capsys):
    assert cli.main(["explain", str(tmp_path / "none")]) != 0
    assert "not a folder" in capsys.readouterr().err
    assert cli.main(["explain", str(tmp_path), "--out", "page.pdf"]) != 0
    assert ".html" in capsys.readouterr().err


def test_text_cannot_end_the_data_or_the_page(pages):
    path, _ = pages("vanilla")
    found = content(path)
    found["about"]["title"] = found["sections"]["signal"]["text"] = "</script><script>alert(1)</script> {{style}}"
    text = page.render(found["about"], found["sections"])
    assert "<script>alert" not in text and text.count("</script>") == 2 and "{{style}}" in text


def test_the_pages_numbers_are_those_of_grad(pages):
    path, run = pages("vanilla")
    section = content(path)["sections"]["signal"]
    logits, gradient = message(run)
    shown = unpacked(section["gradient"])[-1].astype(np.float64) * unpacked(section["scale"])[-1][:, None, None, None]
    np.testing.assert_allclose(unpacked(section["logits"])[-1], logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(shown, gradient, atol=2e-3 * np.abs(gradient).max())


def plane_gan(dtype: Any) -> tg.gans.UnrolledGAN:
    """A small unrolled GAN in the plane, with plain gradient descent."""
    nn, key = tg.nn, Key(1)
    generator, discriminator = nn.Sequential(nn.Dense(2, 2)), nn.Sequential(nn.Dense(2, 5), nn.Softplus(), nn.Dense(5, 1))
    for number, network in enumerate((generator, discriminator)):
        network.initialize(key.fold(number))
        network.astype(dtype)
    return tg.gans.UnrolledGAN(generator, discriminator, latent_dim=2, unroll_steps=3, cost="non-saturating", key=key,
                               d_optimizer=tg.optim.SGD(0.5), g_optimizer=tg.optim.SGD(0.1))


def test_looking_ahead_against_finite_differences():
    """with_updates is the derivative of the generator's cost after the discriminator's real updates; without is that at the K-th discriminator."""
    gan, rng = plane_gan(np.float64), np.random.default_rng(0)
    discriminator = gan.discriminator
    real, z = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    before = {name: np.array(value) for name, value in gan.state_dict().items()}
    found = ahead.look_ahead(gan, real, z, Key(0), limits=(-2, 2, -2, 2))
    after = gan.state_dict()
    assert all(np.array_equal(value, after[name]) for name, value in before.items())
    assert found.logits.shape == (4, 4) and found.surface is not None and found.surface.shape == (4, 64, 64)

    def cost(images: np.ndarray, moving: bool) -> float:
        """L_G at the discriminator after 3 plain updates; with moving=False, these are made on the unmoved images."""
        weights = [np.array(p, np.float64) for p in discriminator.parameters()]
        fake = images if moving else found.images
        for _ in range(3):
            leaves = [tg.Tensor(w, requires_grad=True) for w in weights]
            d_loss = tg.mean(tg.softplus(-1.0 * logit(leaves, real))) + tg.mean(tg.softplus(logit(leaves, fake)))
            weights = [w - 0.5 * np.asarray(g) for w, g in zip(weights, tg.grad(d_loss, leaves), strict=True)]
        return float(np.asarray(tg.mean(tg.softplus(-1.0 * logit([tg.Tensor(w) for w in weights], images)))))

    def logit(weights: list[Any], x: Any) -> Any:
        w1, b1, w2, b2 = weights
        return tg.matmul(tg.softplus(tg.matmul(tg.Tensor(np.asarray(x, np.float64)), w1.T) + b1), w2.T) + b2

    for moving, gradient in ((True, found.with_updates), (False, found.without)):
        for at in np.ndindex(4, 2):
            step = np.zeros((4, 2))
            step[at] = 1e-4
            difference = (cost(found.images + step, moving) - cost(found.images - step, moving)) / 2e-4
            assert math.isclose(gradient[at], difference, rel_tol=2e-3, abs_tol=2e-5), (moving, at)
    assert np.abs(found.with_updates - found.without).max() > 1e-3  # or the test would not tell them apart


def test_ahead_says_why_it_is_absent(pages, tmp_path):
    train("unrolled", tmp_path / "zero", digits(tmp_path), epochs=1, unroll_steps=0)
    assert isinstance(found := ahead.build(Run(tmp_path / "zero")), Absent) and "0 updates" in found.reason
    (tmp_path / "squares.npz").unlink()
    train("unrolled", tmp_path / "moved", digits(tmp_path), epochs=1)
    (tmp_path / "squares.npz").unlink()
    assert isinstance(found := ahead.build(Run(tmp_path / "moved")), Absent) and "data" in found.reason


def test_data_that_have_moved_are_named(tmp_path, capsys):
    """`tinygan explain RUN --data-dir DIR`: with the data, the sections that need them are there."""
    train("vanilla", tmp_path / "run", digits(tmp_path), epochs=1)
    moved = (tmp_path / "squares.npz").rename(tmp_path / "elsewhere.npz")
    assert cli.main(["explain", str(tmp_path / "run")]) == 0
    page = content(tmp_path / "run" / "explain.html")
    assert "--data-dir" in page["sections"]["tape"]["absent"]
    told = f"without the run's data, the page lacks what needs them, .*: the data of {tmp_path / 'run'} are no longer at"
    assert re.search(told, page["about"]["notes"][-1]) and re.search(told, capsys.readouterr().err)
    assert cli.main(["explain", str(tmp_path / "run"), "--data-dir", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert cli.main(["explain", str(tmp_path / "run"), "--data-dir", str(moved)]) == 0
    assert content(tmp_path / "run" / "explain.html")["sections"]["tape"]["rounds"]


# In a browser


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """A function that opens a page from its file. At the end there must have been no error, no message and no request."""
    views, troubles = [], []

    def go(path: Path, width: int = 1600, scheme: str = "light") -> Any:
        view = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        views.append(view)
        view.on("console", lambda message: troubles.append(f"console: {message.text}"))
        view.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        view.on("request", lambda request: troubles.append(f"request: {request.url}") if request.url != path.as_uri() else None)
        view.goto(path.as_uri())
        view.wait_for_function("document.documentElement.dataset.drawn", timeout=60_000)
        return view

    yield go
    for view in views:
        view.close()
    assert troubles == []


def number(text: str) -> float:
    """A number as the page writes it, with a minus sign and raised digits."""
    raised = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻\N{MINUS SIGN}", "0123456789--")
    return float(text.translate(raised).replace("\N{MULTIPLICATION SIGN}10", "e").replace(",", ""))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["vanilla", "minibatch", "unrolled", "dcgan"])
def test_it_opens_at_every_width(pages, opened, name, width, scheme):
    view = opened(pages(name)[0], width, scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.locator("section").count() == len(page.SECTIONS)
    for picture in view.locator("svg[role=img]").all():
        assert picture.get_attribute("aria-label")
    if folder := os.environ.get("TINYGAN_SCREENSHOTS"):
        view.screenshot(path=str(Path(folder) / f"{name}_{width}_{scheme}.png"), full_page=True)


@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("vanilla", "minibatch", "unrolled", "dcgan")])
def test_every_variants_page_opens(pages, opened, name):
    opened(pages(name)[0])


def test_a_reader_sees_the_numbers_of_grad(pages, opened):
    path, run = pages("vanilla")
    view = opened(path)
    logits, gradient = message(run)
    samples = view.locator("#signal .sample")
    assert samples.count() == len(logits)
    for i, (logit, image) in enumerate(zip(logits, gradient, strict=True)):
        sample = samples.nth(i)
        assert abs(number(sample.locator(".logit").inner_text()) - logit) <= 0.0051
        assert math.isclose(number(sample.locator(".scale").inner_text()), np.abs(image).max(), rel_tol=0.06)
        y, x = np.unravel_index(np.abs(image[0]).argmax(), image[0].shape)
        red, _, blue, _ = view.evaluate(
            "([i, y, x]) => Array.from(document.querySelectorAll('#signal .sample')[i].querySelectorAll('canvas')[1]"
            ".getContext('2d').getImageData(x, y, 1, 1).data)", [i, int(y), int(x)])
        assert (red > blue) == (image[0, y, x] > 0)  # orange is positive
    means = np.abs(1 / (1 + np.exp(logits)))  # of -log D(x), the run's cost
    shown = float(view.locator("#signal [data-cost=non-saturating]").get_attribute("data-slope"))
    assert math.isclose(shown, means.mean(), rel_tol=1e-3)


def test_the_slider_and_the_film(pages, opened):
    path, _ = pages("vanilla")
    logits = unpacked(content(path)["sections"]["signal"]["logits"])
    view = opened(path)
    slider, sample = view.locator("#signal input[type=range]"), view.locator("#signal .sample").first
    slider.focus()
    for r in range(len(logits) - 2, -1, -1):
        view.keyboard.press("ArrowLeft")
        assert float(sample.get_attribute("data-logit")) == pytest.approx(float(logits[r, 0]))
    assert slider.get_attribute("aria-valuetext") == "start" in view.locator("#signal-state").inner_text()
    view.locator("#signal .frame").last.click()
    assert float(sample.get_attribute("data-logit")) == pytest.approx(float(logits[-1, 0]))
    view.locator("#signal .frame").first.focus()
    view.keyboard.press("Enter")
    assert float(sample.get_attribute("data-logit")) == pytest.approx(float(logits[0, 0]))
    view.locator("#signal .sample").nth(3).click()
    assert view.locator("#signal .sample").nth(3).get_attribute("aria-pressed") == "true"
    assert view.locator("#signal-film h3").inner_text().startswith("Sample 4")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    view.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert float(sample.get_attribute("data-logit")) == pytest.approx(float(logits[-1, 0]))


def test_the_numbers_of_the_flow(pages, opened):
    path, _ = pages("vanilla")
    flow = content(path)["sections"]["flow"]
    view = opened(path)
    view.locator("#flow summary").first.click()
    for player, told in flow["players"].items():
        for i, layer in enumerate(told["layers"]):
            cells = view.locator(f'#flow tr[data-array="{player}.{layer}"] td')
            for cell, name in enumerate(("gradient_norm", "update_ratio", "weight_norm")):
                last = [value for value in told[name][i] if value is not None][-1]
                assert math.isclose(number(cells.nth(cell).inner_text()), last, rel_tol=6e-3, abs_tol=1e-12)


def test_the_tape_steps_forward_and_back(pages, opened):
    path, _ = pages("vanilla")
    rounds = content(path)["sections"]["tape"]["rounds"]
    view = opened(path)
    for k, told in enumerate(rounds):
        view.locator("#tape .tabs button").nth(k).click()
        stepper = view.locator("#tape .stepper").nth(k)
        state, tape = stepper.locator(".state"), stepper.locator(".tape-list")
        ops = [node for node in told["nodes"] if node["kind"] == "op"]
        visits = sorted((node for node in told["nodes"] if node["visited"] is not None), key=lambda node: node["visited"])
        assert stepper.get_by_role("button", name="To the first op").is_disabled()  # it begins there
        stepper.get_by_role("button", name="To the loss").click()
        stepper.get_by_role("button", name="To the first op").click()
        tape.focus()
        for number_, node in enumerate(ops):
            assert state.inner_text().startswith(f"Forward, op {number_ + 1} of {len(ops)}: {node['op']}")
            forward = stepper.locator(".panel").inner_text()  # numbers that hold the gradient come with it, on the way back
            assert not node["formula"]["with_numbers"] or node["formula"]["with_numbers"].split("\n")[0] not in forward
            view.keyboard.press("ArrowRight")
        for number_, node in enumerate(visits):
            assert state.inner_text().startswith(f"Backward, op {number_ + 1} of {len(visits)}: {node['op']}")
            shown = stepper.locator(".panel")
            assert node["formula"]["with_numbers"].split("\n")[0] in shown.inner_text()
            assert node["formula"]["vjp"].split("\n")[0] in shown.inner_text() and f"{node['file']}:{node['line']}" in shown.inner_text()
            if node["gradient"]["kind"] == "number":
                assert float(shown.locator(".big").last.get_attribute("data-value")) == pytest.approx(node["gradient"]["value"])
            view.keyboard.press("ArrowDown")
        assert stepper.get_by_role("button", name="Next op").is_disabled()
        stepper.get_by_role("button", name="To the loss").click()
        assert state.inner_text().startswith(f"Forward, op {len(ops)} of")
        stepper.get_by_role("button", name="Previous op").click()
        assert state.inner_text().startswith(f"Forward, op {len(ops) - 1} of")
        stepper.get_by_role("button", name="Next op").click()
        stepper.get_by_role("button", name="To the last op").click()
        tape.locator(".op").first.click()
        assert tape.locator('.op[aria-selected="true"]').count() == 1
        stepper.locator("input[type=range]").focus()
        view.keyboard.press("Home")
        assert state.inner_text().startswith("Forward, op 1 of")
    chips = view.locator("#tape .overview").nth([told["name"] for told in rounds].index("update of G")).locator(".chip")
    labels = [chip.get_attribute("aria-label") for chip in chips.all()]
    assert any("discriminator.1" in label and "its weights get none" in label for label in labels)
    assert any("generator.0" in label and "its weights get a gradient" in label for label in labels)


def test_the_tape_begins_at_the_start_and_marks_the_loss(pages, opened):
    view = opened(pages("unrolled")[0], 1100)
    assert view.locator("#tape .tabs button[aria-pressed=true]").inner_text() == "Update of D"  # it comes first
    view.locator("#tape .tabs button").nth(1).click()
    stepper = view.locator("#tape .stepper").nth(1)
    assert stepper.locator(".state").inner_text().startswith("Forward, op 1 of")
    stepper.get_by_role("button", name="To the loss").click()
    slider, mark = stepper.locator("input[type=range]"), stepper.locator(".loss").bounding_box()
    box, share = slider.bounding_box(), slider.evaluate("s => s.value / s.max")
    assert abs(mark["x"] + mark["width"] / 2 - (box["x"] + 8 + share * (box["width"] - 16))) < 4
    chips = view.locator("#tape .overview").nth(1).locator(".chip")
    labels = [chip.get_attribute("aria-label").split(":")[0] for chip in chips.all()]
    place = labels.index("D's update ahead")
    first, second = ([label for label in part if label.startswith("discriminator.")] for part in (labels[:place], labels[place:]))
    assert first == second != []  # D runs before its update, and again after it


@pytest.mark.parametrize("width", [360, 1100])
def test_layers_are_readable_and_lines_meet_their_rows(pages, opened, width):
    """On a telephone too: no name is cut off, and each dot is at the height of its row, also after the page was made narrower."""
    view = opened(pages("dcgan")[0], 1600)
    view.set_viewport_size({"width": width, "height": 900})
    view.locator("#tape .tabs button").nth(1).click()
    view.wait_for_timeout(200)
    stepper = view.locator("#tape .stepper").nth(1)
    for part in stepper.locator(".group b").all():
        assert part.evaluate("b => b.scrollWidth <= b.clientWidth + 1 && getComputedStyle(b).textOverflow !== 'ellipsis'")
        box, around = part.bounding_box(), stepper.locator(".tape-inner").bounding_box()
        assert box["x"] + box["width"] <= around["x"] + around["width"] and part.inner_text()
    middle = "e => { const b = e.getBoundingClientRect(); return b.top + b.height / 2; }"
    rows, dots = stepper.locator(".op"), stepper.locator("circle.node")
    assert rows.count() == dots.count() > 10
    tops = rows.evaluate_all(f"rows => rows.map({middle})")
    np.testing.assert_allclose(dots.evaluate_all(f"dots => dots.map({middle})"), tops, atol=1)


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_words_of_the_time_axis_do_not_touch(pages, opened, width):
    view = opened(pages("vanilla")[0], width)
    view.wait_for_timeout(200)
    rows = view.locator("#flow .times").evaluate_all(
        "rows => rows.map(row => [...row.children].filter(e => getComputedStyle(e).visibility === 'visible').map(e => {"
        " const b = e.getBoundingClientRect(); return [b.left, b.right, e.textContent]; }))")
    active = content(pages("vanilla")[0])["sections"]["flow"]["activations"].values()
    columns = sum(any(values[-1] is not None for values in told[kind]) for told in active for kind in ("dead", "saturated", "std"))
    assert len(rows) == 2 * 2 + columns and columns >= 3  # gradients and updates of both players, and what their activations can be
    for words in rows:
        assert words[0][2] == "start" and len(words) >= 2
        assert all(one[1] < other[0] for one, other in pairwise(words)), words


@pytest.mark.parametrize(("name", "gallery"), [("vanilla", "#signal"), ("unrolled", "#ahead")])
def test_labels_stand_at_their_rows(pages, opened, name, gallery):
    """The top of each label is within the row that it names."""
    view = opened(pages(name)[0], 1100)
    sample, key = view.locator(f"{gallery} .sample").first, view.locator(f"{gallery} .key")
    rows = [sample.locator("canvas").nth(k) for k in ((0, 1, 2))] + [sample.locator(".logit")]
    for label, row in zip(key.locator(":scope > span").all(), rows, strict=True):
        at, within = label.locator("b").bounding_box(), row.bounding_box()
        assert within["y"] - 2 <= at["y"] and at["y"] + at["height"] <= within["y"] + within["height"] + 2


def test_lengths_say_over_how_many_images_the_cost_is_a_mean():
    assert ahead._mean(16, 16) == "The cost is a mean over these 16 images."
    assert "a batch of 128 images, of which 16" in ahead._mean(128, 16) and "lengths are 8 times as large there" in ahead._mean(128, 16)


def test_the_matrix_by_keyboard_and_mouse(pages, opened):
    path, _ = pages("minibatch")
    section = content(path)["sections"]["coupling"]
    matrix, without = unpacked(section["matrix"]), unpacked(section["without"])
    view = opened(path)
    for k, values in enumerate((matrix, without)):
        board = view.locator("#coupling .board").nth(k)
        board.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
            view.keyboard.press(key)
        assert float(board.get_attribute("data-value")) == pytest.approx(float(values[2, 1]))
        box = board.bounding_box()
        n = len(values)
        board.scroll_into_view_if_needed()
        board.click(position={"x": box["width"] * 4.5 / n, "y": box["height"] * 3.5 / n})
        assert float(board.get_attribute("data-value")) == pytest.approx(float(values[3, 4]))
        said = view.locator("#coupling-state").inner_text()
        assert f"image 5 {'does not move' if k else 'moves'} logit 4. The gradient of that logit at that image has the length" in said
        assert math.isclose(number(said.rpartition("length ")[2].rstrip(".")), values[3, 4], rel_tol=6e-3)
    assert "fixed numbers" in view.locator("#coupling-diagonal").inner_text()
    assert np.all(without[~np.eye(len(without), dtype=bool)] == 0) and matrix[2, 1] > 0


def test_what_looking_ahead_shows(pages, opened):
    path, _ = pages("unrolled")
    section = content(path)["sections"]["ahead"]
    one, other = (unpacked(section[name]).astype(np.float64) for name in ("gradient_with", "gradient_without"))
    view = opened(path)
    means = [float(dot.get_attribute("data-mean")) for dot in view.locator("#ahead [data-mean]").all()]
    np.testing.assert_allclose(means, unpacked(section["logits"]).mean(1), rtol=1e-4, atol=1e-6)
    for i, shown in enumerate(view.locator("#ahead [data-cosine]").all()):
        cosine = (one[i] * other[i]).sum() / np.linalg.norm(one[i]) / np.linalg.norm(other[i])
        assert math.isclose(float(shown.get_attribute("data-cosine")), cosine, abs_tol=1e-5)
        assert math.isclose(number(shown.locator(".scale").last.inner_text()), np.linalg.norm(one[i]), rel_tol=0.06)


@pytest.mark.parametrize("width", WIDTHS)
def test_points_in_the_plane(pages, opened, tmp_path, width):
    """Surfaces, points, and arrows against the gradient."""
    gan, rng, limits = plane_gan(np.float32), np.random.default_rng(1), np.array([-3, 3, -3, 3.0])
    z, real = rng.normal(size=(16, 2)).astype(np.float32), rng.normal(size=(16, 2)).astype(np.float32)
    told = message_of(gan, players(gan, z), Key(0))
    scale = np.abs(told.gradient).max(1)
    sections = content(pages("vanilla")[0])["sections"]
    sections["signal"] |= {
        "steps": [1], "epochs": [None], "images": packed(told.images[None], "f32"), "scale": packed(scale[None], "f32"),
        "gradient": packed((told.gradient / scale[:, None])[None], "f16"), "logits": packed(told.logits[None], "f32"),
        "norms": packed(told.norms[None], "f32"), "slopes": packed(told.slopes[None], "f32"),
        "surface": packed(surface(gan, limits)[None], "f16"), "limits": limits.tolist()}
    sections["ahead"] = ahead.section(gan, ahead.look_ahead(gan, real, z, Key(0), limits), 16, limits)
    (path := tmp_path / "plane.html").write_text(page.render(content(pages("vanilla")[0])["about"], sections), encoding="utf-8")
    view = opened(path, width)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.locator("#ahead .square canvas").count() == 4 + 2
    dots, arrows = view.locator("#signal .plane circle"), view.locator("#signal .plane .arrow")
    assert dots.count() == 16
    lengths = np.linalg.norm(told.gradient, axis=1)
    i = int(lengths.argmax())
    x, y = (float(dots.nth(i).get_attribute(name)) for name in ("cx", "cy"))
    np.testing.assert_allclose([x, 440 - y], (told.images[i] + 3) / 6 * 440, rtol=1e-3)
    start = next(d for d in (arrow.get_attribute("d") for arrow in arrows.all()) if d.startswith(f"M{dots.nth(i).get_attribute('cx')},"))
    dx, dy = map(float, re.search(r"l(\S+?),(\S+)", start).groups())
    np.testing.assert_allclose(np.array([dx, -dy]) / math.hypot(dx, dy), -told.gradient[i] / lengths[i], atol=2e-3)
    if folder := os.environ.get("TINYGAN_SCREENSHOTS"):
        view.screenshot(path=str(Path(folder) / f"plane_{width}.png"), full_page=True)


def test_a_recorded_loop_over_a_ring(opened, tmp_path):
    """The page of a loop of the user's own: its data are crosses, and a point is chosen by keyboard."""
    nn, ring, key = tg.nn, tg.data.gaussian_ring(), Key(3)
    gan = tg.gans.VanillaGAN(nn.Sequential(nn.Dense(3, 8), nn.ReLU(), nn.Dense(8, 2)), nn.Sequential(nn.Dense(2, 8), nn.ReLU(), nn.Dense(8, 1)), 3, key=key)
    step = tg.training.Recorder(tmp_path, gan)
    for i in range(6):
        step(ring.sample(32, key.fold(i)))
    path = page.explain(tmp_path, gan=gan)
    view = opened(path, 360)
    assert view.evaluate("document.documentElement.scrollWidth") <= 360
    crosses = re.findall(r"M(\S+?),(\S+?)h6", view.locator("#signal .datum").get_attribute("d"))
    limits, real = content(path)["sections"]["signal"]["limits"], ring.sample(32, key.fold(0))
    places = np.array(crosses, float) * [1, -1] + [3, 440]
    np.testing.assert_allclose(places / 440 * (limits[1] - limits[0]) + [limits[0], limits[2]], real, atol=1e-3)
    logits = unpacked(content(path)["sections"]["signal"]["logits"])[-1]
    point = view.locator("#signal input[type=range]").nth(1)
    point.focus()
    for _ in range(2):
        view.keyboard.press("ArrowRight")
    assert point.get_attribute("aria-valuetext") == "3 of 16"
    assert view.locator("#signal .plane circle").evaluate_all("dots => dots.findIndex(dot => dot.classList.contains('chosen'))") == 2
    assert view.locator("#ahead .square").count() == 6 + 2 and len(logits) == 16
    shown = view.locator("body").inner_text().replace("tinygan", "")
    assert not re.search(r"\b[Ii]mages?\b", shown), re.findall(r".*\b[Ii]mages?\b.*", shown)


def test_every_button_and_every_detail(pages, opened):
    for name in ("vanilla", "unrolled", "minibatch"):
        view = opened(pages(name)[0], 800)
        for summary in view.locator("summary").all():
            summary.focus()
            view.keyboard.press("Enter")
            assert summary.evaluate("s => s.parentElement.open")
        for link in view.locator("nav a").all():
            link.click()
            assert view.locator(link.get_attribute("href")).is_visible()


def test_the_colours_follow_the_system(pages, opened):
    view = opened(pages("vanilla")[0])
    pixel = "document.querySelectorAll('#signal .sample canvas')[1].toDataURL()"
    light = view.evaluate(pixel)
    view.emulate_media(color_scheme="dark")
    view.wait_for_function("light => document.querySelectorAll('#signal .sample canvas')[1].toDataURL() !== light", arg=light)
    view.emulate_media(color_scheme="light")
    view.wait_for_function("light => document.querySelectorAll('#signal .sample canvas')[1].toDataURL() === light", arg=light)
