"""Python source without what only its readers need: docstrings and comments."""

from __future__ import annotations

import ast
import io
import tokenize

_Documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def strip_source(source: bytes) -> bytes:
    """Return a UTF-8 source without comments and docstrings, each statement on its old line.

    Tracebacks stay right. The same source gives the same bytes on every Python: nothing is written
    anew, text is only taken away. A source that names ``__doc__`` keeps its docstrings.
    """
    lines = source.split(b"\n")
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            text = lines[row - 1].decode()  # tokenize counts characters, ast counts bytes
            lines[row - 1] = text[:column].rstrip().encode()
    if b"__doc__" not in source:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, _Documented):
                _blank_docstring(lines, node.body)
    return b"\n".join(lines)


def _blank_docstring(lines: list[bytes], body: list[ast.stmt]) -> None:
    first = body[0] if body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return
    if not isinstance(first.value.value, str) or first.end_lineno is None:
        return
    start, end = first.lineno - 1, first.end_lineno - 1
    before, after = lines[start][: first.col_offset], lines[end][first.end_col_offset :]
    # Something must stand there where it is the whole body, or where a semicolon follows.
    needed = len(body) == 1 or after.strip()
    text = before + b"pass" + after if needed else before.rstrip()
    lines[start : end + 1] = [text] + [b""] * (end - start)
