"""The program that holds one local sandbox, alone in its session. Standard library only, quick to start."""
