"""What is measured on clients' updates: shares of a client's texts that were recovered, with bounds and words."""

from collections.abc import Iterator

from redteam.report.values import Evidence, Grade

GRADES: dict[Grade, str] = {
    "A": "every client's update is held beside one that never saw its texts, and clients were drawn at random",
    "B": "every client's update is held beside one that never saw its texts; the numbers are about clients like these",
    "C": "texts are found in updates that never saw them, so that what is found in a client's own says nothing",
}
NOT_SEEN = (
    "a stronger attack than those run: a pass says that these attacks failed, it is no proof of privacy",
    "what several rounds of one client tell together: each update was read by itself",
    "texts of other models than those that begin as BERT does, and longer ones than a head of attention is wide",
    "whoever changes the weights that clients begin with: the attacker only reads",
)


def attainable(clients: int, alpha: float) -> float:
    """Return the lower bound of the share of clients' texts where all was recovered of every client."""
    return float((alpha / 2) ** (1 / clients)) if clients > 0 else 0.0


def contradictions(evidence: Evidence) -> Iterator[str]:
    """Yield what in a saved share of clients' texts cannot be so."""
    interval, clients = evidence.interval, evidence.members
    if evidence.unit != "client" or clients < 1:
        yield f"{evidence.id} is of no clients"
    elif not 0 <= interval.low <= interval.high <= 1:
        yield f"{evidence.id} is not between 0 and 1"
    elif abs(evidence.attainable - attainable(clients, interval.alpha)) > 1e-6:
        yield f"{evidence.id} says that {evidence.attainable:g} is attainable, which {clients} clients do not have"
    elif interval.low > evidence.attainable + 1e-6:
        yield f"{evidence.id} is beyond what {clients} clients can show"
