"""RT901 blind control: can members be told from non-members without the target? (Das, Zhang, Tramer 2024).

A bag-of-words, length and label classifier learns who is a member and never sees the model under attack. If it does
better than chance, the two sides differ in themselves (another month, another source, another annotator), and
membership inference against the model would measure that difference: the evidence is grade C and refused.

Scores are out of sample by *progressive* cross-validation (Blum, Kalai and Langford, COLT 1999): fold k is scored by
a classifier that learned from folds 1 to k-1 only. Ordinary cross-validation, where every fold also helps to score
every other, uses each pair of examples twice: its pooled AUC has twice the variance that an interval for
independent scores assumes, and 8 to 10 % false alarms at a nominal 2.5 % (measured on halves of SNIPS).
"""

import contextlib

import numpy as np
from scipy.sparse import csr_matrix, hstack
from scipy.stats import rankdata

from redteam.attack import Control
from redteam.data import BoolArray, Examples
from redteam.errors import DataError
from redteam.target import FloatArray

_FOLDS = 5


class BlindControl(Control):
    """Predict membership from the words, the lengths and the label alone."""

    id = "RT901"
    name = "blind control"

    def score(self, pool: Examples, is_member: BoolArray, *, seed: int) -> FloatArray:
        """Return each example's rank within its fold, shape [n]; NaN in the first fold, which is only learned from.

        Raises DataError where there are no texts, or fewer than one example of either side for each fold.
        """
        from sklearn.linear_model import LogisticRegression

        if pool.texts is None:
            raise DataError("no texts: the control has nothing to read")
        if min(is_member.sum(), (~is_member).sum()) < _FOLDS:
            raise DataError(f"the control needs at least {_FOLDS} examples of either side")
        features, folds = _features(pool), _folds(is_member, seed)
        scores = np.full(len(pool), np.nan)
        for k in range(1, _FOLDS):
            past, now = np.concatenate(folds[:k]), folds[k]
            model = LogisticRegression(max_iter=300).fit(features[past], is_member[past])
            scores[now] = rankdata(model.decision_function(features[now])) / len(now)
        return scores


def _folds(is_member: BoolArray, seed: int) -> list[FloatArray]:
    """Deal members and non-members out to the folds evenly, in random order."""
    random = np.random.default_rng([seed, 901])
    sides = [random.permutation(np.nonzero(side)[0]) for side in (is_member, ~is_member)]
    return [np.concatenate([side[k::_FOLDS] for side in sides]) for k in range(_FOLDS)]


def _features(pool: Examples) -> csr_matrix:
    """Return word and word-pair weights, standardised lengths and one-hot labels; membership is not looked at."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = list(pool.texts or ())
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    parts = [StandardScaler().fit_transform(np.array([_lengths(text) for text in texts]))]
    with contextlib.suppress(ValueError):  # no word occurs twice: the lengths and labels are all there is
        parts.append(vectorizer.fit_transform(texts))
    if pool.labels is not None:
        parts.append(OneHotEncoder().fit_transform(np.array(pool.labels, dtype=object)[:, None]))
    return hstack([csr_matrix(part) for part in parts]).tocsr()


def _lengths(text: str) -> list[float]:
    words = text.split()
    digits = sum(c.isdigit() for c in text)
    capitals = sum(c.isupper() for c in text)
    marks = sum(not c.isalnum() and not c.isspace() for c in text)
    return [np.log1p(x) for x in (len(text), len(words), digits, capitals, marks)]
