"""The table of attacks in docs/security.md, written from the marks of tests/redteam.

python scripts/attack_table.py            writes the table
python scripts/attack_table.py --check    exits with 1 where the page has another one
python scripts/attack_table.py --json     prints what the tests declare
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- Written by scripts/attack_table.py. -->\n", "<!-- End of the table. -->\n"
# Fixtures of tests with a container engine, and what a module has all of whose attacks are on ``local``.
_ENGINES = {"docker_engine", "docker_images", "podman_engine", "baked"}
_LOCAL = ('"local"', "from local.stand_in import")


@dataclass(frozen=True, order=True)
class Attack:
    """What a test that is marked as an attack declares."""

    goal: str
    mechanism: str
    test: str
    on: str


@dataclass
class Declared:
    """What the tests of a directory declare.

    Attributes:
        attacks: Attacks, sorted.
        controls: Tests by the mechanism that they show to work without the defence.
    """

    attacks: list[Attack] = field(default_factory=list[Attack])
    controls: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Take note of a test, also of one that is not run at this level."""
        test = item.nodeid.partition("[")[0].rpartition("/")[2]
        for mark in item.iter_markers("attack"):
            goal, mechanism = map(str, mark.args)
            found = Attack(goal, mechanism, test, _place(item))
            if found not in self.attacks:
                self.attacks.append(found)
        for mark in item.iter_markers("control"):
            tests = self.controls.setdefault(str(mark.args[0]), [])
            if test not in tests:
                tests.append(test)

    def problems(self) -> list[str]:
        """Return which attacks have no control, and which controls no attack."""
        mechanisms = {attack.mechanism for attack in self.attacks}
        return [
            *(
                f"no control shows that this works: {one}"
                for one in sorted(mechanisms - self.controls.keys())
            ),
            *(f"no attack is made by this: {one}" for one in sorted(self.controls.keys() - mechanisms)),
        ]


def collect(directory: Path) -> Declared:
    """Collect the tests of a directory without running one."""
    declared = Declared()
    # What another run is about to remove is no leftover of this one.
    plugins = ["-p", "no:cacheprovider", "-p", "no:support.leftovers"]
    arguments = ["--collect-only", "-q", *plugins, str(directory)]
    told = io.StringIO()
    with redirect_stdout(told):
        code = pytest.main(arguments, plugins=[declared])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"the tests of {directory} cannot be collected:\n{told.getvalue()}")
    declared.attacks.sort()
    return declared


def table(declared: Declared) -> str:
    """Return the table, with a row for each goal and mechanism."""
    rows: dict[tuple[str, str], list[Attack]] = {}
    for attack in declared.attacks:
        rows.setdefault((attack.goal, attack.mechanism), []).append(attack)
    lines = [
        "| the attacker wants to | by | tried on | fails: | succeeds without the defence: |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (goal, mechanism), attacks in rows.items():
        places = ", ".join(sorted({attack.on for attack in attacks}))
        tests = _named(sorted({attack.test for attack in attacks}))
        lines.append(
            f"| {goal} | {mechanism} | {places} | {tests} | {_named(declared.controls.get(mechanism, []))} |"
        )
    count = f"{len(rows)} attacks of {len({goal for goal, _ in rows})} kinds.\n"
    return "\n".join([count, *lines, ""])


def _named(tests: Iterable[str]) -> str:
    return ", ".join(f"`{test}`" for test in tests)


def _place(item: pytest.Item) -> str:
    """Return what the attack runs against, as far as the test's fixtures, parameters and module tell."""
    parameters = item.nodeid.partition("[")[2]
    if set(getattr(item, "fixturenames", ())) & _ENGINES and "local" not in parameters:
        return "docker"
    source = item.path.read_text()
    is_local = "local" in parameters or any(one in source for one in _LOCAL)
    return "local" if is_local else "the host's code"


def page_with(text: str, made: str) -> str:
    """Return the page with another table."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        sys.exit(f"{PAGE} has no place for the table")
    return f"{head}{BEGIN}\n{made}\n{END}{tail}"


def main(arguments: list[str]) -> int:
    """Write the table, or do what the arguments say."""
    declared = collect(ROOT / "tests" / "redteam")
    if "--json" in arguments:
        text, attacks = PAGE.read_text(), list(map(asdict, declared.attacks))
        is_current = page_with(text, table(declared)) == text
        print(json.dumps({"attacks": attacks, "controls": declared.controls, "current": is_current}))
        return 0
    for problem in declared.problems():
        print(problem, file=sys.stderr)
    before = PAGE.read_text()
    after = page_with(before, table(declared))
    if "--check" in arguments:
        if after != before:
            print(f"{PAGE.name} has an old table: run scripts/attack_table.py", file=sys.stderr)
        return int(after != before or bool(declared.problems()))
    PAGE.write_text(after)
    return int(bool(declared.problems()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
