"""Count an adapter's lines of code by concern, and fail where one exceeds its limit.

A line counts when it holds code other than an import: no blank line, comment or docstring.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

LIMITS = {"core": 250, "carrier": 100, "all": 600}
CLOUDS = ("cloudflare", "daytona", "e2b", "fly", "modal", "vercel")
# Everything that is not named here belongs to the core: client, spec, create, find, boot and bake.
CARRIER = ("carrier.py",)
ABILITIES = (
    "app.py",
    "backend.py",
    "headers.py",
    "network.py",
    "resources.py",
    "snapshot.py",
    "workarounds.py",
)
NOT_CODE = ("prices.py",)  # figures alone
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Return how many lines of a module hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_typing_block(node):
            lines.difference_update(_lines_of(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(_lines_of(node))  # a docstring
    return len(lines)


def _is_typing_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _lines_of(node: ast.AST) -> range:
    return range(getattr(node, "lineno", 0), getattr(node, "end_lineno", 0) + 1)


def main() -> int:
    """Print the table. Return 1 where a limit is exceeded."""
    providers = Path(__file__).resolve().parent.parent / "src/agenthost/providers"
    too_long = False
    for cloud in CLOUDS:
        found = {"core": 0, "carrier": 0, "abilities": 0}
        for path in sorted((providers / cloud).glob("*.py")):
            if path.name in NOT_CODE:
                continue
            concern = "carrier" if path.name in CARRIER else "abilities" if path.name in ABILITIES else "core"
            found[concern] += code_lines(path.read_text())
        found["all"] = sum(found.values())
        print(f"{cloud:12}" + "  ".join(f"{name} {count}" for name, count in found.items()))
        for name, limit in LIMITS.items():
            if found[name] > limit:
                print(
                    f"{cloud}: {name} has {found[name]} lines of code; the limit is {limit}", file=sys.stderr
                )
                too_long = True
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
