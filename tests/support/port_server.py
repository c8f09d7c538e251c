"""A server in a sandbox, and who asks it from outside by its endpoint."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from agenthost.link.client import GuestSandbox
from agenthost.supports import Endpoint
from agenthost.testing.conformance.streams import read_line

# Answers in chunks, with what it was asked; ends the connection in the middle when it is asked for /cut.
_SERVE = """
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        told = json.dumps([self.path, body, sorted(self.headers)]).encode()
        self.send_response(201)
        self.send_header("x-of", "the server")
        if self.path == "/cut":
            self.send_header("content-length", str(len(told) + 1))
        else:
            self.send_header("transfer-encoding", "chunked")
            told = b"".join(b"1\\r\\n%c\\r\\n" % one for one in told) + b"0\\r\\n\\r\\n"
        self.end_headers()
        self.wfile.write(told)
        self.close_connection = True

    def log_message(self, *words):
        pass

server = HTTPServer((sys.argv[1], 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@asynccontextmanager
async def serving(box: GuestSandbox, address: str) -> AsyncGenerator[int]:
    """Have a server in a sandbox listen at an address of it, and yield its port."""
    async with box.spawn([box.layout.python, "-I", "-c", _SERVE, address]) as server:
        yield int(await read_line(server))


async def ask(endpoint: Endpoint, headers: dict[str, str] | None = None, path: str = "/x") -> httpx.Response:
    """Ask it for something, with the endpoint's headers unless told otherwise."""
    async with httpx.AsyncClient() as client:
        given = dict(endpoint.headers if headers is None else headers)
        return await client.post(f"{endpoint.url}{path}", headers=given, content=b"of the host")
