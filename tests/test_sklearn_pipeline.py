"""Pipelines of scikit-learn: one that overfits is a proven leak, a strongly regularised one is not."""

import numpy as np
import pytest
from conftest import learnable
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from redteam.core import DataError, UsageError
from redteam.integrations.judged import Judged
from redteam.integrations.sklearn import audit_pipeline
from redteam.policy import Policy
from redteam.report import Limit

POLICY = Policy((Limit("auc", 0.6),))
ROWS = learnable(500, seed=2)


def pipeline(c):
    """It sees every run of letters and digits, by which it can tell any two texts apart."""
    return make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(2, 4)), LogisticRegression(C=c, max_iter=200))


def regularised():
    """It sees the words that many texts have, and little of these."""
    return make_pipeline(TfidfVectorizer(min_df=20), LogisticRegression(C=0.1))


def noisy(share=0.3):
    """The labels, of which some are others than what can be learned: a model that knows those has overfitted."""
    rng = np.random.default_rng(0)
    return [str(rng.choice(["a", "b", "c"])) if rng.random() < share else label for label in ROWS.labels]


def judged(report):
    return Judged.of(report, POLICY).verdict


def test_a_pipeline_that_overfits_is_a_proven_leak_by_its_clones():
    report = audit_pipeline(pipeline(1e4), ROWS.texts, noisy(), cv=5, policy=POLICY)
    assert judged(report).exit_code == 1
    assert (report.grade, report.references) == ("A", 4)
    assert report.multiplicity.primary == "RT104"
    assert report.target.name == "TfidfVectorizer+LogisticRegression"


def test_a_strongly_regularised_one_is_passed():
    report = audit_pipeline(regularised(), ROWS.texts, ROWS.labels, cv=5, policy=POLICY)
    assert judged(report).exit_code == 0, judged(report)


def test_a_splitter_says_who_is_a_member_and_its_word_is_grade_b():
    cv = ShuffleSplit(n_splits=3, test_size=0.5, random_state=0)
    report = audit_pipeline(pipeline(1e4), ROWS.texts, noisy(), cv, policy=POLICY)
    assert judged(report).exit_code == 1
    assert (report.grade, report.references, report.data.members) == ("B", 2, 250)
    pairs = list(cv.split(ROWS.texts))[:1]
    assert audit_pipeline(pipeline(1e4), ROWS.texts, noisy(), pairs, policy=POLICY).references == 0


def test_without_probabilities_labels_are_attacked():
    report = audit_pipeline(
        make_pipeline(TfidfVectorizer(analyzer="char"), LinearSVC()), ROWS.texts, noisy(), cv=3, policy=POLICY
    )
    assert (report.target.access, report.references) == ("labels", 0)
    assert report.evidence


def test_the_same_seed_gives_the_same_numbers():
    one, two = (audit_pipeline(pipeline(10), ROWS.texts[:200], ROWS.labels[:200], 3, seed=4) for _ in range(2))
    assert one.evidence == two.evidence


@pytest.mark.parametrize(
    ("texts", "labels", "cv", "said"),
    [
        (ROWS.texts, ROWS.labels[:-1], 3, "X has 500 rows and y 499 labels"),
        (np.zeros((40, 2)), ["a", "b"] * 20, 3, "row 1 is a ndarray"),
        (ROWS.texts, ROWS.labels, 0, "cv=0"),
        (ROWS.texts, ROWS.labels, 2.5, "cv: wanted a number of models"),
        (ROWS.texts, ROWS.labels, [], "cv: holds no split"),
        (ROWS.texts, ("only", *ROWS.labels[1:]), 1, "label 'only'"),
    ],
)
def test_what_cannot_be_audited_is_said_in_one_line(texts, labels, cv, said):
    with pytest.raises((DataError, UsageError), match=f"^[^\n]*{said}[^\n]*$"):
        audit_pipeline(pipeline(1), texts, labels, cv, policy=POLICY, seed=1)
