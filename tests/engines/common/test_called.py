"""`vote.step()` behind DDP, where `step` is a number: one sentence, and the number stays one."""

import pytest

from gradvote.engines.common.called import VOTES_BY_ITSELF, refuse_call
from gradvote.engines.ddp import DDPVote
from gradvote.engines.fsdp.vote import FSDPVote


class Session:
    step = 7


def vote_of(kind: type) -> object:
    vote = object.__new__(kind)
    vote._session = Session()
    return vote


class Long:
    """The name that is read stands behind more than 255 others, so that its number needs two bytes."""

    @property
    def step(self) -> int:
        refuse_call(VOTES_BY_ITSELF)
        return 7


@pytest.mark.parametrize("kind", [DDPVote, FSDPVote])
def test_a_number_that_is_called_is_explained(kind: type) -> None:
    vote: object = vote_of(kind)
    for _ in range(20):  # Python replaces instructions by faster ones after some calls
        with pytest.raises(TypeError, match=r"number of the next vote.* loss.backward\(\) votes .* optimizer.step\(\)"):
            vote.step()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [DDPVote, FSDPVote])
def test_a_number_that_is_read_is_an_int(kind: type) -> None:
    vote: object = vote_of(kind)
    for _ in range(20):
        found = vote.step  # type: ignore[attr-defined]
        assert type(found) is int and found == 7 == getattr(vote, "step")  # noqa: B009
        assert max(vote.step, 3) == 7 and f"{vote.step:03d}" == "007"  # type: ignore[attr-defined]
        assert [vote.step][0].bit_length() == 3  # type: ignore[attr-defined]


def test_names_beyond_the_first_hundreds() -> None:
    names = "; ".join(f"a{i} = {i}" for i in range(300))
    exec(f"{names}\nassert vote.step == 7\nassert str(vote.step).strip() == '7'", {"vote": Long()})
    with pytest.raises(TypeError, match="number of the next vote"):
        exec(f"{names}\nvote.step()", {"vote": Long()})
