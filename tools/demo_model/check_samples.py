"""Encode samples of every ability and split, which checks the round trip, and print their sizes in tokens.

Usage: check_samples.py [COUNT per ability and split] [late]      ("late": the training samples of the last shards)
Also checks the split: functions and argument values must belong to the sample's side, and no chat may be on both.
"""
import itertools
import sys
import time

from tokenizers import Tokenizer

import course
from encode import encode
from generate import GROUPS, MIXTURE, groups, samples
from split import belongs
from template import DEMO, Template
from tool_samples import DOMAINS, ENUMS

# Words of closed lists may be values on both sides.
SHARED = {*itertools.chain(*ENUMS.values()), *itertools.chain(*(m for d in DOMAINS for m in d[2].values() if isinstance(m, tuple)))}
SHARED |= {choice for d in DOMAINS for _, choices in d[1].values() for choice in choices or ()}


def leaves(value):
    """Yield all numbers and texts inside of an argument; truth values are on both sides."""
    if isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    elif not isinstance(value, bool) and value not in SHARED:
        yield str(value)


def check_split(sample, split):
    """Raise ValueError when a function's name or a value belongs to the other side."""
    for tool in sample.tools or ():
        if not belongs(split, "function", tool["function"]["name"]):
            raise ValueError(f"{split}: function {tool['function']['name']}")
    for message in sample.messages:
        for call in message.get("tool_calls") or ():
            for value in leaves(call["function"]["arguments"]):
                if not belongs(split, "value", value):
                    raise ValueError(f"{split}: value {value!r} of {call}")


def stream(split, ability, late):
    """The samples to check; of the last shards' groups one after the other."""
    if late and split == "train" and ability in GROUPS:
        return itertools.chain.from_iterable(groups(ability, 5, 6))
    return samples(split, ability, 5)


def main(count, late):
    tokenizer, template = Tokenizer.from_file(DEMO + "/tokenizer.json"), Template()
    for ability in MIXTURE:
        seen = {}
        for split in ("train", "heldout"):
            start, sizes, targets, seen[split] = time.monotonic(), [], [], set()
            for sample in itertools.islice(stream(split, ability, late), count):
                encoded = encode(sample, tokenizer, template)
                sizes.append(len(encoded.ids))
                targets.append(sum(encoded.loss_mask))
                check_split(sample, split)
                # The few questions about an image that is not there, or a thing that was not told, are the same for all.
                if not sample.images and sample.ability != "unknown":
                    seen[split].add(str([(m["role"], m["content"]) for m in sample.messages]))
            ms = (time.monotonic() - start) / len(sizes) * 1000
            print(f"{ability:9} {split:8} {len(sizes):5} samples, mean {sum(sizes) / len(sizes):5.0f} tokens, largest {max(sizes):4}, "
                  f"target {sum(targets) / len(targets):4.1f}, {ms:.1f} ms each")
        common = seen["train"] & seen["heldout"]
        if common:
            raise ValueError(f"{ability}: in both splits: {len(common)} chats such as {sorted(common)[:3]}")


if __name__ == "__main__":
    late = "late" in sys.argv[2:]
    course.LATE = course.SMALL_STEPS = course.PIECES = late
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300, late)
