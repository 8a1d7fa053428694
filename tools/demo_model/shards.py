"""Make and read the training data: chats from the generator as token ids, in shards of a few thousand samples.

    python shards.py --data ../../build/demo_model/data 

Shard k depends on nothing but k, so more can be added later; shards that exist are left alone.
"""
import argparse
import io
import itertools
import multiprocessing
import os
import pathlib
import random
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

import batches
import course
import export
import generate
from encode import encode
from template import Template

LONGEST = 320  # tokens that samples which begin alike may have together


class Stage(NamedTuple):
    """What the shards from `first` on hold; train.py --switches says from which step on they are used."""
    first: int
    shares: dict         # of samples by ability
    switches: tuple = ()  # of course.py
    group: int = 1       # samples that begin alike


STAGES = (
    Stage(0, generate.MIXTURE),
    # leans on what is learnt slowly
    Stage(12, {"facts": 0.13, "tools": 0.28, "images": 0.26, "thinking": 0.17, "memory": 0.07, "system": 0.07, "unknown": 0.02}),
    # stranger names, sums in small steps
    Stage(24, {"facts": 0.08, "tools": 0.38, "images": 0.18, "thinking": 0.24, "memory": 0.06, "system": 0.04, "unknown": 0.02},
          ("LATE", "SMALL_STEPS")),
    # several questions about one tool list or picture, values of any pieces of the vocabulary
    Stage(30, {"facts": 0.36, "tools": 0.19, "images": 0.12, "thinking": 0.14, "memory": 0.14, "system": 0.03, "unknown": 0.02},
          ("LATE", "SMALL_STEPS", "PIECES"), 6),
    # facts and sums are known; more of the rest
    Stage(50, {"facts": 0.24, "tools": 0.26, "images": 0.20, "thinking": 0.09, "memory": 0.12, "system": 0.05, "unknown": 0.04},
          ("LATE", "SMALL_STEPS", "PIECES", "COMPARE"), 6),
    # calls, which are learnt last
    Stage(60, {"facts": 0.14, "tools": 0.42, "images": 0.18, "thinking": 0.06, "memory": 0.08, "system": 0.09, "unknown": 0.03},
          ("LATE", "SMALL_STEPS", "PIECES", "COMPARE"), 6),
    # three tokens of four are about tools; facts are short and cost little
    Stage(68, {"facts": 0.20, "tools": 0.52, "images": 0.13, "thinking": 0.04, "memory": 0.05, "system": 0.03, "unknown": 0.03},
          ("LATE", "SMALL_STEPS", "PIECES", "COMPARE"), 6),
    # longer lists of tools, which were still mixed up, and thinking beside them; a little more of what the stage before neglected
    Stage(78, {"facts": 0.16, "tools": 0.44, "images": 0.14, "thinking": 0.04, "memory": 0.05, "system": 0.11, "unknown": 0.06},
          ("LATE", "SMALL_STEPS", "PIECES", "COMPARE", "WIDE"), 6),
)


def numbers(stage):
    """The shards of a stage, given by its place in STAGES."""
    return range(STAGES[stage].first, STAGES[stage + 1].first if stage + 1 < len(STAGES) else 1000)


def mixture(number):
    """The samples of one shard, as lists of samples that begin alike."""
    stage = [s for s in STAGES if s.first <= number][-1]
    for switch in ("LATE", "SMALL_STEPS", "PIECES", "COMPARE", "WIDE"):
        setattr(course, switch, switch in stage.switches)
    if stage.first == 0:
        return ([sample] for sample in generate.mixture("train", seed=1000 + number))
    rng = random.Random(f"second/{number}")
    if stage.group == 1:
        streams = {a: ([s] for s in generate.samples("train", a, 1000 + number)) for a in stage.shares}
    else:
        streams = {a: generate.groups(a, 1000 + number, stage.group) for a in stage.shares}
    names, shares = list(stage.shares), list(stage.shares.values())
    return (next(streams[rng.choices(names, shares)[0]]) for _ in itertools.count())


def joined(samples, longest):
    """(ids, mask, branches) of encoded samples as one: what they begin with alike, branch 0, then the rest of each, branch 1, 2, ...

    As many samples as `longest` tokens can hold, one at least. A branch sees branch 0 and itself (network.masks), so each
    sample is learnt as if it stood alone, but the tool list or the picture is read once for all.
    """
    if len(samples) == 1:
        return samples[0].ids, samples[0].loss_mask, [0] * len(samples[0].ids)
    alike = min(s.prompt_tokens for s in samples) - 1
    first = samples[0].ids
    alike = next((k for k in range(alike) if any(s.ids[k] != first[k] for s in samples)), alike)
    ids, mask, branches = first[:alike], [0] * alike, [0] * alike
    for number, sample in enumerate(samples, 1):
        rest = sample.ids[alike:]
        if number > 1 and len(ids) + len(rest) > longest:
            continue
        ids, mask, branches = ids + rest, mask + sample.loss_mask[alike:], branches + [number] * len(rest)
    return ids, mask, branches


def encode_all(number, size):
    """The samples of one shard as columns."""
    tokenizer, template = Tokenizer.from_file(str(export.MODEL / "tokenizer.json")), Template()
    ids, mask, branches, ends, ability, image_ends, images = [], [], [], [0], [], [0], []
    for group in itertools.islice(mixture(number), size):
        sample = group[0]
        one = joined([encode(s, tokenizer, template) for s in group], LONGEST)
        for column, more in zip((ids, mask, branches), one):
            column += more
        ends.append(len(ids))
        ability.append(batches.ABILITIES.index(sample.ability))
        for image in sample.images:
            png = io.BytesIO()
            image.save(png, "PNG", compress_level=1)
            images.append(png.getvalue())
        image_ends.append(len(images))
    return {"ids": torch.tensor(ids, dtype=torch.int16), "mask": torch.tensor(mask, dtype=torch.uint8),
            "branches": torch.tensor(branches, dtype=torch.uint8), "ends": ends,
            "ability": ability, "image_ends": image_ends, "images": images}


def make(job):
    folder, number, size = job
    torch.set_num_threads(1)
    path = folder / f"shard-{number:03d}.pt"
    if not path.exists():
        torch.save(encode_all(number, size), f"{path}.part")
        os.replace(f"{path}.part", path)
        print(path.name, flush=True)


def load(folder, longest=1 << 30, wanted=None):
    """(samples of at most `longest` tokens, id of the image token) of the shards whose number is in `wanted`.

    A sample: ids int16, mask uint8 (1 on the tokens to learn), branches uint8 (see joined), ability, images (PNG bytes).
    """
    out = []
    for path in sorted(folder.glob("shard-*.pt")):
        if wanted is not None and int(path.stem.split("-")[1]) not in wanted:
            continue
        shard = torch.load(path, weights_only=True)
        ids, mask = shard["ids"].numpy(), shard["mask"].numpy()
        branches = shard["branches"].numpy() if "branches" in shard else np.zeros(len(ids), np.uint8)
        for k, ability in enumerate(shard["ability"]):
            a, b = shard["ends"][k:k + 2]
            c, d = shard["image_ends"][k:k + 2]
            if b - a <= longest:
                out.append({"ids": ids[a:b], "mask": mask[a:b], "branches": branches[a:b], "ability": ability,
                            "images": shard["images"][c:d]})
    if not out:
        raise SystemExit(f"no shard in {folder}; run shards.py first")
    return out, model_config(folder)["image_token_id"]


def model_config(_folder):
    return export.model_config(Tokenizer.from_file(str(export.MODEL / "tokenizer.json")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--shards", type=int, default=82)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, default=5000, help="samples per shard")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(args.processes) as pool:
        for _ in pool.imap_unordered(make, [(args.data, n, args.size) for n in range(args.first, args.shards)]):
            pass
    lengths = np.array([len(s["ids"]) for s in load(args.data)[0]])
    print(f"{len(lengths)} samples, {lengths.sum()} tokens, longest {lengths.max()}, mean {lengths.mean():.0f}, "
          f"99 % at most {np.percentile(lengths, 99):.0f}")


if __name__ == "__main__":
    main()
