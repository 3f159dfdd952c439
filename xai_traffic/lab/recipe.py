"""The recipe of a lab: all that its bytes depend on, kept in `lab.json` beside them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from xai_traffic import __version__
from xai_traffic.errors import ConfigError
from xai_traffic.lab.families import BY_NAME, FAMILIES
from xai_traffic.lab.plants import KINDS

RECIPE = "lab.json"
SCHEMA = 1
SESSIONS_PER_FAMILY = 80


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The arguments of `write_lab`, checked.

    Args:
        seed: of all chance.
        sessions_per_family: sessions in a capture.
        families: their names; None stands for all that fit.
        plant: kind of evidence; None for the families' own plants.
        packet: the only packet that carries it, 0-based in its session.
        strength: share of the malicious sessions that carry it, in (0, 1].
        remove: whether filler stands where the plants would be.

    Raises:
        ConfigError: an argument is out of range, unknown, or does not go with another one.
    """

    seed: int = 0
    sessions_per_family: int = SESSIONS_PER_FAMILY
    families: tuple[str, ...] | None = None
    plant: str | None = None
    packet: int | None = None
    strength: float = 1.0
    remove: bool = False

    def __post_init__(self) -> None:
        for name in ("seed", "sessions_per_family", "packet"):
            value = getattr(self, name)
            if not _is_whole(value) and (name != "packet" or value is not None):
                raise ConfigError(f"{name} is {value!r}: give a whole number")
        if self.sessions_per_family < 1:
            raise ConfigError(
                f"sessions_per_family is {self.sessions_per_family}: choose at least 1"
            )
        if self.plant is not None and (not isinstance(self.plant, str) or self.plant not in KINDS):
            raise ConfigError(f"plant {self.plant!r} is unknown: choose one of {', '.join(KINDS)}")
        number = isinstance(self.strength, (int, float)) and not isinstance(self.strength, bool)
        if not number or not 0 < self.strength <= 1:
            raise ConfigError(
                f"strength is {self.strength!r}: choose a share above 0 and at most 1"
            )
        object.__setattr__(self, "strength", float(self.strength))
        if not isinstance(self.remove, bool):
            raise ConfigError(f"remove is {self.remove!r}: give true or false")
        self._check_packet()
        self._check_families()

    def _check_packet(self) -> None:
        if self.plant is None and (self.packet is not None or self.strength != 1):
            raise ConfigError("packet and strength go with a plant: choose one, or leave them out")
        if self.packet is not None and self.plant == "sequence":
            raise ConfigError("packet: a sequence is always packets 3 to 5, leave it out")
        if self.packet is not None and not 0 <= self.packet < 64:
            raise ConfigError(f"packet is {self.packet}: choose one of 0 to 63, which images hold")

    def _check_families(self) -> None:
        if self.families is None:
            return
        names = self.families
        if (
            not isinstance(names, (tuple, list))
            or not names
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) < len(names)
        ):
            raise ConfigError(f"families is {names!r}: give a list of names, each of them once")
        object.__setattr__(self, "families", tuple(names))
        for name in names:
            if name not in BY_NAME:
                known = ", ".join(BY_NAME)
                raise ConfigError(f"family {name!r} in families is unknown: choose among {known}")
            if self.plant is not None and name not in self.choices():
                raise ConfigError(
                    f"family {name!r} in families has no place for plant {self.plant!r}: "
                    f"choose among {', '.join(self.choices())}"
                )

    def choices(self) -> tuple[str, ...]:
        """Return the families that can be chosen: all, or the benign ones that fit the plant."""
        if self.plant is None:
            return tuple(BY_NAME)
        kind = KINDS[self.plant]
        return tuple(each.name for each in FAMILIES if each.group == "Benign" and kind.fits(each))

    @property
    def planted(self) -> int:
        """Sessions of a malicious family that carry the plant."""
        if self.remove:
            return 0
        return max(round(self.strength * self.sessions_per_family), 1)

    @property
    def best_accuracy(self) -> float:
        """Share of sessions whose label a judge who misses nothing gets right.

        A malicious session without a plant is as a benign one of its twin.
        """
        if self.plant is not None:
            return 0.5 + self.planted / (2 * self.sessions_per_family)
        names = self.families or self.choices()
        known = {BY_NAME[name].talk for name in names} if self.remove else names
        return len(known) / len(names)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def recipe_text(recipe: Recipe) -> str:
    """Return the content of `lab.json`."""
    values = {"schema": SCHEMA, "version": __version__, **dataclasses.asdict(recipe)}
    return json.dumps({**values, "best_accuracy": recipe.best_accuracy}, indent=2) + "\n"


def lab_recipe(folder: str | os.PathLike[str]) -> Recipe:
    """Read the recipe of a lab: `write_lab(out, **dataclasses.asdict(recipe))` writes it again.

    Raises:
        ConfigError: there is none, it cannot be read, or this version cannot follow it.
    """
    path = pathlib.Path(folder) / RECIPE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: make the lab anew with `xai-traffic lab`") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): make the lab anew") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        found = values.get("schema") if isinstance(values, dict) else None
        raise ConfigError(
            f"{path} has schema {found!r}, this version reads {SCHEMA}: make the lab anew"
        )
    names = [field.name for field in dataclasses.fields(Recipe)]
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}: make the lab anew")
    try:
        return Recipe(**{name: values[name] for name in names})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
