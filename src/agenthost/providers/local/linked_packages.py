"""Packages whose files are links to a store, as of uv, Bazel and Nix: what of the stores a sandbox sees."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from agenthost.errors import ConfigError

_MOST = 1024  # packages and files: each is a mount of the sandbox
_HOPS = 40  # as the kernel follows


def stores_of(sites: Sequence[str], packages: Iterable[str]) -> tuple[str, ...]:
    """Return the packages and files that links in the sites lead to, to be seen inside under their own paths.

    Never what lies beside a package: a link may lead into the home directory.

    Empty, without a look at every file, where none of the packages is made of links.

    Args:
        sites: Directories with packages.
        packages: Names of those that a sandbox cannot do without.

    Raises:
        ConfigError: A package is made of links to places that no mount can stand for.
    """
    needed = tuple(packages)
    if not any(_is_linked(os.path.join(site, name)) for site in sites for name in needed):
        return ()
    found: set[str] = set()
    for site in sites:
        for path in _links_in(site):
            relative = os.path.relpath(path, site)
            for target in _hops(path):
                if _is_within(target, (site, "/usr")):
                    continue
                if target.endswith("/" + relative):
                    beside = target.removesuffix(relative)
                    found.add(beside + relative.split(os.sep)[0])
                elif relative.split(os.sep)[0] in needed:
                    raise _too_scattered(f"{path} is a link to {target}")
    stores: list[str] = []
    for store in sorted(found):
        if not _is_within(store, stores):
            stores.append(store)
    if len(stores) > _MOST:
        raise _too_scattered(f"{sites[0]} is made of links to {len(stores)} places")
    return tuple(stores)


def _is_linked(package: str) -> bool:
    return any(os.path.islink(path) for path in (package, f"{package}/__init__.py", f"{package}.py"))


def _links_in(site: str) -> Iterator[str]:
    for folder, folders, names in os.walk(site):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                yield path


def _hops(path: str) -> Iterator[str]:
    """Yield where a link leads, and where that leads if it is a link itself."""
    for _ in range(_HOPS):
        if not os.path.islink(path):
            return
        target = os.path.join(os.path.dirname(path), os.readlink(path))
        path = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
        yield path


def _is_within(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(directory + "/") for directory in directories)


def _too_scattered(what: str) -> ConfigError:
    return ConfigError(
        f"{what}, which a sandbox does not see. Install them as files, with `uv sync --link-mode copy` "
        "for instance, or name a directory that `pip install --target` made as the provider's option site="
    )
