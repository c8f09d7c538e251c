"""Get an image from its registry."""

from __future__ import annotations

import json
from collections.abc import Callable

from agenthost.errors import ConfigError, ProviderError
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError


async def pull(engine: Engine, image: str, report: Callable[[str], object]) -> None:
    """Have the engine pull an image, and tell of its progress.

    Raises:
        ConfigError: The registry has no such image, or does not give it to this engine.
        ProviderError: It could not be reached.
    """
    name, digest_mark, digest = image.partition("@")
    tag = digest
    if not digest_mark and ":" in image.rpartition("/")[2]:
        name, _, tag = image.rpartition(":")
    report(f"pulling {image}")
    rest = b""
    seen: set[str] = set()
    failures: list[str] = []
    try:
        query = {"fromImage": name, "tag": tag or "latest"}
        async with engine.stream("POST", "/images/create", query=query) as answer:
            async for chunk in answer.chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    _tell(line, seen, report, failures)
        _tell(rest, seen, report, failures)
    except EngineError as exc:
        said = f"image {image!r} cannot be pulled: {exc}"
        raise (ConfigError(said) if exc.status in (403, 404) else ProviderError(said)) from exc
    if failures:
        raise ProviderError(f"image {image!r} cannot be pulled: {failures[-1]}")


def _tell(line: bytes, seen: set[str], report: Callable[[str], object], failures: list[str]) -> None:
    if not line.strip():
        return
    told = json.loads(line)
    if "error" in told:
        failures.append(str(told["error"]))
    status = str(told.get("status", ""))
    text = f"{told.get('id', '')} {status}".strip()
    # Layers tell how far they are many times a second.
    if text and status not in ("Downloading", "Extracting") and text not in seen:
        seen.add(text)
        report(text)
