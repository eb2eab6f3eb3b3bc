"""Does what stands beside tokenizer.json say the same? Its own words decide; whoever contradicts them is named.

tokenizer_config.json may say how texts are lower-cased, spaced and ended. Versions of transformers differ in which of
the two they follow, so where the two differ the model was trained with one and would be audited with the other.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from redteam.core import BundleError
from redteam.models.vocabularies import check_vocabularies

# Tokenizers that lower-case by their settings, and whether they do where these are silent.
_LOWERING = {"xlnet": False} | dict.fromkeys(
    (
        "albert",
        "bert",
        "convbert",
        "distilbert",
        "electra",
        "funnel",
        "layoutlm",
        "layoutlmv2",
        "lxmert",
        "mobilebert",
        "mpnet",
        "splinter",
        "squeezebert",
    ),
    True,
)
# Tokenizers that put the ends on by their settings, whatever tokenizer.json says; what they do by default.
_ENDING = {
    "llama": ("<s>", "</s>", True),
    "codellama": ("<s>", "</s>", True),
    "gemma": ("<bos>", "<eos>", True),
    "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", True),
    "gptneox": ("<|endoftext|>", "<|endoftext|>", False),
}
_GENERIC = ("pretrained", "tokenizersbackend")
# Models that know padding by its mask alone, so that its number is nothing to them.
_MASKED = ("albert", "bert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "mobilebert", "xlnet")


def check_sources(path: Path, tokenizer: Tokenizer, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise BundleError where a file beside tokenizer.json tells of other tokens than it does.

    `settings` is tokenizer_config.json and `config` config.json; what they do not say is not held against them.
    """
    whole = json.loads(tokenizer.to_str())
    check_vocabularies(path, whole, settings)
    _check_versions(path, settings)
    kind = _kind(settings, config)
    _check_lowering(path, whole["normalizer"], tokenizer, settings, kind)
    _check_prefix_space(path, whole["pre_tokenizer"], settings, kind)
    _check_ends(path, whole["post_processor"], tokenizer)
    _check_padding(path, tokenizer, settings, config)
    if settings.get("split_special_tokens") is True and whole["added_tokens"]:
        raise BundleError(
            f"{path}: tokenizer_config.json has split_special_tokens, under which special tokens in a text are "
            "spelled out; tokenizer.json cannot hold that: take it out"
        )


def with_ends(path: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Let the tokenizer begin and end texts as `add_bos_token` and `add_eos_token` of its settings say, in place.

    Llama and its kin follow these whatever tokenizer.json says, in every version; others do so in some versions only,
    and are refused where it makes a difference.
    """
    stated = {end: settings.get(f"add_{end}_token") for end in ("bos", "eos")}
    if not any(isinstance(value, bool) for value in stated.values()):
        return
    kind = _kind(settings, {})
    if kind in _ENDING:
        _put_ends(path, tokenizer, settings, stated, _ENDING[kind])
    else:
        _check_stated_ends(path, tokenizer, settings, stated)


def _put_ends(
    path: Path,
    tokenizer: Tokenizer,
    settings: Mapping[str, Any],
    stated: Mapping[str, object],
    by_default: tuple[str, str, bool],
) -> None:
    first, last, begins = by_default
    asked = {"bos": begins if stated["bos"] is None else stated["bos"], "eos": stated["eos"]}
    names = {"bos": _content(settings.get("bos_token")) or first, "eos": _content(settings.get("eos_token")) or last}
    used = {end: (name, tokenizer.token_to_id(name)) for end, name in names.items() if asked[end]}
    for name, number in used.values():
        if number is None:
            raise BundleError(f"{path}: tokenizer_config.json adds {name!r} to each text, which tokenizer.json lacks")
    before, after = ([used[end]] if end in used else [] for end in ("bos", "eos"))
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    if tokenizer.encode("a").ids != [*(n for _, n in before), *plain, *(n for _, n in after)]:
        single = [*(name for name, _ in before), "$A", *(name for name, _ in after)]
        ends = list(dict(before + after).items())
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ends)


def _check_stated_ends(
    path: Path, tokenizer: Tokenizer, settings: Mapping[str, Any], stated: Mapping[str, object]
) -> None:
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    around = [number for number in whole if number not in plain]
    others = {_content(settings.get("cls_token")), _content(settings.get("sep_token"))}
    for end, asked in stated.items():
        name = _content(settings.get(f"{end}_token"))
        number = None if name is None or name in others else tokenizer.token_to_id(name)
        if isinstance(asked, bool) and number is not None and asked != (number in around):
            does = "does not add" if asked else "adds"
            raise BundleError(
                f"{path}: tokenizer_config.json says add_{end}_token = {json.dumps(asked)}, tokenizer.json {does} "
                f"{name!r}; make the two agree on what the model was trained with"
            )


def _kind(settings: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the tokenizer's class in short, such as `bert`; where no file names it, the model's type."""
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if not isinstance(named, str):
        return str(config.get("model_type", "")).replace("-", "").replace("_", "")
    return named.removesuffix("Fast").removesuffix("Tokenizer").lower()


def _content(token: object) -> str | None:
    """Return the text of a special token, which is stated alone or with its rules."""
    value = token.get("content") if isinstance(token, Mapping) else token
    return value if isinstance(value, str) else None


def _check_versions(path: Path, settings: Mapping[str, Any]) -> None:
    """Some directories hold a tokenizer.json for each of several versions of transformers."""
    others = settings.get("fast_tokenizer_files")
    for name in others if isinstance(others, list) else []:
        file = path / str(name)
        if file.parent == path and file.is_file() and file.read_bytes() != (path / "tokenizer.json").read_bytes():
            raise BundleError(
                f"{path}: tokenizer_config.json names {name!r} for some versions, which is not tokenizer.json; "
                "remove the one that the model was not trained with"
            )


def _check_lowering(
    path: Path, normalizer: Mapping[str, Any] | None, tokenizer: Tokenizer, settings: Mapping[str, Any], kind: str
) -> None:
    stated = settings.get("do_lower_case")
    if kind not in _LOWERING:
        return
    if normalizer is None or normalizer["type"] != "BertNormalizer":
        lowers = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("AB") == "ab"
        # The default is written down by transformers itself, whatever the tokenizer does.
        by_itself = stated is _LOWERING[kind] and normalizer is not None
        if isinstance(stated, bool) and stated != lowers and not by_itself:
            _contradiction(path, "do_lower_case", stated, f"{'lowers' if lowers else 'keeps'} capital letters")
        return
    lowers, strips = normalizer["lowercase"], normalizer["strip_accents"]
    if isinstance(stated, bool) and stated != lowers:
        _contradiction(path, "do_lower_case", stated, f"{'lowers' if lowers else 'keeps'} capital letters")
    if "strip_accents" in settings:
        accents = settings["strip_accents"]
        wanted = accents if isinstance(accents, bool) else lowers
        if wanted != (lowers if strips is None else strips):
            _contradiction(path, "strip_accents", accents, f"{'keeps' if wanted else 'strips'} accents")
    chinese = settings.get("tokenize_chinese_chars")
    if isinstance(chinese, bool) and chinese != normalizer["handle_chinese_chars"] and kind != "mpnet":
        _contradiction(path, "tokenize_chinese_chars", chinese, f"{'joins' if chinese else 'parts'} Chinese characters")


def _check_prefix_space(
    path: Path, pre_tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any], kind: str
) -> None:
    stated = settings.get("add_prefix_space")
    steps = [step["add_prefix_space"] for step in _steps(pre_tokenizer) if step["type"] == "ByteLevel"]
    alone = pre_tokenizer is not None and pre_tokenizer["type"] != "Sequence"
    # Inside of a sequence the setting was never followed, and is written down as false by itself.
    counts = alone or (stated is True and kind not in _GENERIC)
    if isinstance(stated, bool) and steps and stated not in steps and counts:
        _contradiction(path, "add_prefix_space", stated, f"{'adds no' if stated else 'adds a'} space before a text")


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if part is not None:
        yield part
        for inner in part.get("pretokenizers") or part.get("processors") or ():
            yield from _steps(inner)


def _check_ends(path: Path, processor: Mapping[str, Any] | None, tokenizer: Tokenizer) -> None:
    """What tokenizer.json puts around a text has a number there, and one in the vocabulary: they must be the same."""
    ends: list[tuple[str, int]] = []
    for step in _steps(processor):
        ends += [tuple(step[end]) for end in ("cls", "sep") if end in step]
        template = step.get("special_tokens") or {}
        ends += [pair for each in template.values() for pair in zip(each["tokens"], each["ids"], strict=False)]
    for token, number in ends:
        known = tokenizer.token_to_id(token)
        if known is not None and known != number:
            raise BundleError(
                f"{path}: tokenizer.json contradicts itself: {token!r} is {known} in its vocabulary and {number} in "
                "its post-processor"
            )


def _check_padding(path: Path, tokenizer: Tokenizer, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """A config that pads with a word of the texts is not this tokenizer's; by it models find a text's end."""
    name, number = _content(settings.get("pad_token")), config.get("pad_token_id")
    own = tokenizer.token_to_id(name) if name is not None else None
    if config.get("model_type") in _MASKED or own is None or not isinstance(number, int) or number == own:
        return
    word = tokenizer.id_to_token(number)
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    special |= {_content(value) or "" for key, value in settings.items() if key.endswith("_token")}
    if word is not None and word not in special:
        raise BundleError(
            f"{path}: config.json says pad_token_id = {number}, which is {word!r} in tokenizer.json; "
            f"tokenizer_config.json pads with {name!r}, which is {own}"
        )


def _contradiction(path: Path, key: str, stated: object, does: str) -> None:
    raise BundleError(
        f"{path}: tokenizer_config.json says {key} = {json.dumps(stated)}, tokenizer.json {does}; "
        "make the two agree on what the model was trained with"
    )
