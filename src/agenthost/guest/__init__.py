"""The program inside the sandbox. Stdlib and wire only, Python 3.10 or newer."""
