"""RT901 blind baseline: can members be told from non-members without the target? (Das, Zhang, Tramer 2024).

A bag-of-words and length classifier learns who is a member and never sees the model under attack. If it does better
than chance, the two sides differ in themselves (another month, another source, another annotator), and membership
inference against the model would measure that difference: the evidence is grade C and refused.

Scores are out of sample by *progressive* cross-validation (Blum, Kalai and Langford, COLT 1999): fold k is scored by
a classifier that learned from folds 1 to k-1 only. Ordinary cross-validation, where every fold also helps to score
every other, uses each pair of examples twice: its pooled AUC has twice the variance that an interval for
independent scores assumes, and 8 to 10 % false alarms at a nominal 2.5 % (measured on halves of SNIPS).

Every label weighs as much among the members that are learned from as among the non-members. In a split stratified by
label, where the sides hold exactly as many examples of a label, a label that was a little more frequent among the
members so far is bound to be less frequent among the rest: a classifier that learned from that would do worse than
chance, and hide a real difference. Whether the labels themselves differ is RT902's question. Of a larger pool, 50,000
random examples are looked at.
"""

import contextlib

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack
from scipy.stats import rankdata

from attacks.controls.progressive import FOLDS, deal, sample
from redteam.core import DataError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Control


class BlindBaseline(Control):
    """Predict membership from the words and the lengths alone."""

    id = "RT901"
    name = "blind baseline"
    reads_texts = True

    def score(self, pool: Examples, is_member: BoolArray, *, seed: int) -> FloatArray:
        """Return each example's rank within its fold, shape [n]; NaN where it was not scored.

        Not scored are the first fold, which is only learned from, and what is beyond 50,000 random examples. Raises
        DataError where there are no texts, or fewer than one example of either side for each fold.
        """
        if pool.texts is None:
            raise DataError("no texts: the control has nothing to read")
        looked_at = sample(is_member, seed)
        scores = np.full(len(pool), np.nan)
        scores[looked_at] = self._score(pool.take(looked_at), is_member[looked_at], seed)
        return scores

    def _score(self, pool: Examples, is_member: BoolArray, seed: int) -> FloatArray:
        from sklearn.linear_model import LogisticRegression

        features, folds = _features(pool), deal(is_member, seed)
        scores = np.full(len(pool), np.nan)
        for k in range(1, FOLDS):
            past, now = np.concatenate(folds[:k]), folds[k]
            weights = _balance(pool, past, is_member)
            if not weights.any():  # no label stands on both sides: nothing but the label to learn
                raise DataError("no label has both members and non-members")
            model = LogisticRegression(max_iter=300).fit(features[past], is_member[past], sample_weight=weights)
            scores[now] = rankdata(model.decision_function(features[now])) / len(now)
        return scores


def _balance(pool: Examples, rows: npt.NDArray[np.int64], is_member: BoolArray) -> FloatArray:
    """Return a weight for each row so that each label's members weigh as much as its non-members; 0 where it has none.

    The weights add up to the number of rows, so that the classifier's regularisation means the same throughout.
    """
    labels = np.zeros(len(rows), dtype=np.int64)
    if pool.labels is not None:
        labels = np.unique(np.array(pool.labels, dtype=object)[rows], return_inverse=True)[1]
    member = is_member[rows]
    inside, outside = (np.bincount(labels[side], minlength=labels.max() + 1) for side in (member, ~member))
    both, own = np.minimum(inside, outside)[labels], np.where(member, inside[labels], outside[labels])
    weights = both / own
    return weights * (len(rows) / weights.sum()) if weights.any() else weights


def _features(pool: Examples) -> csr_matrix:
    """Return word and word-pair weights and standardised lengths; neither label nor membership is looked at."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import StandardScaler

    texts = list(pool.texts or ())
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    parts = [StandardScaler().fit_transform(np.array([_lengths(text) for text in texts]))]
    with contextlib.suppress(ValueError):  # no word occurs twice: the lengths are all there is
        parts.append(vectorizer.fit_transform(texts))
    return hstack([csr_matrix(part) for part in parts]).tocsr()


def _lengths(text: str) -> list[float]:
    words = text.split()
    digits = sum(c.isdigit() for c in text)
    capitals = sum(c.isupper() for c in text)
    marks = sum(not c.isalnum() and not c.isspace() for c in text)
    return [np.log1p(x) for x in (len(text), len(words), digits, capitals, marks)]
