"""RT904 unseen update: what attacks on updates find of a client's texts in an update that never saw them.

It must be nothing: no sentence, and of the tokens only those that both hold. What is found all the same is chance, or
an attack that guesses: a number for the client's own update counts for no more than it exceeds this one.

Where there are updates of other clients, the next one is the control; texts that both clients hold are left out of the
count. A single client is held against an update made here: one step of the public model on random tokens of its
vocabulary, as many texts and as long as the client's.
"""

from collections.abc import Sequence

import numpy as np
import torch

from redteam.plugins.update import ClientUpdate, UpdateControl
from redteam.targets.model import pad_batch
from redteam.targets.target import WhiteBox


class UnseenUpdate(UpdateControl):
    """Give another client's update, or one of random tokens."""

    id = "RT904"
    name = "unseen update"

    def unseen(
        self, model: WhiteBox, lengths: Sequence[int], others: Sequence[ClientUpdate], *, seed: int
    ) -> ClientUpdate:
        """Return an update that never saw the client's texts."""
        return others[0] if others else _of_random_tokens(model, lengths, np.random.default_rng([seed, 904]))


def _of_random_tokens(target: WhiteBox, lengths: Sequence[int], rng: np.random.Generator) -> ClientUpdate:
    """Return what one step of size 1 on random texts would change of the parameters that are trained."""
    model, ends = target.model, target.tokenizer.encode("a").ids
    size, labels = model.get_input_embeddings().weight.shape[0], int(model.config.num_labels)
    special = {*ends, model.config.pad_token_id}
    usual = np.array([token for token in range(size) if token not in special])
    texts = [[ends[0], *rng.choice(usual, max(length - 2, 1)).tolist(), ends[-1]] for length in lengths]
    inputs = pad_batch(texts, pad=model.config.pad_token_id or 0, device=target.device)
    own = torch.tensor(rng.integers(labels, size=len(texts)), device=target.device)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.enable_grad():
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, own)
        changes = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    pairs = zip(trained, changes, strict=True)
    return ClientUpdate("random tokens", {name: -change.cpu() for name, change in pairs if change is not None})
