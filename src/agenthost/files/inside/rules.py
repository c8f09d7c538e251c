"""Which paths are left out, by regular expressions that the host made of patterns."""

from __future__ import annotations

import re

# Whether it leaves out or takes back, and the expression.
Rule = tuple[bool, str]


class Rules:
    """The last rule that fits a path decides. Those of ``lower`` see it in small letters, and come first."""

    def __init__(self, lower: list[Rule], exact: list[Rule]) -> None:
        self._lower = _compiled(lower)
        self._exact = _compiled(exact)

    def leave_out(self, path: str, *, is_directory: bool) -> bool:
        """Return whether a path is left out that no directory above it is."""
        path += "/" if is_directory else ""
        left_out = False
        for rules, seen in ((self._lower, path.lower()), (self._exact, path)):
            for leaves_out, expression in rules:
                if _fits(expression, seen):
                    left_out = leaves_out
        return left_out

    def leave_out_below(self, path: str, *, is_directory: bool) -> bool:
        """Return whether a path is left out, or a directory above it."""
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self.leave_out(one, is_directory=True) for one in above) or self.leave_out(
            path, is_directory=is_directory
        )


def _fits(expression: re.Pattern[str], path: str) -> bool:
    """Return whether an expression of pathspec is about this path, and not about a directory above it."""
    for found in expression.finditer(path):
        if "ps_d" in expression.groupindex:  # the slash behind the name that the pattern is for
            if found["ps_d"] is None or found.end("ps_d") == len(path):
                return True
        elif not (path.endswith("/") and found.end() == len(path)):  # ``a/**`` is for what is in it alone
            return True
    return False


def _compiled(rules: list[Rule]) -> list[tuple[bool, re.Pattern[str]]]:
    return [(leaves_out, re.compile(expression, re.DOTALL)) for leaves_out, expression in rules]
