"""Weights in other formats than safetensors: how to recognise them by their content, and advice on how to load them. Nothing
is unpickled here."""
from __future__ import annotations

__all__ = ["foreign_format"]

import os
import zipfile
from pathlib import Path

_HEAD = 512
_PYTORCH = ("a pickled file, such as PyTorch's .pth; a safetensors file was expected: "
            "network.load_state_dict(torch.load({path!r}, map_location='cpu', weights_only=True)) loads it where PyTorch is "
            "installed, and tinygan.saving.save_weights then converts it")
_NPZ = ("an .npz file of NumPy arrays; a safetensors file was expected: network.load_state_dict(numpy.load({path!r})) loads "
        "it, and tinygan.saving.save_weights then converts it")
_KERAS = ("{what}; a safetensors file was expected: read it with {reader}, and give its arrays to network.load_state_dict, "
          "with the names and shapes of network.state_dict()")


def foreign_format(path: str | os.PathLike[str]) -> str:
    """What kind of file this is, if it is not a safetensors file, and how to load its arrays into a network; "" if the kind
    is not known."""
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _of_a_zip(path).format(path=str(path))
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # a pickle, as old PyTorch files are
        return _PYTORCH.format(path=str(path))
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _KERAS.format(what="an HDF5 file (such as Keras writes)", reader="h5py")
    if head.startswith(b"\x93NUMPY"):
        return "one NumPy array (.npy); a safetensors file with a network's arrays was expected"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer and not the file itself: git lfs pull fetches it"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page and not the file that should have been downloaded from it"
    if head.startswith(b"\x1f\x8b"):
        return "compressed by gzip: unpack it first"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    return ""


def _of_a_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a truncated or damaged zip archive (as PyTorch's .pth and NumPy's .npz are)"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return _PYTORCH
    if names and all(name.endswith(".npy") for name in names):
        return _NPZ
    if "model.weights.h5" in names:
        return _KERAS.format(what="a Keras file", reader="Keras")
    return "a zip archive; a safetensors file was expected: unpack it first"
