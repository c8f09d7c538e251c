"""Every number of the wire, named."""

from __future__ import annotations

from dataclasses import dataclass

WIRE_VERSION = 2

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class WireSettings:
    """Sizes in bytes, times in seconds. Both ends have the same sizes of frames, of what a seal covers,
    ``initial_window`` and ``early_offers``.

    Attributes:
        text_payload: Bytes in one data frame on a carrier that takes only ASCII lines.
        binary_payload: Bytes in one data frame on a byte-clean carrier.
        max_line: Longest frame line taken. A longer one ends the carrier.
        seal_every: Bytes after which a sealed carrier's sender puts a seal at the latest; behind a frame that
            goes beyond them. Its receiver takes no more without one.
        initial_window: Credit that a sender has before the receiver said anything.
        early_offers: So many model requests of an agent the guest begins to send unasked, each up to
            ``initial_window``: far away a question and its answer take longer than the model's first word.
        window: Credit that a receiver gives beyond what its owner has consumed.
        ping_every: A silent end sends a ping after this long.
        silence: A carrier that brought nothing for this long is dead: one lost ping and half of the next.
        auth_within: A carrier that has not authenticated by then is closed.
        forget_link_after: A link without a carrier for this long is forgotten, and its calls with it.
        inline_body: Call parameters above this size travel as a stream.
        journal_bound: Bytes kept of an agent's journal.
        output_bound: Bytes kept of another process's output.
        max_input_line: Longest line of an agent's input.
    """

    text_payload: int = 64 * KIB
    binary_payload: int = 256 * KIB
    max_line: int = MIB
    seal_every: int = 64 * KIB
    initial_window: int = 256 * KIB
    early_offers: int = 8
    window: int = 2 * MIB
    ping_every: float = 15.0
    silence: float = 23.0
    auth_within: float = 5.0
    forget_link_after: float = 600.0
    inline_body: int = 32 * KIB
    journal_bound: int = 256 * MIB
    output_bound: int = 16 * MIB
    max_input_line: int = 128 * MIB

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.window < self.initial_window:
            raise ValueError("window is below initial_window, which every sender takes for granted")
