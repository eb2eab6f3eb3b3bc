"""Names of tensors that were saved from within a wrapper: `module.bert...` is `bert...`, and it is said."""

from collections.abc import Mapping

import torch

from redteam.core import BundleError

# Each wrapper keeps the model, or a layer of it, under a name of its own that no model here uses for a layer.
_WRAPPERS = {
    "module": "DataParallel",
    "_module": "Opacus",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "checkpointing",
}


def unwrapped(stored: Mapping[str, torch.Tensor], where: str) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Return the tensors by their names without wrappers, and what to tell of that.

    Raises BundleError where two names become one: nothing says which of the two tensors answers.
    """
    found: dict[str, torch.Tensor] = {}
    origin: dict[str, str] = {}
    seen: set[str] = set()
    for name, tensor in stored.items():
        parts = name.split(".")
        bare = ".".join(part for part in parts if part not in _WRAPPERS)
        seen |= _WRAPPERS.keys() & set(parts)
        if bare in found:
            raise BundleError(
                f"{where}: weights cannot be loaded ({origin[bare]!r} and {name!r} are one tensor without the wrapper)"
            )
        found[bare], origin[bare] = tensor, name
    if not seen:
        return found, ()
    kept = [wrapper for wrapper in _WRAPPERS if wrapper in seen]
    told = " and ".join(f"'{wrapper}.' ({_WRAPPERS[wrapper]})" for wrapper in kept)
    return found, (f"{where}: the weights were saved inside a wrapper: took {told} off their names",)
