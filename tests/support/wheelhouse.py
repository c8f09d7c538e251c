"""Wheels of the packages that this Python has: pip then installs them somewhere else without a network."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def fill_wheelhouse(directory: Path, names: Sequence[str]) -> None:
    """Write a wheel of each package and of all that it needs."""
    for package in with_needs(names):
        _write(directory, package)


def with_needs(names: Sequence[str]) -> Iterator[Distribution]:
    """Yield each package and all that it needs here, or on another platform if that is here too."""
    waiting, done = [Requirement(name) for name in names], set[str]()
    while waiting:
        wanted = waiting.pop()
        key = str(canonicalize_name(wanted.name)) + str(sorted(wanted.extras))
        if key in done:
            continue
        done.add(key)
        try:
            package = distribution(wanted.name)
        except PackageNotFoundError:
            continue  # needed on another platform
        if package.name not in done:
            done.add(package.name)
            yield package
        waiting += [
            needed
            for needed in map(Requirement, package.requires or [])
            if "extra" not in str(needed.marker)
            or any(needed.marker and needed.marker.evaluate({"extra": extra}) for extra in wanted.extras)
        ]


def files_of(package: Distribution) -> Iterator[tuple[str, Path]]:
    """Yield the files that a package brings into a site directory: the name there, and where each is here."""
    for file in package.files or []:
        # Programs lie outside of the site directory, byte code is made anew.
        if ".." in file.parts or "__pycache__" in file.parts or file.name in ("INSTALLER", "REQUESTED"):
            continue
        source = Path(str(file.locate()))
        if source.is_file():
            yield str(file), source


def _write(directory: Path, package: Distribution) -> None:
    name = package.metadata["Name"].replace("-", "_")
    tags = [line.partition(": ")[2] for line in (package.read_text("WHEEL") or "").splitlines()]
    tag = next((tag for tag in tags if tag.startswith(("py3-", "cp3", "py2.py3-"))), "py3-none-any")
    path = directory / f"{name}-{package.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for inside, source in files_of(package):
            wheel.write(source, inside)


if __name__ == "__main__":
    fill_wheelhouse(Path(sys.argv[1]), sys.argv[2:])
