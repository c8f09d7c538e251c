"""Digests of values, and the masking of secrets in what is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, cast

MASK = "[secret]"
LONGEST_NAME = 512  # characters of a name that comes from inside
LONGEST_TEXT = 64 * 1024  # characters of an input or a result at level ``full``
_SHORTEST_SECRET = 8  # characters: a shorter one would mask words
_DEEPEST = 8  # levels of a record
_BETWEEN_WORDS = (" ", "\n", '"', ",", ";")


def digest_of(value: object) -> str:
    """Return the SHA-256 of a value's JSON: sorted keys, no spaces, UTF-8.

    Anyone who has the input or the result of a tool can compute it:
    ``json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)``.
    """
    return hashlib.sha256(_text_of(value).encode("utf-8", "surrogatepass")).hexdigest()


def described(value: object, *, full: bool) -> dict[str, Any]:
    """Return what a record holds of an input or a result: digest and size, and with ``full`` the text."""
    text = _text_of(value)
    data = text.encode("utf-8", "surrogatepass")
    found: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    if full:
        found["text"] = _cut(text, LONGEST_TEXT)
        if len(text) > LONGEST_TEXT:
            found["truncated"] = True
    return found


def as_data(value: object) -> Any:
    """Return what an encoded value of the wire means, without using it up. A ``$type`` stays a key."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {key[1:] if key.startswith("$$") else key: as_data(item) for key, item in fields.items()}
    if isinstance(value, list):
        return [as_data(item) for item in cast("list[object]", value)]
    return value


def name_of(value: object) -> str:
    """Return a name that came from inside, not longer than a record may hold."""
    text = value if isinstance(value, str) else repr(value)[: LONGEST_NAME + 1]
    return text if len(text) <= LONGEST_NAME else _cut(text, LONGEST_NAME) + "..."


def _cut(text: str, length: int) -> str:
    """Return the beginning of a text, up to the end of a word: half a secret would not be recognised."""
    if len(text) <= length:
        return text
    kept = text[:length]
    return kept[: max(kept.rfind(mark) for mark in _BETWEEN_WORDS) + 1]


class Masker:
    """Takes secrets out of records: those that are known, and what looks like a key."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                # Within a text of JSON a secret may be escaped.
                forms |= {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        self._forms = sorted(forms, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<Masker of {len(self._forms)} secrets>"

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        from agenthost.config.secrets import mask_secrets  # its package takes a tenth of a second to import

        for form in self._forms:
            text = text.replace(form, MASK)
        return mask_secrets(text, MASK)

    def value(self, value: object, depth: int = 0) -> Any:
        """Return the plain data of a record without secrets, in keys and in values."""
        if isinstance(value, str):
            return self.text(value)
        if depth >= _DEEPEST:
            return MASK
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            return {self.text(key): self.value(item, depth + 1) for key, item in fields.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in cast("list[object]", value)]
        return value


def _text_of(value: object) -> str:
    # What is not JSON is a class of a newer SDK: its repr is the same wherever it is computed.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=repr)
