"""What a host's environment says about the way to the model: the same program works as with the bare SDK."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from agent.test_model_proxy import BODY, FakeExchange, Head, Upstream, reply_ok
from anyio.streams.tls import TLSStream

from agenthost import HostedAgent
from agenthost.agent.credentials import (
    ModelAccess,
    put_key_inside,
    refuse_other_services,
    take_model_access,
)
from agenthost.agent.model_proxy import ModelProxy
from agenthost.errors import ConfigError, MissingCredentialError
from agenthost.http import HttpClient, is_exempt
from agenthost.testing.loopback import Exchange

LIMIT = 20
KEY = "sk-ant-very-secret"
FOREIGN = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"]


@pytest.fixture(autouse=True)
def no_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a developer's own environment may hold."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_OAUTH_TOKEN", *FOREIGN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


async def ask(access: ModelAccess) -> FakeExchange:
    exchange = FakeExchange(Head())
    with anyio.fail_after(LIMIT):
        async with HttpClient() as client:
            await ModelProxy(access, request_bytes=1 << 20).serve(client, exchange)
    return exchange


# ---- every request is answered


@pytest.mark.parametrize(
    "access",
    [
        ModelAccess("http://127.0.0.1:abc", ()),
        ModelAccess("http://[::1", ()),
        ModelAccess("no address", ()),
        ModelAccess("http://127.0.0.1:9", (("x-api-key", "\u201csk-ant-very-secret\u201d"),)),
        ModelAccess("http://127.0.0.1:9", (("x user", "a"), ("x-two", "b\nc"))),
        ModelAccess("http://127.0.0.1:9", (("x-\u20ac", "a"),)),
    ],
    ids=["port", "brackets", "scheme", "value", "line", "name"],
)
async def test_a_request_that_cannot_be_sent_is_answered_and_quotes_nothing(
    access: ModelAccess, caplog: pytest.LogCaptureFixture
) -> None:
    done = await ask(access)
    assert done.status in (400, 502)
    assert done.ended
    assert "sk-ant" not in done.message() + caplog.text


async def test_whatever_is_raised_the_agent_is_answered() -> None:
    class Broken(HttpClient):
        def stream(self, *_: Any, **__: Any) -> Any:
            raise KeyError("sk-ant-very-secret")

    exchange = FakeExchange(Head())
    with anyio.fail_after(LIMIT):
        async with Broken() as client:
            await ModelProxy(ModelAccess("http://127.0.0.1:9", ()), request_bytes=100).serve(client, exchange)
    assert (exchange.status, exchange.ended) == (502, True)
    assert exchange.message() == "agenthost: the request could not be served (KeyError)"


async def test_headers_are_sent_as_latin_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-User: Jos\u00e9")
    upstream = Upstream(reply_ok)
    async with upstream.server as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        done = await ask(take_model_access({}))
    assert done.status == 200
    assert upstream.requests[0].headers["x-user"].encode("latin-1") == b"Jos\xe9"


# ---- redirects


async def test_a_redirect_within_the_server_is_followed_with_key_and_body() -> None:
    async def move(exchange: Exchange) -> None:
        if exchange.request.target.startswith("/moved"):
            await exchange.reply(200, exchange.request.body)
        else:
            await exchange.reply(307, b"", {"location": "/moved/v1/messages"})

    upstream = Upstream(move)
    async with upstream.server as server:
        done = await ask(ModelAccess(server.url, (("x-api-key", KEY),)))
    assert (done.status, done.data) == (200, BODY)
    assert [request.headers["x-api-key"] for request in upstream.requests] == [KEY, KEY]


async def test_a_redirect_in_a_circle_ends() -> None:
    async def circle(exchange: Exchange) -> None:
        await exchange.reply(308, b"", {"location": exchange.request.target})

    async with Upstream(circle).server as server:
        done = await ask(ModelAccess(server.url, ()))
    assert done.status == 308


# ---- proxies


@pytest.mark.parametrize(
    "env",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "127.0.0.1"},
        {"NO_PROXY": "[::1]"},
        {"NO_PROXY": "[::1], ,localhost", "HTTP_PROXY": ""},
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "a.example 127.0.0.0/8"},
        {"HTTPS_PROXY": "not a proxy"},
        {"SSL_CERT_FILE": "/no/such/file.pem"},
        {"NODE_EXTRA_CA_CERTS": "/dev/null"},
    ],
    ids=lambda env: " ".join(env),
)
async def test_what_is_not_for_this_request_breaks_nothing(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    async with Upstream(reply_ok).server as server:
        assert (await ask(ModelAccess(server.url, ()))).status == 200


@pytest.mark.parametrize(
    ("names", "direct"),
    [
        ("*.corp.example", True),
        ("corp.example", True),
        (".corp.example", True),
        ("model.corp.example:80", True),
        ("model.corp.example:81", False),
        ("rp.example", False),
        ("*", True),
        ("", False),
    ],
)
def test_names_of_no_proxy_are_hosts_domains_and_ports(names: str, direct: bool) -> None:
    assert is_exempt(httpx.URL("http://model.corp.example"), names) == direct


async def test_answer_headers_pass_whatever_their_bytes_are() -> None:
    async def note(exchange: Exchange) -> None:
        await exchange.reply(200, b"ok", {"x-note": "\u65e5".encode().decode("latin-1")})

    async with Upstream(note).server as server:
        done = await ask(ModelAccess(server.url, ()))
    assert dict(done.headers)["x-note"].encode("latin-1") == "\u65e5".encode()


async def test_a_proxy_is_used_and_an_address_without_scheme_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Upstream(reply_ok)
    async with proxy.server as server:
        monkeypatch.setenv("HTTP_PROXY", server.url.removeprefix("http://"))
        done = await ask(ModelAccess("http://model.invalid", ()))
    assert done.status == 200
    assert proxy.requests[0].target.startswith("http://model.invalid/v1/messages")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [("socks5://127.0.0.1:9", "httpx[socks]"), ("gopher://x", "ALL_PROXY does not name")],
)
async def test_a_proxy_that_cannot_be_used_is_told_at_once(
    address: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    done = await ask(ModelAccess("http://127.0.0.1:9", ()))
    assert done.status == 400  # the CLI does not ask again
    assert wanted in done.message()


# ---- certificates


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that only itself has signed."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=a test",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@asynccontextmanager
async def tls_server(key: Path, certificate: Path) -> AsyncGenerator[str]:
    """Answer every request over TLS; yields the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(raw: anyio.abc.SocketStream) -> None:
        # A client that refuses the certificate ends the handshake.
        with contextlib.suppress(ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream):
            async with raw:
                stream = await TLSStream.wrap(raw, server_side=True, ssl_context=context)
                await stream.receive()
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("variable", ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"])
async def test_a_private_authority_is_trusted_where_a_variable_names_it(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = make_certificate(tmp_path)
    async with tls_server(key, certificate) as url:
        refused = await ask(ModelAccess(url, ()))
        assert refused.status == 400
        assert "the certificate of 127.0.0.1 is not trusted" in refused.message()
        assert "NODE_EXTRA_CA_CERTS" in refused.message()
        monkeypatch.setenv(variable, str(certificate))
        assert (await ask(ModelAccess(url, ()))).data == b"ok"


# ---- credentials


def test_a_key_and_a_token_are_both_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", " token\n")
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"{KEY}\n")
    assert take_model_access({}).headers() == (("x-api-key", KEY), ("authorization", "Bearer token"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ANTHROPIC_API_KEY", "\u201csk-ant-very-secret\u201d", "U+201C at character 1 of 20"),
        ("ANTHROPIC_AUTH_TOKEN", "very-secret\x00", "U+0000 at character 12 of 12"),
        ("ANTHROPIC_CUSTOM_HEADERS", "x-user: \u20ac", "U+20AC"),
        ("ANTHROPIC_CUSTOM_HEADERS", "x-a: b\nAuthorization secret: a", "line 2 has no valid name"),
        ("ANTHROPIC_BASE_URL", "http://u:very-secret@127.0.0.1:abc", "is not a valid URL"),
        ("ANTHROPIC_BASE_URL", "127.0.0.1:80", "is not a valid URL"),
    ],
)
def test_a_value_that_http_cannot_carry_is_refused_by_its_name(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        take_model_access({"ANTHROPIC_API_KEY": KEY, name: value})
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("credentials", ["host", "env"])
@pytest.mark.parametrize("name", FOREIGN)
async def test_another_service_of_the_hosts_environment_is_refused_by_its_name(
    name: str, credentials: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=name):
        await HostedAgent({}, provider="local-unisolated", credentials=credentials).connect()
    refuse_other_services({name: "0"})  # the caller says that Anthropic is meant
    monkeypatch.setenv(name, "0")
    refuse_other_services({})


def test_a_service_that_is_off_is_no_way_to_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(MissingCredentialError):
        put_key_inside({"CLAUDE_CODE_USE_BEDROCK": "0"})


def test_a_subscription_alone_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "a secret")
    with pytest.raises(MissingCredentialError, match=r"CLAUDE_CODE_OAUTH_TOKEN is set.*credentials='env'"):
        take_model_access({})
    env: dict[str, str] = {}
    put_key_inside(env)
    assert env["CLAUDE_CODE_OAUTH_TOKEN"] == "a secret"
