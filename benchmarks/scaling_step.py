"""The step of `scaling.py`, on one or several processes: `mpirun -n 2 python scaling_step.py MODEL BATCH STEPS`. BATCH is
that of all processes together. After STEPS may come a device: with `cuda`, each process takes a GPU of its own. The first
process prints the measurements as a line of JSON.

With `pingpong` in place of a model: the time of a reduction over the processes, for arrays of several sizes. With `overlap`:
how much of a reduction other work can hide."""
from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import models
import numpy as np
import subject_tinygan
from kernels_loaded import THREADS

import tinygan as tg
from tinygan.distributed import World
from tinygan.random import Key

WARM_UP, ROUNDS = 4, 5
SIZES = [2**n for n in range(3, 25)]  # bytes


class Timed(World):
    """A world that notes how long its reductions of the host take, and how many bytes each process gives to them."""

    seconds, bytes, calls = 0.0, 0, 0

    def _timed(self, reduction: Any, x: Any) -> Any:
        started = time.perf_counter()
        found = reduction(x)
        self.seconds += time.perf_counter() - started
        self.bytes += x.nbytes
        self.calls += 1
        return found

    def mean_on_host(self, x: Any) -> Any:
        return self._timed(super().mean_on_host, x)

    def gather_on_host(self, x: Any) -> Any:
        return self._timed(super().gather_on_host, x)


def step_times(model: models.Model, batch: int, steps: int, world: Timed | None, device: str) -> dict[str, Any]:
    ranks, rank = (1, 0) if world is None else (world.size, world.rank)
    adam = model.optimiser
    g_optimizer, d_optimizer = (tg.optim.Adam(adam.lr, betas=adam.betas) for _ in range(2))
    gan = tg.gans.VanillaGAN(
        *subject_tinygan.players(model), latent_dim=model.latent_dim, cost=model.cost, penalties=dict(model.penalties),
        g_optimizer=g_optimizer, d_optimizer=d_optimizer, key=Key(0), world=world)  # fmt: skip
    gan.to(device)
    real = Key(1).uniform((batch, *model.image_shape), -1, 1).reshape(ranks, -1, *model.image_shape)[rank]
    real = tg.to_device(real, device)
    step, times, inside = tg.capture(gan.step), [], []
    for _ in range(WARM_UP):
        float(step(real).d_loss)
    if world is not None:
        world.seconds, world.bytes, world.calls = 0.0, 0, 0
    for _ in range(ROUNDS):
        before, started = 0.0 if world is None else world.seconds, time.perf_counter()
        for _ in range(steps):
            stats = step(real)
        float(stats.d_loss)  # a GPU has to end its work for this
        times.append((time.perf_counter() - started) / steps)
        inside.append(0.0 if world is None else (world.seconds - before) / steps)
    made = ROUNDS * steps
    return {"ms": 1e3 * statistics.median(times), "rounds_ms": [round(1e3 * t, 3) for t in times],
            "reduction_ms": 1e3 * statistics.median(inside), "threads": THREADS, "ranks": ranks,
            "reductions": 0 if world is None else world.calls / made, "bytes": 0 if world is None else world.bytes / made,
            "parameters": sum(p.size for p in (*gan.g_parameters, *gan.d_parameters))}  # fmt: skip


def reduction_times(world: World) -> dict[str, float]:
    """Seconds of a mean over the ranks, by the bytes of an array: the median of many."""
    found = {}
    for size in SIZES:
        x, times = np.ones(size // 4, np.float32), []
        for _ in range(max(5, min(200, 2**24 // size))):
            world.largest(0)  # all begin together
            started = time.perf_counter()
            world.mean(x)
            times.append(time.perf_counter() - started)
        found[str(size)] = statistics.median(times)
    return found


def overlap_times(bytes_: int = 2**23) -> dict[str, float]:
    """Milliseconds of a reduction, of a matrix product, of one after the other, and of the product while the reduction has
    been started and not yet waited for."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    x, a = np.ones(bytes_ // 4, np.float32), np.ones((768, 768), np.float32)
    total = np.empty_like(x)

    def in_turn() -> None:
        comm.Allreduce(x, total)
        a @ a

    def at_once() -> None:
        request = comm.Iallreduce(x, total)
        a @ a
        request.Wait()

    found = {}
    for name, work in {"reduction": lambda: comm.Allreduce(x, total), "product": lambda: a @ a, "in turn": in_turn,
                       "at once": at_once}.items():  # fmt: skip
        times = []
        for _ in range(30):
            comm.Barrier()
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        found[name] = round(1e3 * statistics.median(times), 3)
    return found


def main() -> None:
    name, *numbers = sys.argv[1:]
    world = Timed() if tg.distributed.join() is not None else None
    if name == "pingpong":
        found: dict[str, Any] = reduction_times(World())
    elif name == "overlap":
        found = overlap_times()
    else:
        batch, steps = map(int, numbers[:2])
        device = numbers[2] if numbers[2:] else "cpu"
        model = (models.TINY if device == "emulated" else models.MODELS)[name]
        found = step_times(model, batch, steps, world, device)
    if world is None or world.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
