"""Two records side by side: what differs, where, and which mask allows it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, cast

from parity.masks import ID_KEYS, ID_TEXTS, MASKS, MISSING, TIMES, Mask, Path

# A scenario that gives an id of its own gives one that begins like this: it must come back as it is.
FIXED = "00000000-"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place in which the two records differ."""

    path: Path
    bare: Any
    hosted: Any

    def __str__(self) -> str:
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path)
        bare, hosted = _excerpts(self.bare, self.hosted)
        return f"{where.lstrip('.')}\n    bare:   {bare}\n    hosted: {hosted}"


@dataclass(slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        differences: What no mask allows.
        masked: Names of the masks that allowed something.
    """

    differences: list[Difference] = field(default_factory=list[Difference])
    masked: set[str] = field(default_factory=set[str])


def compare(bare: Any, hosted: Any, masks: Collection[str] = ()) -> Comparison:
    """Compare two plain trees (see ``plain``) field by field.

    Masks count where they are meant for everywhere, or are named in ``masks``.

    Ids need not be equal, but must stand for each other all through: one that occurs in three places of
    the one record occurs in the same three places of the other.
    """
    found = Comparison()
    allowed = [mask for mask in MASKS if mask.everywhere or mask.name in masks]
    _Comparer(_Ids(bare, hosted), allowed, found).nodes((), bare, hosted)
    return found


def plain(value: Any, places: Mapping[str, str]) -> Any:
    """Return a value as dicts, lists and leaves.

    Args:
        value: Messages, results, exceptions: whatever a scenario recorded.
        places: Paths and the like of one side, and the name that stands for each on both.
    """
    ordered = sorted(places.items(), key=lambda item: -len(item[0]))

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            for text, name in ordered:
                value = value.replace(text, name)
            return value
        if isinstance(value, PurePath):
            return walk(str(value))
        if isinstance(value, BaseException):
            # What it carries (exit code, stderr, result ...), its class and its text.
            fields = {key: walk(item) for key, item in vars(value).items() if not key.startswith("_")}
            return {"$class": type(value).__name__, "$text": walk(str(value)), **fields}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {one.name: walk(getattr(value, one.name)) for one in dataclasses.fields(value)}
            return {"$class": type(value).__name__, **fields}
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return {walk(key): walk(item) for key, item in items}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [walk(item) for item in cast("Sequence[Any]", value)]
        return value

    return walk(value)


class _Ids:
    """Which id of one record stands for which of the other."""

    def __init__(self, bare: Any, hosted: Any) -> None:
        self._there: dict[str, str] = {}
        self._back: dict[str, str] = {}
        self._patterns = [_pattern(set(_named_ids(tree))) for tree in (bare, hosted)]

    def same(self, bare: str, hosted: str) -> bool:
        """Tell whether two texts are equal but for their ids and times."""
        if bare == hosted and FIXED in bare:
            return True
        ours, theirs = (
            pattern.split(text) for pattern, text in zip(self._patterns, (bare, hosted), strict=True)
        )
        if len(ours) != len(theirs):
            return False
        # What the pattern found stands between what it did not find.
        if any(one != other for one, other in zip(ours[::2], theirs[::2], strict=True)):
            return False
        return all(self._match(one, other) for one, other in zip(ours[1::2], theirs[1::2], strict=True))

    def _match(self, bare: str, hosted: str) -> bool:
        if TIMES.fullmatch(bare) and TIMES.fullmatch(hosted):
            return True
        if bare.startswith(FIXED) or hosted.startswith(FIXED):
            return bare == hosted
        return self._there.setdefault(bare, hosted) == hosted and self._back.setdefault(hosted, bare) == bare


class _Comparer:
    def __init__(self, ids: _Ids, masks: Sequence[Mask], found: Comparison) -> None:
        self._ids = ids
        self._masks = masks
        self._found = found

    def nodes(self, path: Path, bare: Any, hosted: Any) -> None:
        for mask in self._masks:
            if mask.allows(path, bare, hosted):
                self._found.masked.add(mask.name)
                return
        if isinstance(bare, str) and isinstance(hosted, str):
            if not self._ids.same(bare, hosted):
                self._differ(path, bare, hosted)
        elif isinstance(bare, dict) and isinstance(hosted, dict):
            self._dicts(path, cast("dict[str, Any]", bare), cast("dict[str, Any]", hosted))
        elif isinstance(bare, list) and isinstance(hosted, list):
            self._lists(path, cast("list[Any]", bare), cast("list[Any]", hosted))
        elif bare != hosted or _kind(bare) != _kind(hosted):
            self._differ(path, bare, hosted)

    def _dicts(self, path: Path, bare: dict[str, Any], hosted: dict[str, Any]) -> None:
        before = len(self._found.differences)
        self.nodes((*path, "$class"), bare.get("$class"), hosted.get("$class"))
        if len(self._found.differences) > before:
            return  # two things of which the fields cannot be compared
        keys = [key for key in bare if key != "$class"]
        keys += [key for key in hosted if key not in bare and key != "$class"]
        # A key may itself be an id.
        unpaired = [key for key in keys if key not in bare or key not in hosted]
        for key in [key for key in unpaired if key in bare]:
            twin = next((k for k in unpaired if k in hosted and self._ids.same(key, k)), None)
            if twin is not None:
                self.nodes((*path, key), bare[key], hosted[twin])
                unpaired = [k for k in unpaired if k not in (key, twin)]
        for key in keys:
            if key in bare and key in hosted:
                self.nodes((*path, key), bare[key], hosted[key])
            elif key in unpaired:
                self.nodes((*path, key), bare.get(key, MISSING), hosted.get(key, MISSING))

    def _lists(self, path: Path, bare: list[Any], hosted: list[Any]) -> None:
        if len(bare) != len(hosted):
            self._differ((*path, "length"), _outline(bare), _outline(hosted))
            return
        for index, (one, other) in enumerate(zip(bare, hosted, strict=True)):
            self.nodes((*path, index), one, other)

    def _differ(self, path: Path, bare: Any, hosted: Any) -> None:
        self._found.differences.append(Difference(path, bare, hosted))


def _kind(value: Any) -> str:
    """Tell 1 from 1.0 and True, which Python takes for equal."""
    return value.__class__.__name__


def _named_ids(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in cast("dict[str, Any]", tree).items():
            if key in ID_KEYS and isinstance(value, str) and value:
                yield value
            else:
                yield from _named_ids(value)
    elif isinstance(tree, list):
        for item in cast("list[Any]", tree):
            yield from _named_ids(item)


def _pattern(named: set[str]) -> re.Pattern[str]:
    longest_first = sorted((name for name in named if len(name) >= 6), key=len, reverse=True)
    return re.compile("(" + "|".join([TIMES.pattern, *ID_TEXTS, *map(re.escape, longest_first)]) + ")")


def _outline(items: list[Any]) -> list[str]:
    """Tell of each item what it is, so that the one too many can be seen."""
    return [_name(item) for item in items]


def _name(item: Any) -> str:
    if not isinstance(item, dict):
        return _short(item, 60)
    fields = cast("dict[str, Any]", item)
    words = [str(fields[key]) for key in ("$class", "kind", "type", "subtype", "what") if key in fields]
    return " ".join(words) or _short(item, 60)


def _excerpts(bare: Any, hosted: Any) -> tuple[str, str]:
    """Show long texts from a little before the first character in which they differ."""
    if not isinstance(bare, str) or not isinstance(hosted, str):
        return _short(bare), _short(hosted)
    pairs = enumerate(zip(bare, hosted, strict=False))
    common = next((index for index, (one, other) in pairs if one != other), min(len(bare), len(hosted)))
    start = max(0, common - 100)
    before = f"(after {start} characters) " if start else ""
    return before + repr(bare[start : start + 400]), before + repr(hosted[start : start + 400])


def _short(value: Any, size: int = 1500) -> str:
    text = repr(value)
    return text if len(text) <= size else f"{text[: size // 2]} ... {text[-size // 2 :]}"
