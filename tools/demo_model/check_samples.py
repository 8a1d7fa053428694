"""Encode samples of every ability and split, which checks the round trip, and print their sizes in tokens.

Usage: check_samples.py [COUNT per ability and split]
Also checks that the held-out functions, argument names and questions of this run never occur in its training samples.
"""
import itertools
import sys
import time

from tokenizers import Tokenizer

from encode import encode
from generate import MIXTURE, samples
from template import DEMO, Template


def keys(sample):
    """Return the function names that a sample declares, or its last user text when it has no tools and no image."""
    if sample.tools:
        return {tool["function"]["name"] for tool in sample.tools}
    return set() if sample.images or sample.ability in ("system", "unknown") else {str([m["content"] for m in sample.messages])}


def main(count):
    tokenizer, template = Tokenizer.from_file(DEMO + "/tokenizer.json"), Template()
    for ability in MIXTURE:
        seen = {}
        for split in ("train", "heldout"):
            start, sizes, targets, seen[split] = time.monotonic(), [], [], set()
            for sample in itertools.islice(samples(split, ability, 5), count):
                encoded = encode(sample, tokenizer, template)
                sizes.append(len(encoded.ids))
                targets.append(sum(encoded.loss_mask))
                seen[split] |= keys(sample)
            ms = (time.monotonic() - start) / len(sizes) * 1000
            print(f"{ability:9} {split:8} {len(sizes):5} samples, mean {sum(sizes) / len(sizes):5.0f} tokens, largest {max(sizes):4}, "
                  f"target {sum(targets) / len(targets):4.1f}, {ms:.1f} ms each")
        common = seen["train"] & seen["heldout"]
        if common:
            raise ValueError(f"{ability}: in both splits: {sorted(common)[:5]}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
