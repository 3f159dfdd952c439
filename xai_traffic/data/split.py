"""Which session is learnt from and which is tested on: keys, and what each one promises.

A split is written `KEY:TRAIN/VALIDATION/TEST` in per cent, or `KEY:foldI/N`, fold I, from 0, of N
for a cross-validation: fold I is the test, the next one (after the last the first) the validation,
the others are learnt from. The N folds of one seed are one draw, so every session is tested once.

    KEY       kept together                                        promise: never in two splits
    random    sessions of one 5-tuple of one capture               that
    hash      the same; placed by the content hash of the first    that
    session   sessions of one 5-tuple, whatever their captures     a 5-tuple
    host      sessions of one client, whatever their captures      a client's address
    capture   sessions of one capture                              a capture
    time      sessions of one 5-tuple of one capture               an instant
    family    sessions of one 5-tuple of one capture               a class that is left out

random, session, host and capture are stratified by label: they aim at the largest-remainder counts
of every class. These are met exactly where groups allow it: bigger groups are dealt first, each
to a split that still has room for it, drawn in proportion to that room. A class with too few
groups to go round gives them to train first, then to test, then to validation, and is named in a
warning.

hash stays what it is when captures are added; its shares hold on average, not exactly.

session is for captures that were cut by time or size: there a session goes on in the next file,
and its halves have one 5-tuple. It differs from random in nothing else.

host: a client is the initiator of a session, as its address says, in all captures. Servers are
shared, as they are in a network: were both ends to stay together, one resolver would tie all
clients into one group. Clients that a 5-tuple of one capture ties (each began one of its sessions)
stay together too. Sessions without addresses stay together by 5-tuple only. Private addresses of
different networks count as one host: a model that sees addresses sees no difference either.

time: the earliest sessions, by first packet and on one clock for all captures, are learnt from and
the latest are tested on, so no training session has ended after the test begins (Pendlebury et
al., TESSERACT, USENIX Security 2019). A group that lasts across a boundary is in no split
(`unused`), which is called purging (Lopez de Prado, Advances in Financial Machine Learning, 2018,
section 7.4). It is not stratified: a class that was recorded at another time than the others may
be in one split only, and is named in a warning. As folds, blocks of time: then what is learnt
from may be later than the test, but never at the same time.

family: `family:NAME`, or `family:NAME+NAME`, puts whole classes into the test, and the others
where `random:70/10/20` would; `family:NAME:TRAIN/VALIDATION/TEST` gives other shares of the
others. A `family:foldI/N` tests on the I-th part of all classes and deals the others out to train
and validation alone. Such a split is for the task binary, which must tell what it has never seen.

Sessions that two of these tie together (see also near_duplicates.py) stay together.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xai_traffic.errors import ConfigError

KEYS = ("random", "session", "host", "capture", "time", "family", "hash")
SPLITS = ("train", "validation", "test")
UNUSED = "unused"
"""The split of sessions that are in none."""

PLACES = (*SPLITS, UNUSED)
"""What a session's `split` may be."""

DEFAULT_SPLIT = "random:70/10/20"
_DEFAULT_SHARES = (70.0, 10.0, 20.0)

GROUPED_BY = {
    "random": "5-tuple",
    "hash": "5-tuple",
    "session": "5-tuple",
    "host": "host",
    "capture": "capture",
    "time": "5-tuple",
    "family": "5-tuple",
}
"""What a group is called in a message, by key."""


class Fold(NamedTuple):
    """One of the folds of a cross-validation: its number, from 0, and how many there are."""

    index: int
    of: int

    def places(self) -> np.ndarray:
        """Return the split of each fold, into SPLITS int8 [of]."""
        places = np.zeros(self.of, np.int8)
        places[(self.index + 1) % self.of] = 1
        places[self.index] = 2
        return places


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """A parsed split.

    Args:
        key: one of KEYS.
        shares: of SPLITS, in per cent.
        fold: of a cross-validation; then the shares are what comes of it.
        families: the classes that are left out, joined by "+", under the key family.
    """

    key: str
    shares: tuple[float, float, float]
    fold: Fold | None = None
    families: str = ""

    def __str__(self) -> str:
        if self.fold is not None:
            return f"{self.key}:fold{self.fold.index}/{self.fold.of}"
        shares = "/".join(f"{share:g}" for share in self.shares)
        return f"{self.key}:{self.families}:{shares}" if self.families else f"{self.key}:{shares}"

    def left_out(self, classes: Sequence[str]) -> list[str]:
        """Return which classes, of all, sorted, are wholly in the test; none under other keys."""
        if self.key != "family":
            return []
        if self.fold is not None:
            return list(classes[self.fold.index :: self.fold.of])
        return [name for name in self._named(classes) if name in classes]

    def _named(self, classes: Sequence[str]) -> list[str]:
        return [self.families] if self.families in classes else self.families.split("+")

    def check_left_out(self, classes: Sequence[str]) -> None:
        """Check that the classes to leave out are among all classes.

        Raises:
            ConfigError: there is no class of that name, or none in the fold.
        """
        if self.key != "family":
            return
        if self.fold is not None:
            if not self.left_out(classes):
                raise ConfigError(
                    f"split {str(self)!r}: of {len(classes)} classes this fold leaves out none: "
                    f"take {max(3, len(classes))} folds or fewer"
                )
            return
        unknown = [name for name in self._named(classes) if name not in classes]
        if unknown:
            raise ConfigError(
                f"split {str(self)!r}: there is no class {unknown[0]!r}: leave out one of "
                f"{', '.join(classes[:40])}{', ...' * (len(classes) > 40)}"
            )


def parse_split(spec: str) -> SplitSpec:
    """Parse a split.

    Raises:
        ConfigError: says what is wrong and shows how a split is written.
    """

    def refuse(reason: str) -> ConfigError:
        return ConfigError(
            f"split {spec!r}: {reason}; write KEY:TRAIN/VALIDATION/TEST in per cent, such as "
            f"{DEFAULT_SPLIT!r}, or KEY:foldI/N, such as 'host:fold0/5', with KEY one of "
            f"{', '.join(KEYS)}; or family:CLASS"
        )

    key, colon, rest = spec.strip().partition(":")
    if not colon:
        raise refuse("there is no ':'")
    if key not in KEYS:
        raise refuse(f"the key {key!r} is unknown")
    fold = re.fullmatch(r"fold(\d{1,9})/(\d{1,9})", rest)
    if fold:
        index, of = map(int, fold.groups())
        if of < 3:
            raise refuse("there must be 3 folds or more, for each split has one")
        if index >= of:
            raise refuse(f"folds are numbered from 0, the last of {of} is fold{of - 1}/{of}")
        return SplitSpec(key, (100 - 200 / of, 100 / of, 100 / of), Fold(index, of))
    families = ""
    if key == "family":
        families, colon, shares_text = rest.rpartition(":")
        if not colon or not re.fullmatch(r"[-\d.e/]+", shares_text):
            families, shares_text = rest, ""
        if not families:
            raise refuse("the class to leave out is missing")
        if not shares_text:
            return SplitSpec(key, _DEFAULT_SHARES, None, families)
        rest = shares_text
    try:
        shares = tuple(float(share) for share in rest.split("/"))
    except ValueError:
        raise refuse(f"{rest!r} is not made of numbers") from None
    if len(shares) != 3:
        raise refuse(f"{len(shares)} shares are given, not 3")
    if not all(0 <= share <= 100 for share in shares):
        raise refuse("a share lies between 0 and 100")
    if abs(sum(shares) - 100) > 1e-6:
        raise refuse(f"the shares sum to {sum(shares):g}, not to 100")
    return SplitSpec(key, shares, None, families)


_FEWER = "; most_per_capture (--most-per-capture) takes fewer sessions of it"


def split_warnings(
    counts: np.ndarray,
    groups: np.ndarray,
    taught: np.ndarray | None,
    classes: Sequence[str],
    spec: SplitSpec,
) -> list[str]:
    """Name every class that a wanted split has nothing of, or that one capture or host teaches.

    Args:
        counts: int [classes, 3 or 4], sessions by PLACES.
        groups: int [classes], groups that have sessions of each class.
        taught: int [classes], those of them in training; None where it is of no account.
        classes: their names.
        spec: what was split by.
    """
    warnings = []
    left_out = spec.left_out(classes)
    for label, name in enumerate(classes):
        wanted = [bool(share) for share in spec.shares]
        if spec.key == "family" and name in left_out:
            wanted = [False, False, True]
        elif spec.key == "family" and spec.fold is not None:
            wanted[2] = False
        missing = [
            SPLITS[index] for index in range(3) if wanted[index] and not counts[label, index]
        ]
        if missing:
            number = int(groups[label])
            kind = GROUPED_BY[spec.key] + "s" * (number > 1)
            held = int(counts[label].sum())
            trouble = " (nothing to learn it from!)" if "train" in missing else ""
            remedy = "" if spec.key in ("random", "hash") else _remedy(spec, number)
            warnings.append(
                f"class {name}: no session in {' and '.join(missing)}{trouble}: it has {held} "
                f"session{'s' * (held != 1)} in {number} {kind}, split {spec}{remedy}"
            )
        elif _one_teaches(spec, label, groups, taught):
            kind = GROUPED_BY[spec.key]
            warnings.append(
                f"class {name}: its {counts[label, 0]} sessions in train are all of one {kind}, of "
                f"{groups[label]} that have it: what is learnt of it may be that {kind} alone"
                f"{_FEWER if kind == 'capture' else ''}"
            )
    return warnings


def _one_teaches(spec: SplitSpec, label: int, groups: np.ndarray, taught) -> bool:
    if spec.key not in ("capture", "host") or taught is None:
        return False
    return bool(taught[label] == 1 and groups[label] > 1)


def _remedy(spec: SplitSpec, groups: int) -> str:
    if spec.key == "time":
        return "; on one clock for all captures it lies on one side: split by another key"
    if groups < sum(share > 0 for share in spec.shares):
        return f"; a {GROUPED_BY[spec.key]} is in one split only: split by another key, or add more"
    return ""
