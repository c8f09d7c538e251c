"""Sources lose docstrings, comments and annotations of functions alone; every statement stays on its line."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from support.old_python import old_python

import agenthost.adapter.stripping
from agenthost.adapter.stripping import strip_source

PACKAGE = Path(agenthost.adapter.stripping.__file__).parents[1]
TRAVELLERS = [path for part in ("wire", "guest", "runner") for path in (PACKAGE / part).glob("*.py")]


class WithoutWords(ast.NodeTransformer):
    """Takes docstrings and annotations of functions out of a tree; what has no other body gets ``pass``."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                first = node.body[0]
                stand_in = ast.Pass(lineno=first.lineno, col_offset=first.col_offset)
                node.body[0] = ast.copy_location(stand_in, first)
            # What is left of a body that has more.
            node.body = [item for item in node.body if not isinstance(item, ast.Pass)] or node.body
        return node


def meaning(source: bytes) -> str:
    """Return the tree of a source without words for readers, with the line where each thing begins."""
    tree = WithoutWords().visit(ast.parse(source))
    found = [f"{type(node).__name__} {getattr(node, 'lineno', '')}" for node in ast.walk(tree)]
    return ast.dump(tree) + "\n".join(found)


def comments(source: bytes) -> list[str]:
    """Return the comments of a source."""
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


@pytest.mark.parametrize("path", TRAVELLERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_module_that_travels_means_the_same_on_the_same_lines(path: Path) -> None:
    source = path.read_bytes()
    stripped = strip_source(source)
    assert meaning(stripped) == meaning(source)
    assert comments(stripped) == []
    assert stripped.count(b"\n") == source.count(b"\n")
    assert not any(line.endswith(b" ") for line in stripped.splitlines())
    assert strip_source(stripped) == stripped


@pytest.mark.parametrize(
    ("source", "stripped"),
    [
        ('"""Doc."""\n', "pass\n"),
        ('"""Doc."""\n\nfrom __future__ import annotations\n', "\n\nfrom __future__ import annotations\n"),
        ('def f():\n    """Doc."""\n', "def f():\n    pass\n"),
        ('def f():\n    """Doc."""  # why\n\nx = 1\n', "def f():\n    pass\n\nx = 1\n"),
        ('class C(Exception):\n    """Doc.\n\n    More.\n    """\n', "class C(Exception):\n    pass\n\n\n\n"),
        ('def f(): "doc"\n', "def f(): pass\n"),
        ('def f(): "doc"; return 1\n', "def f(): pass; return 1\n"),
        ('async def f():\n    "a" "b"\n    return 1\n', "async def f():\n\n    return 1\n"),
        ('def f():\n    ("doc")\n    return 1\n', "def f():\n\n    return 1\n"),
        ('def f():\n    """Größe\n    é"""; x = 1\n', "def f():\n    pass; x = 1\n\n"),
        ("x = 'é'  # größer\n", "x = 'é'\n"),
        ("def f(é: int, *a: str, b: int = 3) -> int: return 1\n", "def f(é, *a, b = 3): return 1\n"),
        ('def f(x: int): "doc"; return x  # why\n', "def f(x): pass; return x\n"),
        (
            "def f(\n    x: dict[\n        str, int],\n    y: int,\n): pass\n",
            "def f(\n    x: dict[\n        str, int],\n    y,\n): pass\n",
        ),
        ("class C:\n    x: int = 1\n", "class C:\n    x: int = 1\n"),
        ("x = '# not a comment'\n", "x = '# not a comment'\n"),
        ("x = f'{y:#x} # {y}'  # one\n", "x = f'{y:#x} # {y}'\n"),
        ("x = '''\n# text  \n'''  # one\n", "x = '''\n# text  \n'''\n"),
        ("x = (  # open\n    # inside\n    1,\n)\n", "x = (\n\n    1,\n)\n"),
        ("x = 1\n'no docstring'\n", "x = 1\n'no docstring'\n"),
        ("def f():\n    b'bytes'\n", "def f():\n    b'bytes'\n"),
        ("", ""),
        ("# no newline", ""),
        ('"""Usage."""\nprint(__doc__)  # told\n', '"""Usage."""\nprint(__doc__)\n'),
    ],
)
def test_a_docstring_leaves_its_lines_empty(source: str, stripped: str) -> None:
    assert strip_source(source.encode()) == stripped.encode()
    compile(stripped, "stripped", "exec", dont_inherit=True)


STRIP = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from stripping import strip_source
for path in sys.argv[2:]:
    print(hashlib.sha256(strip_source(open(path, "rb").read())).hexdigest())
"""


def test_an_old_python_strips_to_the_same_bytes() -> None:
    told: list[bytes] = []
    for python in (sys.executable, old_python()):
        argv = [python, "-I", "-B", "-c", STRIP, str(PACKAGE / "adapter"), *map(str, TRAVELLERS)]
        told.append(subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout)
    assert len(told[0].splitlines()) == len(TRAVELLERS)
    assert told[0] == told[1]
