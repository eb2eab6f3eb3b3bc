import numpy as np
import pytest

from redteam.core import StatisticsError
from redteam.statistics.ranking import finite_scores, rank

MEMBERS = np.array([True, True, False, False])


def test_equal_scores_share_a_block_and_blocks_run_from_high_to_low():
    ranking = rank([1.0, 3.0, 1.0, -2.0, 3.0], [True, True, False, False, True])
    assert ranking.scores.tolist() == [3.0, 1.0, -2.0]
    assert ranking.members.tolist() == [2, 1, 0]
    assert ranking.nonmembers.tolist() == [0, 1, 1]
    assert (ranking.n_members, ranking.n_nonmembers) == (3, 2)


def test_negative_zero_ties_with_zero():
    assert len(rank([0.0, -0.0, 1.0, 1.0], MEMBERS).scores) == 2


def test_the_smallest_difference_is_a_difference():
    assert len(rank([0.0, 5e-324, 1.0, 1.0], MEMBERS).scores) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
def test_any_real_type_ranks(dtype):
    assert rank(np.array([1, 0, 0, 1], dtype=dtype), MEMBERS).members.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("scores", "is_member", "message"),
    [
        ([1.0, 2.0, np.nan, 4.0], MEMBERS, "1 of 4 scores are NaN or infinite"),
        ([1.0, 2.0, np.inf, -np.inf], MEMBERS, "2 of 4 scores"),
        ([7.0] * 4, MEMBERS, "all 4 scores are equal"),
        ([1.0, 2.0, 3.0], MEMBERS, "3 scores but 4 membership flags"),
        ([1.0, 2.0, 3.0], [True, False, False], "1 members among 3"),
        ([1.0, 2.0, 3.0], [True, True, False], "1 non-members among 3"),
        ([], np.array([], dtype=bool), "0 members among 0"),
        ([[1.0, 2.0], [3.0, 4.0]], MEMBERS, "shape (2, 2)"),
        (["a", "b", "c", "d"], MEMBERS, "give one real number"),
        ([1j, 2j, 3j, 4j], MEMBERS, "complex"),
        ([1.0, 2.0, 3.0, 4.0], [1, 0, 2, 0], "give True or False"),
    ],
)
def test_what_cannot_be_ranked_says_so_in_one_line(scores, is_member, message):
    with pytest.raises(StatisticsError) as error:
        rank(scores, is_member)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_too_few_scores_are_named():
    with pytest.raises(StatisticsError, match="out_scores holds 0 values"):
        finite_scores("out_scores", [])


def test_the_input_is_not_changed():
    scores = np.array([3.0, 1.0, 2.0, 0.0])
    rank(scores, MEMBERS)
    assert scores.tolist() == [3.0, 1.0, 2.0, 0.0]


def test_zero_and_one_are_flags_too():
    scores = [1.0, 2.0, 3.0, 4.0]
    assert rank(scores, [0, 1, 0, 1]).members.tolist() == rank(scores, [False, True, False, True]).members.tolist()
