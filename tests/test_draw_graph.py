"""The picture of a graph: what is in it, and that nothing lies on top of anything else."""
from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, plotting
from tinygan.plotting.graphs import draw_graph
from tinygan.plotting.layout import Box, arrange
from tinygan.teaching.tape import trace

SVG = "{http://www.w3.org/2000/svg}"


def leaf(values):
    return tg.Tensor(np.array(values, np.float32), requires_grad=True)


def texts(drawing):
    return [text.text for text in ET.fromstring(drawing.svg).iter(f"{SVG}text")]


def small():
    x, w = leaf([[1.0, 2.0], [3.0, -1.0]]), leaf([[0.5, -1.0]])
    return x, w, tg.mean(tg.softplus(tg.dense(x, w)))


def test_it_shows_ops_values_and_gradients_once_they_are_known():
    x, w, loss = small()
    drawing = draw_graph(loss, names={"x": x, "w": w})
    before = texts(drawing)
    assert {"x", "w", "linear", "softplus", "mean", f"{float(loss):.3g}"} <= set(before)
    assert "[0.5, \N{MINUS SIGN}1]" in before
    assert not [text for text in before if text.startswith("gradient")]
    loss.backward()
    after = texts(drawing)
    for tensor in (x, w):
        numbers = ", ".join(f"{v:.3g}".replace("-", "\N{MINUS SIGN}") for v in tensor.grad.numpy().ravel())
        assert f"gradient [{numbers}]" in after
    root = ET.fromstring(drawing.svg)  # the graph was freed, but the picture has its edges
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "way"]) == 4


def test_all_gradients_on_request_and_the_graph_is_kept():
    x, w, loss = small()
    shown = texts(draw_graph(loss, gradients=True))
    assert len([text for text in shown if text.startswith("gradient")]) == 5
    assert x.grad is None
    tg.grad(loss, [x, w])


def test_layers_have_frames():
    network = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 1)).initialize(tg.random.Key(0))
    with tg.fusion(False):
        drawing = draw_graph(tg.sum(network(np.ones((2, 3), np.float32))), names={"d": network})
    assert [frame.title for frame in drawing.layout.frames] == ["d.0 Dense(3 -> 4)", "d.2 Dense(4 -> 1)"]
    assert "d.0.weight" in texts(drawing)


def test_a_trace_is_drawn_too():
    x, w, _ = small()
    traced = trace(lambda x, w: tg.grad(tg.mean(tg.dense(x, w)), [x, w]), x, w)
    shown = texts(draw_graph(traced))
    assert {"x", "w", "linear", "mean"} <= set(shown) and "gradient [0.5, 0.5]" in shown


def test_in_a_notebook_and_in_a_file(tmp_path):
    _, _, loss = small()
    drawing = plotting.draw_graph(loss, tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == drawing.svg == drawing._repr_svg_()
    assert drawing.svg in drawing._repr_html_()
    root = ET.fromstring(drawing.svg)
    assert root.get("role") == "img" and root.find(f"{SVG}title").text.startswith("Graph of a Tensor")
    with pytest.raises(ValueError, match=r"should end in \.svg, got 'graph.png'"):
        drawing.save("graph.png")


def test_names_are_escaped():
    x = leaf([1.0, 2.0])
    assert "a<b&c" in texts(draw_graph(tg.sum(x), names={"a<b&c": x}))


def test_too_large_a_graph_names_the_limit():
    x = leaf([1.0])
    y = x
    for _ in range(300):
        y = tg.sin(y)
    with pytest.raises(ValueError, match="the graph has 301 nodes, more than the limit of 200"):
        draw_graph(y)
    assert len(draw_graph(y, limit=301).layout.centers) == 301
    with pytest.raises(ValueError, match="limit of 2:"):
        draw_graph(trace(lambda: tg.exp(tg.exp(x))), limit=2)


def test_what_has_no_graph():
    with pytest.raises(ValueError, match="does not require a gradient"):
        draw_graph(tg.Tensor([1.0]))
    with pytest.raises(TypeError, match="expected a Tensor or a Trace, got ndarray"):
        draw_graph(np.ones(2))
    _, _, loss = small()
    loss.backward()
    with pytest.raises(RuntimeError, match="freed"):
        draw_graph(loss)


def test_a_weight_that_was_overwritten_since():
    weight = tg.Parameter(np.ones((1, 2), np.float32))
    loss = tg.sum(tg.exp(tg.dense(leaf([[1.0, 2.0]]), weight)))
    weight.assign([[2.0, 2.0]])
    assert "linear" in texts(draw_graph(loss))
    with pytest.raises(RuntimeError, match="overwritten"):
        draw_graph(loss, gradients=True)


# -- the layout ------------------------------------------------------------------------------------------------------


def graphs():
    yield "chain", [Box(i, (f"op {i}",), (i - 1,) if i else ()) for i in range(30)]
    rng = np.random.default_rng(0)
    yield "random", [Box(i, (f"node {i}", "2 x 3"), tuple(rng.choice(i, min(i, 2), replace=False).tolist()) if i else ())
                     for i in range(60)]
    boxes = []
    for i in range(40):  # layers of four ops, all of which use their layer's weight, and the first one's
        parents = () if i % 4 == 0 else (i - 1, i - i % 4, *((0,) if i > 4 and i % 4 == 2 else ()))
        boxes.append(Box(i, (f"op {i}", "gradient 1"), parents if i % 4 or not i else (), f"layer {i // 4}", i // 4))
    yield "layers", [box._replace(parents=(*box.parents, box.key - 2)) if box.key % 4 == 1 and box.key > 4 else box
                     for box in boxes]


GRAPHS = dict(graphs())


def overlap(a, b):
    return min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) > 0.1 and min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) > 0.1


def corners(box, layout):
    (x, y), (width, height) = layout.centers[box.key], box.size
    return x - width / 2, y - height / 2, width, height


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_overlaps_and_arrows_point_down(name):
    boxes = GRAPHS[name]
    layout = arrange(boxes)
    rectangles = {box.key: corners(box, layout) for box in boxes}
    for one, other in combinations(rectangles.values(), 2):
        assert not overlap(one, other)
    for one, other in combinations([frame[1:] for frame in layout.frames], 2):
        assert not overlap(one, other)
    for x, y, width, height in [*rectangles.values(), *[frame[1:] for frame in layout.frames]]:
        assert x >= 0 and y >= 0 and x + width <= layout.size[0] and y + height <= layout.size[1]
    for box in boxes:
        for parent in box.parents:
            points = layout.routes[parent, box.key]
            (_, top), (_, end) = points[0], points[-1]
            assert top == pytest.approx(rectangles[parent][1] + rectangles[parent][3])
            assert end == pytest.approx(rectangles[box.key][1])
            heights = [y for _, y in points]
            assert heights == sorted(heights)
        for frame in layout.frames:
            if frame.title == box.group:
                x, y, width, height = rectangles[box.key]
                assert frame.x <= x and frame.y <= y
                assert x + width <= frame.x + frame.width and y + height <= frame.y + frame.height


@pytest.mark.parametrize("name", GRAPHS)
def test_no_edge_passes_through_a_box(name):
    """Between two points an edge may bend, but at its points it is beside all boxes."""
    boxes = GRAPHS[name]
    layout = arrange(boxes)
    rectangles = [corners(box, layout) for box in boxes]
    for points in layout.routes.values():
        for (x, y), (u, v) in zip(points[1:-1:2], points[2:-1:2], strict=False):
            if x == u:  # the straight part beside a row
                assert not any(overlap((x - 0.5, y, 1.0, v - y), rectangle) for rectangle in rectangles)
