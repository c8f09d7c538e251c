"""What emulators share: machines, boxes with a clock, faults, streams, JSON over HTTP, ports and images.

An emulator translates its provider's wire onto these. It brings a ``Box`` with what its provider knows of a
sandbox, an ``Emulator`` for tests, and its calls: a ``RestApi``, or a wire of its own that asks ``Faults``.
"""
