"""Where the program starts."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from typing import Any

from agenthost.testing.fake_program.session import Session
from agenthost.testing.fake_program.turns import Player

_TERMINATED = 143


def main(script: dict[str, Any]) -> None:
    """Play a script to the end of stdin. Does not return.

    Args:
        script: ``{"start": [step], "turns": [[step]], "stubborn": bool}``.
    """
    session = Session()

    def stop(signum: int, _frame: object) -> None:
        if signum == signal.SIGTERM:
            if not script["stubborn"]:
                os._exit(_TERMINATED)
        elif session.busy:
            session.interrupt()
        else:
            os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    player = Player(session)
    turns = iter(script["turns"])
    try:
        player.play(script["start"])
        threading.Thread(target=session.read, daemon=True).start()
        while (prompt := session.prompts.get()) is not None:
            player.turn(prompt, turns)
        if script["stubborn"]:
            threading.Event().wait()
    except BrokenPipeError:
        os._exit(1)  # the SDK reads no more
    except BaseException:  # noqa: BLE001 - a mistake in the script; the other thread would hold the exit up
        traceback.print_exc()
        os._exit(1)
    # As the CLI: whoever looks at the exit code alone sees that the last turn failed.
    os._exit(1 if player.failed else 0)
