"""What an adapter stores at the vendor about a sandbox, as the vendor's labels (metadata, tags)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from agenthost.errors import ConfigError
from agenthost.owners import CREATED_LABEL, END_LABEL, OWNER_LABEL
from agenthost.spec import SandboxSpec

NAME_LABEL = "agenthost-name"
PROVIDER_LABEL = "agenthost-provider"
WORKDIR_LABEL = "agenthost-workdir"  # where the spec names one
NONCE_LABEL = "agenthost-nonce"
LEASE_LABEL = "agenthost-lease"  # seconds, of a sandbox that has a lease
PORT_LABEL = "agenthost-port"  # of a sandbox whose guest is reached through a port

# What agenthost stores. A caller's label of such a name would be lost, or taken for agenthost's.
RESERVED = frozenset(
    {
        *(NAME_LABEL, PROVIDER_LABEL, WORKDIR_LABEL, NONCE_LABEL, LEASE_LABEL, PORT_LABEL),
        *(OWNER_LABEL, CREATED_LABEL, END_LABEL),
    }
)

_EMPTY = "_"  # an empty text, which a vendor may refuse
_ESCAPED = re.compile(r"_([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What a vendor accepts as a label: keys and values are escaped to fit.

    An escaped byte is ``_`` and two hexadecimal digits, and an empty text is ``_``, so that equal labels stay
    equal and a vendor's own filter works.

    Attributes:
        longest: Characters of a key or a value, escapes included.
        characters: The characters that need no escape, as the inside of a regular expression's class;
            without ``_``.
    """

    longest: int
    characters: str = "A-Za-z0-9.-"

    def encode(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return labels as the vendor accepts them.

        Raises:
            ConfigError: One is longer than the vendor accepts.
        """
        return {self._escape(name, name): self._escape(value, name) for name, value in labels.items()}

    def decode(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return labels as ``encode`` got them."""
        return {_unescape(name): _unescape(value) for name, value in labels.items()}

    def _escape(self, text: str, name: str) -> str:
        escaped = re.sub(
            f"[^{self.characters}]", lambda m: "".join(f"_{byte:02X}" for byte in m[0].encode()), text
        )
        escaped = escaped or _EMPTY
        if len(escaped) > self.longest:
            raise ConfigError(
                f"label {name!r} takes {len(escaped)} characters at this provider; {self.longest} is the most"
            )
        return escaped


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A sandbox as its labels describe it.

    Attributes:
        name: The sandbox's name.
        provider: The name of the provider that made it.
        labels: The caller's labels and agenthost's: owner, nonce, times, and the working directory.
    """

    name: str
    provider: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, spec: SandboxSpec, provider: str) -> Self:
        """Return the record of a sandbox that is about to be made, from a spec that is filled in."""
        workdir = {} if spec.workdir is None else {WORKDIR_LABEL: spec.workdir}
        return cls(spec.name or "", provider, {**spec.labels, **workdir})

    @classmethod
    def from_labels(cls, labels: Mapping[str, str], rule: LabelRule | None = None) -> Self | None:
        """Return what a vendor's labels describe; None for what agenthost did not make.

        Anybody who may write labels may have changed these.
        """
        known = dict(labels) if rule is None else rule.decode(labels)
        name, provider = known.pop(NAME_LABEL, ""), known.pop(PROVIDER_LABEL, "")
        return cls(name, provider, known) if name and provider and NONCE_LABEL in known else None

    def to_labels(self, rule: LabelRule | None = None) -> dict[str, str]:
        """Return the labels to store. Raises ConfigError, see LabelRule."""
        labels = {**self.labels, NAME_LABEL: self.name, PROVIDER_LABEL: self.provider}
        return labels if rule is None else rule.encode(labels)

    @property
    def workdir(self) -> str | None:
        """The working directory that the spec named."""
        return self.labels.get(WORKDIR_LABEL)

    @property
    def created(self) -> float | None:
        """Seconds since the epoch; None where the label is missing or not a number."""
        return number_in(self.labels, CREATED_LABEL)

    @property
    def end(self) -> float | None:
        """The end of the lifetime, in seconds since the epoch; None as for ``created``."""
        return number_in(self.labels, END_LABEL)


def number_in(labels: Mapping[str, str], name: str) -> float | None:
    """Return the finite number that a label holds; None where it is missing or anything else."""
    try:
        found = float(labels.get(name, ""))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def refuse_reserved(labels: Mapping[str, str]) -> None:
    """Refuse labels of a caller whose names are agenthost's own. Raises ConfigError."""
    for name in labels:
        if name in RESERVED:
            raise ConfigError(f"label {name!r} is reserved for agenthost")


def _unescape(text: str) -> str:
    if text == _EMPTY:
        return ""
    data = re.sub(_ESCAPED.pattern.encode(), lambda m: bytes([int(m[1], 16)]), text.encode())
    return data.decode(errors="replace")
