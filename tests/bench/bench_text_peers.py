"""The privatisers of two packages beside ours: time, and the faults that `redteam verify --text` shows in them.

    python -m venv peers && peers/bin/pip install --no-deps mldp-text==0.1.2 dp-diffractor==0.2.1
    peers/bin/pip install --no-deps faiss-cpu gensim nltk pandas ...   # and a .pth file that names our site-packages
    peers/bin/python tests/bench/bench_text_peers.py time
    redteam verify --text bench_text_peers:tem --epsilon 4 --embeddings glove.txt --words 60

mldp-text brings its vectors (33,860 words of GloVe), which both have here. It takes words one at a time, so that few
texts do; ours takes many at once. Rounds of both alternate, and the ratio is of processor seconds for a text.
"""

import sys
import time
from functools import cache
from pathlib import Path

import numpy as np

ROUNDS, OURS, THEIRS = 2, 200, 2
WORDS = 400
"""How many words verify tries, of which the module makes its vocabulary: a channel of 33,860 shows less in a minute."""


def glove():
    import mldp_text

    return Path(mldp_text.__file__).parent / "data" / "glove.840B.300d_filtered.txt"


@cache
def matrix(count=None):
    """The vectors as the peer wants them, of the first words alone for a verification."""
    from gensim.models import KeyedVectors

    return KeyedVectors.load_word2vec_format(glove(), binary=False, limit=count)


@cache
def _of(kind, epsilon, faiss):
    from mldp_text import mechanisms

    small = matrix(WORDS)
    how = {"embedding_matrix": small, "use_faiss": faiss, "vocab": set(small.key_to_index)}
    mechanisms.faiss_num_list = 1
    return getattr(mechanisms, kind)(epsilon, **how)


def tem(text):
    return _of("TEM", 4.0, False).replace_word(text)


def cmp(text):
    return _of("MultivariateCalibrated", 10.0, False).replace_word(text)


def times():
    from mldp_text import mechanisms
    from snips import snips_examples

    from defenses.text.cmp import Multivariate
    from defenses.text.tem import TruncatedExponential
    from redteam.core.randomness import Randomness
    from redteam.data.words import words_of
    from redteam.models.word_vectors import load_word_vectors
    from redteam.training.privatising.exchange import Exchange

    texts, table, theirs = snips_examples(OURS).texts, load_word_vectors(str(glove())), matrix()
    pairs = {
        "tem 4": (TruncatedExponential(4.0), mechanisms.TEM(4.0, embedding_matrix=theirs)),
        "cmp 10": (
            Multivariate(10.0),
            mechanisms.MultivariateCalibrated(10.0, embedding_matrix=theirs, use_faiss=False),
        ),
        "cmp 10, faiss": (Multivariate(10.0), mechanisms.MultivariateCalibrated(10.0, embedding_matrix=theirs)),
    }
    for name, (ours, peer) in pairs.items():
        ratios = []
        for each in range(ROUNDS):
            began = time.process_time()
            Exchange(ours, table).texts(texts, Randomness())
            first = (time.process_time() - began) / OURS
            began = time.process_time()
            for text in texts[each * THEIRS : (each + 1) * THEIRS]:
                [peer.replace_word(word) for word in words_of(text)]
            second = (time.process_time() - began) / THEIRS
            ratios.append(second / first)
            print(f"{name}: ours {first * 1000:.2f} s for 1,000 texts, mldp-text {second * 1000:.1f} s", flush=True)
        print(f"{name}: mldp-text takes {np.median(ratios):.1f} times as long (of {sorted(ratios)})", flush=True)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    times()
