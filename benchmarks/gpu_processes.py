"""Training on two GPUs: two processes, each with a GPU of its own, beside one process with one GPU and the same batch for
each. On a machine with one GPU this is skipped."""
from __future__ import annotations

import importlib.util
from typing import Any

import scaling
from gpu_card import Card, NotHereError
from scaling_step import ROUNDS, WARM_UP

STEPS = {"vanilla": 200, "dcgan28": 100, "dcgan64": 50}


def two(card: Card, name: str, batch: int) -> dict[str, Any]:
    """The times of a step of one and of two processes. batch: that of each process."""
    missing = _missing(card)
    if missing:
        raise NotHereError(missing)
    device, steps = ("emulated", 1) if card.emulated else ("cuda", STEPS[name])
    rows = []
    for ranks in (1, 2):
        found = scaling.launch(ranks, 1, name, ranks * batch, steps, device)
        rows.append({"model": name, "ranks": ranks, "batch": ranks * batch, "ms": round(found["ms"], 4),
                     "images": round(1e3 * ranks * batch / found["ms"])})  # fmt: skip
    rows[1]["over_one"] = round(rows[1]["images"] / rows[0]["images"], 3)
    return {"rows": rows, "steps": steps, "rounds": ROUNDS, "warm_up": WARM_UP}


def _missing(card: Card) -> str:
    """Why two GPUs cannot be tried; "" if they can."""
    if card.gpus() < 2:
        return "this machine has one GPU"
    if importlib.util.find_spec("mpi4py") is None or scaling.mpirun_found() is None:
        return "mpi4py or mpirun is not installed (the extra `mpi`)"
    if not card.emulated and importlib.util.find_spec("nccl") is None:
        return "nccl4py is not installed (the extra `nccl12` or `nccl13`)"
    return ""
