"""What a client does in a round of secure aggregation."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from defenses.federated.secure import keys
from defenses.federated.secure.field import Field, add, subtract
from redteam.core import RedteamError


@dataclass(frozen=True)
class PublicKeys:
    """What a client shows everybody: keys to agree on masks, and to send shares sealed."""

    masks: bytes
    shares: bytes


@dataclass
class Participant:
    """A client of one round: fresh keys, a seed for its own mask, and shares that it holds of others' secrets."""

    client: int
    _private: dict[str, bytes] = field(default_factory=dict)
    _seed: bytes = b""
    _public: dict[int, PublicKeys] = field(default_factory=dict)
    _held: dict[int, bytes] = field(default_factory=dict)
    _revealed: bool = False

    def packed(self) -> str:
        """Return all of it as text, secrets too, which must not leave the client."""
        public = {k: [each.masks.hex(), each.shares.hex()] for k, each in self._public.items()}
        private = {name: key.hex() for name, key in self._private.items()}
        return json.dumps([self.client, private, self._seed.hex(), public, self._revealed])

    @classmethod
    def unpacked(cls, text: str, held: Mapping[int, bytes]) -> "Participant":
        """Return what `packed` made a text of, with the sealed shares that it holds."""
        client, private, seed, public, revealed = json.loads(text)
        return cls(
            client,
            {name: bytes.fromhex(key) for name, key in private.items()},
            bytes.fromhex(seed),
            {int(k): PublicKeys(*map(bytes.fromhex, each)) for k, each in public.items()},
            dict(held),
            revealed,
        )

    def advertise(self) -> PublicKeys:
        """Make keys and show the public ones."""
        (masks, public), (shares, other) = keys.key_pair(), keys.key_pair()
        self._private = {"masks": masks, "shares": shares}
        return PublicKeys(public, other)

    def share(self, public: Mapping[int, PublicKeys], threshold: int) -> dict[int, bytes]:
        """Share out the mask key and the seed among the neighbours, sealed for each: a message for every neighbour."""
        self._public, self._seed = dict(public), secrets.token_bytes(32)
        neighbours = sorted(public)
        of_key = keys.share_out(self._private["masks"], threshold, neighbours)
        of_seed = keys.share_out(self._seed, threshold, neighbours)
        return {k: keys.seal(self._sealing(k), of_key[k] + of_seed[k], _header(self.client, k)) for k in neighbours}

    def receive(self, sealed: Mapping[int, bytes]) -> None:
        """Keep the shares that neighbours sent, still sealed."""
        self._held = dict(sealed)

    def mask(self, vector: Field) -> Field:
        """Return the vector [d] under this client's masks: its own, and one with each neighbour that shared."""
        masked = vector.copy()
        add(masked, keys.mask(keys.derive(self._seed, b"own mask"), len(vector)))
        for other in sorted(self._held):
            mask = keys.mask(self._pairwise(other), len(vector))
            (add if self.client < other else subtract)(masked, mask)
        return masked

    def reveal(self, arrived: Sequence[int], lost: Sequence[int]) -> dict[int, bytes]:
        """Return shares of neighbours' secrets: of the seed for who arrived, of the mask key for who is lost.

        Never of both for one, and once a round only: with both the server could take a client's masks off.
        """
        if self._revealed or set(arrived) & set(lost):
            raise RedteamError("secure aggregation: the server asked for both secrets of a client; it gets none")
        self._revealed = True
        told = {}
        for other in sorted(set(self._held) & {*arrived, *lost}):
            both = keys.unseal(self._sealing(other), self._held[other], _header(other, self.client))
            told[other] = both[32:] if other in arrived else both[:32]
        return told

    def _sealing(self, other: int) -> bytes:
        return keys.agree(self._private["shares"], self._public[other].shares, b"shares")

    def _pairwise(self, other: int) -> bytes:
        return keys.agree(self._private["masks"], self._public[other].masks, b"pairwise mask")


def _header(sender: int, receiver: int) -> bytes:
    return f"{sender}>{receiver}".encode()
