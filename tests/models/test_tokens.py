"""The tokens of a directory are those of its tokenizer.json; what tells of other tokens is refused and named."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import SPECIAL, TEXTS, bundle, config, directory, model, tokenizer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from typer.testing import CliRunner

from redteam.cli import app
from redteam.core import BundleError
from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle
from redteam.models.initial import initial_model, minilm_directory
from redteam.models.opening import read_directory
from redteam.models.tokens import load_tokenizer, open_tokenizer, token_ids
from redteam.targets.model import ModelTarget

ODD = (*TEXTS, "call 916236 on monday", "Café ÀÉÎ 你好", "x" * 30, "  two  spaces\t", "[CLS] literal [MASK]", "a-b 7/7")
SYMBOLS = {symbol: i + 5 for i, symbol in enumerate("0123456789abcdefghijklmnopqrstuvwxyz")}


def unusual():
    """A tokenizer that no class of transformers builds: digits apart, short words only, another end."""
    vocabulary = {piece: i for i, piece in enumerate(SPECIAL)} | SYMBOLS
    vocabulary |= {f"##{piece}": number + len(SYMBOLS) for piece, number in SYMBOLS.items()} | {"monday": 90}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=7))
    made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    made.post_processor = processors.TemplateProcessing(single="$A [MASK]", special_tokens=[("[MASK]", 4)])
    made.add_special_tokens(SPECIAL)
    made.enable_padding(length=12)
    made.enable_truncation(9, direction="left")
    return made


def byte_level(**settings):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *letters, "ca", "ll", "call", "Ġcall"])}
    merges = [("c", "a"), ("l", "l"), ("ca", "ll"), ("Ġ", "call")]
    made = Tokenizer(models.BPE(vocabulary, merges, **settings))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def pieces(**settings):
    """A unigram model, as SentencePiece learns them."""
    listed = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -2.0), ("▁call", -3.0), ("c", -4.0), ("a", -4.5), ("l", -5.0)]
    made = Tokenizer(models.Unigram(listed, unk_id=0, **settings))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def folder(path, made, *, kind="bert", settings=None, whole=False, **files):
    """A directory with this tokenizer.json and other files as text; with a model large enough for it where `whole`."""
    path.mkdir()
    if whole:
        model(kind, vocab_size=600).save_pretrained(path)
    else:
        config(kind, vocab_size=600).save_pretrained(path)
    made.save(str(path / "tokenizer.json"))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, text in files.items():
        file = path / name.replace("__", ".")
        file.write_bytes(text) if isinstance(text, bytes) else file.write_text(text)
    return path


def expected(made, longest=600):
    """What the tokenizer makes of the odd texts by itself, cut at the model's length and not padded."""
    plain = Tokenizer.from_str(made.to_str())
    side = (plain.truncation or {}).get("direction", "right")
    plain.no_padding()
    plain.enable_truncation(longest, direction=side)
    return [plain.encode(text).ids for text in ODD]


CLASSES = [
    "BertTokenizer", "BertTokenizerFast", "RobertaTokenizer", "GPT2Tokenizer", "ElectraTokenizer", "MPNetTokenizer",
    "DistilBertTokenizer", "T5Tokenizer", "AlbertTokenizer", "DebertaV2Tokenizer", "XLMRobertaTokenizer",
    "LlamaTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "NoSuchTokenizer", None,
]  # fmt: skip


class TestAsItStands:
    @pytest.mark.parametrize("kind", CLASSES)
    @pytest.mark.parametrize("make", [unusual, byte_level, pieces])
    def test_whatever_the_class(self, tmp_path, kind, make):
        settings = {"model_max_length": 40} | ({"tokenizer_class": kind} if kind else {})
        found = load_tokenizer(folder(tmp_path / "hf", make(), settings=settings))
        assert token_ids(found, ODD, name="m") == expected(make(), 512)

    @pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2"])
    def test_no_tokenizer_config(self, tmp_path, kind):
        hf = folder(tmp_path / "hf", unusual(), kind=kind, whole=True)
        target = ModelTarget.load(hf, device="cpu")
        assert token_ids(target.tokenizer, ODD, name="m") == expected(unusual(), 40 - 2 * (kind == "roberta"))

    def test_everywhere(self, tmp_path):
        """Opened, packed, packed and opened, started from, and read for planting canaries."""
        hf = folder(tmp_path / "hf", unusual(), settings=BERT, whole=True)
        want = expected(unusual(), 40)
        assert token_ids(open_tokenizer(read_directory(hf), name="m"), ODD, name="m") == want
        packed = CliRunner().invoke(app, ["pack", str(hf), "-o", str(tmp_path / "m.pt")])
        assert packed.exit_code == 0, packed.output
        target = ModelTarget.load(tmp_path / "m.pt", device="cpu")
        assert token_ids(target.tokenizer, ODD, name="m") == want
        assert target.digest == ModelTarget.load(hf, device="cpu").digest
        data = Examples(np.arange(2), ("a", "b"), ("x", "y"))
        started = initial_model(str(hf), data, learn_from=data, seed=0).bundle()
        assert token_ids(open_tokenizer(started, name="m"), ODD, name="m") == want
        planted = load_tokenizer(hf)
        assert [planted.encode(text).ids for text in ODD] == expected(unusual(), 512)

    def test_the_installed_encoder(self):
        own = Tokenizer.from_file(str(minilm_directory() / "tokenizer.json"))
        own.no_padding()
        own.enable_truncation(512)
        found = load_tokenizer(minilm_directory())
        assert [found.encode(text).ids for text in ODD] == [own.encode(text).ids for text in ODD]

    def test_the_side_that_is_cut_is_part_of_the_digest(self, tmp_path):
        hf = folder(tmp_path / "hf", unusual(), whole=True)
        left = read_directory(hf)
        made = unusual()
        made.enable_truncation(9, direction="right")
        made.save(str(hf / "tokenizer.json"))
        assert read_directory(hf).digest() != left.digest()


class TestChance:
    @pytest.mark.parametrize(
        "made", [byte_level(dropout=0.5), pieces(alpha=0.1, nbest_size=64)], ids=["dropout", "sampling"]
    )
    def test_is_switched_off(self, tmp_path, made):
        """Text by text: the same tokens every time, in a directory and in a bundle."""
        text = "call call call call"
        assert len({tuple(made.encode(text).ids) for _ in range(60)}) > 1, "this tokenizer should be random"
        settled = Tokenizer.from_str(made.to_str().replace('"dropout":0.5', '"dropout":null'))
        want = tuple(settled.encode(text).ids)
        hf = folder(tmp_path / "hf", made, whole=True)
        packed = read_directory(hf)
        old = load_bundle(saved_before(packed, made, tmp_path))
        for opened in (load_tokenizer(hf), open_tokenizer(packed, name="m"), open_tokenizer(old, name="m")):
            assert {tuple(opened.encode(text).ids) for _ in range(60)} == {want}
        assert old.digest() == packed.digest()


def saved_before(packed, made, tmp_path):
    """A bundle as it was packed before, with the tokenizer as it was."""
    save_bundle(replace(packed, tokenizer=made.to_str()), tmp_path / "m.pt")
    return tmp_path / "m.pt"


def lines(words):
    return "".join(f"{word}\n" for word in words)


def spiece(listed):
    """A SentencePiece model as bytes: field 1, with a piece, its score and its type."""
    out = b""
    for piece, score, kind in listed:
        entry = b"\x0a" + bytes([len(piece.encode())]) + piece.encode() + b"\x15" + struct.pack("<f", score)
        entry += b"\x18" + bytes([kind])
        out += b"\x0a" + bytes([len(entry)]) + entry
    return out + b"\x12\x02\x08\x01"


PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("▁", -2.0, 1), ("▁call", -3.0, 1), ("c", -4.0, 1)]
PIECES += [("a", -4.5, 1), ("l", -5.0, 1)]
MERGES = "#version: 0.2\nc a\nl l\nca ll\nĠ call\n"


def word_pieces():
    return sorted(tokenizer().get_vocab(), key=tokenizer().get_vocab().__getitem__)


class TestOtherVocabularies:
    def test_that_agree_are_nothing_to_refuse(self, tmp_path):
        listed = word_pieces()
        made = tokenizer()
        made.add_special_tokens(SPECIAL)
        made.add_tokens(["covidium"])
        folder(tmp_path / "a", made, vocab__txt=lines(listed), added_tokens__json=json.dumps({"covidium": len(listed)}))
        folder(tmp_path / "b", made, vocab__txt=lines(listed).replace("\n", "\r\n").rstrip())
        whole = byte_level()
        folder(tmp_path / "c", whole, vocab__json=json.dumps(whole.get_vocab()), merges__txt=MERGES)
        folder(tmp_path / "d", pieces(), **{"spiece__model": spiece(PIECES)})
        shifted = [PIECES[0], *PIECES[2:]]  # without <s>: all pieces stand one earlier, as XLM-R has them
        folder(tmp_path / "e", pieces(), **{"sentencepiece__bpe__model": spiece(shifted)})
        folder(tmp_path / "f", pieces(), **{"tokenizer__model": b"YQ== 0\nYg== 1\n"})  # not SentencePiece
        for name in "abcdef":
            load_tokenizer(tmp_path / name)

    @pytest.mark.parametrize(
        ("make", "files", "said"),
        [
            (
                tokenizer,
                {"vocab__txt": lines(word_pieces()[::-1])},
                r"vocab.txt .*: token '##z' is 0 in the first, 44 in",
            ),
            (tokenizer, {"vocab__txt": lines([*word_pieces(), "x"])}, r"token 'x' is 45 in the first, not there in"),
            (tokenizer, {"vocab__txt": lines(word_pieces()[:-1])}, r"token '##z' is not there in the first, 44 in"),
            (byte_level, {"vocab__json": '{"call": 1}'}, r"vocab.json .*: token 'call' is 1 in the first"),
            (byte_level, {"merges__txt": MERGES.replace("l l\nca ll", "ca ll\nl l")}, r"merge 2 is 'ca ll' in .*'l l'"),
            (byte_level, {"merges__txt": MERGES[:-8]}, r"merges.txt .*there are 3 merges in the first, 4 in"),
            (pieces, {"spiece__model": spiece([*PIECES[:4], *PIECES[:3:-1]])}, r"spiece.model .* token 'l' is 4"),
            (pieces, {"spiece__model": spiece([*PIECES, ("z", -6.0, 1)])}, r"token 'z' is 7 in the first, not there"),
            (pieces, {"spiece__model": spiece([*PIECES[:6], ("l", -1.0, 1)])}, r"token 'l' scores -1 in .*, -5 in"),
            (tokenizer, {"added_tokens__json": '{"<user>": 45}'}, r"added_tokens.json .* '<user>' is 45 .* not there"),
            (tokenizer, {"added_tokens__json": '{"amber": 3}'}, r"token 'amber' is 3 in the first, 5 in the second"),
        ],
    )
    def test_that_disagree_are_named(self, tmp_path, make, files, said):
        hf = folder(tmp_path / "hf", make(), **files)
        with pytest.raises(BundleError, match=rf"hf: .*{said}.* remove the file that"):
            load_tokenizer(hf)

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ({"45": {"content": "covid"}}, "'covid' is 45 in the first, not there"),
            ({"5": {"content": "amber", "special": False}}, "'amber' is an added token in the first, an ordinary one"),
            (
                {"2": {"content": "[CLS]", "lstrip": True, "special": True}},
                r"lstrip of '\[CLS\]' is True in .* False in",
            ),
            ({"2": {"content": "[CLS]", "lstrip": False, "special": True}}, None),
            ({"6": {"content": "basil", "special": True}}, None),  # a literal special token only
        ],
    )
    def test_added_tokens_of_the_settings(self, tmp_path, entry, said):
        made = tokenizer()
        made.add_special_tokens(["[CLS]"])
        hf = folder(tmp_path / "hf", made, settings={"added_tokens_decoder": entry})
        if said is None:
            load_tokenizer(hf)
            return
        with pytest.raises(BundleError, match=f"tokenizer_config.json and tokenizer.json disagree: .*{said}"):
            load_tokenizer(hf)


def cased(**settings):
    made = tokenizer()
    made.normalizer = normalizers.BertNormalizer(**settings)
    return made


def plain(normalizer):
    made = tokenizer()
    if normalizer is None:
        made = Tokenizer(made.model)
    else:
        made.normalizer = normalizer
    return made


def spaced(pre_tokenizer):
    made = byte_level()
    made.pre_tokenizer = pre_tokenizer
    return made


LEVEL = pre_tokenizers.ByteLevel
BERT, GPT2 = {"tokenizer_class": "BertTokenizer"}, {"tokenizer_class": "GPT2Tokenizer"}


class TestSettings:
    @pytest.mark.parametrize(
        ("made", "settings", "said"),
        [
            (cased(lowercase=False), BERT | {"do_lower_case": True}, "do_lower_case = true, .* keeps capital letters"),
            (
                cased(lowercase=True),
                BERT | {"do_lower_case": False},
                "do_lower_case = false, .* lowers capital letters",
            ),
            (cased(lowercase=False), {"do_lower_case": True}, "do_lower_case = true"),  # the class is the model's
            (plain(normalizers.Lowercase()), BERT | {"do_lower_case": False}, "do_lower_case = false"),
            (plain(None), BERT | {"do_lower_case": True}, "do_lower_case = true"),
            (cased(strip_accents=False), BERT | {"strip_accents": None}, "strip_accents = null, .* keeps accents"),
            (cased(), BERT | {"strip_accents": False}, "strip_accents = false, .* strips accents"),
            (cased(handle_chinese_chars=False), BERT | {"tokenize_chinese_chars": True}, "joins Chinese characters"),
            (
                spaced(LEVEL(add_prefix_space=True)),
                GPT2 | {"add_prefix_space": False},
                "add_prefix_space = false, .* adds a",
            ),
            (spaced(LEVEL(add_prefix_space=False)), {"add_prefix_space": True}, "add_prefix_space = true, .* adds no"),
            (
                byte_level(),
                GPT2 | {"add_bos_token": True, "bos_token": "[CLS]"},
                r"add_bos_token = true, .* not add '\[CLS",
            ),
            (tokenizer(), {"add_bos_token": False, "bos_token": "[CLS]"}, r"add_bos_token = false, .* adds '\[CLS\]'"),
            (unusual(), {"split_special_tokens": True}, "split_special_tokens"),
            (tokenizer(), {"pad_token": "[UNK]"}, None),
        ],
    )
    def test_contradictions_are_named(self, tmp_path, made, settings, said):
        hf = folder(tmp_path / "hf", made, settings=settings)
        if said is None:
            load_tokenizer(hf)
            return
        with pytest.raises(BundleError, match=rf"hf: tokenizer_config.json .*{said}"):
            load_tokenizer(hf)

    @pytest.mark.parametrize(
        ("made", "settings"),
        [
            (
                cased(lowercase=True),
                BERT | {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
            ),
            (cased(lowercase=False), BERT | {"do_lower_case": False, "strip_accents": None}),
            (cased(lowercase=True, strip_accents=True), BERT | {"strip_accents": None}),
            (plain(normalizers.NFC()), BERT | {"do_lower_case": True}),  # written by transformers itself
            (
                pieces(),
                {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True},
            ),  # as a known model has it
            (byte_level(), GPT2 | {"add_prefix_space": False, "add_bos_token": False, "bos_token": "[CLS]"}),
            (spaced(pre_tokenizers.Sequence([LEVEL(add_prefix_space=True)])), GPT2 | {"add_prefix_space": False}),
            (pieces(), {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": True}),
            (tokenizer(), {"add_bos_token": False, "bos_token": "[CLS]", "cls_token": "[CLS]"}),
        ],
    )
    def test_what_only_looks_like_one_is_let_in(self, tmp_path, made, settings):
        hf = folder(tmp_path / "hf", made, settings=settings)
        found = load_tokenizer(hf)
        assert [found.encode(text).ids for text in ODD] == [
            ids[:512] for ids in [Tokenizer.from_str(made.to_str()).encode(text).ids for text in ODD]
        ]

    @pytest.mark.parametrize(
        ("ends", "begin", "end"),
        [
            ({"add_bos_token": True}, [2], []),
            ({"add_bos_token": False, "add_eos_token": True}, [], [3]),
            ({"add_bos_token": True, "add_eos_token": True}, [2], [3]),
            ({"add_bos_token": False}, [], []),
            ({"add_eos_token": False}, [2], []),  # begins by default
            ({}, [], []),  # says nothing: as tokenizer.json has it
        ],
    )
    def test_llama_begins_and_ends_texts_by_its_settings(self, tmp_path, ends, begin, end):
        settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "[CLS]", "eos_token": {"content": "[SEP]"}}
        made = byte_level()
        hf = folder(tmp_path / "hf", made, settings=settings | ends)
        inner = made.encode("call it").ids
        assert load_tokenizer(hf).encode("call it").ids == [*begin, *inner, *end]
        with pytest.raises(BundleError, match=r"adds .<s>. to each text, which"):
            load_tokenizer(
                folder(tmp_path / "b", made, settings=settings | {"bos_token": "<s>", "add_bos_token": True})
            )

    def test_numbers_that_contradict_the_vocabulary(self, tmp_path):
        made = tokenizer()
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 3)])
        with pytest.raises(BundleError, match=r"'\[CLS\]' is 2 in its vocabulary and 3 in its post-processor"):
            load_tokenizer(folder(tmp_path / "hf", made))

    def test_padding_with_a_word(self, tmp_path):
        hf = folder(tmp_path / "hf", tokenizer(), kind="gpt2", settings={"pad_token": "[PAD]"})
        raw = json.loads((hf / "config.json").read_text())
        (hf / "config.json").write_text(json.dumps(raw | {"pad_token_id": 5}))
        with pytest.raises(
            BundleError, match=r"pad_token_id = 5, which is 'amber' in tokenizer.json; .* '\[PAD\]', which is 0"
        ):
            load_tokenizer(hf)
        (hf / "config.json").write_text(json.dumps(raw | {"pad_token_id": 5, "model_type": "bert"}))
        load_tokenizer(hf)  # BERT knows padding by its mask

    def test_another_tokenizer_for_other_versions(self, tmp_path):
        settings = {"fast_tokenizer_files": ["tokenizer.4.0.json", "tokenizer.json"]}
        hf = folder(tmp_path / "hf", tokenizer(), settings=settings)
        (hf / "tokenizer.4.0.json").write_bytes((hf / "tokenizer.json").read_bytes())
        load_tokenizer(hf)
        unusual().save(str(hf / "tokenizer.4.0.json"))
        with pytest.raises(BundleError, match=r"'tokenizer.4.0.json' for some versions, which is not tokenizer.json"):
            load_tokenizer(hf)


class TestWithoutTokenizerJson:
    def test_word_pieces(self, tmp_path):
        hf = directory(tmp_path / "hf")
        (hf / "tokenizer.json").unlink()
        (hf / "vocab.txt").write_text(lines(word_pieces()))
        (hf / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
        found = load_tokenizer(hf)
        assert [found.encode(text).ids for text in TEXTS] == [tokenizer().encode(text).ids for text in TEXTS]
        packed = read_directory(hf)
        assert packed.files.keys() >= {"vocab.txt"}

    def test_byte_pairs(self, tmp_path):
        hf = folder(tmp_path / "hf", byte_level(), kind="gpt2", settings=GPT2, merges__txt=MERGES)
        (hf / "vocab.json").write_text(json.dumps(byte_level().get_vocab()))
        (hf / "tokenizer.json").unlink()
        assert load_tokenizer(hf).encode("call call").ids == byte_level().encode("call call").ids

    def test_sentence_pieces_alone(self, tmp_path, monkeypatch):
        hf = folder(tmp_path / "hf", pieces(), **{"spiece__model": spiece(PIECES)})
        (hf / "tokenizer.json").unlink()
        monkeypatch.setattr("redteam.models.tokens.find_spec", lambda name: None)
        with pytest.raises(BundleError, match=r"hf: has spiece.model but no tokenizer.json; save its fast tokenizer"):
            load_tokenizer(hf)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    "stated",
    [
        {"additional_special_tokens": ["[E1]"]},
        {"additional_special_tokens": [{"content": "monday"}]},
        {"extra_special_tokens": ["[MASK]", "[E1]"]},
        {"extra_special_tokens": {"entity_token": "[E1]"}},
        {"pad_token": "monday"},
        {"sep_token": {"content": "monday"}},
    ],
)
def test_special_tokens_that_its_own_file_does_not_cut_out(tmp_path, file, stated):
    hf = folder(tmp_path / "hf", unusual())
    (hf / file).write_text(json.dumps(stated))
    with pytest.raises(BundleError, match=rf"{file} and tokenizer.json disagree: '(\[E1\]|monday)' is a special token"):
        load_tokenizer(hf)


def test_special_tokens_that_its_own_file_cuts_out_too(tmp_path):
    made = unusual()
    made.add_special_tokens(["[E1]"])
    hf = folder(tmp_path / "hf", made, settings={"additional_special_tokens": ["[E1]", "[MASK]"]})
    assert token_ids(load_tokenizer(hf), ODD, name="m") == expected(made, 512)


def test_a_token_that_is_added_and_ruled(tmp_path):
    """An added token's rules are those of tokenizer.json, and are the same after packing."""
    made = tokenizer()
    made.add_tokens([AddedToken("fjordic", single_word=True, lstrip=True)])
    hf = folder(tmp_path / "hf", made, whole=True)
    text = "a  fjordic b fjordics"
    assert load_tokenizer(hf).encode(text).ids == made.encode(text).ids
    assert open_tokenizer(read_directory(hf), name="m").encode(text).ids == made.encode(text).ids


def test_bundles_of_before_open_as_before():
    assert open_tokenizer(bundle(), name="m").encode("amber").ids == tokenizer().encode("amber").ids
    assert config().vocab_size == tokenizer().get_vocab_size()
