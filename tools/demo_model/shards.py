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
LATE_SHARES = {"facts": 0.08, "tools": 0.38, "images": 0.18, "thinking": 0.24, "memory": 0.06, "system": 0.04, "unknown": 0.02}
SLOWLY = {"facts": 0.13, "tools": 0.28, "images": 0.26, "thinking": 0.17, "memory": 0.07, "system": 0.07, "unknown": 0.02}


def mixture(number):
    """The samples of one shard."""
    course.LATE = course.SMALL_STEPS = False
    if number < SECOND:
        return generate.mixture("train", seed=1000 + number)
    course.LATE = course.SMALL_STEPS = number >= LATE
    chances = LATE_SHARES if number >= LATE else SLOWLY
    rng = random.Random(f"second/{number}")
    streams = {ability: generate.samples("train", ability, 1000 + number) for ability in chances}
    names, shares = list(chances), list(chances.values())
    return (next(streams[rng.choices(names, shares)[0]]) for _ in itertools.count())


def encode_all(number):
    """The samples of one shard as columns."""
    tokenizer, template = Tokenizer.from_file(str(export.MODEL / "tokenizer.json")), Template()
    ids, mask, ends, ability, image_ends, images = [], [], [0], [], [0], []
    for sample in itertools.islice(mixture(number), SIZE):
        one = encode(sample, tokenizer, template)
        ids += one.ids
        mask += one.loss_mask
        ends.append(len(ids))
        ability.append(batches.ABILITIES.index(sample.ability))
        for image in sample.images:
            png = io.BytesIO()
            image.save(png, "PNG", compress_level=1)
            images.append(png.getvalue())
        image_ends.append(len(images))
    return {"ids": torch.tensor(ids, dtype=torch.int16), "mask": torch.tensor(mask, dtype=torch.uint8), "ends": ends,
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

    A sample: ids int16, mask uint8 (1 on the tokens to learn), ability, images (PNG bytes).
    """
    out = []
    for path in sorted(folder.glob("shard-*.pt")):
        if wanted is not None and int(path.stem.split("-")[1]) not in wanted:
            continue
        shard = torch.load(path, weights_only=True)
        ids, mask = shard["ids"].numpy(), shard["mask"].numpy()
        for k, ability in enumerate(shard["ability"]):
            a, b = shard["ends"][k:k + 2]
            c, d = shard["image_ends"][k:k + 2]
            if b - a <= longest:
                out.append({"ids": ids[a:b], "mask": mask[a:b], "ability": ability, "images": shard["images"][c:d]})
    if not out:
        raise SystemExit(f"no shard in {folder}; run shards.py first")
    return out, model_config(folder)["image_token_id"]


def model_config(_folder):
    return export.model_config(Tokenizer.from_file(str(export.MODEL / "tokenizer.json")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--shards", type=int, default=30)
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
