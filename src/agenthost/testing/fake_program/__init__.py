"""The program that FakeCLI puts in the place of ``claude``: stream-json on stdin and stdout. Stdlib only.

Never imported by agenthost itself. Runs on Python 3.9 and newer, because a sandbox may have any.

    __main__.py   start and exit                    tools.py   tools, permissions, hooks, MCP
    session.py    frames, questions and answers     model.py   requests to the model
    turns.py      the steps of a script             about.py   the command line and the environment
"""
