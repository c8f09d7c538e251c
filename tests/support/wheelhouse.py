"""Wheels of the packages that this Python has: pip then installs them somewhere else without a network."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def fill_wheelhouse(directory: Path, names: Sequence[str]) -> None:
    """Write a wheel of each package and of all that it needs, or might need and is here."""
    waiting, done = list(names), set[str]()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in done:
            continue
        done.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # needed on another platform, or by an extra that nobody asked for
        _write(directory, package)
        waiting += [found[0] for text in package.requires or [] if (found := _NAME.match(text))]


def _write(directory: Path, package: Distribution) -> None:
    name = package.metadata["Name"].replace("-", "_")
    tags = [line.partition(": ")[2] for line in (package.read_text("WHEEL") or "").splitlines()]
    tag = next((tag for tag in tags if tag.startswith(("py3-", "cp3", "py2.py3-"))), "py3-none-any")
    path = directory / f"{name}-{package.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in package.files or []:
            # Programs lie outside of the site directory, byte code is made anew.
            if ".." in file.parts or "__pycache__" in file.parts or file.name in ("INSTALLER", "REQUESTED"):
                continue
            source = Path(str(file.locate()))
            if source.is_file():
                wheel.write(source, str(file))


if __name__ == "__main__":
    fill_wheelhouse(Path(sys.argv[1]), sys.argv[2:])
