"""Train a tagger over clients, by the loop, clients and engines of a federated trainer."""

from dataclasses import dataclass
from pathlib import Path

from defenses.federated.defense import Federated
from defenses.federated.flower.job import ClientData
from defenses.federated.partitions import Partition
from defenses.federated.rounds import RoundRecord
from defenses.federated.tagging.spans import TagScores, tag_scores
from defenses.federated.tagging.tagger import predict_tags, save_tagger, tag_problem
from defenses.federated.tagging.texts import TaggedTexts
from redteam.core import UsageError
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Progress


@dataclass(frozen=True)
class TrainedTagger:
    """A tagger, who held which texts, what happened in each round, and what whoever trained must know."""

    initial: InitialModel
    divided: Partition
    rounds: tuple[RoundRecord, ...]
    notes: tuple[str, ...]

    def scores(self, texts: TaggedTexts) -> TagScores:
        """Return how well it tags these texts."""
        return tag_scores(texts.tags, predict_tags(self.initial, texts))

    def save(self, folder: Path) -> None:
        """Write it as a Hugging Face directory."""
        save_tagger(self.initial, folder)


def train_tagger(
    trainer: Federated,
    initial: InitialModel,
    texts: TaggedTexts,
    *,
    seed: int,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> TrainedTagger:
    """Train `initial`, of `initial_tagger`, in place on clients that hold these texts.

    A text's label, by which rules divide, is the kind of most of its tagged words. Raises UsageError for a trainer with
    a guarantee: their noise was tested for classifiers alone.
    """
    if type(trainer) is not Federated:
        raise UsageError(f"{trainer.id} ({trainer.name}) trains classifiers; taggers take RD201 (federated)")
    examples = texts.examples()
    settled = trainer.settled(initial, len(texts))
    divided = settled.divide(examples, seed)
    initial.model.train()
    problem = tag_problem(initial, texts, settled.server_step(initial.model), population=None)
    periods = settled.in_time(divided, examples)
    federation = settled.federation(problem, periods, settled.local_training(), checkpoint)
    settled.elsewhere(federation, initial, ClientData("tags", texts), divided)
    federation.run(seed=seed, checkpoint=checkpoint, progress=progress)
    initial.model.eval()
    return TrainedTagger(initial, divided, tuple(federation.records), settled.notes(divided, examples, federation))
