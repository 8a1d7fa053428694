"""What is held out, decided by a stable hash of the thing itself.

A key (a function name, an argument name, a value, an image's attributes, an operand pair, ...) belongs to the held-out side
when the first eight bytes of its BLAKE2b hash are divisible by HELD_OUT_ONE_IN. Training never draws such a key, the held-out
split draws no other. Nothing but the key decides: not the seed, not the order, not the version of Python.
"""
import hashlib

HELD_OUT_ONE_IN = 8


def stable_hash(kind, key):
    """Return a 64-bit number that depends on nothing but the two strings."""
    digest = hashlib.blake2b(f"{kind}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def is_held_out(kind, key):
    """True when `key` (any text) of the class `kind` is never used in training."""
    return stable_hash(kind, key) % HELD_OUT_ONE_IN == 0


def belongs(split, kind, key):
    """True when `key` may be used in `split` ("train" or "heldout")."""
    return is_held_out(kind, key) == (split == "heldout")


def draw(split, kind, make, key=str):
    """Call make() until its result belongs to the split; `key` gives the text that is hashed."""
    for _ in range(10000):
        value = make()
        if belongs(split, kind, key(value)):
            return value
    raise ValueError(f"no {kind} of the split {split} found")
