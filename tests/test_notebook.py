"""tinygan in Jupyter: cells are executed in a kernel, and what a reader would see there is looked at."""
from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import content, tiny_data, tiny_gan, tiny_settings, tiny_train

from tinygan import plotting, progress, training
from tinygan.plotting.training import _thinned

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart.ipynb"
MISSING = [name for name in ("nbclient", "ipykernel") if importlib.util.find_spec(name) is None]
needs_jupyter = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)} (the extra `notebook`)")
quietly = pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages


def executed(folder, *cells, errors=False):
    """The outputs of every cell."""
    import nbclient
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    client = nbclient.NotebookClient(notebook, timeout=540, kernel_name="python3", allow_errors=errors)
    client.execute(cwd=str(folder), env={**os.environ, "PYTHONPATH": path})
    return [cell.outputs for cell in notebook.cells]


def text_of(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures_of(outputs):
    """The pictures among them, as arrays."""
    found = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in found]


@needs_jupyter
@quietly
def test_a_run_in_a_notebook(tmp_path):
    setup = """
        import os, signal, sys
        from pathlib import Path
        import tinygan as tg
        from tiny_run import tiny_data, tiny_gan, tiny_settings
        def run(folder, log=(), show=None, **changes):
            settings = tiny_settings(Path(folder), **changes)
            return tg.training.train(tiny_gan(settings), tiny_data(), settings, log=log, show=show)
        def stop_at(step):
            return lambda now, losses, images: now == step and os.kill(os.getpid(), signal.SIGINT)
    """
    lines = [line.removeprefix("        ") for line in setup.splitlines()]
    _, whole, stopped, resumed, quiet, text, main = executed(
        tmp_path, "\n".join(lines), "history = run('whole')", "run('halves', stop_at(7))\nprint('not reached')",
        "history = run('halves', resume=True)", "run('quiet', quiet=True);", "run('text', show='terminal');",
        "tg.training.main(lambda settings: print(sys.argv[1:] != [], settings.epochs), 'vanilla')", errors=True)

    # One bar, one picture and one line are changed in place; they are not shown again for each epoch.
    assert not [output for output in whole if output.output_type == "error"]
    (picture,) = pictures_of(whole)
    assert picture.shape[1] > picture.shape[0] > 200 and len(np.unique(picture)) > 20
    lines = [output.data["text/plain"] for output in whole if output.output_type == "display_data"
             and list(output.data) == ["text/plain"]]
    assert len(lines) == 1 and lines[0].startswith("epoch 4/4  d_loss")
    bars = [output for output in whole if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    if importlib.util.find_spec("ipywidgets") is not None:
        assert len(bars) == 1
    else:
        assert "160/160" in text_of(whole)  # as text
    assert "The run is complete." in text_of(whole) and "epoch 1/4  d_loss" not in text_of(whole)

    # Ctrl-C: saved, a message, no traceback, and the cell ends.
    (error,) = [output for output in stopped if output.output_type == "error"]
    assert error.ename == "Interrupted"
    assert error.traceback == ["The training was interrupted by SIGINT. Its run is saved."]
    assert "Stopped and saved after step 7. Go on with:" in text_of(stopped) and "not reached" not in text_of(stopped)
    assert "from step 8" in text_of(resumed)
    tiny_train(tmp_path / "reference")
    assert content(tmp_path / "halves") == content(tmp_path / "whole") == content(tmp_path / "reference")

    # --quiet, and text where that was asked for: a line an epoch, no picture.
    for outputs in (quiet, text):
        assert not pictures_of(outputs) and text_of(outputs).count("d_loss") >= 4
    assert not [output for output in quiet if output.output_type == "display_data"]

    # The kernel has arguments of its own; they are not taken for flags.
    assert text_of(main).startswith("True 60\n") and main[-1].data["text/plain"] == "0"


def test_the_quickstart_has_no_outputs_and_is_short():
    notebook = json.loads(QUICKSTART.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len(notebook["cells"]) <= 15 and sum(len(cell["source"]) for cell in code) <= 40


@needs_jupyter
@quietly
def test_the_quickstart_runs(tmp_path, monkeypatch):
    """With fewer images and epochs. The data are drawn where MNIST is not at hand."""
    if not os.environ.get("TINYGAN_DATA"):
        rng = np.random.default_rng(0)
        np.save(tmp_path / "images.npy", rng.integers(0, 256, (2000, 1, 28, 28), dtype=np.uint8))
        monkeypatch.setenv("TINYGAN_DATA", str(tmp_path / "images.npy"))
    cells = ["".join(cell["source"]) for cell in json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]
             if cell["cell_type"] == "code"]
    assert sum("epochs=5" in cell for cell in cells) == 1
    train = next(i for i, cell in enumerate(cells) if "epochs=5" in cell)
    cells[train] = cells[train].replace("epochs=5", "epochs=2, limit_train=1300")
    shown = executed(tmp_path, *cells, cells[train].replace("epochs=2", "epochs=3"))  # the last one as its reader is told to
    assert len(pictures_of(shown[train])) == 1 and "The run is complete." in text_of(shown[train])
    assert "from step 21" in text_of(shown[-1])
    assert len((tmp_path / "runs/quickstart/metrics.csv").read_text().splitlines()) == 31
    (images,) = pictures_of(shown[train + 1])
    (gradient,) = pictures_of(shown[train + 2])
    assert images.shape[1] > 900 and gradient.shape[1] > 400
    before, after = (np.array(line.split("[")[1].split("]")[0].split(), float)
                     for line in text_of(shown[train + 2]).splitlines())
    assert before.shape == (8,) and after.mean() > before.mean()  # the direction is the right one


# -- without a kernel --------------------------------------------------------------------------------------------------


def test_a_notebook_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    settings = tiny_settings(tmp_path / "run")
    with pytest.raises(training.RunError, match=r"needs Jupyter: in a copy of the repository, pip install '.\[notebook\]'"):
        training.train(tiny_gan(settings), tiny_data(), settings, show="notebook")
    with pytest.raises(ValueError, match=r"train: show should be 'notebook' or 'terminal', or None .*, got 'jupyter'"):
        training.train(tiny_gan(settings), tiny_data(), settings, show="jupyter")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shell, jupyter", [(None, False), (object(), False),
                                            (types.SimpleNamespace(kernel=None), False),
                                            (types.SimpleNamespace(kernel=1), True)])
def test_jupyter_is_where_the_shell_has_a_kernel(monkeypatch, shell, jupyter):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert progress.in_jupyter() is jupyter
    assert progress.is_shown() is jupyter  # the tests' stderr is no terminal
    monkeypatch.delitem(sys.modules, "IPython")
    assert not progress.in_jupyter()


@pytest.mark.parametrize("steps", [1, 2, 399, 400, 401, 1203, 5000])
def test_a_long_training_is_drawn_by_means(steps):
    values = np.random.default_rng(0).normal(size=steps)
    at, means = _thinned(values)
    assert len(at) <= 400 and at[-1] == steps
    begin = 0
    for end, mean in zip(at.astype(int), means, strict=True):
        assert mean == pytest.approx(np.mean([values[i] for i in range(begin, end)]), abs=1e-12)
        begin = end


def test_the_picture_of_a_training():
    images = np.random.default_rng(0).uniform(-1, 1, (6, 3, 5, 5)).astype(np.float32)
    first = plotting.draw_training([1.0, 0.5], [0.7, 0.9], title="a", steps_per_epoch=2)
    second = plotting.draw_training([1.0, 0.5], [0.7, 0.9], images, title="a", steps_per_epoch=2, columns=3)
    first, second = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in (first, second))
    half = first.shape[1] * 6 // 10
    colours = np.ptp(second[:, half:], axis=2).max(), np.ptp(first[:, half:], axis=2).max()
    assert first.shape == second.shape and colours[0] > 100 > 1 > colours[1]  # a coloured grid, and nothing
    with pytest.raises(ValueError, match=r"draw_training: d_loss \(2,\) and g_loss \(1,\) must be one axis"):
        plotting.draw_training([1, 2], [1], title="a", steps_per_epoch=2)
