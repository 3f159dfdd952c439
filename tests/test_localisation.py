"""Known evidence: perfect, wrong, tied and random scores get what the definitions say."""

import numpy as np
import pytest

from xai_traffic import explain

SCORES = (explain.pointing_game, explain.relevance_mass, explain.relevance_rank)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("score", SCORES)
def test_the_evidence_itself_is_perfect_and_its_opposite_nothing(score):
    evidence = RNG.random((6, 40)) < 0.2
    evidence[:, 0], evidence[:, 1] = True, False
    assert (score(evidence.astype(float), evidence) == 1).all()
    assert (score((~evidence).astype(float), evidence) == 0).all()


@pytest.mark.parametrize("score", SCORES)
def test_equal_and_random_scores_get_what_chance_gives(score):
    evidence = RNG.random((2000, 30)) < 0.3
    evidence[:, 0] = True
    chance = explain.by_chance(evidence)
    np.testing.assert_allclose(score(np.ones(evidence.shape), evidence), chance)
    drawn = score(RNG.random(evidence.shape), evidence)
    assert drawn.mean() == pytest.approx(chance.mean(), abs=0.03)


def test_by_hand():
    values = [[5.0, 3.0, 3.0, 1.0, 0.0]]
    evidence = [[False, True, False, True, False]]
    assert explain.pointing_game(values, evidence) == 0
    assert explain.relevance_mass(values, evidence) == pytest.approx(4 / 12)
    # The second place falls to one of two alike.
    assert explain.relevance_rank(values, evidence) == pytest.approx(0.25)
    held = [[False, True, True, True, True]]
    assert explain.pointing_game(values, evidence, held) == 0.5
    assert explain.relevance_mass(values, evidence, held) == pytest.approx(4 / 7)
    assert explain.by_chance(evidence, held) == 0.5


def test_nothing_to_find_or_nothing_found_is_no_score():
    for score in SCORES:
        assert np.isnan(score([[0.0, 0.0], [1.0, 2.0]], [[True, False], [False, False]])).all()
    with pytest.raises(ValueError, match="0 and more"):
        explain.relevance_mass([[-1.0, 2.0]], [[True, False]])
    with pytest.raises(ValueError, match="must all be"):
        explain.pointing_game([1.0], [True])
