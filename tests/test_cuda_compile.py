"""Every kernel file compiles without a warning for every GPU that it is meant for. The compiler is NVRTC, as in CuPy. It needs
no GPU."""
from __future__ import annotations

import ctypes
import importlib.metadata
import re
import shutil
import subprocess
from functools import cache

import pytest

from tinygan.kernels.cuda import optimizers
from tinygan.kernels.cuda.conv import direct, tiled
from tinygan.kernels.cuda.matmul import products
from tinygan.kernels.cuda.runtime.launcher import FILES, FOLDER, STANDARD, source_of

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="kernels' names are found by g++'s preprocessor")
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100"]
USUAL = "sm_90"
"""Machine code for the other ones is made in a session of its own (`-m cache`)."""
VARIANTS = {
    "matmul/products": [*products.VARIANTS, *((*variant, "TF32=1") for variant in products.VARIANTS)],
    "conv/direct": [(), ("WIDTH=4",), ("TF32=1",), ("WIDTH=4", "TF32=1")],
    "conv/tiled": [(), *tiled.VARIANTS],
    "optimizers": [optimizers.DEFINES],
}
"""The sets of macros with which each file is compiled, besides REAL."""
CUPYS_OWN = ("-ftz=true", "--device-as-default-execution-space")
"""The options that CuPy adds to those of a RawModule."""
STRUCTS = {"matmul/products": [products.Layout, products.PartsLayout, products.VectorLayout], "conv/direct": [direct.Convolution],
           "conv/tiled": [tiled.Tiling, tiled.Pieces]}
"""The structs that the kernels of each file take by value."""


def options(file):
    """Every set of macros that this file is compiled with."""
    return [[f"-D{macro}" for macro in (f"REAL={real}", *variant)] for variant in VARIANTS.get(file, [()])
            for real in ("float", "double") if not (real == "double" and "TF32=1" in variant)]


def made(file):
    """(architecture, set of macros) for tests of machine code. This takes seconds, so each architecture gets only one set."""
    every, last = options(file), len(ARCHITECTURES) - 1
    return [(architecture, every[i * (len(every) - 1) // last]) for i, architecture in enumerate(ARCHITECTURES)]


@pytest.fixture(scope="session")
def nvrtc():
    """The compiler's library, from the package nvidia-cuda-nvrtc."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("compiling for GPUs needs the package nvidia-cuda-nvrtc (of the extra `test`)")
    names = [file for file in files if re.fullmatch(r"(lib)?nvrtc(64_)?[\d_]*(\.so\.\d+|\.dll)", file.name)]
    if not names:
        pytest.skip("the package nvidia-cuda-nvrtc has no library for this system")
    return ctypes.CDLL(str(names[0].locate()))


def compiled(nvrtc, source, architecture, *options):
    """(the compiler's messages, its PTX, its machine code). PTX and machine code are empty if it failed."""
    def read(what):
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, text)
        return text.raw

    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    options = [option.encode() for option in (STANDARD, f"-I{FOLDER}", f"-arch={architecture}", *CUPYS_OWN, *options)]
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        said = read("ProgramLog").rstrip(b"\0").decode().strip()
        if status:
            return said or f"status {status}", "", b""
        return said, read("PTX").rstrip(b"\0").decode(), read("CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@cache
def named(file):
    """The kernels that a file lists by KERNEL(...), after macros are expanded."""
    preprocess = ["g++", "-E", "-P", "-x", "c++", STANDARD, "-DREAL=float", "-DEMULATED", "-DKERNEL(name)=kernel_named name", f"-I{FOLDER}"]
    done = subprocess.run([*preprocess, "-"], input=source_of(file), capture_output=True, text=True, check=True)
    found = set(re.findall(r"kernel_named (\w+)", done.stdout))
    assert found, file
    return found


@pytest.mark.parametrize("file, struct", [(file, struct) for file, structs in STRUCTS.items() for struct in structs])
def test_structs_have_the_fields_that_python_gives_them(file, struct):
    body = re.search(rf"struct {struct.__name__} {{(.*?)}};", source_of(file), re.DOTALL)[1]
    fields = [name for line in re.findall(r"^    int ([\w, ]+);$", body, re.MULTILINE) for name in line.split(", ")]
    assert tuple(fields) == struct._fields


@pytest.mark.parametrize("file", FILES)
def test_without_a_warning(nvrtc, file):
    for architecture in ARCHITECTURES:
        for told in options(file):
            said, _, _ = compiled(nvrtc, source_of(file), architecture, "-fdevice-syntax-only", *told)
            assert said == "", f"{architecture}, {told}: {said}"


@pytest.mark.parametrize("file, architecture, told", [
    pytest.param(file, *case, id=f"{file}-{case[0]}", marks=() if case[0] == USUAL else pytest.mark.cache)
    for file in FILES for case in made(file)])
def test_machine_code(nvrtc, file, architecture, told):
    said, ptx, code = compiled(nvrtc, source_of(file), architecture, *told)
    assert said == ""
    assert f".target {architecture}" in ptx
    kernels = set(re.findall(r"\.entry (\w+)\(", ptx))
    assert kernels == named(file)
    assert all(kernel.encode() in code for kernel in kernels)


def test_what_is_wrong_is_told(nvrtc):
    assert "never referenced" in compiled(nvrtc, 'extern "C" __global__ void f() { int unused; }', "sm_90")[0]
    assert "undefined" in compiled(nvrtc, 'extern "C" __global__ void f(int* p) { *p = missing; }', "sm_90")[0]
