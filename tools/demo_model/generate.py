"""Samples of the demo model's abilities, for training (endless) and held out (finite), by ability and seed.

The held-out split is made by construction, before any training (see split.py): facts hold out one phrasing in six of every
fact; all other abilities hold out things by a stable hash, one in eight: function names, argument names, values (names, cities,
words, numbers, codes, ...), image triples (colour, shape, position) and (colour, shape, count), operand pairs, pairs of
instruction and question, questions about the world. Held-out samples use held-out things only; training never uses them.
Sentence frames ("What is {a} + {b}?") and the words of a fixed list that are not values are shared by both.

    for sample in samples("train", "tools", seed=1): ...
    for sample in mixture("train", seed=1): ...

From the command line: generate.py SPLIT ABILITY [COUNT] prints samples.
"""
import itertools
import random
import sys

from image_samples import image_group, image_sample
from talk_samples import (FACTS, PHRASINGS, copy_sample, fact_sample, memory_sample, system_sample, thinking_sample,
                          unknown_sample)
from tool_samples import tool_group, tool_sample

HELD_OUT_COUNT = 300          # held-out samples per ability and seed; facts give every held-out phrasing once

# Shares of samples, not of tokens; tools carry about three times the tokens of the others.
MIXTURE = {"facts": 0.27, "tools": 0.27, "images": 0.16, "thinking": 0.10, "memory": 0.10, "system": 0.05, "unknown": 0.05}


def memory_or_copy(rng, split):
    """The ability "memory" has one third of plain copying in it: both need the same skill."""
    return (copy_sample if rng.random() < 0.35 else memory_sample)(rng, split)


MAKERS = {"facts": fact_sample, "tools": tool_sample, "images": image_sample, "thinking": thinking_sample,
          "memory": memory_or_copy, "system": system_sample, "unknown": unknown_sample}


def samples(split, ability, seed=0):
    """Yield Samples of one ability: endless for "train", a finite list that depends on the seed for "heldout"."""
    rng = random.Random(f"{split}/{ability}/{seed}")
    make = MAKERS[ability]
    if split == "train":
        while True:
            yield make(rng, split)
    if split != "heldout":
        raise ValueError(f"the split is {split!r}, wanted 'train' or 'heldout'")
    if ability == "facts":
        pairs = [(i, phrase) for i in range(len(FACTS)) for phrase in PHRASINGS["heldout"][i]]
        rng.shuffle(pairs)
        for index, phrase in pairs:
            yield fact_sample(rng, split, index, phrase)
    else:
        for _ in range(HELD_OUT_COUNT):
            yield make(rng, split)


GROUPS = {"tools": tool_group, "images": image_group}


def groups(ability, seed, count):
    """Yield lists of training Samples, endless: `count` about one tool list or picture, single ones of the other abilities."""
    rng = random.Random(f"groups/{ability}/{seed}")
    while True:
        yield GROUPS[ability](rng, "train", count) if ability in GROUPS else [MAKERS[ability](rng, "train")]


def mixture(split, seed=0):
    """Yield training Samples of all abilities in the shares of MIXTURE."""
    rng = random.Random(f"{split}/mixture/{seed}")
    streams = {ability: samples(split, ability, seed) for ability in MIXTURE}
    names, shares = list(MIXTURE), list(MIXTURE.values())
    while True:
        yield next(streams[rng.choices(names, shares)[0]])


if __name__ == "__main__":
    for sample in itertools.islice(samples(sys.argv[1], sys.argv[2], 0), int(sys.argv[3]) if len(sys.argv) > 3 else 10):
        print(sample)
