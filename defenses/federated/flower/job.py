"""What clients need, as files of a folder: the model without a word of code in it, the settings, each client's rows."""

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from defenses.edpsgd.texts import text_problem
from defenses.federated.local import ClientAnswer, LocalTraining, RoundTask, train_client
from defenses.federated.server import server_optimizer
from defenses.federated.tagging.tagger import open_tagger, tag_problem
from defenses.federated.tagging.texts import TaggedTexts
from defenses.federated.updates import trained_of
from redteam.core import RedteamError
from redteam.core.arrays import IntArray
from redteam.data import Examples
from redteam.models.bundle import load_bundle, save_bundle
from redteam.models.initial import InitialModel
from redteam.models.opening import open_model
from redteam.models.tokens import open_tokenizer
from redteam.plugins.defense import Problem


@dataclass(frozen=True)
class ClientData:
    """All clients' rows: texts with a label each, or with tags."""

    kind: Literal["labels", "tags"]
    rows: Examples | TaggedTexts

    def held(self, rows: IntArray) -> dict[str, Any]:
        """Return what the file of a client says that holds these."""
        own = self.rows.take(rows)
        return own.held() if isinstance(own, TaggedTexts) else {"texts": own.texts, "labels": own.labels}


def write_job(
    folder: Path, initial: InitialModel, data: ClientData, holders: Sequence[IntArray], how: LocalTraining
) -> None:
    """Write all that clients need; private, since it holds their texts."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_bundle(initial.bundle(), folder / "model.pt")
    dropouts = {name: module.p for name, module in _dropouts(initial.model)}
    trained = sorted(trained_of(initial.model))
    document = {"kind": data.kind, "how": asdict(how), "trained": trained, "dropouts": dropouts}
    (folder / "job.json").write_text(json.dumps(document), encoding="utf-8")
    for client, rows in enumerate(holders):
        (folder / f"client-{client}.json").write_text(json.dumps(data.held(rows)), encoding="utf-8")


def answer(folder: Path, client: int, rows: IntArray, task: RoundTask) -> ClientAnswer:
    """Train one client of a job on `rows` of its own, int64 [n], and return what it sends."""
    problem, how = _problem(folder, client)
    try:
        return train_client(problem, rows, task, client, how)
    except RedteamError:
        raise
    except Exception as error:
        return ClientAnswer(client, None, failure=f"broke ({type(error).__name__})")


@functools.lru_cache(maxsize=1)
def _initial(folder: Path) -> tuple[str, InitialModel, LocalTraining]:
    torch.set_num_threads(1)  # several clients share a machine
    document: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    bundle = load_bundle(folder / "model.pt")
    kind = str(document["kind"])
    model = (open_tagger if kind == "tags" else open_model)(bundle, name="job")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in document["trained"])
    for name, module in _dropouts(model):
        module.p = document["dropouts"][name]
    initial = InitialModel(model, open_tokenizer(bundle, name="job"), bundle.labels, bundle.max_length, 0.0)
    return kind, initial, LocalTraining(**document["how"])


@functools.lru_cache(maxsize=64)
def _problem(folder: Path, client: int) -> tuple[Problem, LocalTraining]:
    kind, initial, how = _initial(folder)
    held = json.loads((folder / f"client-{client}.json").read_text(encoding="utf-8"))
    initial.model.train()
    never = server_optimizer(initial.model, "average", 1.0, 0.0)  # a client takes no server's step
    if kind == "tags":
        texts = TaggedTexts(tuple(map(tuple, held["tokens"])), tuple(map(tuple, held["tags"])))
        return tag_problem(initial, texts, never, population=None), how
    own = Examples(np.arange(len(held["texts"])), tuple(held["texts"]), tuple(held["labels"]))
    return text_problem(initial, own, never, population=None), how


def _dropouts(model: torch.nn.Module) -> list[tuple[str, torch.nn.Dropout]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)]
