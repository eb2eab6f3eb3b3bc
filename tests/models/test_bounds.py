"""Models of strangers that would fill the memory are refused before they do."""

import json
import os
import shutil

import pytest
from conftest import ROOT
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from redteam.core import BundleError
from redteam.models.bundle import load_bundle
from redteam.models.growth import check_growth
from redteam.models.opening import read_directory, write_directory
from redteam.models.tokens import _no_panic, load_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounds") / "model"
    write_directory(load_bundle(ROOT / "fixtures" / "safe" / "model.pt"), folder, name="safe")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_position_embeddings": 10**9}, "the config asks for"),
        ({"vocab_size": 10**9}, "the config asks for"),
        ({"model_type": "albert", "inner_group_num": 10**8}, "inner_group_num"),
        ({"model_type": "canine", "num_hash_functions": 10**8}, "num_hash_functions"),
        ({"model_type": "funnel", "block_sizes": [4, 10**8]}, "block_sizes"),
        ({"model_type": "gpt_neo", "attention_types": [[["global", "local"], 10**8]]}, "attention_types"),
    ],
)
def test_a_config_that_would_fill_the_memory(folder, config, words):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(BundleError, match=words):
        read_directory(folder)


def growing(times):
    return normalizers.Sequence([normalizers.Replace("a", "aa")] * times)


def test_a_tokenizer_that_grows_texts(folder):
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.normalizer = growing(40)
    tokenizer.save(str(path))
    with pytest.raises(BundleError, match=r"can make a text 1.1e\+12 times as long"):
        load_tokenizer(folder)
    tokenizer.normalizer = growing(3)
    check_growth(tokenizer, "honest")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()] * 20)
    with pytest.raises(BundleError, match=r"2[03] steps"):
        check_growth(tokenizer, "bytes")


@pytest.mark.parametrize("number", [2**31, 2**31 - 1, 10**8])
def test_a_token_with_a_number_beyond_all_others(folder, number):
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text())
    token = max(raw["model"]["vocab"], key=raw["model"]["vocab"].get)
    raw["model"]["vocab"][token] = number
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=f"its tokenizer numbers {token!r} {number:,} of"):
        load_tokenizer(folder)


def test_padding_is_switched_off_before_the_first_text(folder):
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_padding(length=10**9)
    tokenizer.save(str(path))
    assert load_tokenizer(folder).padding is None


def panic():
    os.write(2, b"thread '<unnamed>' panicked at the text of somebody\n")
    raise BaseException("panicked")  # as pyo3 does


def test_a_panic_in_rust_code_prints_nothing(capfd):
    with pytest.raises(BundleError, match="its tokenizer is broken"):
        _no_panic("m")(panic)()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
