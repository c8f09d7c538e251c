"""Permission rules for MCP tools, as the CLI reads them (tried with CLI 2.1.332)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_NAMES = re.compile(r"[a-zA-Z0-9_|, -]+")  # a hook's matcher that is a list of names
_BETWEEN = re.compile(r"[|,]")
# What JavaScript writes otherwise than Python: named groups, and letters that are escaped without need.
_OTHERWISE_WRITTEN = re.compile(r"\\k<\w+>|\\.|\(\?<(?![=!])", re.DOTALL)
_SAME_ESCAPES = "bBdDfnrsStuvwWxc"  # Python refuses ``c``
# Empty sets, and groups that Python alone has.
_ONE_LANGUAGE = re.compile(r"(?<!\\)(?:\[\^?\]|\(\?(?:[^:=!<ims-]|[ims-]*\)))")


def full_names(server: str, tool: str) -> tuple[str, str]:
    """Return the names that rules have for all tools of an MCP server, and for one."""
    whole = f"mcp__{_NOT_IN_NAMES.sub('_', server)}"
    return whole, f"{whole}__{_NOT_IN_NAMES.sub('_', tool)}"


def applies_to(pattern: str | None, tool: str) -> bool:
    """Return whether a hook's matcher applies to a tool. One that the host cannot read applies to all.

    A matcher of letters, digits and a few marks is a list of names, any other a pattern that is searched for.
    """
    if not pattern or pattern == "*":
        return True
    if _NAMES.fullmatch(pattern):
        return tool in (part.strip() for part in _BETWEEN.split(pattern))
    compiled = _compiled(pattern)
    return compiled is None or compiled.search(tool) is not None


def can_read(pattern: str | None) -> bool:
    """Return whether the host reads a hook's matcher as the CLI does."""
    return not pattern or pattern == "*" or bool(_NAMES.fullmatch(pattern)) or _compiled(pattern) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a pattern of JavaScript; None where Python has none that means the same."""
    if _ONE_LANGUAGE.search(pattern):
        return None
    try:
        return re.compile(_OTHERWISE_WRITTEN.sub(_as_python, pattern), re.ASCII)
    except re.error:
        return None


def _as_python(found: re.Match[str]) -> str:
    text = found[0]
    if text == "(?<":
        return "(?P<"
    if text.startswith("\\k<"):
        return f"(?P={text[3:-1]})"
    return text[1:] if text[1].isalpha() and text[1] not in _SAME_ESCAPES else text


def _parts(rule: str) -> tuple[str, bool]:
    """Return the tool's name in a rule, and whether the rule speaks of its input, too."""
    name, bracket, _ = rule.partition("(")
    return name.strip(), bool(bracket)


def _matches(rule: str, server: str, tool: str) -> bool:
    if "*" in rule:
        return re.fullmatch(".*".join(map(re.escape, rule.split("*"))), tool, re.DOTALL) is not None
    return rule in (server, tool)


class ToolRules:
    """Rules that allow and deny, by where they come from."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str], list[str]] = {}

    def allow(self, source: str, rules: Iterable[Any]) -> None:
        """Add rules that allow. One entry may hold several, parted by commas."""
        self._add("allow", source, rules)

    def deny(self, source: str, rules: Iterable[Any]) -> None:
        """Add rules that deny."""
        self._add("deny", source, rules)

    def _add(self, behavior: str, source: str, rules: Iterable[Any]) -> None:
        kept = self._rules.setdefault((behavior, source), [])
        for rule in rules:
            text = str(rule)
            kept += [text] if "(" in text else [part for part in re.split(r"[,\s]+", text) if part]

    def update(self, update: Mapping[str, Any]) -> None:
        """Do what a permission update says of rules; others change nothing here."""
        key = (str(update.get("behavior")), str(update.get("destination") or "session"))
        given: list[Mapping[str, Any]] = update.get("rules") or []
        rules = [_written(one) for one in given]
        kind = update.get("type")
        if kind == "replaceRules":
            self._rules[key] = rules
        elif kind == "addRules":
            self._rules.setdefault(key, []).extend(rules)
        elif kind == "removeRules":
            self._rules[key] = [one for one in self._rules.get(key, ()) if one not in rules]

    def allow_tool(self, server: str, tool: str) -> bool:
        """Return whether a rule allows the tool, given by both names.

        A rule that speaks of the input allows any: the CLI has compared it.
        """
        # One with a wildcard in the server's name allows nothing.
        names = (name for name, _ in map(_parts, self._all("allow")) if name.startswith(server))
        return any(_matches(name, server, tool) for name in names)

    def deny_tool(self, server: str, tool: str) -> bool:
        """Return whether a rule denies the tool whatever its input is."""
        rules = map(_parts, self._all("deny"))
        return any(_matches(name, server, tool) for name, of_input in rules if not of_input)

    def _all(self, behavior: str) -> list[str]:
        return [rule for (kind, _), rules in self._rules.items() if kind == behavior for rule in rules]


def _written(rule: Mapping[str, Any]) -> str:
    content = rule.get("ruleContent")
    return f"{rule.get('toolName')}" if content is None else f"{rule.get('toolName')}({content})"
