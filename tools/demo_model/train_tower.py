"""Train the vision tower and its projection alone, before they meet the language model.

    python train_tower.py --out ../../build/demo_model            # writes OUT/tower.pt

Every soft token is asked, by one linear layer that is thrown away afterwards, what its own cell shows (colour and shape
of the object that covers it, whether the object's centre lies in it, its column and row) and what the whole image shows
(colour, shape, number, place). That is hundreds of answers per image where a chat gives one, so shapes, places and numbers are
learnt in minutes. Images are drawn on the fly from the training side of the split; the report at the end is on the held-out side.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import sys
import time

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

import batches
import image_samples
import network
import optimizer
import shards
from config import PATCH, POOLING, SOFT_TOKENS
from train import MALLOC, owners, save, views

COLOURS, SHAPES, PLACES = list(image_samples.COLOURS), list(image_samples.SHAPES), list(image_samples.PLACES)
BINS = 5
# What a soft token tells: of its cell (0 is background where it can be), then of the image.
HEADS = {"cell colour": 1 + len(COLOURS), "cell shape": 1 + len(SHAPES), "centre": 2, "column": BINS, "row": BINS,
         "colour": len(COLOURS), "shape": len(SHAPES), "count": 5, "place": 1 + len(PLACES)}
SEEN = 0.12  # share of a cell from which on an object counts as covering it


def targets_of(picture, rows, columns):
    """[cells, heads] class of every head for every cell."""
    height, width = picture.image.height, picture.image.width
    out = torch.zeros(rows, columns, len(HEADS), dtype=torch.int64)
    for r in range(rows):
        for c in range(columns):
            best = 0.0
            for top, bottom, left, right in picture.boxes:
                t, b, l, g = top / height * rows, (bottom + 1) / height * rows, left / width * columns, (right + 1) / width * columns
                shared = max(0.0, min(b, r + 1) - max(t, r)) * max(0.0, min(g, c + 1) - max(l, c))
                best = max(best, shared)
                if r <= (t + b) / 2 < r + 1 and c <= (l + g) / 2 < c + 1:
                    out[r, c, 2] = 1
            if best > SEEN:
                out[r, c, 0], out[r, c, 1] = 1 + COLOURS.index(picture.colour), 1 + SHAPES.index(picture.shape)
            out[r, c, 3], out[r, c, 4] = int((c + 0.5) / columns * BINS), int((r + 0.5) / rows * BINS)
    whole = (COLOURS.index(picture.colour), SHAPES.index(picture.shape), picture.count - 1,
             1 + PLACES.index(picture.position) if picture.position else 0)
    out[:, :, 5:] = torch.tensor(whole)
    return out.view(rows * columns, -1)


def draw_batch(rng, split, images):
    """pixels [images, patches, 768], places [images, patches, 2], targets [images, cells, heads] (-100: no cell)."""
    pixels = torch.zeros(images, batches.PATCHES, 3 * PATCH**2, dtype=torch.uint8)
    places = torch.full((images, batches.PATCHES, 2), -1)
    targets = torch.full((images, SOFT_TOKENS, len(HEADS)), -100)
    for k in range(images):
        make = image_samples.single if rng.random() < 0.5 else image_samples.several
        picture = make(rng, split)
        patch, at = batches.patches_of(picture.image)
        columns, rows = (int(at[:, i].max() + 1) // POOLING for i in (0, 1))
        pixels[k, :len(at)], places[k, :len(at)] = patch, at
        targets[k, :rows * columns] = targets_of(picture, rows, columns)
    return pixels, places, targets


def answers(params, cfg, pixels, places):
    """Logits [images, cells, all classes]."""
    soft = network.tower(params, cfg["vision_config"], pixels, places)
    return F.linear(soft.float(), params["heads.weight"], params["heads.bias"])


def losses(logits, targets):
    """Mean cross entropy of each head."""
    parts = logits.split(list(HEADS.values()), -1)
    return torch.stack([F.cross_entropy(p.flatten(0, 1), targets[..., k].flatten()) for k, p in enumerate(parts)])


def shapes_of(cfg):
    shapes = {n: s for n, s in network.parameter_shapes(cfg).items() if n.startswith(network.TOWER) or n == network.PROJECTOR}
    classes = sum(HEADS.values())
    return shapes | {"heads.weight": (classes, cfg["text_config"]["hidden_size"]), "heads.bias": (classes,)}


def check(params, cfg, seed=0, groups=25, images=8):
    """Share of held-out images or cells that each head tells right; the image's heads vote over the cells."""
    rng, right, total = random.Random(f"tower/heldout/{seed}"), [0] * len(HEADS), [0] * len(HEADS)
    for _ in range(groups):
        pixels, places, targets = draw_batch(rng, "heldout", images)
        with torch.no_grad():
            parts = answers(params, cfg, pixels, places).split(list(HEADS.values()), -1)
        real = targets[..., 0] >= 0
        for k, (name, part) in enumerate(zip(HEADS, parts)):
            if name in ("colour", "shape", "count", "place"):
                vote = (part.log_softmax(-1) * real[..., None]).sum(1).argmax(-1)
                same = vote == targets[:, 0, k]
            else:
                same = (part.argmax(-1) == targets[..., k])[real]
            right[k] += int(same.sum())
            total[k] += same.numel()
    return {name: round(r / t, 4) for name, r, t in zip(HEADS, right, total)}


def join(out):
    """Put OUT/tower.pt into the checkpoints of train.py, with fresh moments."""
    tower = torch.load(out / "tower.pt", weights_only=True)
    for path in sorted(out.glob("checkpoint.*.pt")):
        state = torch.load(path, weights_only=True)
        for name in state["params"]:
            if name in tower:
                state["params"][name] = tower[name]
                state["optimizer"]["average"][name] = tower[name]
                state["optimizer"]["moments"][name] = tuple(torch.zeros_like(m) for m in state["optimizer"]["moments"][name])
        save(path, state)


def work(rank, world, args, cfg, flat, gradients, barrier):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    shapes = shapes_of(cfg)
    params = {n: p.requires_grad_() for n, p in views(flat, shapes).items()}
    for name, leaf in params.items():
        leaf.grad = views(gradients[rank], shapes)[name]
    opt = optimizer.Optimizer({n: p.detach() for n, p in params.items()}, [views(g, shapes) for g in gradients],
                              owners(shapes, world)[rank], args.muon_lr, optimizer.adam_rate)
    loss_fn = lambda p, x, a, t: losses(answers(p, cfg, x, a), t)
    if args.compile:
        loss_fn = torch.compile(loss_fn, dynamic=False)
    rng = random.Random(f"tower/train/{args.seed}/{rank}")
    total, start = torch.zeros(len(HEADS)), time.time()
    barrier.wait(1800)
    for step in range(args.steps):
        pixels, places, targets = draw_batch(rng, "train", args.images)
        gradients[rank].zero_()
        loss = loss_fn(params, pixels, places, targets)
        loss.mean().backward()
        total += loss.detach()
        barrier.wait(1800)
        opt.step(min(1.0, (step + 1) / 50, (args.steps - step) / (args.decay * args.steps)), 0.99)
        barrier.wait(1800)
        if rank == 0 and (step + 1) % 50 == 0:
            told = {name: round(float(v), 3) for name, v in zip(HEADS, total / 50)}
            print(json.dumps({"step": step + 1, "seconds": round(time.time() - start), "loss": told}), flush=True)
            total.zero_()
        if rank == 0 and ((step + 1) % 400 == 0 or step + 1 == args.steps):
            save(args.out / "tower.pt", {n: p.detach().clone() for n, p in params.items()})
    if rank == 0:
        print(json.dumps({"held-out": check(params, cfg)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--decay", type=float, default=0.4, help="share of the steps over which the rate falls to zero")
    parser.add_argument("--images", type=int, default=8, help="images per step and process")
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--join", action="store_true", help="do not train: put OUT/tower.pt into OUT's checkpoints")
    args = parser.parse_args()
    if args.join:
        return join(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    cfg = shards.model_config(None)
    shapes = shapes_of(cfg)
    flat = torch.zeros(sum(torch.Size(s).numel() for s in shapes.values())).share_memory_()
    generator = torch.Generator().manual_seed(args.seed)
    for name, value in views(flat, shapes).items():
        if name == "heads.bias":
            continue
        value.copy_(network.initial_value(name, tuple(value.shape), generator, cfg))
    gradients = [torch.zeros_like(flat).share_memory_() for _ in range(args.processes)]
    os.environ.update(MALLOC)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    context = mp.get_context("spawn")
    barrier = context.Barrier(args.processes)
    workers = [context.Process(target=work, args=(r, args.processes, args, cfg, flat, gradients, barrier), daemon=True)
               for r in range(args.processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed")


if __name__ == "__main__":
    main()
