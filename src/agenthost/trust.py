"""Certificate authorities: which servers a client of this machine trusts."""

from __future__ import annotations

import logging
import os
import ssl
import sys
from functools import cache

import certifi

_log = logging.getLogger("agenthost.http")

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# Files of further authorities: OpenSSL's own variable, and the one that the claude CLI reads.
_FILES = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")


def trusted_authorities() -> ssl.SSLContext:
    """Return a context that trusts what the claude CLI trusts on this machine.

    These are the authorities of the system and of Mozilla, and those in the files that ``SSL_CERT_FILE`` and
    ``NODE_EXTRA_CA_CERTS`` name. A file that cannot be read is logged as a warning and trusts nothing. The
    context is made once for the same files.
    """
    return _context(*((name, os.environ.get(name, "")) for name in _FILES))


@cache
def _context(*named: tuple[str, str]) -> ssl.SSLContext:
    context = _of_the_system()
    context.load_verify_locations(certifi.where())
    for name, path in named:
        if not path:
            continue
        try:
            context.load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            _log.warning("%s names a file without usable certificates: %s", name, error.strerror or error)
    return context


def _of_the_system() -> ssl.SSLContext:
    if sys.platform != "linux":
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Not truststore, which reads the whole bundle anew for each connection there.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    # A Python that was built elsewhere does not know where this system has them.
    for path in filter(os.path.isfile, _BUNDLES):
        context.load_verify_locations(path)
        break
    return context
