"""Make and read the training data: chats from the generator as token ids, in shards of a few thousand samples.

    python shards.py --data ../../build/demo_model/data --shards 24

Shard k depends on nothing but k, so more can be added later; shards that exist are left alone.
"""
import argparse
import io
import itertools
import multiprocessing
import os
import pathlib
import random

import numpy as np
import torch
from tokenizers import Tokenizer

import batches
import course
import export
import generate
from encode import encode
from template import Template

SIZE = 5000  # samples per shard
SECOND = 12  # from this shard on the mixture leans on what is learnt slowly; train.py --switch
LATE = 24    # from this shard on names are stranger and sums are worked in small steps; train.py --late
GROUPED = 30  # from this shard on a sample may hold several questions about one tool list or picture; train.py --grouped
LATE_SHARES = {"facts": 0.08, "tools": 0.38, "images": 0.18, "thinking": 0.24, "memory": 0.06, "system": 0.04, "unknown": 0.02}
GROUP, LONGEST = 6, 320  # samples that begin alike, and how many tokens they may have together
GROUPED_SHARES = {"facts": 0.36, "tools": 0.19, "images": 0.12, "thinking": 0.14, "memory": 0.14, "system": 0.03, "unknown": 0.02}
SLOWLY = {"facts": 0.13, "tools": 0.28, "images": 0.26, "thinking": 0.17, "memory": 0.07, "system": 0.07, "unknown": 0.02}


def mixture(number):
    """The samples of one shard, as lists of samples that begin alike."""
    course.LATE = course.SMALL_STEPS = number >= LATE
    course.PIECES = number >= GROUPED
    if number < SECOND:
        return ([sample] for sample in generate.mixture("train", seed=1000 + number))
    chances = SLOWLY if number < LATE else LATE_SHARES if number < GROUPED else GROUPED_SHARES
    rng = random.Random(f"second/{number}")
    if number < GROUPED:
        streams = {ability: ([s] for s in generate.samples("train", ability, 1000 + number)) for ability in chances}
    else:
        streams = {ability: generate.groups(ability, 1000 + number, GROUP) for ability in chances}
    names, shares = list(chances), list(chances.values())
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


def encode_all(number):
    """The samples of one shard as columns."""
    tokenizer, template = Tokenizer.from_file(str(export.MODEL / "tokenizer.json")), Template()
    ids, mask, branches, ends, ability, image_ends, images = [], [], [], [0], [], [0], []
    for group in itertools.islice(mixture(number), SIZE):
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
    folder, number = job
    torch.set_num_threads(1)
    path = folder / f"shard-{number:03d}.pt"
    if not path.exists():
        torch.save(encode_all(number), f"{path}.part")
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
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(args.processes) as pool:
        for _ in pool.imap_unordered(make, [(args.data, n) for n in range(args.first, args.shards)]):
            pass
    lengths = np.array([len(s["ids"]) for s in load(args.data)[0]])
    print(f"{len(lengths)} samples, {lengths.sum()} tokens, longest {lengths.max()}, mean {lengths.mean():.0f}, "
          f"99 % at most {np.percentile(lengths, 99):.0f}")


if __name__ == "__main__":
    main()
