"""A sandbox over a link: the program inside, and the host's side of it.

inside/      the program that runs in the sandbox
boot.py      what is put into a sandbox and how it is started
link.py      the link with I/O: dials, sends, receives
client.py    GuestSandbox: the whole Sandbox contract over a link
channel.py   one agent over a link
provider.py  GuestProvider: what an adapter subclasses
carriers/    what moves the bytes
"""
