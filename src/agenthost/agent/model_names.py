"""Which models an agent may ask: those that its options name, and those that the CLI chooses for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

_LONGEST = 256  # characters of a name
# From the cheapest to the dearest.
_FAMILIES = ("haiku", "sonnet", "opus", "fable", "mythos")
# What the CLI uses where nothing names a model: opus by default, the others for its own questions.
_DEFAULT = ("haiku", "sonnet", "opus")
# The CLI's own words for a model, in options and in /model. Each stands for the newest of its families.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "best": ("opus", "fable"),
    "default": _DEFAULT,
    "fable": ("fable",),
    "haiku": ("haiku",),
    "inherit": (),
    "mythos": ("mythos",),
    "opus": ("opus",),
    "opusplan": ("opus", "sonnet"),
    "sonnet": ("sonnet",),
}
_CLAUDE = re.compile(rf"claude-(?:[0-9]+-)*({'|'.join(_FAMILIES)})(?:-[a-z0-9.@-]*)?\Z")
_LONG_CONTEXT = re.compile(r"\[1m\]\Z", re.IGNORECASE)  # for the CLI alone: it is not sent
_DATE = re.compile(r"[-@]20[0-9]{6}\Z")  # one model has a name with the date of its release, and one without
# Variables that name models. The CLI reads them, and agenthost hands them on.
_VARIABLE = re.compile(
    r"ANTHROPIC_(?:SMALL_FAST_|CUSTOM_|DEFAULT_|DEFAULT_[A-Z0-9]+_)?MODEL(?:_OPTION)?"
    r"|CLAUDE_CODE_[A-Z0-9_]*MODEL"
)
_COMMAND = re.compile(r"\s*/model\s+(\S+)\s*\Z")


class ModelNames:
    """The models that one agent may ask. Names are added while it runs, and none is taken away.

    A name allows that model, with or without its date. An alias (``sonnet``) allows each Claude model of its
    families. Either allows all models of cheaper families, too: the CLI asks those for itself (titles,
    summaries of pages), and its ``Agent`` tool lets the model choose one of them for a subagent. Names of
    other vendors' models, which an endpoint at ``ANTHROPIC_BASE_URL`` may have, must be named exactly.
    """

    def __init__(self, names: Iterable[str] = (), *, any_model: bool = False) -> None:
        """Allow these names or aliases; without one, what the CLI uses where nothing names a model.

        Args:
            names: Names and aliases.
            any_model: Allow every model.
        """
        self.any_model = any_model
        self._names: set[str] = set()
        self._families: set[str] = {_FAMILIES[0]}  # the CLI's small model
        self._given: list[str] = []
        for name in names:
            self.add(name)
        if not self._given:
            self.add("default")

    @property
    def given(self) -> tuple[str, ...]:
        """The names and aliases that were added, in order."""
        return tuple(self._given)

    def add(self, name: str) -> None:
        """Allow one more name or alias."""
        name = _plain(name)
        if not name or name in self._given:
            return
        self._given.append(name)
        stands_for = _ALIASES.get(name.lower())
        if stands_for is not None:
            for family in stands_for:
                self._families.update((family, *_cheaper(family)))
            return
        self._names.add(_undated(name))
        family_of_name = _family(name)
        if family_of_name is not None:
            self._families.update(_cheaper(family_of_name))

    def allow(self, name: object) -> bool:
        """Return whether a request may name this model."""
        if not isinstance(name, str) or len(name) > _LONGEST:
            return False
        if self.any_model:
            return True
        return _undated(_plain(name)) in self._names or _family(name) in self._families


def models_of(fields: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[str]:
    """Yield what options name as a model: names and aliases.

    Args:
        fields: Fields of ClaudeAgentOptions.
        env: Their ``env``, with what is inherited from the host's process.
    """
    for name in ("model", "fallback_model"):
        yield from _texts(fields.get(name))
    agents = fields.get("agents")
    for agent in _mapping(agents).values():
        yield from _texts(_mapping(agent).get("model") or getattr(agent, "model", None))
    extra = _mapping(fields.get("extra_args"))
    for name in ("model", "fallback-model"):
        yield from _texts(extra.get(name))
    settings = _settings(fields.get("settings"))
    yield from _texts(settings.get("model"))
    yield from _texts(settings.get("advisorModel"))
    for variables in (env, _mapping(settings.get("env"))):
        for name, value in variables.items():
            if _VARIABLE.fullmatch(name):
                yield from _texts(value)


def model_command(prompt: str) -> str | None:
    """Return the model that a prompt changes to by the CLI's command ``/model NAME``; None: it does not."""
    found = _COMMAND.match(prompt)
    return found[1] if found else None


def _texts(value: object) -> Iterator[str]:
    """Yield names; fallback models may be several, in a list or with commas between them."""
    if isinstance(value, str):
        yield from (part for part in (one.strip() for one in value.split(",")) if part)
    elif isinstance(value, list | tuple):
        for one in cast("list[object]", value):
            yield from _texts(one)


def _settings(settings: object) -> Mapping[str, Any]:
    """Return inline settings. A file of settings lies where the agent can write: it allows nothing."""
    if isinstance(settings, str) and settings.strip().startswith("{"):
        try:
            return _mapping(json.loads(settings))
        except ValueError:
            return {}
    return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _plain(name: str) -> str:
    return _LONG_CONTEXT.sub("", name.strip())


def _undated(name: str) -> str:
    return _DATE.sub("", name)


def _family(name: str) -> str | None:
    found = _CLAUDE.match(name)
    return found[1] if found else None


def _cheaper(family: str) -> tuple[str, ...]:
    return _FAMILIES[: _FAMILIES.index(family)]
