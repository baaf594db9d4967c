"""How Numba compiles the kernels, and how the compiled code is kept on disk.

`compiled` compiles a function that other compiled code calls by its address. Every task of the pool is such a function (see
`arguments`). `entry` compiles a function that Python calls. `inline` compiles a helper that such functions call.

The code is kept in a sub-folder of the user's cache folder. Its name is a hash of the CPU's kernel files and the processor.
Numba's own cache notices only a change in the file of the compiled function itself. After an edit of a helper in another
file it would still use the old code.
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

# "reassoc" lets loops that add up become vector instructions. NaN and infinities keep their meaning.
FAST = {"contract", "reassoc", "nsz"}
OPTIONS = {"error_model": "numpy", "fastmath": FAST, "boundscheck": False}


@cache
def fingerprint() -> str:
    """A hash of the source of the CPU's kernels, their processor, and the versions of the compiler."""
    told = f"{numba.__version__} {llvmlite.__version__} {target()} {hash_of_sources(Path(__file__).parents[2])}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def hash_of_sources(folder: Path) -> str:
    """A hash of the Python files in a folder and in all folders below it: their paths and contents. The folder `cuda` is
    left out, because nothing in it is compiled for the CPU."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.is_relative_to(folder / "cuda"):
            continue
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def cache_folder() -> Path | None:
    """The folder of the compiled kernels; None if it cannot be written to."""
    name = fingerprint()
    try:
        Path.home()  # without a home the cache would be in a public folder, and unpickling what others wrote is unsafe
        kernels = user_cache() / "kernels"
        folder = kernels / name
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return None
    month = time.time() - 30 * 86400
    with suppress(FileNotFoundError):  # another process may have removed a folder first
        for other in kernels.iterdir():  # folders of older versions
            if other != folder and other.stat().st_mtime < month:
                shutil.rmtree(other, ignore_errors=True)
    return folder


@contextmanager
def announced(file: str, what: str) -> Iterator[None]:
    """Print a message that the body compiles `what`, and how long it took. If the cache has a kernel of that Python file,
    nothing has to be compiled and nothing is printed."""
    folder = cache_folder()
    if folder is not None and any(folder.glob(f"{file}.*.nbi")):
        yield
        return
    where = f"once; kept in {folder}" if folder else "at every start; no folder can be written to keep them in"
    print(f"tinygan: compiling {what} for this processor, 10 s to a minute, {where}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    yield
    print(f"tinygan: compiled in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


class _Locator(caching._CacheLocator):
    """Tells Numba to keep a function's code in our folder, and to use it until a kernel file changes."""

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
    """Numba's cache with another key for functions that close over values. Numba would hash these values, and the hash
    differs from process to process. Here the name of the function is the key."""

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
    """Numba's generator of machine code, but for our target. Functions that users compile with Numba are not affected."""

    _library_class = _Library

    def _get_host_cpu_name(self) -> str:
        return target().name

    def _get_host_cpu_features(self) -> str:
        return target().features


@cache
def _for_target(context: Any) -> Any:
    """Numba's target context with our generator of machine code."""
    context.refresh()  # before: otherwise what all functions share would be built for our target only
    return context.subtarget(_internal_codegen=_Codegen("tinygan"))


class _Lower(Lower):
    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        width = f'"prefer-vector-width"="{8 * target().vector_bytes}"'
        set.add(self.function.attributes, width)  # (llvmlite's own `add` refuses attributes that it does not know)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "tinygan_lowering"

    @property
    def lowering_class(self) -> Any:
        return _Lower


class _Compiler(CompilerBase):
    """Numba's compiler, but for our target, and with its widest vectors. By default LLVM uses only half of an AVX-512
    register, because full ones slowed down the clock of older processors."""

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
    """A helper that kernels call. It is compiled together with each kernel that calls it, for the types in that call.

    in_order: add in exactly the order in which the source adds, where the last digits matter. rounded: round a product
    before something is added to it, where a fused multiply-add would change the last digits.

    The helper's name contains a hash of what it closes over. Numba itself tells functions of one name apart by a counter,
    which starts at 1 in every process. So two helpers that two processes compiled could have the same name. (`_Library`
    hides the helpers of a kernel from other kernels.)
    """
    function.__qualname__ += f"-{hashlib.sha256(_closed_over(function).encode()).hexdigest()[:16]}"
    options = {**OPTIONS, "fastmath": FAST - ({"reassoc"} if in_order else set()) - ({"contract"} if rounded else set())}
    return numba.njit(pipeline_class=_Compiler, **options)(function)


def _closed_over(value: Any) -> str:
    """A text for a value, or for a function and all that it closes over. The text is the same in every process."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_closed_over, value))})"
    function = getattr(value, "py_func", None) or getattr(value, "_defn", None) or value  # a helper, an intrinsic
    if not hasattr(function, "__code__"):
        words = repr(value)
        if " at 0x" in words:
            raise TypeError(f"a kernel's helper closes over {words}: expected a value with the same text in every process")
        return words
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed = [(name, cell.cell_contents) for name, cell in cells]
    return f"{function.__module__}.{function.__qualname__}{_closed_over(closed)}"


def entry(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compiles a function of that signature for Python. It runs without the global interpreter lock."""
    def compile_it(function: Callable[..., Any]) -> Any:
        dispatcher = _cached(numba.njit(nogil=True, pipeline_class=_Compiler, **OPTIONS)(function), function)
        dispatcher.compile(signature)
        return dispatcher

    return compile_it


def compiled(signature: Any, variant: str = "") -> Callable[[Callable[..., Any]], int]:
    """Decorator: compiles a function of that signature and returns its address, for other compiled code to call.

    variant: a text that distinguishes this function from others made by the same source, such as the type of its elements.
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
        NAMES[int(code.address or 0)] = _name(function)
        return int(code.address or 0)

    return compile_it


def _name(function: Callable[..., Any]) -> str:
    """A kernel's name for its users, such as "matmul.gemm" for `gemm` in `matmul/gemm.py`."""
    parts = [*function.__module__.removeprefix("tinygan.kernels.cpu.").split("."), function.__name__]
    return ".".join(part for part, after in zip(parts, [*parts[1:], ""], strict=True)
                    if part not in ("compiled", "kernels", after))


NAMES: dict[int, str] = {}
"""The name of each compiled function, by its address: its room and its own name."""
_ALIVE: list[Any] = []  # keeps the compiled functions alive: without its object the code at an address is freed
