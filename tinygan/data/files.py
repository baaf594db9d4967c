"""Find the images in a folder. Links are followed. Everything that is left out is reported."""

from __future__ import annotations

__all__ = ["Found", "about_left_out", "absolute", "counted", "examples", "find"]

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".pbm",
            ".pgm", ".ppm", ".pnm", ".jp2", ".avif")
"""The files that are read, if Pillow on this machine can read them."""

SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin",
                    "system volume information", "lost+found"})
"""Files and folders that operating systems, zip programs and network drives put beside images. They are ignored, and so are
all whose names begin with a dot."""

SHOWN = 3  # examples of each kind
KINDS = 10


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path from the root. Links are kept, and `..` only behind a link, where it cannot be left out."""
    whole = Path(path).expanduser().absolute()
    short = Path(os.path.normpath(whole))
    return short if short == whole or (short.exists() and short.samefile(whole)) else whole


@dataclass
class Found:
    """What `find` found in a folder. images: the files to read, in the same order on every machine. unreadable: folders that
    could not be opened, and why. left_out: files of other kinds. again: links in a circle, and links to folders that are
    read already."""

    images: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)


def find(folder: Path) -> Found:
    """Every image file in `folder` and its sub-folders.

    Links to files and folders are followed. If several paths lead to one folder, it is read once, at its own place rather
    than through a link. A link to a folder that contains `folder` itself is left out. So links in a circle do no harm.
    Hidden files and files of the operating system are ignored.
    """
    from tqdm import tqdm

    found = Found()
    seen: set[tuple[int, int]] = set()
    top = folder.resolve()
    pending: list[Path] = [folder]
    links: list[Path] = []
    readable = _readable()
    with tqdm(desc=f"looking through {folder.name}", unit="file", leave=False, disable=None, delay=1) as bar:
        while pending or links:
            place = pending.pop() if pending else links.pop(0)
            try:
                at = os.stat(place)
                if (at.st_dev, at.st_ino) in seen or (place != folder and top.is_relative_to(place.resolve())):
                    found.again.append(place)
                    continue
                seen.add((at.st_dev, at.st_ino))
                with os.scandir(place) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                found.unreadable.append((place, f"this folder cannot be opened: {error.strerror or error}"))
                continue
            folders = []
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
                    continue
                path = place / entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif _is_folder(entry):
                    links.append(path)
                elif path.suffix.lower() in readable and (entry.is_symlink() or entry.is_file()):
                    found.images.append(path)  # a broken link counts as a file that cannot be read
                else:
                    found.left_out.append(path)
            pending += reversed(folders)
            bar.update(len(entries))
    found.images.sort(key=lambda path: path.parts)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _readable() -> set[str]:
    import PIL.Image

    known = PIL.Image.registered_extensions()
    return {suffix for suffix in SUFFIXES if known.get(suffix) in PIL.Image.OPEN}


def about_left_out(folder: Path, found: Found) -> str:
    """"15 files: 12 .heic (a/1.heic, ...), 3 .txt (...)", or "" if nothing was left out."""
    kinds = defaultdict(list)
    for path in found.left_out:
        broken = path.is_symlink() and not path.exists()
        kinds["broken link" if broken else path.suffix.lower() or "without an extension"].append(path)
    groups = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    told = [f"{len(paths):,} {kind} ({examples(folder, paths)})" for kind, paths in groups[:KINDS]]
    if len(groups) > KINDS:
        told.append(f"{sum(len(paths) for _, paths in groups[KINDS:]):,} of other kinds")
    parts = [f"{counted(len(found.left_out), 'file')}: {', '.join(told)}"] if told else []
    if found.again:
        parts.append(f"{counted(len(found.again), 'link')} in a circle or to folders that are read already "
                     f"({examples(folder, found.again)})")
    return "; ".join(parts)


def examples(folder: Path, paths: Sequence[Path], shown: int = SHOWN) -> str:
    """The first few of `paths`, relative to `folder`."""
    return ", ".join([str(path.relative_to(folder)) for path in paths[:shown]] + ["..."] * (len(paths) > shown))


def counted(number: int, thing: str) -> str:
    """"1 file", "1,234 files"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
