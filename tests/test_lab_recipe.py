"""Recipes and lists of evidence: read back, followed again, and refused where they are wrong."""

import dataclasses

import pytest

from xai_traffic.cli import main
from xai_traffic.errors import ConfigError
from xai_traffic.lab.evidence import read_evidence
from xai_traffic.lab.families import BY_NAME
from xai_traffic.lab.plants import KINDS
from xai_traffic.lab.recipe import lab_recipe
from xai_traffic.lab.write import write_lab


@pytest.fixture(scope="module")
def labs(tmp_path_factory):
    """Labs of two sessions a family, by the kind of their plants."""
    folder = tmp_path_factory.mktemp("recipes")
    return {
        kind: write_lab(folder / str(kind), plant=kind, sessions_per_family=2)
        for kind in (None, "payload", "ttl", "sequence")
    }


@pytest.mark.parametrize(
    "how, message",
    [
        ({"plant": "colour"}, "plant 'colour' is unknown: choose one of payload, ttl"),
        ({"plant": "sni", "families": ["web"]}, "family 'web' .* no place .* among https"),
        ({"plant": "window", "families": ["dns"]}, "family 'dns' .* no place"),
        ({"plant": "ttl", "families": ["beacon"]}, "family 'beacon' .* no place .* among chat"),
        ({"plant": "ttl", "families": ["webs"]}, "family 'webs' in families is unknown"),
        ({"families": []}, "families is .*: give a list"),
        ({"families": [["web"]]}, "families is .*: give a list"),
        ({"plant": ["ttl"]}, "is unknown: choose one of payload"),
        ({"families": ["web", "web"]}, "each of them once"),
        ({"families": "web"}, "families is 'web': give a list"),
        ({"plant": "ttl", "packet": 64}, "packet is 64: choose one of 0 to 63"),
        ({"plant": "ttl", "packet": -1}, "packet is -1: choose one of 0 to 63"),
        ({"plant": "ttl", "packet": 50, "families": ["dns"]}, "packet 50 of dns has no place"),
        ({"plant": "payload", "packet": 0, "families": ["web", "dns"]}, "packet 0 of web has no"),
        ({"plant": "sni", "packet": 5}, "packet 5 of https has no place .* a ClientHello"),
        ({"plant": "sequence", "packet": 5}, "always packets 3 to 5"),
        ({"plant": "ttl", "packet": 1.5}, "packet is 1.5: give a whole number"),
        ({"plant": "ttl", "strength": 0}, "strength is 0: choose a share above 0"),
        ({"plant": "ttl", "strength": 1.2}, "strength is 1.2: choose a share"),
        ({"plant": "ttl", "strength": float("nan")}, "strength is nan: choose a share"),
        ({"strength": 0.5}, "packet and strength go with a plant"),
        ({"packet": 3}, "packet and strength go with a plant"),
        ({"seed": "1"}, "seed is '1': give a whole number"),
        ({"sessions_per_family": 0}, "sessions_per_family is 0: choose at least 1"),
        ({"plant": "ttl", "remove": 1}, "remove is 1: give true or false"),
    ],
)
def test_errors_say_what_to_do(tmp_path, how, message):
    with pytest.raises(ConfigError, match=message):
        write_lab(tmp_path / "lab", **how)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_writes_the_same_lab_again(labs, tmp_path):
    for kind, lab in labs.items():
        again = write_lab(tmp_path / str(kind), **dataclasses.asdict(lab_recipe(lab)))
        names = sorted(path.relative_to(lab) for path in lab.rglob("*") if path.is_file())
        assert names == sorted(
            path.relative_to(again) for path in again.rglob("*") if path.is_file()
        )
        for name in names:
            assert (lab / name).read_bytes() == (again / name).read_bytes()
    other = write_lab(tmp_path / "other", plant="payload", seed=1, sessions_per_family=2)
    for path in other.rglob("*.pcap"):
        one = labs["payload"] / path.relative_to(other)
        assert one.read_bytes() != path.read_bytes()
    assert write_lab(other, plant="ttl", sessions_per_family=1, overwrite=True)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, r"lab\.json is missing: make the lab anew"),
        ("{", r"lab\.json cannot be read"),
        ("[]", "has schema None, this version reads 1"),
        ('{"schema": 99}', "has schema 99"),
        ('{"schema": 1}', r"lacks seed, .*remove: make the lab anew"),
        ("PLANT", r"lab\.json: plant 'colour' is unknown"),
    ],
)
def test_damaged_recipes_are_told(labs, tmp_path, text, message):
    if text == "PLANT":
        text = (labs["ttl"] / "lab.json").read_text().replace('"ttl"', '"colour"')
    if text is not None:
        (tmp_path / "lab.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        lab_recipe(tmp_path)


def test_damaged_lists_are_told(labs, tmp_path):
    with pytest.raises(ConfigError, match=r"evidence\.jsonl cannot be read"):
        read_evidence(tmp_path)
    good = (labs["ttl"] / "evidence.jsonl").read_text().splitlines()[0]
    for bad in ("{", "[]", "{}", good.replace('"start": 22', '"start": 99')):
        (tmp_path / "evidence.jsonl").write_text(f"{good}\n{bad}\n")
        with pytest.raises(ConfigError, match=r"evidence\.jsonl, line 2: no evidence"):
            read_evidence(tmp_path)
    (tmp_path / "evidence.jsonl").write_text(f"{good}\n")
    ((key, (line,)),) = read_evidence(tmp_path).items()
    assert key == (line["capture"], line["session"]) and line["field"] == "ip.ttl"


def test_help_names_every_family_and_kind(capsys):
    with pytest.raises(SystemExit):
        main(["lab", "--help"])
    words = set(capsys.readouterr().out.replace(",", " ").replace(":", " ").split())
    assert words >= {*BY_NAME, *KINDS}
