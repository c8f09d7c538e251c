"""The link between host and guest as a state machine without I/O. Stdlib only, Python 3.10 or newer.

    settings.py  every number            frames.py   bytes <-> frames
    tokens.py    who may do what         spool.py    where unacknowledged bytes are kept
    streams.py   one stream, each end    peer.py     what both ends of a link do
    host.py      the host's end          guest.py    the guest's end, for many links
    events.py    what an end tells its owner
    codec.py     SDK objects <-> JSON
"""
