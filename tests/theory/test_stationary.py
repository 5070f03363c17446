import pytest
import torch

from gradvote.theory.stationary import Rule, stationary_point

CENTRES = torch.tensor([1.0, 2.0, 10.0], dtype=torch.float64)
TABLE = {0.5: (2.0251, 2.0137), 2: (2.6958, 2.6540), 10: (4.1617, 4.1732), 100: (4.3315, 4.3317)}


@pytest.mark.parametrize("b", TABLE)
@pytest.mark.parametrize("rule", ["median", "vote"])
def test_the_published_resting_points(b: float, rule: Rule) -> None:
    found = stationary_point(lambda x: x - CENTRES, 0, 12, b, rule)
    assert found == pytest.approx(TABLE[b][rule == "vote"], abs=5e-5)


def test_without_noise_it_is_the_median() -> None:
    assert stationary_point(lambda x: x - CENTRES, 0, 12, 0.0, "vote") == pytest.approx(2)
    assert stationary_point(lambda x: x - CENTRES, 0, 12) == pytest.approx(2)


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match="wider interval"):
        stationary_point(lambda x: x - CENTRES, 5, 6, 1.0)
    with pytest.raises(ValueError, match="The valid ones are: median, vote"):
        stationary_point(lambda x: x - CENTRES, 0, 12, 1.0, "votes")  # type: ignore[arg-type]  # what is tested
