"""Python source without what only its readers need: docstrings, comments and annotations of functions."""

from __future__ import annotations

import ast
import io
import tokenize

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Documented = (ast.Module, ast.ClassDef, *_Function)


def strip_source(source: bytes) -> bytes:
    """Return a UTF-8 source without comments, docstrings and annotations, each statement on its old line.

    Tracebacks stay right. The same source gives the same bytes on every Python: nothing is written
    anew, text is only taken away. A source that names ``__doc__`` keeps its docstrings. Annotations of
    variables stay, because dataclasses need them.
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
    _take_annotations(lines, source)  # last, because what is behind them on their line moves
    return b"\n".join(lines)


def _take_annotations(lines: list[bytes], source: bytes) -> None:
    spans: list[tuple[int, int, int, int]] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, _Function):
            continue
        given = node.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if argument is not None and argument.annotation is not None:
                column = argument.col_offset + len(argument.arg.encode())
                spans.append((argument.lineno, column, *_end(argument.annotation)))
        if node.returns is not None:
            row, column = node.returns.lineno, node.returns.col_offset
            spans.append((row, lines[row - 1].rindex(b"->", 0, column), *_end(node.returns)))
    for row, begin, last, end in sorted(spans, reverse=True):
        if row == last:  # one that takes several lines stays
            line = lines[row - 1]
            lines[row - 1] = line[:begin].rstrip() + line[end:]


def _end(node: ast.expr) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


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
