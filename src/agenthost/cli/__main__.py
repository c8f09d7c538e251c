"""``python -m agenthost.cli``."""

from agenthost.cli import main

if __name__ == "__main__":
    main()
