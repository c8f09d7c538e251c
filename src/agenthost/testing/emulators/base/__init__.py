"""What emulators share: machines, boxes with a clock, faults, streams, JSON over HTTP, ports and images.

An emulator of another provider brings four things:

1. A ``Box`` with what its provider knows of a sandbox beyond its id, its time and its machine.
2. An ``Emulator`` of such boxes, or an ``HttpEmulator`` with its routes in a ``RestApi``. A wire that is
   not HTTP asks ``faults.strike`` before each call, and does what the fault says.
3. A function ``emulator``, which opens ``Machines`` and a server, and has every trap of the provider unless
   it is ``friendly``. Its docstring describes each option.
4. A function ``about`` in a module of this name, from which the page about the emulators is made. The words
   of refusals are in it once, for the page and for the code that refuses.

Streams of programs run inside ``streams.opened`` and wait in ``streams.passing``. Lists go through
``boxes.listed`` and ``page``. What is answered is held against the provider's published description in a
test.
"""
