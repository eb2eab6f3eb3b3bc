"""Tokenizers without chance: what some draw anew at every call in training is switched off for answers."""

from tokenizers import Tokenizer


def settled(tokenizer: Tokenizer) -> Tokenizer:
    """Switch off what a tokenizer does by chance, in place, and return it: the same text has the same tokens.

    BPE drops merges at random (Provilkov et al., ACL 2020), a unigram model samples among the splits of a word
    (Kudo, ACL 2018); both are saved with the tokenizer.
    """
    model = tokenizer.model
    for setting in ("dropout", "alpha", "nbest_size"):
        if getattr(model, setting, None) is not None:
            setattr(model, setting, None)
    return tokenizer
