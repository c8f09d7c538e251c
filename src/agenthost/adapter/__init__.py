"""What adapters build on: providers, what is put into a sandbox, its start, and checks of a spec."""
