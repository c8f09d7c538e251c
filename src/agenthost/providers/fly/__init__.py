"""The ``fly`` provider: Fly Machines, by their REST interface."""
