"""Headers that Modal adds to a sandbox's requests: made of what one of Modal's own secrets holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agenthost.adapter.network import check_header_injection
from agenthost.errors import ConfigError, SandboxNotFoundError
from agenthost.spec import HeaderInjection

if TYPE_CHECKING:
    from agenthost.providers.modal.client import ModalVendor

_REFERENCE = re.compile(r"\$\{([A-Za-z0-9._-]+)/([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Replacement:
    """A header that Modal adds.

    Attributes:
        domain, header: Where, and which.
        secret: The name under which Modal keeps the secret.
        template: The value in Modal's words; ``$KEY`` stands for one of the secret's.
    """

    domain: str
    header: str
    secret: str
    template: str


def replacements_of(headers: Sequence[HeaderInjection]) -> list[Replacement]:
    """Return headers as Modal has them. No error holds what was given as a secret.

    A secret is text with ``${NAME/KEY}`` in it: what Modal's secret NAME has as KEY.

    Raises:
        ConfigError: A value instead of the name of a secret, or a header that is not valid.
        UnsupportedError: A host that is not a domain, or more headers than Modal accepts.
    """
    check_header_injection(headers, "Modal", most=25)
    return [_replacement(one) for one in headers]


def _replacement(one: HeaderInjection) -> Replacement:
    where = f"inject: the header {one.header!r} for {one.host!r}"
    names = {name for name, _ in _REFERENCE.findall(one.secret)}
    if len(names) != 1:
        raise ConfigError(
            f"{where}: Modal adds what one of its own secrets holds and takes no value. Keep it at Modal "
            "(modal secret create NAME KEY=...), and give '${NAME/KEY}' in its place"
        )
    parts = _REFERENCE.split(one.secret)  # text, name, key, text, name, key, text
    if any(text[:1].isalnum() or text[:1] == "_" for text in parts[3::3]):
        raise ConfigError(f"{where}: a letter, digit or _ after '${{NAME/KEY}}' would be taken for the key's")
    template = "".join(
        part.replace("$", "$$") if index % 3 == 0 else f"${part}"
        for index, part in enumerate(parts)
        if index % 3 != 1
    )
    return Replacement(one.host, one.header, names.pop(), template)


async def header_options(vendor: ModalVendor, headers: Sequence[HeaderInjection]) -> dict[str, Any]:
    """Return the keywords of Modal's ``create``: none without a header.

    Raises:
        ConfigError: Modal has no such secret.
    """
    if not headers:
        return {}
    import modal
    from modal.experimental import OutboundPolicy

    client, policy = await vendor.client(), OutboundPolicy()
    for one in replacements_of(headers):
        secret = modal.Secret.from_name(one.secret, environment_name=vendor.environment)
        try:
            finding, hydrate = f"finding the secret {one.secret!r}", secret.hydrate.aio
            await vendor.calls.repeated(finding, partial(hydrate, client))
        except SandboxNotFoundError as error:
            raise ConfigError(str(error)) from error
        policy = policy.with_header_replacement(
            domain=one.domain, secret=secret, headers={one.header: one.template}
        )
    return {"_experimental_outbound_policy": policy}
