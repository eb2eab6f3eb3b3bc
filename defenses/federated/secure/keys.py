"""The primitives, all of libraries: X25519, HKDF-SHA256, ChaCha20 and its AEAD of `cryptography`, Shamir's sharing of
`pycryptodome`. They come with the extra `federated`.
"""

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np

from defenses.federated.secure.field import PRIME, Field
from redteam.core import UsageError

_NONCE = bytes(16)  # every key is used once
_SHARE = 16  # bytes, what Shamir's field holds


def check_installed() -> None:
    """Raise UsageError where a library is missing."""
    for module, package in (("cryptography", "cryptography"), ("Crypto", "pycryptodome")):
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"secure_aggregation: {package} is not installed; run: pip install '.[federated]', or "
                f"pip install {package}"
            )


def key_pair() -> tuple[bytes, bytes]:
    """Return a private and a public key of X25519, 32 bytes each, from the system's generator."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, purpose: bytes) -> bytes:
    """Return the 32-byte key that two parties share for a purpose."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return derive(secret, purpose)


def derive(secret: bytes, purpose: bytes) -> bytes:
    """Return a 32-byte key for a purpose by HKDF."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, None, b"redteam secure aggregation " + purpose).derive(secret)


def mask(key: bytes, size: int) -> Field:
    """Return `size` elements of the field that look uniform to whoever lacks the key: ChaCha20, 64 bits for each."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    stream = Cipher(algorithms.ChaCha20(key, _NONCE), None).encryptor().update(bytes(8 * size))
    return np.frombuffer(stream, "<u8") % np.uint64(PRIME)  # off uniform by 2^-32 at most


def seal(key: bytes, message: bytes, header: bytes) -> bytes:
    """Return a message that only who has the key can read, and nobody else make."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(bytes(12), message, header)


def unseal(key: bytes, sealed: bytes, header: bytes) -> bytes:
    """Return a sealed message; an exception of `cryptography` where it was changed."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, header)


def share_out(secret: bytes, threshold: int, holders: Sequence[int]) -> dict[int, bytes]:
    """Return a share of a 32-byte secret for each holder; any `threshold` of them have it, fewer nothing of it."""
    from Crypto.Protocol.SecretSharing import Shamir

    halves = [secret[:_SHARE], secret[_SHARE:]]
    shares = [Shamir.split(threshold, len(holders), half, False) for half in halves]
    return {holder: b"".join(half[at][1] for half in shares) for at, holder in enumerate(holders)}


def put_together(shares: Mapping[int, bytes], holders: Sequence[int]) -> bytes:
    """Return the secret of at least `threshold` shares; `holders` are all that have one, in the order of sharing."""
    from Crypto.Protocol.SecretSharing import Shamir

    numbered = [(holders.index(holder) + 1, share) for holder, share in shares.items()]
    parts = [[(number, share[at : at + _SHARE]) for number, share in numbered] for at in (0, _SHARE)]
    return b"".join(Shamir.combine(part, False) for part in parts)
