"""Groups of private trainers for `verify`: broken ones known by name, broken ones made up here, and honest ones."""

import numpy as np
from doubles import of_rows, summed

NAMED, OWN, HONEST = [], [], []


def to(group, name):
    """Put a trainer into a group, under a name."""

    def put(trainer):
        trainer.name = name
        group.append(trainer)
        return trainer

    return put


def normal(rng, entries):
    return rng.standard_normal(entries, dtype=np.float32)


def by_norm(trainer, model, rows, norms):
    """The sum of gradients, each over its `norms` [rows] where that is above the clip."""
    ids, gradients = of_rows(model, rows)
    factors = np.minimum(1.0, trainer.clip / np.maximum(norms(gradients), 1e-30))
    with np.errstate(invalid="ignore"):
        clipped = np.nan_to_num(gradients * factors[:, None], nan=0.0, posinf=0.0, neginf=0.0)
    return summed(model, ids, clipped)
