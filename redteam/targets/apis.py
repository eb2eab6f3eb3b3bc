"""How services want to be asked: each API form turns texts into a request body, and a body into answers.

What a form returns is a document that `redteam.targets.answers` reads. Where the forms differ from each other is said
here and nowhere else; `auto` is told from the path of the URL and from the answer to the one probe.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redteam.core import TargetError
from redteam.targets.api import Api, is_document, rows_of_one
from redteam.targets.forms import as_document
from redteam.targets.template import Template


class Redteam(Api):
    """Our own form: {"texts": [...]}, answered in any form of `redteam.targets.answers`."""

    name = "redteam"

    def request(self, texts: Sequence[str]) -> object:
        """Return the texts by name."""
        return {"texts": list(texts)}


class HuggingFace(Api):
    """Hugging Face inference: {"inputs": [...]}, answered by all labels with their scores for each text."""

    name = "huggingface"

    def request(self, texts: Sequence[str]) -> object:
        """Ask for all labels, which pipelines leave out unless told."""
        return {"inputs": list(texts), "parameters": {"top_k": None}}

    def answers(self, document: Any, texts: int) -> object:
        """Take a single text's answer for a batch of one."""
        return rows_of_one(document, texts)


class TextEmbeddingsInference(HuggingFace):
    """TEI's /predict: every text in a list of its own, since two bare texts would be taken for one pair."""

    name = "tei"

    def request(self, texts: Sequence[str]) -> object:
        """Return each text as a sequence of its own; long ones are cut by the server."""
        return {"inputs": [[text] for text in texts], "truncate": True}


class Instances(Api):
    """KServe v1, Vertex AI and TensorFlow Serving: {"instances": [...]}, answered by "predictions"."""

    name = "instances"

    def request(self, texts: Sequence[str]) -> object:
        """Return one instance a text."""
        return {"instances": list(texts)}

    def answers(self, document: Any, texts: int) -> object:
        """Return the predictions."""
        return as_document(_get(document, "predictions"))


class MLflow(Instances):
    """MLflow's /invocations: {"inputs": [...]}, answered by "predictions"."""

    name = "mlflow"

    def request(self, texts: Sequence[str]) -> object:
        """Return the texts as a tensor of inputs."""
        return {"inputs": list(texts)}


class KServeV2(Api):
    """The Open Inference Protocol (KServe v2, Triton, MLServer); `tensor` is the input's name, as in `kserve-v2:NAME`.

    Outputs of strings are label names, or objects of label and score as MLServer writes them; of numbers, rows.
    """

    name = "kserve-v2"

    def __init__(self, tensor: str = "text") -> None:
        """Ask by the input called `tensor`."""
        self.tensor = tensor

    @property
    def key(self) -> str:
        """The form and the input's name."""
        return f"{self.name}:{self.tensor}"

    def request(self, texts: Sequence[str]) -> object:
        """Return one tensor of strings, a row a text."""
        tensor = {"name": self.tensor, "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
        return {"inputs": [tensor]}

    def answers(self, document: Any, texts: int) -> object:
        """Return the only output, or the one called probabilities, scores or output."""
        outputs = _get(document, "outputs")
        if not isinstance(outputs, list) or not outputs or not all(isinstance(o, Mapping) for o in outputs):
            raise ValueError('answered no list of "outputs"')
        named = [o for o in outputs if str(o.get("name", "")).lower() in _PROBABILITIES]
        chosen = outputs if len(outputs) == 1 else named
        if len(chosen) != 1:
            raise ValueError(f"answered {len(outputs)} outputs; say which with --request-template and --response-path")
        data, kind = _get(chosen[0], "data"), chosen[0].get("datatype")
        if not isinstance(data, list):
            raise ValueError('answered no list of "data"')
        if kind == "BYTES":
            return as_document([_object(each) for each in _flat(data)])
        if str(kind).startswith("FP"):
            return {"probabilities": _folded(_flat(data), texts)}
        return {"labels": _flat(data)}


class Classify(Api):
    """vLLM's and SGLang's /v1/classify: {"input": [...]}, answered by "data" with "probs" in the model's order."""

    name = "vllm-classify"

    def request(self, texts: Sequence[str]) -> object:
        """Return the texts by the name that this API shares with OpenAI's."""
        return {"input": list(texts)}

    def answers(self, document: Any, texts: int) -> object:
        """Return the rows in the order of the texts, with the label that each says it is surest of."""
        data = _get(document, "data")
        if not isinstance(data, list) or not all(isinstance(each, Mapping) for each in data):
            raise ValueError('answered no list of objects in "data"')
        ordered = sorted(data, key=lambda each: _position(each.get("index"), len(data)))
        if sorted(_position(each.get("index"), len(data)) for each in data) != list(range(len(data))):
            raise ValueError('answered an "index" twice or none')
        tops = [each.get("label") for each in ordered]
        rows = [_get(each, "probs") for each in ordered]
        return {"probabilities": rows, "top": tops if all(isinstance(top, str) for top in tops) else None}


class TorchServe(Api):
    """TorchServe's /predictions/NAME: a text a request, in plain; answered by label -> p or by a bare label."""

    name = "torchserve"
    one_by_one = True
    media_type = "text/plain; charset=utf-8"

    def request(self, texts: Sequence[str]) -> object:
        """Return the text itself."""
        return texts[0]

    def content(self, texts: Sequence[str]) -> bytes:
        """Return the text as it is: handlers decode the body."""
        return texts[0].encode("utf-8", "replace")

    def parse(self, body: bytes) -> object:
        """Return JSON, or the one short line that a handler answers as a label."""
        try:
            return super().parse(body)
        except ValueError:
            line = body.decode("utf-8").strip()
            if not line or len(line) > _LONGEST_LABEL or not line.isprintable() or line.startswith("<"):
                raise
            return line

    def answers(self, document: Any, texts: int) -> object:
        """Return the one answer as that of a batch of one."""
        return as_document(rows_of_one(document, texts) if isinstance(document, list) else [document])


class Undecided(Api):
    """`auto` where the path says nothing: the names of several forms at once, until the probe's answer tells."""

    name = "auto"

    def request(self, texts: Sequence[str]) -> object:
        """Return the texts under each name; services ignore those that they do not know."""
        return {name: list(texts) for name in ("texts", "inputs", "instances", "input")}

    def answers(self, document: Any, texts: int) -> object:
        """Read the answer by the form that it has."""
        return told(document).answers(document, texts)


_PROBABILITIES = {"probabilities", "probability", "probs", "scores", "output", "predict"}
_LONGEST_LABEL = 200
_FORMS: dict[str, Callable[[], Api]] = {
    form.name: form
    for form in (Redteam, HuggingFace, TextEmbeddingsInference, Instances, KServeV2, MLflow, Classify, TorchServe)
}
NAMES = ("auto", *_FORMS)
_PATHS = (
    (re.compile(r"/invocations/?$"), "mlflow"),
    (re.compile(r"/v2/models/.+/infer/?$"), "kserve-v2"),
    (re.compile(r":predict$|:rawPredict$"), "instances"),
    (re.compile(r"/predictions/[^/]+(/[^/]+)?/?$"), "torchserve"),
)
_HOSTS = re.compile(r"(^|\.)(huggingface\.co|huggingface\.cloud)$")


def choose_api(name: str, host: str, path: str, *, template: str | None, response: str | None) -> Api:
    """Return the form by its name, or for `auto` by the URL; raise TargetError for a name that there is not."""
    if template is not None or response is not None:
        if name != "auto":
            raise TargetError(f"--api {name}: goes without --request-template and --response-path, which say it all")
        return Template(template, response)
    if name.startswith("kserve-v2:") and name.partition(":")[2]:
        return KServeV2(name.partition(":")[2])
    if name != "auto":
        if name not in _FORMS:
            raise TargetError(f"--api {name[:40]}: no such form; choose of {', '.join(NAMES)}")
        return _FORMS[name]()
    if _HOSTS.search(host):
        return HuggingFace()
    return next((_FORMS[form]() for pattern, form in _PATHS if pattern.search(path)), Undecided())


def told(document: Any) -> Api:
    """Return the form that an answer to the probe of `auto` shows."""
    if isinstance(document, Mapping) and not is_document(document):
        if "predictions" in document:
            return Instances()
        if "data" in document:
            return Classify()
    return Redteam() if isinstance(document, Mapping) else HuggingFace()


def settled(form: Api, document: Any) -> Api:
    """Return the form to go on with after the probe.

    A bare list says how a service answers and not by which name it was asked: that goes on to be asked by each.
    """
    return told(document) if isinstance(form, Undecided) and isinstance(document, Mapping) else form


def _get(document: Any, name: str) -> Any:
    if not isinstance(document, Mapping) or name not in document:
        raise ValueError(f'answered no "{name}"')
    return document[name]


def _flat(values: list[Any]) -> list[Any]:
    return [one for value in values for one in (_flat(value) if isinstance(value, list) else [value])]


def _folded(values: list[Any], rows: int) -> list[Any]:
    if not values or len(values) % rows:
        raise ValueError(f"answered {len(values)} numbers for {rows} texts")
    columns = len(values) // rows
    return [values[start : start + columns] for start in range(0, len(values), columns)]


def _object(value: Any) -> Any:
    """Read what MLServer writes into a string tensor: JSON of a label with its score, or the label itself."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _position(value: Any, most: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < most else -1
