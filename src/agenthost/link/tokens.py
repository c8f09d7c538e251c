"""Makes the tokens of one sandbox, without showing the secret that they come from."""

from __future__ import annotations

from agenthost.wire.tokens import CONTROL, derive_guest_key, derive_token, verifier


class TokenMaker:
    """Derives tokens, verifiers and the guest's key. Its repr tells nothing."""

    __slots__ = ("_nonce", "_sandbox", "_secret")

    def __init__(self, secret: bytes, *, sandbox: str, nonce: str) -> None:
        self._secret = secret
        self._sandbox = sandbox
        self._nonce = nonce

    def token(self, agent: str, role: str) -> str:
        """Return the token for one role of one agent."""
        return derive_token(self._secret, sandbox=self._sandbox, nonce=self._nonce, agent=agent, role=role)

    def control(self) -> str:
        """Return the token that lets a host command the guest."""
        return self.token("", CONTROL)

    def verifier(self, agent: str, role: str) -> str:
        """Return what the guest keeps of a token."""
        return verifier(self.token(agent, role))

    def guest_key(self) -> bytes:
        """Return what proves the guest to its hosts."""
        return derive_guest_key(self._secret, sandbox=self._sandbox, nonce=self._nonce)
