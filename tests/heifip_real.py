"""Render captures by the real heiFIP 1.1.1; run by the Python that it is installed for.

    PYTHON tests/heifip_real.py PACKETS ROUNDS CAPTURE...

Prints, as JSON, for each capture's packets, at most so many, a pair (NONE, HEADER) of [hex of the
first 256 bytes, length, [[first, number] of runs of random bytes]], null where heiFIP fails. Random
is what differs between rounds; it is 0 in the hex.
"""

import itertools
import json
import logging
import sys

KEPT = 256


def main(packets: int, rounds: int, captures: list[str]) -> None:
    logging.disable(logging.CRITICAL)
    from heifip.layers import PacketProcessor  # only here: tests import this file's names
    from scapy.all import PcapReader, raw

    prepare = PacketProcessor()._PacketProcessor__preprocessing

    def render(mode: str, capture: str) -> list[bytes | None]:
        made = []
        with PcapReader(capture) as reader:
            for packet in itertools.islice(reader, packets):
                try:
                    made.append(raw(prepare(packet, mode).packet))
                except Exception:  # whatever stops heiFIP
                    made.append(None)
        return made

    made = []
    for capture in captures:
        modes = []
        for mode in MODES:
            renderings = [render(mode, capture) for _ in range(rounds)]
            modes.append([join(each) for each in zip(*renderings, strict=True)])
        made.append(list(zip(*modes, strict=True)))
    json.dump(made, sys.stdout)


MODES = ("NONE", "HEADER")


def join(renderings: tuple[bytes | None, ...]) -> list | None:
    """Return what several renderings of a packet have in common."""
    first = renderings[0]
    if first is None:
        return None
    differ = [len(set(values)) > 1 for values in zip(*renderings, strict=False)]
    common = bytes(0 if random else value for value, random in zip(first, differ, strict=False))
    runs, at = [], 0
    for random, group in itertools.groupby(differ):
        count = len(list(group))
        runs += [[at, count]] * random
        at += count
    return [common[:KEPT].hex(), len(first), runs]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
