"""How kernels are compiled by Numba, and kept on disk.

`compiled` makes a function that other compiled code calls by its address; every task of the pool is one (see `arguments`).
`entry` makes a function that Python calls. `inline` makes a helper of such functions.

The code is kept in the user's cache folder, in a sub-folder named by a hash over all kernel files and the processor. Numba
by itself notices a change in the file of the compiled function only, and would go on using an edited helper's old code.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite.binding import Linkage
from numba.core import caching
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

from tinygan.cache import cache_folder as user_cache
from tinygan.kernels import COMPILING
from tinygan.kernels.cpu.runtime.processor import target

# Reassociation lets reductions vectorise. NaN and infinities keep their meaning.
FAST = {"contract", "reassoc", "nsz"}
OPTIONS = {"error_model": "numpy", "fastmath": FAST, "boundscheck": False}


@cache
def fingerprint() -> str:
    """A hash over the source of all kernels and the processor that they are compiled for."""
    told = f"{numba.__version__} {llvmlite.__version__} {target()} {hash_of_sources(Path(__file__).parents[2])}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def hash_of_sources(folder: Path) -> str:
    """A hash over the Python files in a folder and in all folders below it: their names and what they hold."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None if no such folder can be written."""
    name = fingerprint()
    try:
        Path.home()  # without one the cache would be a public folder, and Numba unpickles what it finds
        kernels = user_cache() / "kernels"
        folder = kernels / name
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return None
    month = time.time() - 30 * 86400
    with suppress(FileNotFoundError):  # another process was quicker to remove it
        for other in kernels.iterdir():  # what older versions left behind
            if other != folder and other.stat().st_mtime < month:
                shutil.rmtree(other, ignore_errors=True)
    return folder


@contextmanager
def announced(file: str, what: str) -> Iterator[None]:
    """Say that the body compiles `what`, which takes its time, unless the cache has a kernel of that Python file."""
    folder = cache_folder()
    if folder is not None and any(folder.glob(f"{file}.*.nbi")):
        yield
        return
    where = f"once; kept in {folder}" if folder else "at every start; no folder can be written to keep them in"
    print(f"tinygan: compiling {what} for this processor, 10 to 20 s, {where}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    yield
    print(f"tinygan: compiled in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


class _Locator(caching._CacheLocator):
    """Tells Numba to keep a function's code in our folder, for as long as no kernel file changes."""

    def __init__(self, function: Any, source: str) -> None:
        self._place = f"{Path(source).parent.name}-{function.__code__.co_firstlineno}"  # (each room has a compiled.py)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return fingerprint()

    def get_disambiguator(self) -> str:
        return self._place

    @classmethod
    def from_function(cls, function: Any, source: str) -> _Locator:
        return cls(function, source)


class _Impl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    """Numba's cache, but a function made by another function is known by its name, and not by a hash of all it closes
    over, which differs from process to process."""

    _impl_class = _Impl

    def load_overload(self, signature: Any, context: Any) -> Any:
        return super().load_overload(signature, _for_target(context))

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return signature, codegen.magic_tuple()


class _Library(JITCodeLibrary):
    """Numba's machine code of a function, but nobody else sees the helpers in it.

    A helper that is not inlined is copied into each kernel that calls it, and optimised there once more, so that its sums
    are added in another order. Numba leaves all copies visible under one name, and a process runs the first that it meets:
    where the helper was just compiled that is the helper's own code, and where kernels come from the cache it is the copy
    of the kernel that was loaded first. Digits would depend on that. Here each kernel runs its own copy.
    """

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        # What others link is as Numba makes it: with hidden helpers in it, a kernel would get the same helper many times.
        self._shared_module = self._final_module.clone()
        for function in self._shared_module.functions:
            if function.linkage == Linkage.external and not function.is_declaration:
                function.linkage = Linkage.linkonce_odr
        for function in self._final_module.functions:
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal


class _Codegen(JITCPUCodegen):
    """Numba's generator of machine code, but for our target. What users compile with Numba goes through Numba's own."""

    _library_class = _Library

    def _get_host_cpu_name(self) -> str:
        return target().name

    def _get_host_cpu_features(self) -> str:
        return target().features


@cache
def _for_target(context: Any) -> Any:
    """Numba's target context, with another generator of machine code."""
    context.refresh()  # else what it lends to all functions, such as their memory, would be made for our target only
    return context.subtarget(_internal_codegen=_Codegen("tinygan"))


class _Lower(Lower):
    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        width = f'"prefer-vector-width"="{8 * target().vector_bytes}"'
        set.add(self.function.attributes, width)  # (llvmlite's own `add` knows no such words)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "tinygan_lowering"

    @property
    def lowering_class(self) -> Any:
        return _Lower


class _Compiler(CompilerBase):
    """Numba's compiler, but for our target, and loops become instructions on its widest vectors: of AVX-512's LLVM likes
    half better, as was right when using them slowed down a processor's clock."""

    def __init__(self, typing: Any, context: Any, *others: Any) -> None:
        super().__init__(typing, _for_target(context), *others)

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [(_Lowering if step is NativeLowering else step, name) for step, name in pipeline.passes]
        pipeline.finalize()
        return [pipeline]


def _cached(compiled: Any, function: Callable[..., Any]) -> Any:
    if cache_folder() is not None:
        compiled._cache = _Cache(function)
    return compiled


def inline(function: Callable[..., Any], in_order: bool = False, rounded: bool = False) -> Any:
    """A helper that kernels call. It is compiled with each of them, and for whatever types it meets.

    in_order: sums are added in the order in which they stand, where digits depend on it. rounded: a product is rounded
    before it is added to something, where fused multiply-adds would change digits.

    Its name says what it closes over. Numba counts functions to tell one name from another, from 1 in every process: two
    kernels that two processes compiled may have different helpers of one name. (`_Library` hides them from each other.)
    """
    function.__qualname__ += f"-{hashlib.sha256(_closed_over(function).encode()).hexdigest()[:16]}"
    options = {**OPTIONS, "fastmath": FAST - ({"reassoc"} if in_order else set()) - ({"contract"} if rounded else set())}
    return numba.njit(pipeline_class=_Compiler, **options)(function)


def _closed_over(value: Any) -> str:
    """A value, or all that a function closes over, itself or in the functions among it: the same words in every process."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_closed_over, value))})"
    function = getattr(value, "py_func", None) or getattr(value, "_defn", None) or value  # a helper, an intrinsic
    if not hasattr(function, "__code__"):
        words = repr(value)
        if " at 0x" in words:
            raise TypeError(f"a kernel's helper closes over {words}, whose name is another one in every process")
        return words
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed = [(name, cell.cell_contents) for name, cell in cells]
    return f"{function.__module__}.{function.__qualname__}{_closed_over(closed)}"


def entry(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """A function of that signature to be called from Python, without the global interpreter lock."""
    def compile_it(function: Callable[..., Any]) -> Any:
        dispatcher = _cached(numba.njit(nogil=True, pipeline_class=_Compiler, **OPTIONS)(function), function)
        dispatcher.compile(signature)
        return dispatcher

    return compile_it


def compiled(signature: Any, variant: str = "") -> Callable[[Callable[..., Any]], int]:
    """Decorator: the address of a function of that signature, for other compiled code to call.

    variant: what tells this function from others made by the same code, such as the type of its elements.
    """
    def compile_it(function: Callable[..., Any]) -> int:
        if variant:
            function.__qualname__ += f"-{variant}"  # also names the file in the cache
        with COMPILING:
            code = CFunc(function, (signature.args, signature.return_type), locals={}, options=dict(OPTIONS),
                         pipeline_class=_Compiler)
            _cached(code, function)
            code.compile()
        _ALIVE.append(code)
        return int(code.address or 0)

    return compile_it


_ALIVE: list[Any] = []  # the code behind an address lives as long as the object that compiled it
