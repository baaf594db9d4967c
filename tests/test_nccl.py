"""What processes exchange between GPUs, with an imitation of NCCL: its ranks are threads here, and its arrays NumPy's."""
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import tinygan as tg
from tinygan.kernels.cuda.runtime.nccl import Nccl

RANKS, STREAM = 3, 1234


class Id:
    def __init__(self, name=b"the name of this exchange"):
        self.name = name

    def __bytes__(self):
        return self.name

    from_bytes = staticmethod(lambda name: Id(name))


class Meeting:
    """Where the threads leave their arrays for each other."""

    def __init__(self):
        self.barrier = threading.Barrier(RANKS)
        self.left = {}

    def all_of(self, rank, value):
        self.left[rank] = value
        self.barrier.wait()
        found = [self.left[rank] for rank in range(RANKS)]
        self.barrier.wait()
        return found


def imitation(meeting):
    class Communicator:
        @classmethod
        def init(cls, size, rank, name):
            assert size == RANKS and {bytes(one) for one in meeting.all_of(rank, name)} == {b"the name of this exchange"}
            found = cls()
            found.rank = rank
            return found

        def allreduce(self, x, total, op, *, stream):
            self.check(x, total, stream)
            assert op == "sum" and total.size == x.size  # (NCCL knows of no shapes)
            total.reshape(-1)[...] = sum(meeting.all_of(self.rank, x)).reshape(-1)

        def allgather(self, x, every, *, stream):
            self.check(x, every, stream)
            every.reshape(-1)[...] = np.concatenate([one.reshape(-1) for one in meeting.all_of(self.rank, x)])

        @staticmethod
        def check(x, result, stream):
            assert stream == STREAM and x.flags.c_contiguous and result.flags.c_contiguous and x.dtype == result.dtype

    core = ModuleType("nccl.core")
    core.SUM, core.UniqueId, core.Communicator, core.get_unique_id = "sum", Id, Communicator, Id
    nccl = ModuleType("nccl")
    nccl.core = core
    return {"nccl": nccl, "nccl.core": core}


def world(rank, meeting):
    return SimpleNamespace(rank=rank, size=RANKS, from_first=lambda value: meeting.all_of(rank, value)[0])


CUPY = SimpleNamespace(zeros=np.zeros, empty=np.empty, ascontiguousarray=np.ascontiguousarray,
                       cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=STREAM)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_means_and_the_arrays_of_all(dtype, monkeypatch):
    meeting = Meeting()
    for name, module in imitation(meeting).items():
        monkeypatch.setitem(sys.modules, name, module)
    inputs = [np.random.default_rng(rank).normal(size=(4, 2, 3)).astype(dtype).transpose(0, 2, 1) for rank in range(RANKS)]

    def process(rank):
        exchange = Nccl(CUPY, world(rank, meeting))
        assert exchange.mean(dtype(rank)[()]).shape == () and exchange.gather(np.array(rank, dtype)).tolist() == [0, 1, 2]
        return exchange.mean(inputs[rank]), exchange.gather(inputs[rank])

    with ThreadPoolExecutor(RANKS) as threads:
        found = list(threads.map(process, range(RANKS)))
    for mean, every in found:
        assert mean.dtype == every.dtype == dtype
        np.testing.assert_allclose(mean, np.mean(inputs, 0), rtol=1e-6)
        np.testing.assert_array_equal(every, inputs)


def test_without_nccl_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nccl", None)
    with pytest.raises(tg.DeviceError, match=r"several processes on GPUs need NCCL: in a copy of the repository, pip install '.\[nccl12\]'"):
        Nccl(CUPY, world(0, Meeting()))
