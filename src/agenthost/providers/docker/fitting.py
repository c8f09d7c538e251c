"""Make an image fit: the agent's user, and the directories that a sandbox's volumes begin as.

An engine gives a new volume to root, unless the image has its place already: then it takes that one's owner
and content. The root file system is read-only, so this has to be done in the image.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, cast

import anyio

from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.archives import Entry, pack, unpack_file
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError

LAYOUT = "3"  # of what is done here; another number is another image
_COMMIT = 600.0  # seconds: a layer of hundreds of MiB on a slow disk

Archive = Callable[[list[Entry]], bytes | AsyncIterator[bytes]]


async def fit(engine: Engine, container: str, workdir: str, archive: Archive = pack) -> None:
    """Put into a container, not started yet, what a sandbox needs, and what else ``archive`` adds.

    Raises:
        EngineError: It could not be put there.
    """
    entries: dict[str, Entry] = {}
    for place in (paths.HOME, paths.BOOT, workdir, paths.SITE):
        for parent in reversed(PurePosixPath(place).parents[:-1]):
            if str(parent) not in entries and not await _has(engine, container, str(parent)):
                entries[str(parent)] = Entry(str(parent)[1:], None, 0o755)
    for place in (paths.HOME, workdir):
        entries[place] = Entry(place[1:], None, 0o755, paths.UID)
    entries[paths.BOOT] = Entry(paths.BOOT[1:], None, 0o755)  # the runner's program is read in it
    accounts = await _accounts(engine, container)
    body = archive([*entries.values(), *accounts])
    await engine.ask(
        "PUT", f"/containers/{container}/archive", query={"path": "/"}, body=body, within=_COMMIT
    )


async def commit(
    engine: Engine, container: str, name: str, image_labels: Mapping[str, str], config: Mapping[str, object]
) -> str:
    """Keep a container's files as an image called ``name`` (``repository:tag``), and return its id."""
    repository, _, tag = name.partition(":")
    body: dict[str, object] = {
        **config,
        # An engine adds those of the container, and of the image that it was made from.
        "Labels": {**labels.NOT_INHERITED, **image_labels, labels.FITTED: LAYOUT},
        "User": str(paths.UID),
        "WorkingDir": image_labels[labels.WORKDIR],
    }
    query: dict[str, object] = {"container": container, "repo": repository, "tag": tag, "pause": False}
    if await engine.is_podman():
        # It does not read the body. What the image starts by hand is then what made it.
        labelled = cast("dict[str, str]", body["Labels"])
        query["changes"] = [
            *(f"LABEL {name_}={value}" for name_, value in labelled.items()),
            f"USER {paths.UID}",
            f"WORKDIR {image_labels[labels.WORKDIR]}",
        ]
    made: dict[str, object] = {}
    with anyio.CancelScope(shield=True):  # it is there, whole, or it is not
        made = await engine.ask("POST", "/commit", query=query, body=body, within=_COMMIT)
    return str(made["Id"])


def own_config(image: Mapping[str, Any]) -> dict[str, object]:
    """Return what an image starts when it is run by hand, which a commit would lose."""
    config: dict[str, object] = image.get("Config") or {}
    return {name: config.get(name) or [] for name in ("Cmd", "Entrypoint", "Env")}


async def _has(engine: Engine, container: str, path: str) -> bool:
    try:
        await engine.ask("HEAD", f"/containers/{container}/archive", query={"path": path})
    except EngineError as exc:
        if exc.status == 404:
            return False
        raise
    return True


async def _accounts(engine: Engine, container: str) -> Iterable[Entry]:
    """Return the account files with the agent's user, where its number has no name yet."""
    found: list[Entry] = []
    for name, line in (
        ("etc/passwd", f"agent:x:{paths.UID}:{paths.UID}:agent:{paths.HOME}:/bin/bash\n"),
        ("etc/group", f"agent:x:{paths.UID}:\n"),
    ):
        try:
            data = await engine.ask("GET", f"/containers/{container}/archive", query={"path": f"/{name}"})
            text = unpack_file(data).decode(errors="surrogateescape")
        except EngineError as exc:
            if exc.status != 404:
                raise
            text = ""
        if not any(entry.split(":")[2:3] == [str(paths.UID)] for entry in text.splitlines()):
            text = text.rstrip("\n") + "\n" + line if text else line
            found.append(Entry(name, text.encode(errors="surrogateescape"), 0o644))
    return found
