"""A model directory speaks for itself only: no link and no path in it leads to a file outside."""

import json
import os
import shutil

import pytest

from redteam.core import BundleError
from redteam.models.bundle import load_bundle
from redteam.models.opening import read_directory, write_directory
from redteam.models.tokens import load_tokenizer

SECRET = "the private diary of somebody"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    from conftest import ROOT

    folder = tmp_path_factory.mktemp("contained") / "model"
    model = ROOT / "fixtures" / "safe" / "model.pt"
    write_directory(load_bundle(model), folder, name="safe")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    (tmp_path / "diary").write_text(SECRET)
    return tmp_path / "model"


@pytest.mark.parametrize(
    "name", ["README.md", "vocab.txt", "merges.txt", "generation_config.json", "config.json", "tokenizer.json"]
)
def test_a_link_out_of_the_directory_is_refused(folder, name):
    outside = folder.parent / f"outside-{name}"
    (folder / name).replace(outside) if (folder / name).exists() else outside.write_text(SECRET)
    (folder / name).symlink_to(outside)
    with pytest.raises(BundleError, match=f"{name} is a link out of the directory"):
        read_directory(folder)


def test_links_of_links_and_of_folders(folder):
    (folder / "sub").symlink_to(folder.parent)
    (folder / "README.md").symlink_to("sub/diary")
    with pytest.raises(BundleError, match="link out of the directory"):
        read_directory(folder)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("README.md")
    assert "README.md" not in read_directory(folder).files


def test_links_within_are_as_good_as_files_and_so_are_those_of_the_hugging_face_cache(folder, saved):
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "model.safetensors").symlink_to("weights")
    expected = read_directory(saved).digest()
    assert read_directory(folder).digest() == expected
    cache = folder.parent / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(saved.iterdir()):
        shutil.copy(file, cache / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert read_directory(snapshot).digest() == expected
    alias = folder.parent / "alias"
    alias.symlink_to(snapshot)
    assert read_directory(alias).digest() == expected
    (cache / "blobs" / "0").unlink()
    (cache / "blobs" / "0").symlink_to(folder.parent / "diary")
    with pytest.raises(BundleError, match="link out of the directory"):
        read_directory(snapshot)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "README.md", "model.safetensors"])
def test_a_pipe_is_refused_and_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match="is a pipe or a device"):
        read_directory(folder)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("tokenizer_config.json", {"vocab_file": "DIARY"}),
        ("tokenizer_config.json", {"tokenizer_file": "DIARY"}),
        ("tokenizer_config.json", {"init_inputs": ["DIARY"]}),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "DIARY"}}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../tokenizer.4.0.0.json"]}),
        ("tokenizer_config.json", {"anything": "DIARY"}),
        ("special_tokens_map.json", {"vocab_file": "DIARY"}),
    ],
)
def test_settings_that_would_be_opened_as_files(folder, file, settings):
    """Without a tokenizer.json transformers builds the tokenizer of what the settings name."""
    words = [*"abcdefgh", "diary"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    plain = {"tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(plain | {"special_tokens_map_file": "/elsewhere/x.json"}))
    assert load_tokenizer(folder).token_to_id("diary") == 13
    text = json.dumps(plain | settings).replace("DIARY", str(folder.parent / "diary"))
    (folder / file).write_text(text)
    with pytest.raises(BundleError, match="opened as a file"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "..", "sub/model.safetensors"])
def test_an_index_that_names_weights_of_others(folder, name):
    (folder.parent / "other").mkdir()
    (folder / "model.safetensors").rename(folder.parent / "other" / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(BundleError, match="names"):
        read_directory(folder)
