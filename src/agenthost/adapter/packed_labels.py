"""Labels for a vendor that keeps a few short texts of a sandbox: all of them packed into these."""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agenthost.adapter.record import NAME_LABEL, NONCE_LABEL, PROVIDER_LABEL
from agenthost.errors import ConfigError

_PLAIN = (PROVIDER_LABEL, NONCE_LABEL)


@dataclass(frozen=True, slots=True)
class PackedLabels:
    """How labels become tags: provider and nonce as they are, all others packed. The name is not kept.

    Packed text has letters, digits, ``-``, ``_`` and ``=``.

    Attributes:
        most: Tags that the vendor keeps of a sandbox; three at least.
        longest: Characters of a tag's value.
    """

    most: int
    longest: int

    def pack(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return the tags.

        Raises:
            ConfigError: The labels are too long together.
        """
        rest = {name: value for name, value in labels.items() if name not in (*_PLAIN, NAME_LABEL)}
        packed = urlsafe_b64encode(zlib.compress(json.dumps(rest).encode(), 9)).decode()
        room = len(self._parts) * self.longest
        if len(packed) > room:
            raise ConfigError(
                f"the labels take {len(packed)} characters at this provider; {room} is the most"
            )
        begins = range(0, len(packed), self.longest)
        parts = [packed[begin : begin + self.longest] for begin in begins]
        plain = {name: labels[name] for name in _PLAIN if name in labels}
        return {**plain, **dict(zip(self._parts, parts, strict=False))}

    def unpack(self, name: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the labels of a sandbox; of one with other tags its provider and its nonce at most."""
        plain = {label: tags[label] for label in _PLAIN if label in tags}
        try:
            packed = urlsafe_b64decode("".join(tags.get(part, "") for part in self._parts))
            stored: Any = json.loads(zlib.decompress(packed))
            return {**{key: str(value) for key, value in stored.items()}, **plain, NAME_LABEL: name}
        except (ValueError, AttributeError, zlib.error):
            return plain

    @property
    def _parts(self) -> list[str]:
        return [f"agenthost-{number}" for number in range(1, self.most - len(_PLAIN) + 1)]
