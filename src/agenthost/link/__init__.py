"""The host's end of a link: carriers, the session with its streams and calls, and GuestSandbox on top."""
