"""Public encoders: unit vectors that do not depend on the order of texts, paid for once."""

import numpy as np
import pytest
import torch

from redteam.core import BundleError, UsageError
from redteam.models.encoder import PublicEncoder, hashed_ngrams, public_encoder
from redteam.models.initial import minilm_directory

TEXTS = [
    "play some music",
    "what is the weather like",
    "",
    "play music please",
    "book a table for two in paris tonight",
]


@pytest.fixture(scope="module")
def minilm():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REDTEAM_ENCODER")
        return public_encoder()


def test_the_environment_chooses_between_minilm_and_hashed_ngrams(monkeypatch):
    monkeypatch.setenv("REDTEAM_ENCODER", "hashed")
    assert public_encoder().name == hashed_ngrams().name
    monkeypatch.setenv("REDTEAM_ENCODER", "bert")
    with pytest.raises(UsageError, match="must be minilm or hashed"):
        public_encoder()


@pytest.mark.parametrize("kind", ["minilm", "hashed"])
def test_vectors_have_length_one_and_like_texts_are_near(kind, minilm):
    encoder = minilm if kind == "minilm" else hashed_ngrams()
    vectors = encoder.embed(TEXTS)
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, float(kind == "minilm"), 1, 1], atol=1e-12)
    assert vectors[0] @ vectors[3] > vectors[0] @ vectors[1] + 0.2
    backwards = type(encoder)(encoder.name, encoder._encode).embed(TEXTS[::-1])
    assert np.array_equal(backwards[::-1], vectors)


def test_minilm_is_the_mean_of_its_tokens(minilm):
    """Beside others in a batch as alone, and as transformers' own model says."""
    from transformers import AutoModel, AutoTokenizer

    path = minilm_directory()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    assert minilm.name == "all-MiniLM-L6-v2"
    for text, vector in zip(TEXTS, minilm.embed(TEXTS), strict=True):
        with torch.inference_mode():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).double().numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_opening_leaves_the_generator_of_torch_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    public_encoder().embed(["a"])
    assert torch.equal(before, torch.get_rng_state())


def test_texts_that_are_known_are_not_asked_again():
    asked = []

    def encode(texts, progress):
        asked.append(texts)
        return np.ones((len(texts), 2))

    encoder = PublicEncoder("counted", encode)
    encoder.embed(["b", "a", "b"])
    encoder.embed(["a"])
    encoder.embed(["c"])
    assert asked == [["a", "b"], ["c"]]


def test_reading_texts_is_seen_where_a_model_reads_them(tmp_path, monkeypatch):
    monkeypatch.delenv("REDTEAM_ENCODER")
    seen = []
    public_encoder().embed([f"text {i}" for i in range(130)], lambda *done: seen.append(done))
    assert seen == [(64, 130), (128, 130), (130, 130)]


def test_without_the_package_of_minilm_texts_are_hashed(monkeypatch):
    monkeypatch.setattr("redteam.models.initial._MINILM", "no_such_package")
    assert public_encoder().name == "hashed n-grams"


def test_a_directory_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(BundleError, match=str(tmp_path)):
        public_encoder(tmp_path).embed(["a"])


def test_a_directory_gives_its_name():
    assert public_encoder(minilm_directory()).name == "model"


def test_vectors_kept_in_a_folder_are_computed_once_and_are_the_same(tmp_path):
    asked = []

    def encode(texts, progress):
        asked.append(tuple(texts))
        return np.array([[len(text), 1.0] for text in texts])

    fresh = PublicEncoder("a", encode).embed(TEXTS)
    for _ in range(2):
        assert np.array_equal(PublicEncoder("a", encode, tmp_path).embed(TEXTS[::-1]), fresh[::-1])
    assert len(asked) == 2  # once without a folder, once with it
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    PublicEncoder("b", encode, tmp_path).embed(TEXTS)
    PublicEncoder("a", encode, tmp_path).embed(TEXTS[:2])
    assert len(asked) == 4  # another encoder, and other texts


@pytest.mark.parametrize("broken", [b"", b"no array", b"half", b"short", b"pickled"])
def test_a_broken_file_of_vectors_is_made_anew(tmp_path, broken):
    encoder = PublicEncoder("a", lambda texts, _: np.array([[len(text), 1.0] for text in texts]), tmp_path)
    wanted = encoder.embed(TEXTS)
    (path,) = tmp_path.iterdir()
    if broken == b"half":
        path.write_bytes(path.read_bytes()[:-8])
    elif broken == b"short":
        np.save(path, np.ones((2, 2)))
    elif broken == b"pickled":
        np.save(path, np.array([{}] * len(TEXTS)), allow_pickle=True)
    else:
        path.write_bytes(broken)
    assert np.array_equal(PublicEncoder("a", encoder._encode, tmp_path).embed(TEXTS), wanted)
