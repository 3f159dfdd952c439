"""Reading rules: everything that decides what a capture becomes, in one value."""

from __future__ import annotations

import dataclasses
import math

from xai_traffic.capture.layouts import RENDERINGS, TILE_LAYOUTS
from xai_traffic.errors import ConfigError

VERSION = 2
"""Raised whenever the same rules would give other tiles, sessions or offsets."""

SESSION_RULES = (
    "five_tuple",
    "connection",
    "pcapsplitter",
    "zeek",
    "nfstream",
    "host_pair",
    "unidirectional",
)
TIMED_RULES = ("zeek", "nfstream")
"""Session rules with time-outs of their own."""
LAYERS = ("all", "network", "transport", "payload")
LAYOUTS = (*TILE_LAYOUTS, "ustc28", *RENDERINGS)
TUNNELLED = ("inner", "outer")
RETRANSMITTED = ("keep", "drop")
DEFAULT_FILTER = "(tcp or udp) and not (port 67 or port 68 or port 546 or port 547)"


@dataclasses.dataclass(frozen=True)
class ReadingRules:
    """How captures are read. Kept in a dataset's manifest and in a run's `reading.json`.

    Args:
        filter: expression of `capture/filters.py`; packets that do not match are dropped.
        rule: session rule, one of SESSION_RULES.
        layers: where a tile begins, one of LAYERS.
        mask: mask names joined by "+", see `capture/masking.py`.
        layout: one of LAYOUTS.
        min_packets: sessions with fewer packets are dropped.
        idle_timeout: seconds without a packet after which a session ends; 0 means never.
        max_open: most sessions open at a time, the oldest is ended to make room; 0 means any.
        tunnels: which IP header of a tunnelled packet makes its session, one of TUNNELLED.
        retransmissions: what becomes of TCP segments that repeat one byte for byte, one of
            RETRANSMITTED.
        most_per_capture: sessions of a class that a dataset takes of one capture, the first ones;
            0 means any. What is judged is judged whole: rules that differ in it are equal.
        community_id_seed: of the Community ID, 0 to 65535. It names sessions and changes no tile:
            rules that differ in nothing else are equal.
    """

    filter: str = DEFAULT_FILTER
    rule: str = "connection"
    layers: str = "all"
    mask: str = "none"
    layout: str = "tiles"
    min_packets: int = 1
    idle_timeout: float = 0.0
    max_open: int = 500_000
    tunnels: str = "inner"
    retransmissions: str = "keep"
    most_per_capture: int = dataclasses.field(default=0, compare=False)
    community_id_seed: int = dataclasses.field(default=0, compare=False)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("rule", SESSION_RULES),
            ("layers", LAYERS),
            ("layout", LAYOUTS),
            ("tunnels", TUNNELLED),
            ("retransmissions", RETRANSMITTED),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(
                    f"{name} {value!r} is unknown: choose one of {', '.join(allowed)}"
                )
        if self.layout == "ustc28" and self.layers not in ("all", "payload"):
            raise ConfigError(
                f"layout 'ustc28' is made of whole packets or of payload, not of {self.layers!r}: "
                "choose layers 'all' or 'payload'"
            )
        if self.layout in RENDERINGS and (self.layers, self.mask) != ("all", "none"):
            raise ConfigError(
                f"layout {self.layout!r} renders whole packets, and moves the bytes that masks "
                "know: leave layers at 'all' and mask at 'none'"
            )
        if not (self.idle_timeout >= 0 and math.isfinite(self.idle_timeout)):
            raise ConfigError(f"idle_timeout is {self.idle_timeout}: give a number from 0 up")
        for name in ("min_packets", "max_open", "most_per_capture"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name} is {value!r}: give a whole number from 0 up")
        if self.community_id_seed not in range(65_536):
            raise ConfigError(
                f"community_id_seed is {self.community_id_seed}: give a number from 0 to 65535"
            )
        if self.rule in TIMED_RULES and self.idle_timeout:
            raise ConfigError(
                f"rule {self.rule!r} has time-outs of its own: leave idle_timeout at 0"
            )

    def to_dict(self) -> dict:
        """Return the rules as JSON values, with the version of the reading code."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: dict) -> ReadingRules:
        """Return the rules kept in a manifest; refuse those of another version.

        Raises:
            ConfigError: the version differs or a key is unknown.
        """
        values = dict(values)
        version = values.pop("version", None)
        if version != VERSION:
            raise ConfigError(
                f"the data was read by version {version} of the reading rules, this is version "
                f"{VERSION}: convert the captures again"
            )
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ConfigError(f"unknown reading rules: {', '.join(sorted(unknown))}")
        return cls(**values)
