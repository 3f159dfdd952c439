"""Numbers with their intervals in words."""

from __future__ import annotations

import pytest

from xai_traffic.report.intervals import ends, hundredfold, with_interval

PLAIN = "{:.2f}".format


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"value": 0.5, "low": 0.25, "high": 1.0}, "0.50 m (0.25, 1.00)"),
        ({"mean": -0.5, "low": -1.0, "high": 0.0}, "-0.50 m (-1.00, 0.00)"),
        ({"value": 0.5, "low": None, "high": None}, "0.50 m"),
        ({"mean": 0.5}, "0.50 m"),
        (0.5, "0.50 m"),
        ({"value": None, "low": None, "high": None}, "none"),
        ({"mean": None, "low": 0.0, "high": 1.0}, "none"),
        (None, "none"),
    ],
)
def test_a_number_is_told_with_what_is_known_of_it(found, words):
    assert with_interval(found, PLAIN, " m", missing="none") == words


def test_an_interval_of_too_few_has_no_ends():
    assert ends({"low": 0.25, "high": 1}, PLAIN) == "0.25 to 1.00"
    assert ends({"low": None, "high": None}, PLAIN) == "of too few"


def test_a_part_is_told_in_hundredths():
    assert with_interval({"value": 0.125, "low": 0, "high": 1}, hundredfold("+.1f"), " %") == (
        "+12.5 % (+0.0, +100.0)"
    )
