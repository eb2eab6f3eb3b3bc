"""What a message may say of a cell of a table."""


def shown(value: str) -> str:
    """Return a cell as a message may quote it: one short word, and of anything longer, which may be a text, its length.

    Training texts have no place in logs.
    """
    word = value.strip()
    return repr(value) if len(word) <= 20 and len(word.split()) <= 1 else f"a text of {len(value)} characters"
