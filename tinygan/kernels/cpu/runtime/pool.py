"""One pool of threads for all kernels. A task is cut into parts; the caller and the workers each take the next part.

A training step runs forty tasks, so starting one must be cheap. Numba's own pools take 130 microseconds to start a task
(workqueue), or keep other programs from the cores (OpenMP). Here, after each task, a worker watches one word in memory, the
ticket. If no other task comes for some milliseconds, the worker goes to sleep. The caller never waits for a worker that
sleeps or whose core is busy: it runs all parts that no worker has taken.

The workers serve one task at a time. If another thread is using them, the caller runs its task alone. After a fork the child
has a pool of its own. Large matrix products also run on this pool, so no BLAS threads compete for the cores.
"""
from __future__ import annotations

import atexit
import ctypes
import os
import platform
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygan import launched
from tinygan.kernels.cpu.runtime.arguments import packed
from tinygan.kernels.cpu.runtime.arrays import address, array_at
from tinygan.kernels.cpu.runtime.compiling import compiled, entry, inline
from tinygan.kernels.cpu.runtime.recorded import ACTIVE

# The indices of the words that caller and workers share. Each word is on a cache line of its own.
TICKET, FUNCTION, ARGUMENTS, PARTS, DONE, STOP, BUSY, WORDS = 0, 8, 16, 24, 32, 40, 48, 56
CLOSED = (1 << 32) - 1  # the lower half of the ticket while there is no part to take
LOOKS_BEFORE_SLEEP = 200_000
"""How often a worker looks at the ticket before it goes to sleep. This takes some milliseconds, longer than the gaps between
the tasks of a step."""
SHARED_FROM_ELEMENTS = 32 * 1024
"""How many elements a simple loop must have for the workers to help. With fewer, waking them takes longer than they save."""


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def load(typing: Any, words: Any, index: Any) -> Any:
    """Read the word at index from memory, atomically and in order with the writes of other threads."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature.args[0], args[0], args[1]), "seq_cst", 8)

    return types.int64(words, types.intp), code


@intrinsic
def store(typing: Any, words: Any, index: Any, value: Any) -> Any:
    """Write the word at index, atomically and in order."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), code


@intrinsic
def increment(typing: Any, words: Any, index: Any) -> Any:
    """Add 1 to the word at index, atomically. Returns the old value."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(words, types.intp), code


@intrinsic
def replace(typing: Any, words: Any, index: Any, old: Any, new: Any) -> Any:
    """Write `new` to the word at index if the word is still `old`, atomically. Returns whether it was."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return types.boolean(words, types.intp, types.int64, types.int64), code


@intrinsic
def call(typing: Any, function: Any, arguments: Any, part: Any, parts: Any) -> Any:
    """Call the task at an address."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word.as_pointer(), word, word])
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, [builder.inttoptr(args[1], word.as_pointer()), args[2], args[3]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), code


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the processor that this loop waits, if it has an instruction for that."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code


@entry((types.int64[::1], types.boolean))
def _take_parts(words: Any, once: Any) -> Any:
    """Take parts and run them. once: until this task has no parts left. Otherwise: until no task has come for a while.

    A thread takes a part by adding 1 to the ticket. This fails if the ticket has changed since it was read: another thread
    took the part, or the caller closed the task. So the function, arguments and parts that were read after the ticket
    belong to the same task.
    """
    spins = 0
    while once or (spins < LOOKS_BEFORE_SLEEP and load(words, STOP) == 0):
        ticket = load(words, TICKET)
        part = ticket & CLOSED
        parts = load(words, PARTS)
        if part < parts:
            function = load(words, FUNCTION)
            arguments = load(words, ARGUMENTS)
            if replace(words, TICKET, ticket, ticket + 1):
                call(function, arguments, part, parts)
                increment(words, DONE)
                spins = 0
        elif once:
            return
        else:
            spins += 1
            pause()


_words_at = array_at(types.int64)


@inline
def _share(words: Any, function: Any, arguments: Any, parts: Any) -> Any:
    """Publish a task, help with it, and return 1 when all of it is done. Return 0 if the workers are busy.

    The workers are reserved and released inside compiled functions, because no exception from a signal handler can
    interrupt them.
    """
    if not replace(words, BUSY, 0, 1):
        return 0
    ticket = load(words, TICKET)
    store(words, FUNCTION, function)
    store(words, ARGUMENTS, arguments)
    store(words, DONE, 0)
    store(words, PARTS, parts)
    store(words, TICKET, ((ticket >> 32) + 1) << 32)
    _take_parts(words, True)
    while load(words, DONE) < parts:
        pause()
    ticket = load(words, TICKET)
    store(words, TICKET, ((ticket >> 32) << 32) | CLOSED)
    store(words, BUSY, 0)
    return 1


@compiled(types.int64(types.int64, types.int64, types.int64, types.int64))
def _shared(words_at: Any, function: Any, arguments: Any, parts: Any) -> Any:
    """`_share` for Python."""
    return _share(_words_at(words_at, WORDS), function, arguments, parts)


@compiled(types.void(types.int64, types.int64, types.int64, types.boolean))
def _all(words_at: Any, table_at: Any, tasks: Any, share: Any) -> None:
    """Run the tasks of a table one after another. A row of the table is a task: its address, that of its arguments, and its
    number of parts. share: whether the workers may help."""
    words, table = _words_at(words_at, WORDS), _words_at(table_at, 3 * tasks)
    for task in range(tasks):
        function, arguments, parts = table[3 * task], table[3 * task + 1], table[3 * task + 2]
        if not (share and parts > 1 and _share(words, function, arguments, parts)):
            for part in range(parts):
                call(function, arguments, part, parts)


@compiled(types.void(types.int64, types.int64, types.int64))
def _alone(function: Any, arguments: Any, parts: Any) -> None:
    """Run all parts of a task in the calling thread."""
    for part in range(parts):
        call(function, arguments, part, parts)


# Called by ctypes, which takes the arguments' bytes as they are: an array of them would cost as much as the call.
_WORD, _BYTES = ctypes.c_int64, ctypes.c_char_p
_run: Callable[[int, int, bytes, int], int] = ctypes.CFUNCTYPE(_WORD, _WORD, _WORD, _BYTES, _WORD)(_shared)
_run_alone: Callable[[int, bytes, int], None] = ctypes.CFUNCTYPE(None, _WORD, _BYTES, _WORD)(_alone)
_run_all: Callable[[int, int, int, bool], None] = ctypes.CFUNCTYPE(None, _WORD, _WORD, _WORD, ctypes.c_bool)(_all)


class Pool:
    """The caller's thread and `size - 1` workers. The workers are started when a task is first shared."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._stop)

    def _reset(self) -> None:
        self._wake = threading.Semaphore(0)
        self._asleep = 0
        self._changing = threading.Lock()  # for `_asleep` and `_workers`; not held while a task runs
        self._workers: list[threading.Thread] = []
        self._words = np.zeros(WORDS, np.int64)
        self._words[TICKET] = CLOSED
        self._words_at = address(self._words)

    def parts(self, elements: int) -> int:
        """Into how many parts to cut a simple loop over that many elements."""
        return 1 if elements < SHARED_FROM_ELEMENTS else self.size

    def run(self, kernel: int, arguments: tuple[Any, ...] | bytes | Callable[[], bytes], parts: int = 1) -> None:
        """Run all parts of a task and wait for them. kernel: the address of the task. arguments: a NamedTuple, or what
        `packer` made of its values (see `arguments`); or a function that returns these bytes and is called again before
        every replay of a recorded step. parts: see `Pool.parts`; a single part runs in the calling thread."""
        again = None
        if callable(arguments):
            again = arguments
            task = arguments()
        else:
            task = arguments if isinstance(arguments, bytes) else packed(arguments)
        if ACTIVE.recorder is not None:
            ACTIVE.recorder.task(kernel, task, parts, again)
        if parts > 1 and self.size > 1:
            self._wake_up()
            if _run(self._words_at, kernel, task, parts):
                return
        _run_alone(kernel, task, parts)  # also if another thread is using the workers

    def run_all(self, table: int, tasks: int, share: bool) -> None:
        """Run tasks one after another, in one call. table: the address of their table (see `_all`). share: whether one of
        them has several parts."""
        share = share and self.size > 1
        if share:
            self._wake_up()
        _run_all(self._words_at, table, tasks, share)

    def _wake_up(self) -> None:
        """Start the workers, or wake those that sleep."""
        if len(self._workers) < self.size - 1:
            self._start()
        if self._asleep:
            with self._changing:
                sleepers, self._asleep = self._asleep, 0
            for _ in range(sleepers):
                self._wake.release()

    def _start(self) -> None:
        with self._changing:
            while len(self._workers) < self.size - 1:
                worker = threading.Thread(target=self._work, args=(self._words, self._wake),
                                          name=f"tinygan-{len(self._workers) + 1}", daemon=True)
                try:
                    worker.start()
                except RuntimeError:  # the system allows no more threads: go on with those that there are
                    self.size = len(self._workers) + 1
                    return
                self._workers.append(worker)

    def _work(self, words: Any, wake: threading.Semaphore) -> None:
        while not words[STOP]:
            _take_parts(words, False)
            with self._changing:
                self._asleep += 1
            wake.acquire()

    def _stop(self) -> None:
        """End the workers before the interpreter frees their code."""
        self._words[STOP] = 1
        self.size = 1  # from now on every caller works alone
        self._wake.release(max(len(self._workers), 1))
        for worker in self._workers:
            worker.join(1.0)


def core_count() -> int:
    """How many cores this process may use. NUMBA_NUM_THREADS and OMP_NUM_THREADS can lower the number."""
    cores = launched.cores()
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        limit = os.environ.get(name, "")
        if limit.isdigit() and int(limit) > 0:
            cores = min(cores, int(limit))
    return cores


pool = Pool(core_count())
