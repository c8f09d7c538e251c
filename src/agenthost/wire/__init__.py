"""The link between host and guest as a state machine without I/O. Stdlib only, Python 3.10 or newer.

settings.py  every number            frames.py    bytes <-> frames
tokens.py    who may do what         fields.py    what came is checked before it is used
spool.py     where bytes are kept    streams.py   one stream, each end
peer.py      both ends of a link     events.py    what an end tells its owner
host.py      the host's end          guest.py     the guest's end, for many links
doors.py     who may come to an agent
incoming.py  one carrier as the guest sees it come in
handshake.py what each end proves     seals.py    what keeps frames as they were sent
x25519.py    secrets of two ends
codec.py     SDK objects <-> JSON
"""
