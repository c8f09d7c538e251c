"""Entry: ``serve`` runs the guest, ``start`` detaches one, ``dial`` joins stdin and stdout to it."""

from __future__ import annotations

import sys


def main() -> int:
    """Run one of the three. Exit code 2 for a call that makes no sense."""
    argv = sys.argv[1:]
    options = dict(zip(argv[1::2], argv[2::2], strict=False))
    command = argv[0] if argv else ""
    # Imported one by one: ``dial`` is started for each carrier and must not load the server.
    if command == "dial":
        from agenthost.guest.dial import dial

        return dial(options["--socket"])
    if command in ("serve", "start"):
        from agenthost.guest.serve import serve

        listen_fd = options.get("--listen-fd")
        return serve(
            options["--boot"],
            listen_fd=None if listen_fd is None else int(listen_fd),
            socket_path=options.get("--socket"),
            detach=command == "start",
        )
    sys.stderr.write(
        "usage: guest.pyz serve|start --boot FILE (--listen-fd N | --socket PATH) | dial --socket PATH\n"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
