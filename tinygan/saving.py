"""Files that survive a crash: atomic writes, checkpoints with a format version and a checksum, network weights.

A checkpoint is a safetensors file: flat names, arrays, and a few strings. It is written to a temporary file, flushed to the
disk and renamed. So at every moment the destination holds either the complete old file or the complete new one.
"""
from __future__ import annotations

__all__ = ["CheckpointError", "save", "load", "save_weights", "load_weights", "export_onnx", "onnx_rule", "torch_code",
           "write_atomically", "remove_strays", "FORMAT_VERSION"]

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .cache import replace
from .exporting.onnx_graph import onnx_model
from .exporting.onnx_ops import onnx_rule
from .exporting.torch_source import torch_code
from .interop.formats import foreign_format

if TYPE_CHECKING:
    from .nn import Module

Array = npt.NDArray[Any]

FORMAT_VERSION = 1
"""The version of the files that `save` writes. `load` refuses others."""

_TEMPORARY = ".tmp"


class CheckpointError(RuntimeError):
    """A file that cannot be read: it is truncated, damaged, of another kind, or of a newer format."""


def write_atomically(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Replace the file at `path` by `content`, or leave it as it was.

    The temporary file is in the same folder, because a rename across file systems is a copy. Its name starts with a dot. An
    `OSError` (full disk, unwritable folder) names `path`, and no temporary file is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            before = "; the previous one is intact" if path.is_file() else ""
            reason = error.strerror or error if path.parent.is_dir() else f"there is no folder {path.parent}"
            raise OSError(error.errno, f"cannot write {path}: {reason}{before}") from error
        raise


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power cut. (Windows has no such call and needs
    none.)"""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse to flush a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_strays(folder: str | os.PathLike[str]) -> list[Path]:
    """Delete the temporary files that `write_atomically` left in `folder` when its process was killed. Returns their paths.

    Call it only while no other process writes there.
    """
    strays = sorted(Path(folder).glob(f".*{_TEMPORARY}"))
    for stray in strays:
        stray.unlink(missing_ok=True)
    return strays


def save(path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write `arrays` (flat names, any shapes) and `metadata` (strings) to `path`, atomically.

    The file is an ordinary safetensors file. Its metadata also contain the format version and a SHA-256 of the metadata,
    names, types, shapes and bytes, because safetensors itself notices a truncated file but not a flipped bit.
    """
    from safetensors.numpy import save as serialise

    # safetensors writes an array's buffer and ignores its strides, so every array is first copied into C order.
    contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
    notes = {**(metadata or {}), "tinygan_format": str(FORMAT_VERSION)}
    notes["sha256"] = _digest(contiguous, notes)
    write_atomically(path, serialise(contiguous, metadata=notes))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what `save` wrote: (arrays, metadata). The arrays are new and writable.

    Raises `FileNotFoundError`, or a `CheckpointError` that names the file and says what is wrong with it.
    """
    arrays, metadata = _read(Path(path))
    version = metadata.get("tinygan_format")
    if version is None:
        raise CheckpointError(f"{path} states no format version: tinygan did not write it")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(f"{path} has format version {version}, this tinygan reads version {FORMAT_VERSION}: use "
                              "the tinygan that wrote it")
    if "sha256" not in metadata:
        raise CheckpointError(f"{path} is damaged: it states no checksum")
    return arrays, {name: text for name, text in metadata.items() if name not in ("tinygan_format", "sha256")}


def save_weights(module: Module, path: str | os.PathLike[str]) -> None:
    """Write a network's parameters and buffers under PyTorch's names and shapes.

    PyTorch reads them with `module.load_state_dict(safetensors.torch.load_file(path))`.
    """
    save(path, module.state_dict())


def load_weights(module: Module, path: str | os.PathLike[str], prefix: str = "") -> None:
    """Load weights in any precision. The file was written by `save_weights`, or by PyTorch's `safetensors.torch.save_file`.
    float16, bfloat16 and float64 are converted to the network's precision. prefix: as for `Module.load_state_dict`.

    Raises `CheckpointError` if the file is unreadable, has another format or is the checkpoint of a run, and `ValueError` if
    names or shapes are not those of the network.
    """
    arrays, metadata = _read(Path(path))
    if "config" in metadata and any(name.startswith("gan.generator.") for name in arrays):
        raise CheckpointError(f"{path} is the checkpoint of a run, and not the weights of a network: "
                              f"tinygan.training.open_run({str(Path(path).parent)!r}).gan.generator has them")
    module.load_state_dict(arrays, prefix)


def export_onnx(network: Callable[..., Any], path: str | os.PathLike[str], *examples: Any,
                input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None,
                notes: Mapping[str, str] | None = None) -> None:
    """Write a network as an ONNX model of opset 18, which onnxruntime and many other programs run.

    network: a Module, which runs in evaluation mode, or a function of Tensors. It returns a Tensor, or several in a tuple,
        list or dict. examples: an array or Tensor for each of its inputs, such as `gan.latent(2)`; their first axis is the
        batch, whose size is free in the model. input_names: "input" by default, or "input_0", "input_1", ... output_names:
        "output" and so on. notes: the model's metadata.

    The model holds the ops that the network computes for the examples. A size is part of the batch's if it doubles with it,
    and fixed otherwise. Weights used as they are have their names in `state_dict()`. Needs the package onnx. Raises
    ValueError for an op that ONNX does not have here (see `onnx_rule`), and for a network that does not compute the same for
    every batch or computes without tinygan's ops.
    """
    model = onnx_model("export_onnx", network, examples, input_names, output_names, notes or {})
    write_atomically(path, model.SerializeToString())


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        run = (path / "config.json").is_file()
        advice = f": tinygan.training.open_run({str(path)!r}) opens the run in it" if run else ""
        raise CheckpointError(f"{path} is a folder; a safetensors file was expected{advice}")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: _array(file, path, name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, ValueError, KeyError) as error:
        kind = foreign_format(path)
        raise CheckpointError(f"{path} is {kind or f'truncated or damaged ({error})'}") from error
    if "sha256" in metadata and metadata["sha256"] != _digest(arrays, metadata):
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    return arrays, metadata


def _array(file: Any, path: Path, name: str) -> Array:
    """The array of that name in an open safetensors file."""
    kind = file.get_slice(name).get_dtype()
    if kind in _TYPES:
        return np.array(file.get_tensor(name))
    if kind != "BF16":
        raise CheckpointError(f"{path}: {name!r} has the type {kind}, which NumPy does not have: save it as float32")
    # NumPy has no bfloat16 either, but its bits are the upper half of a float32's.
    with open(path, "rb") as content:
        length = int.from_bytes(content.read(8), "little")
        entry = json.loads(content.read(length))[name]
        start, end = entry["data_offsets"]
        content.seek(8 + length + start)
        halves = np.frombuffer(content.read(end - start), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


_TYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def _digest(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(metadata.keys() - {"sha256"}):
        digest.update(f"{name!r} {metadata[name]!r}\n".encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
