"""SDK objects <-> plain data that JSON can hold, with nothing lost.

    a dataclass            {"$type": "TextBlock", "text": "hello"}
    a dict                 as it is; a key that begins with "$" gets one more: {"$$ref": 1}
    a dict with other keys {"$map": [[1, "one"], [2, "two"]]}
    a tuple                {"$tuple": [1, 2]}
    bytes                  {"$bytes": base64}
    a path                 {"$path": "/etc/hosts"}
    NaN and the infinities {"$float": "nan"}
    an int of 300+ digits  {"$int": hexadecimal}: parsers refuse the decimal form of long ones
    a str that holds two halves of one character side by side
                           {"$str": base64}: JSON would join them into the character

Everything else that JSON knows is itself. A subclass of str, int, float, list or dict becomes its base.
A field that is None and whose default is None is left out.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, cast

Plain = Any  # what json.dumps takes; a recursive alias would cost every caller a cast

# Dataclasses of the SDK that hold functions or types, or that cross in another way.
NOT_DATA: Mapping[str, str] = {
    "ClaudeAgentOptions": "crosses field by field, because versions differ",
    "HookMatcher": "holds functions",
    "SdkMcpTool": "holds a function and Python types",
}

_type_of: Callable[[object], Any] = type  # a checker cannot follow ``type(value)`` of an Any
_UNKNOWN = "_agenthost_unknown_fields"
_INT_BOUND = 1 << 1000
_split_character = re.compile("[\ud800-\udbff][\udc00-\udfff]").search
_encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class CodecError(ValueError):
    """A value cannot cross, or what arrived is no encoded value."""


class _NotDataError(CodecError):
    """Raised while a value is encoded, before the place of what is not data is known."""

    def __init__(self, culprit: object) -> None:
        super().__init__("not data")
        self.culprit = culprit


@dataclasses.dataclass(frozen=True)
class UnknownObject:
    """An object whose class this side does not have: another SDK version wrote it. It encodes as it came.

    Attributes:
        type_name: Name of the class on the other side.
        fields: Its fields by name.
    """

    type_name: str
    fields: Mapping[str, Any]


def public_classes(module: ModuleType) -> dict[str, type]:
    """Return the dataclasses that are data, by name: a module's own ``__all__``, and what its classes hold.

    Not every class that a field of an exported one holds is exported itself; its public module has it.
    """
    found: dict[str, type] = {}
    homes: dict[str, ModuleType] = {}
    for name in cast("Iterable[str]", getattr(module, "__all__", ())):
        value: Any = getattr(module, name, None)
        if _is_data(value):
            found[name] = value
            home = sys.modules.get(value.__module__)
            if home is not None and "._" not in home.__name__:
                homes[home.__name__] = home
    for home in homes.values():
        for name, value in vars(home).items():
            if _is_data(value) and value.__module__ == home.__name__:
                found.setdefault(name, value)
    return found


def _is_data(value: Any) -> bool:
    return isinstance(value, type) and dataclasses.is_dataclass(value) and value.__name__ not in NOT_DATA


def place_of(value: object, is_sought: Callable[[object], bool]) -> str | None:
    """Return where in a value its first part that is sought stands, ``['rows'][2].text`` for instance.

    The value itself is ``""``; None where there is no such part. For a value that ``encode`` does not find
    nested too deeply.
    """
    if is_sought(value):
        return ""
    for label, part in _parts(value):
        place = place_of(part, is_sought)
        if place is not None:
            return label() + place
    return None


def _parts(value: Any) -> Iterator[tuple[Callable[[], str], object]]:
    """Yield what a value holds, each with what makes the text that leads to it."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[object, object]", value).items():
            yield partial("[{!r}]".format, key), item
            yield partial("[{!r}], a key,".format, key), key
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("Sequence[object]", value)):
            yield partial("[{}]".format, index), item
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for one in dataclasses.fields(value):
            yield partial(".{}".format, one.name), getattr(value, one.name)


def unknown_fields(value: object) -> Mapping[str, Any]:
    """Return what a decoded object had beyond the fields of its class here."""
    fields: Mapping[str, Any] = getattr(value, "__dict__", {}).get(_UNKNOWN, {})
    return fields


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How to write and read one class, found once."""

    cls: type
    # Each field in order, and whether it is left out while None.
    fields: tuple[tuple[str, bool], ...]
    names: frozenset[str]
    required: tuple[str, ...]
    set_later: tuple[str, ...]


def _plan(cls: type) -> _Plan:
    fields = dataclasses.fields(cls)
    missing = dataclasses.MISSING
    return _Plan(
        cls=cls,
        fields=tuple((f.name, f.default is None) for f in fields),
        names=frozenset(f.name for f in fields),
        required=tuple(
            f.name for f in fields if f.init and f.default is missing and f.default_factory is missing
        ),
        set_later=tuple(f.name for f in fields if not f.init),
    )


def dumps(encoded: Plain) -> str:
    """Return encoded data as one line of ASCII JSON.

    Raises:
        CodecError: It is nested too deeply.
    """
    try:
        return _encode_json(encoded)
    except RecursionError:
        raise CodecError("an encoded value is nested too deeply") from None


class Codec:
    """Encodes and decodes by a table of classes. Stateless but for what it learned about classes."""

    def __init__(self, classes: Mapping[str, type]) -> None:
        """Make a codec.

        Args:
            classes: What ``decode`` may make, by name; see ``public_classes``.
        """
        self._readers = {name: _plan(cls) for name, cls in classes.items()}
        self._writers = {plan.cls: plan for plan in self._readers.values()}

    def encode(self, value: object, *, name: str = "the value") -> Plain:
        """Return plain data. Parts that need no change are shared with ``value``.

        Args:
            value: What to encode.
            name: What an error calls the value.

        Raises:
            CodecError: It holds something that is not data (a function, a socket), or is nested too deeply.
                The message names the type and the place of what is wrong.
        """
        try:
            return self._encode(value)
        except RecursionError:
            raise CodecError(f"{name}, of type {type(value).__name__}, is nested too deeply") from None
        except _NotDataError as error:
            culprit = error.culprit
            place = place_of(value, lambda part: part is culprit) or ""
            kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
            raise CodecError(
                f"{name}{place} is of type {kind}, which cannot be sent to or from a sandbox: only data can, "
                "such as strings, numbers, lists, dicts and dataclasses"
            ) from None

    def decode(self, value: Plain) -> Any:
        """Return the value that was encoded. ``value`` is used up: its dicts and lists become the result's.

        Raises:
            CodecError: It is not what ``encode`` makes, or is nested too deeply.
        """
        try:
            return self._decode(value)
        except RecursionError:
            raise CodecError("an encoded value is nested too deeply") from None

    def decode_flat(self, value: dict[str, Plain]) -> Any:
        """Return an encoded object of whose fields none holds a mark. Faster: it does not look into them.

        In the text of such an object ``"$`` comes once.
        """
        plan = self._readers.get(value.get("$type", ""))
        if plan is None or not value.keys() - {"$type"} <= plan.names:
            return self.decode(value)
        del value["$type"]
        return self._make(plan, value)

    def dumps(self, value: object) -> str:
        """Return one line of ASCII JSON."""
        return dumps(self.encode(value))

    def loads(self, text: str | bytes) -> Any:
        """Decode what ``dumps`` made."""
        try:
            return self._decode(json.loads(text))
        except RecursionError:
            raise CodecError("an encoded value is nested too deeply") from None

    # ---- writing

    def _encode(self, value: Any) -> Plain:
        kind = _type_of(value)
        if kind is str:
            return value if value.isascii() or not _split_character(value) else _text(value)
        if kind is dict:
            return self._encode_dict(value)
        if kind is list:
            return [self._encode(item) for item in value]
        if kind is bool or value is None:
            return value
        if kind is int:
            return value if -_INT_BOUND < value < _INT_BOUND else {"$int": hex(value)}
        if kind is float:
            # NaN is the one value that differs from itself, and infinity less itself is NaN.
            return value if value - value == 0.0 else {"$float": repr(value)}
        return self._encode_other(value)

    def _encode_dict(self, value: Mapping[Any, Any]) -> Plain:
        made: dict[str, Plain] = {}
        for key, item in value.items():
            if type(key) is not str or (not key.isascii() and _split_character(key)):
                return {"$map": [[self._encode(k), self._encode(v)] for k, v in value.items()]}
            kind = _type_of(item)
            if kind is str and item.isascii():
                pass  # most values are; spare them the call
            elif item is not None and kind is not bool:
                item = self._encode(item)
            made["$" + key if key[:1] == "$" else key] = item
        return made

    def _encode_object(self, value: Any, plan: _Plan) -> Plain:
        made: dict[str, Plain] = {"$type": plan.cls.__name__}
        for name, leave_out in plan.fields:
            item = getattr(value, name)
            if item is None:
                if not leave_out:
                    made[name] = None
            elif type(item) is str and item.isascii():
                made[name] = item
            else:
                made[name] = self._encode(item)
        extra = unknown_fields(value)
        if extra:
            made.update(self._encode_fields(extra))
        return made

    def _encode_fields(self, fields: Mapping[str, Any]) -> dict[str, Plain]:
        return {"$" + k if k[:1] == "$" else k: self._encode(v) for k, v in fields.items()}

    def _encode_other(self, value: Any) -> Plain:
        kind = _type_of(value)
        plan = self._writers.get(kind)
        if plan is not None:
            return self._encode_object(value, plan)
        if isinstance(value, UnknownObject):
            return {"$type": value.type_name, **self._encode_fields(value.fields)}
        if issubclass(kind, tuple):
            return {"$tuple": list(map(self._encode, value))}
        if isinstance(value, (bytes, bytearray)):
            return {"$bytes": b64encode(value).decode("ascii")}
        if isinstance(value, PurePath):
            return {"$path": str(value)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            # Not in the table: a class that another version exports, or a private one. The other side
            # makes an UnknownObject of it unless it knows the name.
            plan = self._writers[kind] = _plan(kind)
            return self._encode_object(value, plan)
        for base, convert in _BASES:
            if isinstance(value, base):
                return self._encode(convert(value))
        raise _NotDataError(value)

    # ---- reading

    def _decode(self, value: Plain) -> Any:
        kind = _type_of(value)
        if kind is dict:
            return self._decode_dict(value)
        if kind is list:
            self._decode_items(value)
        return value

    def _decode_items(self, items: list[Plain]) -> None:
        for index, item in enumerate(items):
            if type(item) is dict or type(item) is list:
                items[index] = self._decode(item)

    def _decode_dict(self, value: dict[str, Plain]) -> Any:
        if "$type" in value:
            return self._decode_object(value)
        for key in value:
            if key[:1] == "$":
                return self._decode_marked(value)
        for key, item in value.items():
            if type(item) is dict or type(item) is list:
                value[key] = self._decode(item)
        return value

    def _decode_marked(self, value: dict[str, Plain]) -> Any:
        if len(value) == 1:
            ((key, item),) = value.items()
            if key[:2] != "$$":
                read = _MARKS.get(key)
                if read is None:
                    raise CodecError(f"unknown mark {key!r}: the other side is newer")
                try:
                    return read(self, item)
                except (ValueError, TypeError) as error:
                    raise CodecError(f"{key} does not hold what it should: {error}") from error
        return self._decode_fields(value)

    def _decode_fields(self, value: dict[str, Plain]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, item in value.items():
            if key[:1] == "$":
                if key[:2] != "$$":
                    raise CodecError(f"mark {key!r} among other keys")
                key = key[1:]
            made[key] = self._decode(item)
        return made

    def _decode_object(self, value: dict[str, Plain]) -> Any:
        name = value.pop("$type")
        plan = self._readers.get(name) if type(name) is str else None
        if plan is None:
            if type(name) is not str:
                raise CodecError(f"$type is {name!r}")
            return UnknownObject(name, self._decode_fields(value))
        if value.keys() <= plan.names:
            fields, extra = value, None
            for key, item in fields.items():
                if type(item) is dict or type(item) is list:
                    fields[key] = self._decode(item)
        else:
            every = self._decode_fields(value)
            fields = {key: every.pop(key) for key in list(every) if key in plan.names}
            extra = every
        made = self._make(plan, fields)
        if extra:
            try:
                object.__setattr__(made, _UNKNOWN, extra)
            except AttributeError as error:
                raise CodecError(f"{name} has no room for the unknown fields {sorted(extra)}") from error
        return made

    def _make(self, plan: _Plan, fields: dict[str, Any]) -> Any:
        for key in plan.required:
            if key not in fields:  # the other side has a default of None for it, or does not know it
                fields[key] = None
        later = {key: fields.pop(key) for key in plan.set_later if key in fields} if plan.set_later else None
        try:
            made = plan.cls(**fields)
        except (TypeError, ValueError) as error:
            raise CodecError(f"{plan.cls.__name__} cannot be made here: {error}") from error
        if later:
            for key, item in later.items():
                object.__setattr__(made, key, item)
        return made

    def decode_map(self, pairs: list[list[Plain]]) -> dict[Any, Any]:
        """Decode ``$map``."""
        return {self._decode(key): self._decode(item) for key, item in pairs}

    def decode_tuple(self, items: list[Plain]) -> tuple[Any, ...]:
        """Decode ``$tuple``."""
        return tuple([self._decode(item) for item in items])


def _text(value: str) -> Plain:
    return {"$str": b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")}


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (Mapping, dict),
    (list, list),
)

_MARKS: Mapping[str, Callable[[Codec, Any], Any]] = {
    "$map": Codec.decode_map,
    "$tuple": Codec.decode_tuple,
    "$bytes": lambda _, text: b64decode(text, validate=True),
    "$path": lambda _, text: Path(text),
    "$float": lambda _, text: float(text),
    "$int": lambda _, text: int(text, 16),
    "$str": lambda _, text: b64decode(text, validate=True).decode("utf-8", "surrogatepass"),
}
