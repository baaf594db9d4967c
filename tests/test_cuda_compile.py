"""Every kernel file compiles for every GPU it is meant for, without a warning; NVRTC, which CuPy uses, needs no GPU for it."""
from __future__ import annotations

import ctypes
import importlib.metadata
import re
import shutil
import subprocess

import pytest

from tinygan.kernels.cuda import products, tiles
from tinygan.kernels.cuda.launcher import FILES, FOLDER, STANDARD

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100"]
VARIANTS = {
    "products": [*products.VARIANTS, *((*variant, "TF32=1") for variant in products.VARIANTS)],
    "direct": [(), ("WIDTH=4",), ("TF32=1",), ("WIDTH=4", "TF32=1")],
    "tiles": [(), *tiles.VARIANTS],
}
"""The macros that a file is compiled with, beside REAL."""


def cases():
    """All architectures, both types and all macros; of a file with many macros, all of these for the oldest architecture and
    one that has tensor cores, and the first and the last for the others."""
    for file in FILES:
        variants = VARIANTS.get(file, [()])
        for architecture in ARCHITECTURES:
            few = len(variants) > 2 and architecture not in ("sm_75", "sm_90")
            yield pytest.param(file, architecture, [variants[0], variants[-1]] if few else variants,
                               id=f"{file}-{architecture}")


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
    """(what the compiler said, its PTX, its machine code): empty where it failed."""
    def read(what):
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, text)
        return text.raw

    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    options = [option.encode() for option in (STANDARD, f"-I{FOLDER}", f"-arch={architecture}", *options)]
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        said = read("ProgramLog").rstrip(b"\0").decode().strip()
        if status:
            return said or f"status {status}", "", b""
        return said, read("PTX").rstrip(b"\0").decode(), read("CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def text_of(file):
    return (FOLDER / f"{file}.cu").read_text(encoding="utf-8")


def entries(ptx):
    return set(re.findall(r"\.entry (\w+)\(", ptx))


def named(file):
    """The kernels that a file names by KERNEL(...), macros expanded."""
    preprocess = ["g++", "-E", "-P", "-x", "c++", STANDARD, "-DREAL=float", "-DEMULATED", "-DKERNEL(name)=kernel_named name"]
    done = subprocess.run([*preprocess, str(FOLDER / f"{file}.cu")], capture_output=True, text=True, check=True)
    return set(re.findall(r"kernel_named (\w+)", done.stdout))


@pytest.mark.parametrize("file, architecture, variants", list(cases()))
def test_without_a_warning(nvrtc, file, architecture, variants):
    for variant in variants:
        for real in ("float", "double"):
            if real == "double" and "TF32=1" in variant:
                continue
            told = [f"-D{macro}" for macro in (f"REAL={real}", *variant)]
            said, ptx, code = compiled(nvrtc, text_of(file), architecture, *told)
            assert said == "", f"{told}: {said}"
            assert f".target {architecture}" in ptx
            assert all(kernel.encode() in code for kernel in entries(ptx))


@pytest.mark.skipif(shutil.which("g++") is None, reason="the preprocessor that is used is g++'s")
@pytest.mark.parametrize("file", FILES)
def test_every_kernel_is_named(nvrtc, file):
    said, ptx, _ = compiled(nvrtc, text_of(file), "sm_90", "-DREAL=float")
    assert entries(ptx) == named(file) != set(), said


def test_what_is_wrong_is_told(nvrtc):
    assert "never referenced" in compiled(nvrtc, 'extern "C" __global__ void f() { int unused; }', "sm_90")[0]
    assert "undefined" in compiled(nvrtc, 'extern "C" __global__ void f(int* p) { *p = missing; }', "sm_90")[0]
