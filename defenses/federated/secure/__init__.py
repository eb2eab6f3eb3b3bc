"""Secure aggregation: the server learns the sum of the clients' updates and no single one.

SecAgg (Bonawitz et al., CCS 2017) on the sparse graph of SecAgg+ (Bell et al., CCS 2020). Each pair of neighbours
agrees on a mask that one adds and the other subtracts, and each client adds one of its own; what is left of a client's
vector is uniform over the field. Seeds of the masks are shared out among neighbours, so that the pairwise masks of
clients who drop out, and the own masks of those who do not, can be taken off the sum, and nothing else. Server and
clients are honest but curious: they keep to the protocol, and fewer than the threshold of a client's neighbours collude
with the server.

    field.py         updates as vectors over a prime field, and masks
    keys.py          X25519, HKDF, ChaCha20-Poly1305 of `cryptography`, Shamir of `pycryptodome`
    participants.py  what a client does
    coordinator.py   what the server does
    rounds.py        a round of both: an engine of this process, and a collector for the loop
"""
