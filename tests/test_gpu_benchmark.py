"""`benchmarks/gpu.py` from beginning to end on the emulated device, and what it does when something goes wrong."""
import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # (what torch says of itself)
KINDS = {"tests", "equality", "steps", "floor", "kernels", "resume", "profile", "processes"}


@pytest.fixture(scope="module")
def gpu():
    """The benchmark."""
    if shutil.which("g++") is None:
        pytest.skip("the emulated device needs g++")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("gpu")


def run(gpu, folder, *flags):
    """(exit status, the JSON, the Markdown). The minutes are more than a busy machine takes."""
    status = gpu.main(["--out", str(folder), "--emulate", "--no-tests", "--minutes", "60", *flags])
    return status, json.loads((folder / "gpu.json").read_text()), (folder / "gpu.md").read_text()


@pytest.fixture(scope="module")
def whole(gpu, tmp_path_factory):
    return run(gpu, tmp_path_factory.mktemp("gpu"))


def by_name(result):
    return {part["name"]: part for part in result["parts"]}


@pytest.mark.gpu_benchmark
def test_every_part_runs_and_is_kept(whole):
    status, result, _ = whole
    assert status == 0
    assert {part["kind"] for part in result["parts"]} == KINDS
    for part in result["parts"]:
        without = part["kind"] == "processes" and importlib.util.find_spec("mpi4py") is None
        if part["kind"] in ("tests", "profile") or part["name"].endswith("compiled") or without:
            assert part["status"] == "skipped" and part["error"]  # these need a GPU
        else:
            assert part["status"] == "done", part
            assert not part["result"].get("failed"), part
    assert {row["variant"] for row in result["rows"] if row["framework"] == "tinygan"} >= {"captured", "eager"}
    assert {row["model"] for row in result["rows"]} == {"dcgan64", "dcgan28", "vanilla", "unrolled ring"}
    assert all(row["median_ms"] > 0 for row in result["rows"])
    assert result["card"]["rates"].keys() == {"bytes", "float32", "tf32"}


@pytest.mark.gpu_benchmark
def test_the_same_work_is_checked_with_somebody_else(whole):
    for part in whole[1]["parts"]:
        if part["kind"] == "equality":
            check = part["result"]["check"]
            others = [found for name, found in check.items() if name != "tinygan eager"]
            assert others and all(0 <= found["generator_gradients"] <= 1e-8 for found in others)


@pytest.mark.gpu_benchmark
def test_kernels_have_floors(whole):
    parts = by_name(whole[1])
    card = whole[1]["card"]["rates"]
    rows = [row for part in parts.values() if part["kind"] == "kernels" for row in part["result"]["rows"]]
    assert {row["name"].partition(",")[0] for row in rows} == {
        "convolution", "dense", "batch norm", "activation", "Adam", "normal noise"}
    for row in rows:
        moving, multiplying = row["bytes"] / card["bytes"], row["operations"] / card["float32"]
        assert row["floor_us"] == pytest.approx(1e6 * max(moving, multiplying))
        assert row["ratio"] == pytest.approx(row["us"] / row["floor_us"])
    floor = parts["floor: vanilla"]["result"]
    calls = {row["kernel"]: row["calls"] for row in floor["rows"]}
    assert calls["optimizers.adam"] == 2 and calls["random.normal"] == 2 and sum(calls.values()) == floor["kernels"]
    assert floor["floor_us"] >= 2.5 * floor["kernels"]


def test_two_gpus_are_skipped_where_there_is_one(gpu, tmp_path, monkeypatch):
    card = importlib.import_module("gpu_card").Card
    monkeypatch.setattr(card, "gpus", lambda self: 1)
    status, result, text = run(gpu, tmp_path, "--only", "processes")
    assert status == 0 and [part["status"] for part in result["parts"]] == 3 * ["skipped"]
    assert "- skipped: processes: vanilla: this machine has one GPU" in text


@pytest.mark.gpu_benchmark
def test_resuming_is_compared_bit_by_bit(whole):
    found = [part["result"] for part in whole[1]["parts"] if part["kind"] == "resume"]
    assert [f["model"] for f in found] == ["vanilla", "dcgan28"]
    assert all(f["arrays"] > 20 and f["resumed_differs"] == f["eager_differs"] == [] for f in found)


@pytest.mark.gpu_benchmark
def test_the_markdown_has_every_table(whole):
    text = whole[2]
    assert "times mean nothing" in text
    for title, heading in {
        "## The same work": "| model | batch | subject |", "## Training steps": "| model | batch | precision | framework |",
        "## Ratios": "| model | batch | precision | tinygan captured, ms |", "## Kernels": "| precision | kernel | sizes |",
        "## The vanilla step": "| kernel | calls | floor, µs |", "## Resuming": "| model | steps | batch |", "## Two GPUs": "processes",
        "## Parts": "| part | status |", "## Tests": "- skipped: tests:", "## What runs in a step": "- skipped: profile",
    }.items():
        _, _, section = text.partition(title)
        assert heading in section.partition("\n## ")[0], title


def test_no_time_skips_and_names_everything(gpu, tmp_path, capsys):
    status, result, text = run(gpu, tmp_path, "--minutes", "0")
    assert status == 0
    assert {part["kind"] for part in result["parts"]} == KINDS
    assert all(part["status"] == "skipped" and part["error"] for part in result["parts"])
    assert all(f"| {part['name']} | skipped |" in text for part in result["parts"])
    assert text.strip() == capsys.readouterr().out.strip()


def test_different_work_is_refused_and_not_timed(gpu, tmp_path, monkeypatch):
    steps = importlib.import_module("gpu_steps")
    gradients = steps.Subject.gradients

    def wrong(self, **noise):
        found = gradients(self, **noise)
        if self.device == "emulated":
            found.generator["2.weight"][0, 0] *= 1 + 1e-5
        return found

    monkeypatch.setattr(steps.Subject, "gradients", wrong)
    status, result, text = run(gpu, tmp_path, "--only", "steps: vanilla")
    assert status == 1
    parts = by_name(result)
    assert parts["equality: vanilla"]["status"] == "refused"
    assert "generator gradients, most about 2.weight" in parts["equality: vanilla"]["error"]
    assert parts["steps: vanilla, batch 2, float32"]["status"] == "skipped"
    assert "(refused)" in parts["steps: vanilla, batch 2, float32"]["error"]
    assert result["rows"] == [] and "- refused: equality: vanilla" in text


def test_different_work_at_the_timed_size_is_refused(gpu, monkeypatch):
    pytest.importorskip("torch")
    card, steps = importlib.import_module("gpu_card").Card("emulated"), importlib.import_module("gpu_steps")
    gradients = steps.Subject.gradients

    def wrong(self, *noise):
        found = gradients(self, *noise)
        found.discriminator["0.weight"][...] *= 1.1
        return found

    monkeypatch.setattr(steps.Subject, "gradients", wrong)
    with pytest.raises(importlib.import_module("harness").DifferentWorkError, match=r"discriminator\.0\.weight in float32"):
        steps.steps(card, "vanilla", 2, "float32")


@pytest.mark.gpu_benchmark
def test_without_pytorch_the_cpu_is_asked(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("gpu_card"), "_torch_device", lambda device: (None, "PyTorch is not installed"))
    status, result, text = run(gpu, tmp_path, "--only", "steps: vanilla, batch 2, float32")
    parts = by_name(result)
    assert status == 0 and "PyTorch is not installed" in text
    assert 0 <= parts["equality: vanilla"]["result"]["check"]["tinygan on the CPU eager"]["generator_gradients"] <= 1e-8
    assert {row["framework"] for row in result["rows"]} == {"tinygan"}
    assert parts["steps: vanilla, batch 2, float32, compiled"]["error"] == "PyTorch is not installed"


@pytest.mark.gpu_benchmark
def test_a_failure_is_a_failure_of_one_part(gpu, tmp_path, monkeypatch):
    steps = importlib.import_module("gpu_steps")
    monkeypatch.setattr(steps, "same_work", lambda card, name: 1 / 0)
    status, result, text = run(gpu, tmp_path, "--only", "equality: vanilla;resume: vanilla")
    parts = by_name(result)
    assert status == 1
    assert parts["equality: vanilla"]["status"] == "failed" and "1 / 0" in parts["equality: vanilla"]["traceback"]
    assert "ZeroDivisionError" in text
    assert parts["resume: vanilla"]["status"] == "done"


PARTS = """
import os, time
def works(card, x): return {"x": x + 1, "process": os.getpid()}
def fails(card): raise ValueError("so it is")
def dies(card): os._exit(3)
def hangs(card): time.sleep(600)
"""


@pytest.mark.gpu_benchmark
def test_a_worker_that_fails_dies_or_hangs_is_replaced(gpu, tmp_path, monkeypatch):
    (tmp_path / "some_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    worker = importlib.import_module("gpu_worker").Worker("emulated")
    try:
        first = worker.call("some_parts", "works", {"x": 1}, 120)
        assert first.status == "done" and first.result["x"] == 2
        assert worker.call("some_parts", "works", {"x": 1}, 120) == first
        failure = worker.call("some_parts", "fails", {}, 120)
        assert failure.status == "failed" and failure.error == "ValueError: so it is" and "in fails" in failure.traceback
        death = worker.call("some_parts", "dies", {}, 120)
        assert death.status == "failed" and death.error == "its process died (exit 3)"
        assert worker.call("some_parts", "works", {"x": 1}, 120).result["process"] != first.result["process"]
        assert worker.call("some_parts", "hangs", {}, 0.5).error == "no answer within 0 s"
    finally:
        worker.stop()
    assert "some_parts" not in sys.modules


def test_the_plugin_keeps_the_tests_on_the_gpu(gpu):
    plugin = importlib.import_module("gpu_tests")

    class Item:
        def __init__(self, **parameters):
            if parameters:
                self.callspec = type("Spec", (), {"params": parameters})

    items = [Item(device="cuda"), Item(device="emulated"), Item(), Item(other_device="cuda", n=3)]
    kept, gone = [items[0], items[3]], []
    config = type("Config", (), {"hook": type("Hook", (), {"pytest_deselected": staticmethod(lambda items: gone.extend(items))})})
    plugin.pytest_collection_modifyitems(config, items)
    assert items == kept and len(gone) == 2
