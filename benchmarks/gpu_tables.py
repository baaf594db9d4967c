"""The tables of `gpu.py`, made from its JSON."""
from __future__ import annotations

from collections.abc import Iterator

from harness import Row, describe, markdown

STEP_COLUMNS = {
    "model": "model", "batch": "batch", "precision": "precision", "framework": "framework", "variant": "variant",
    "median_ms": "step, ms (median)", "min_ms": "min", "max_ms": "max", "images": "examples/s",
    "peak_mib": "peak memory, MiB",
}  # fmt: skip
RATIO_COLUMNS = {
    "model": "model", "batch": "batch", "precision": "precision", "captured_ms": "tinygan captured, ms",
    "eager": "/ PyTorch eager", "graphed": "/ PyTorch in a CUDA graph", "compiled": "/ PyTorch compiled",
}  # fmt: skip
KERNEL_COLUMNS = {
    "precision": "precision", "name": "kernel", "sizes": "sizes", "us": "µs", "floor_us": "floor, µs", "bound": "bound by",
    "ratio": "time / floor", "torch_us": "PyTorch, µs",
}  # fmt: skip
PROFILE_ROWS = 25


def ratios(parts: list[Row]) -> list[Row]:
    """For each part that timed steps: the time of tinygan's best captured step over PyTorch's best time in each mode."""
    found = []
    for part in of_kind(parts, "steps"):
        rows = part["result"]["rows"]
        ours = min((row["median_ms"] for row in rows
                    if row["framework"] == "tinygan" and row["variant"].startswith("captured")), default=None)
        if ours is None:
            continue
        told = {key: rows[0][key] for key in ("model", "batch", "precision")}
        best: Row = {}
        for row in rows:
            if row["framework"] == "torch":
                way = row["variant"].split()[0]
                best[way] = min(row["median_ms"], best.get(way, float("inf")))
        found.append({**told, "captured_ms": ours, **{way: round(ours / time, 3) for way, time in best.items()}})
    return found


def of_kind(parts: list[Row], kind: str) -> list[Row]:
    """The parts of that kind that have results."""
    return [part for part in parts if part["kind"] == kind and part["status"] == "done"]


def show(result: Row) -> str:
    """All tables, with what has been measured so far."""
    parts, card = result["parts"], result["card"]
    lines = [f"# tinygan on {card.get('name', result['settings']['device'])}", "", describe(result["machine"]), ""]
    lines += [f"{card['torch']}; compute capability {card.get('compute_capability', '-')}", ""] if card else []
    lines += [f"- not known of this card: {error.splitlines()[-1]}" for error in card.get("errors", [])]
    if result["settings"]["emulated"]:
        lines += ["**emulated: times mean nothing**", ""]
    for title, kind, body in (
        ("Tests", "tests", _tests), ("The same work", "equality", _equality), ("Training steps", "steps", _steps),
        ("Ratios: tinygan captured over PyTorch", "steps", _ratios), ("Kernels", "kernels", _kernels),
        ("The vanilla step and its floor", "floor", _floor), ("What runs in a step", "profile", _profile),
        ("Two GPUs", "processes", _processes), ("Resuming", "resume", _resume), ("Parts", "", _parts),
    ):
        chosen = of_kind(parts, kind) if kind else parts
        lines += [f"## {title}", "", *(body(chosen, card) if chosen else ["Not measured."])]
        missing = [part for part in parts if part["kind"] == kind and part["status"] not in ("done", "waiting")
                   and body is not _ratios]
        lines += [""] * bool(missing) + [f"- {part['status']}: {part['name']}: {_brief(part['error'])}" for part in missing]
        lines += [""]
    return "\n".join(lines)


def _brief(error: str) -> str:
    """The error in one line, without characters that break a table. The JSON has all of it."""
    return " ".join(error.split()).replace("|", "/")[:300]


def _tests(parts: list[Row], card: Row) -> Iterator[str]:
    for part in parts:
        found = part["result"]
        yield markdown([found], {"status": "exit status", "summary": "summary"})
        if found["failures"]:
            yield from ("", "```", *found["failures"][:40], "```")


def _equality(parts: list[Row], card: Row) -> Iterator[str]:
    rows = [{"model": part["result"]["model"], "batch": part["result"]["batch"], "subject": subject, **check}
            for part in parts for subject, check in part["result"]["check"].items()]
    yield markdown(rows, {
        "model": "model", "batch": "batch", "subject": "subject", "float32_gradients": "its float32 gradients",
        "discriminator_gradients": "D's gradients, float64", "generator_gradients": "G's gradients, float64",
        "running_statistics": "statistics, float64", "d_loss": "D's loss, float32", "g_loss": "G's loss, float32",
    })  # fmt: skip


def _steps(parts: list[Row], card: Row) -> Iterator[str]:
    rows = [{**row, "images": f"{1e3 * row['batch'] / row['median_ms']:.0f}"} for part in parts
            for row in part["result"]["rows"]]
    yield markdown(rows, STEP_COLUMNS)
    failed = [(part["name"], row) for part in parts for row in part["result"]["failed"]]
    yield from [""] * bool(failed)
    yield from (f"- failed: {name}: {row['framework']} {row['variant']}: {_brief(row['error'])}"
                for name, row in failed)


def _ratios(parts: list[Row], card: Row) -> Iterator[str]:
    yield markdown(ratios(parts), RATIO_COLUMNS)
    yield from ("", "Below 1, tinygan is faster.")


def _kernels(parts: list[Row], card: Row) -> Iterator[str]:
    rates = card["rates"]
    products = ", ".join(f"{name} {rates[name] / 1e12:.1f} TFLOP/s" for name in ("float32", "tf32") if name in rates)
    yield f"This card: copies {rates['bytes'] / 1e9:.0f} GB/s (read and written), products {products}."
    yield from ("", markdown([row for part in parts for row in part["result"]["rows"]], KERNEL_COLUMNS))
    failed = [row for part in parts for row in part["result"]["failed"]]
    yield from [""] * bool(failed)
    yield from (f"- failed: {row['name']}, {row['sizes']}: {_brief(row['error'])}" for row in failed)


def _floor(parts: list[Row], card: Row) -> Iterator[str]:
    for part in parts:
        found = part["result"]
        yield (f"Batch {found['batch']}: a captured step takes {found['step_us']:.0f} µs, its {found['kernels']} kernels at "
               f"least {found['floor_us']:.0f} µs together: {found['ratio']:.2f} times as long.")
        yield from ("", markdown(found["rows"], {"kernel": "kernel", "calls": "calls", "floor_us": "floor, µs"}))


def _profile(parts: list[Row], card: Row) -> Iterator[str]:
    for i, part in enumerate(parts):
        found = part["result"]
        calls = sum(row["calls"] for row in found["rows"])
        yield from [""] * bool(i)
        yield f"{found['model']}, batch {found['batch']}, {found['precision']}, a step:"
        yield f"{found['us']:.0f} µs in {calls:.0f} kernels and copies."
        rows = found["rows"][:PROFILE_ROWS]
        yield from ("", markdown(rows, {"kernel": "kernel", "calls": "calls a step", "us": "µs a step"}))


def _processes(parts: list[Row], card: Row) -> Iterator[str]:
    rows = [row for part in parts for row in part["result"]["rows"]]
    yield markdown(rows, {"model": "model", "ranks": "processes, each with a GPU", "batch": "batch of all", "ms": "step, ms",
                          "images": "images/s", "over_one": "over one process"})


def _resume(parts: list[Row], card: Row) -> Iterator[str]:
    def told(names: list[str]) -> str:
        return "the same to the last bit" if not names else f"{len(names)} arrays differ: {', '.join(names[:4])}"

    rows = [{**part["result"], "resumed": told(part["result"]["resumed_differs"]),
             "eager": told(part["result"]["eager_differs"])} for part in parts]
    yield markdown(rows, {"model": "model", "steps": "steps", "batch": "batch", "arrays": "arrays",
                          "resumed": "in two halves", "eager": "without capture"})


def _parts(parts: list[Row], card: Row) -> Iterator[str]:
    rows = [{**part, "error": _brief(part["error"])} for part in parts]
    yield markdown(rows, {"name": "part", "status": "status", "seconds": "s", "expected": "s, expected", "error": "why"})
