"""Which paths are left out, by patterns as in a .gitignore, each matched in linear time."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 1000  # characters of a pattern

_ANY = "*"
# What stands in brackets for a class of characters.
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\0-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class Rules:
    """Three lists of patterns; in each of them the last one that fits a path decides.

    Args:
        defaults: Keep secrets out. They see a path in small letters.
        found: Of a file in the directory itself, which may be a stranger's: they leave out more, and take
            nothing back but what they leave out themselves.
        given: Of the caller, who has the last word.

    Attributes:
        powerless: Numbers of the lines in ``found`` that would have taken back what keeps a secret, of the
            paths that ``leave_out`` was asked about.
    """

    def __init__(
        self, defaults: Sequence[str] = (), found: Sequence[str] = (), given: Sequence[str] = ()
    ) -> None:
        self._defaults, self._found, self._given = (_parse_all(lines) for lines in (defaults, found, given))
        self.powerless: set[int] = set()

    def leave_out(self, path: str, *, is_directory: bool) -> bool:
        """Return whether a path is left out that no directory above it is."""
        parts = path.split("/")
        left_out = _decide(self._defaults, path.lower().split("/"), is_directory, otherwise=False)
        if left_out:
            left_out = _decide(self._given, parts, is_directory, otherwise=True)
            if left_out:
                self._note_powerless(path, parts, is_directory)
            return left_out
        left_out = _decide(self._found, parts, is_directory, otherwise=False)
        return _decide(self._given, parts, is_directory, otherwise=left_out)

    def _note_powerless(self, path: str, parts: list[str], is_directory: bool) -> None:
        for pattern in self._found:
            is_below = is_directory and pattern.text.lstrip("/").startswith((path + "/", parts[-1] + "/"))
            if not pattern.leaves_out and (is_below or pattern.fits(parts, is_directory)):
                self.powerless.add(pattern.number)

    def is_secret(self, path: str) -> bool:
        """Return whether only the defaults leave a file out, and neither the caller nor an ignore file."""
        parts = path.split("/")
        # Whatever the others say of it, they say it against this.
        otherwise = _decide(self._found, parts, False, otherwise=False)
        return not _decide(self._given, parts, False, otherwise=otherwise) and self.leave_out(
            path, is_directory=False
        )

    def leave_out_below(self, path: str, *, is_directory: bool) -> bool:
        """Return whether a path is left out, or a directory above it."""
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self.leave_out(one, is_directory=True) for one in above) or self.leave_out(
            path, is_directory=is_directory
        )


class Pattern:
    """One line. Use ``parse``.

    Attributes:
        text: What it says, without ``!``.
        number: Of the line, from 1, where it is one of several.
    """

    number = 0

    def __init__(
        self, text: str, parts: list[_Name | None], *, leaves_out: bool, is_for_directories: bool
    ) -> None:
        self.text = text
        self.leaves_out = leaves_out
        self._parts = parts  # None: any number of directories
        self._is_for_directories = is_for_directories

    def fits(self, names: list[str], is_directory: bool) -> bool:
        """Return whether this is about a path, given by its names."""
        if self._is_for_directories and not is_directory:
            return False
        parts = self._parts
        at, name, retry, retry_name = 0, 0, -1, 0
        while name < len(names):
            part = parts[at] if at < len(parts) else _NOTHING
            if part is None:
                retry, retry_name = at, name
                at += 1
            elif part.fits(names[name]):
                at, name = at + 1, name + 1
            elif retry >= 0:
                # The last ``**`` takes one directory more; those before it need not change.
                retry_name += 1
                at, name = retry + 1, retry_name
            else:
                return False
        return all(part is None for part in parts[at:])


class _Name:
    """What is said of one name: texts of fixed length, with stars between them."""

    def __init__(self, text: str) -> None:
        self._pieces = [_piece(tokens) for tokens in _tokens(text)]
        self._shortest = sum(length for _, length in self._pieces)

    def fits(self, name: str) -> bool:
        """Return whether it is about a name."""
        if len(name) < self._shortest:
            return False
        (first, length), (last, last_length) = self._pieces[0], self._pieces[-1]
        if len(self._pieces) == 1:
            return len(name) == length and first.match(name) is not None
        end = len(name) - last_length
        if not first.match(name) or not last.match(name, end):
            return False
        # Each piece where it comes first: a later place would leave less room for those behind it.
        for piece, _ in self._pieces[1:-1]:
            found = piece.search(name, length, end)
            if found is None:
                return False
            length = found.end()
        return True


def parse(line: str) -> Pattern | None:
    """Return the pattern of a line; None for an empty one and a comment.

    Raises:
        ValueError: It is not a valid pattern.
    """
    if len(line) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} characters")
    text = line
    while text.endswith((" ", "\t")) and not text.endswith(("\\ ", "\\\t")):
        text = text[:-1]
    if not text or text.startswith("#"):
        return None
    leaves_out = not text.startswith("!")
    text = text if leaves_out else text[1:]
    if not text:
        raise ValueError("there is nothing behind the '!'")
    is_for_directories = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None  # the top itself is never left out
    words = _words(text)
    if "/" not in text:
        words = ["**", *words]  # a name alone is for every directory
    elif not words[0]:
        del words[0]
    if words[-1] == "**":
        words.append(_ANY)  # what is in it, and not the directory itself
    parts = [None if word == "**" else _Name(word) for word in words]
    return Pattern(text, parts, leaves_out=leaves_out, is_for_directories=is_for_directories)


def _parse_all(lines: Sequence[str]) -> list[Pattern]:
    patterns: list[Pattern] = []
    for number, line in enumerate(lines, 1):
        pattern = parse(line)
        if pattern is not None:
            pattern.number = number
            patterns.append(pattern)
    return patterns


def _decide(patterns: list[Pattern], names: list[str], is_directory: bool, *, otherwise: bool) -> bool:
    for pattern in reversed(patterns):
        if pattern.fits(names, is_directory):
            return pattern.leaves_out
    return otherwise


def _words(text: str) -> list[str]:
    """Split a pattern at its slashes, but for those within brackets, as git does."""
    words, begin, at = list[str](), 0, 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\":
            at += 1
        elif character == "[" and (found := _brackets(text, at)) is not None:
            at = found[1]
        elif character == "/":
            words.append(text[begin : at - 1])
            begin = at
    return [*words, text[begin:]]


def _tokens(text: str) -> list[list[str]]:
    """Return expressions for one character each, in lists that stars separate."""
    pieces: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "*":
            pieces.append([])
        elif character == "?":
            pieces[-1].append(".")
        elif character == "\\" and at < len(text):
            pieces[-1].append(re.escape(text[at]))
            at += 1
        elif character == "[" and (found := _brackets(text, at)) is not None:
            expression, at = found
            pieces[-1].append(expression)
        elif character == "[":
            pieces[-1].append("(?!)")  # git matches nothing by brackets without an end
        else:
            pieces[-1].append(re.escape(character))
    # Several stars in a row are one.
    return [pieces[0], *(piece for piece in pieces[1:-1] if piece), pieces[-1]] if len(pieces) > 1 else pieces


def _brackets(text: str, at: int) -> tuple[str, int] | None:
    """Return an expression for what begins behind a ``[``, and where it ends; None where it has no end."""
    inside = ""
    negated = text[at : at + 1] in ("!", "^")
    start = at = at + negated
    while at < len(text):
        character = text[at]
        if character == "]" and at > start:
            return f"[{'^' if negated else ''}{inside}]", at + 1
        if text.startswith("[:", at) and (end := text.find(":]", at)) > 0:
            if text[at + 2 : end] not in _CLASSES:
                raise ValueError(f"there is no class of characters {text[at : end + 2]!r}")
            inside += _CLASSES[text[at + 2 : end]]
            at = end + 2
            continue
        if character == "\\" and at + 1 < len(text):
            at += 1
            inside += re.escape(text[at])
        elif character == "-" and start < at and text[at + 1 : at + 2] not in ("", "]"):
            inside += "-"
        else:
            inside += re.escape(character)
        at += 1
    return None


def _piece(tokens: list[str]) -> tuple[re.Pattern[str], int]:
    try:
        return re.compile("".join(tokens), re.DOTALL), len(tokens)
    except re.error as error:  # a range that ends before it begins
        raise ValueError(str(error)) from error


_NOTHING = _Name("")  # fits no name: none is empty
