"""What must not be written into a file: keys, tokens and passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from agenthost.config.shape import Path

_LOOKS = re.compile(
    r"""
    \bsk-(ant-|[A-Za-z0-9_-]{20})                       # Anthropic and its like
    | \b(gh[oprsu]_|github_pat_|glpat-)[A-Za-z0-9_]{16} # GitHub, GitLab
    | \bxox[a-z]-[A-Za-z0-9-]{10}                       # Slack
    | \bA[KS]IA[0-9A-Z]{16}\b                           # AWS
    | \bAIza[0-9A-Za-z_-]{35}                           # Google
    | \b(npm|hf)_[A-Za-z0-9]{30}                        # npm, Hugging Face
    | \bpypi-AgE[A-Za-z0-9_-]{16}                       # PyPI
    | \b[rs]k_live_[A-Za-z0-9]{16}                      # Stripe
    | \b(?i:aws_secret_access_key|secret_key)["']?\s{0,4}[=:]\s{0,4}["']?[A-Za-z0-9/+]{40}
    | \bAuthorization["']?\s{0,4}[:=]\s{0,4}["']?Basic\ +[A-Za-z0-9+/]{8} # user and password, in base64
    | (?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ      # a JSON web token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \bBearer\ +\S{8}
    | ://[^/\s:@]*:[^/\s@]+@                            # a password in an address
    """,
    re.VERBOSE,
)
# The whole of what looks so, up to a space or a quote; of a private key, all that may be a part of it. Texts
# of an agent are looked through: no part of a text is looked at more often than a few times.
_WHOLE = re.compile(
    rf"""
    (?:-----BEGIN\ [A-Z ]{{0,40}}PRIVATE\ KEY[^"']{{0,8192}})
    | (?:{_LOOKS.pattern})[^\s"'\\]*
    """,
    re.VERBOSE,
)
_WORDS = re.compile(
    r"(^|[_.-])(api_?key|key|token|secret|password|passphrase|passwd|credential|authorization|cookie)s?$"
    r"|^PGPASSWORD$",
    re.IGNORECASE,
)
# TOKENS counts what a model may say: a number of them is no secret.
_HARMLESS = re.compile(r"tokens$", re.IGNORECASE)
# What is called so and is none, and free text of other people's tools.
_NO_SECRETS = {
    ("agent", "credentials"),
    ("agent", "extra_args"),
    ("agent", "output_format"),
    ("spec", "labels"),
}


def looks_secret(text: str) -> bool:
    """Tell whether a text looks like a key, a token or an address with a password."""
    return _LOOKS.search(text) is not None


def mask_secrets(text: str, mask: str) -> str:
    """Return a text with a mask in place of what looks like a key, a token or an address with a password."""
    return _WHOLE.sub(mask, text)


def names_secret(name: str) -> bool:
    """Tell whether what has this name is a secret: ``GITHUB_TOKEN``, ``Authorization``, ``api_key``."""
    return _WORDS.search(name) is not None and _HARMLESS.search(name) is None


def holds_secret(path: Path) -> bool:
    """Tell whether a secret belongs at this path."""
    last = path[-1]
    return isinstance(last, str) and names_secret(last) and path[:2] not in _NO_SECRETS


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield each value that is neither table nor list, with its path; empty tables and lists, too."""
    if isinstance(tree, Mapping) and tree:
        for key, value in cast("Mapping[str, Any]", tree).items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list) and tree:
        for number, value in enumerate(cast("Sequence[Any]", tree)):
            yield from leaves(value, (*path, number))
    else:
        yield path, tree
