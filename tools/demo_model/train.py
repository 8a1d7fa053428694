"""Train the demo model.

    python train.py --out ../../build/demo_model            # starts, or goes on from the last checkpoint

Several processes with one thread each share the parameters; each computes the gradient of its own batch and
updates its part of the parameters. Learning rate: warm-up, constant, then linear to zero over the last
`decay_steps`. Steps and decay stand in OUT/plan.json, which is read again during the run, so that a run can be
brought to its end at any time. Progress: OUT/log.jsonl and, as text, standard output.
"""
import argparse
import bisect
import collections
import json
import os
import pathlib
import signal
import sys
import time

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file

import batches
import config
import network
import optimizer
import shards


def loss_of(params, cfg, batch, soft):
    """(loss, cross entropy per target slot)."""
    states, balance = network.hidden_states(params, cfg, batch, soft=soft)
    z = network.logits(params, cfg, states.flatten(0, 1)[batch["at"]])
    entropy = F.cross_entropy(z, batch["targets"], reduction="none")
    loss = (entropy * batch["weights"]).sum() / batch["weights"].sum()
    return loss + 0.01 * balance, entropy


ONLY_FOR_MASKS = ("documents", "branches", "blocks")


def with_masks(cfg, batch):
    masks = network.masks(cfg["text_config"], *(batch[k] for k in ("positions", *ONLY_FOR_MASKS)))
    return batch | {"mask_sliding": masks[config.SLIDING], "mask_full": masks[config.FULL]}


def views(flat, shapes):
    out, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        out[name] = flat[start:start + size].view(shape)
        start += size
    return out


def owners(shapes, world):
    """Split the names over the processes so that each has about the same work."""
    load, out = [0.0] * world, [[] for _ in range(world)]
    for name, shape in sorted(shapes.items(), key=lambda e: -np.prod(e[1])):
        size = float(np.prod(shape))
        work = size * (1 + 0.3 * min(shape[-2:])) if optimizer.is_matrix(name) else size
        rank = load.index(min(load))
        load[rank] += work
        out[rank].append(name)
    return out


def schedule(step, updates, plan):
    """Share of the full learning rate at `step`; `updates` is how many this optimizer has made, whose moments start at zero."""
    left = (plan["steps"] - step) / max(1, plan["decay_steps"])
    return min(1.0, (updates + 1) / plan["warmup"], max(0.0, left))


# glibc gives large blocks back to the kernel at every free and so pays a page fault for every page of every
# tensor; keeping them made a step 1.3 times as fast. Read by the C library when a process starts.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 30), "MALLOC_TOP_PAD_": str(256 << 20)}


def save(path, value):
    torch.save(value, f"{path}.part")
    os.replace(f"{path}.part", path)


def work(rank, world, args, cfg, flat, gradients, control, barrier):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed + rank)
    shapes = network.parameter_shapes(cfg)
    params = views(flat, shapes)
    frozen = (network.TOWER,) if args.freeze_tower else ()
    leaves = {n: p.requires_grad_(not p_frozen) for n, p in params.items() for p_frozen in [n.startswith(frozen)]}
    for name, leaf in leaves.items():
        if leaf.requires_grad:
            leaf.grad = views(gradients[rank], shapes)[name]
    every = [views(g, shapes) for g in gradients]
    opt = optimizer.Optimizer({n: p.detach() for n, p in params.items()}, every, owners(shapes, world)[rank],
                              args.muon_lr, optimizer.adam_rate)
    opt.frozen = frozen
    packers = {}
    switches = [int(step) for step in args.switches.split(",")]
    if len(switches) != len(shards.STAGES) - 1:
        raise SystemExit(f"--switches has {len(switches)} steps, wanted {len(shards.STAGES) - 1}: one for each stage after the first")
    for stage in range(bisect.bisect(switches, args.first_step), len(shards.STAGES)):
        samples, image_token = shards.load(args.data, args.length, shards.numbers(stage))
        packers[stage] = batches.Packer(samples, args.rows, args.length, args.images, args.slots, args.prompt_weight,
                                        image_token, args.seed * 100 + 10 * stage + rank)
    checkpoint = args.out / f"checkpoint.{rank}.pt"
    step = args.first_step
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        opt.restore(state["optimizer"])
        for stage, saved in state["packers"].items():
            packers[stage].restore(saved)
        step = state["step"]
        with torch.no_grad():
            for name, value in state["params"].items():
                opt.params[name].copy_(value)
    barrier.wait()
    loss_fn = torch.compile(lambda p, b, s: loss_of(p, cfg, b, s), dynamic=False) if args.compile else \
        (lambda p, b, s: loss_of(p, cfg, b, s))
    see = torch.compile(lambda p, x, a: network.tower(p, cfg["vision_config"], x, a), dynamic=False) if args.compile else \
        (lambda p, x, a: network.tower(p, cfg["vision_config"], x, a))
    sums, counts = collections.Counter(), collections.Counter()
    tokens, started, begun, spent = 0, time.time(), step, np.zeros(5)
    last_save = time.time()
    while True:
        plan = {"steps": int(control[0]), "decay_steps": int(control[1]), "warmup": args.warmup}
        if step >= plan["steps"]:
            break
        clock = [time.perf_counter()]
        packer = packers[bisect.bisect(switches, step)]
        raw = packer.next()
        batch = with_masks(cfg, {k: v for k, v in raw.items() if torch.is_tensor(v) and k not in
                                 ("pixels", "places", "abilities")})
        for name in ONLY_FOR_MASKS:
            del batch[name]
        gradients[rank].zero_()
        clock.append(time.perf_counter())
        soft = see(leaves, raw["pixels"], raw["places"])
        loss, entropy = loss_fn(leaves, batch, soft)
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        barrier.wait(1800)
        clock.append(time.perf_counter())
        opt.step(schedule(step, opt.steps, plan), min(args.average, (opt.steps + 1) / (opt.steps + 10)))
        step += 1
        clock.append(time.perf_counter())
        spent += np.diff(clock)
        full = raw["weights"] == 1.0
        for ability in range(len(batches.ABILITIES)):
            chosen = full & (raw["abilities"] == ability)
            sums[ability] += float(entropy[chosen].detach().sum())
            counts[ability] += int(chosen.sum())
        tokens += raw["used"]
        if step % args.log_every == 0:
            report = {"rank": rank, "step": step, "time": round(time.time()), "rate": round(schedule(step, opt.steps, plan), 3),
                      "tokens_per_s": round(tokens * world / (time.time() - started)), "epoch": packer.epoch,
                      "loss": {a: round(sums[k] / counts[k], 4) for k, a in enumerate(batches.ABILITIES) if counts[k]},
                      "ms": dict(zip(("data", "forward", "backward", "wait", "update"),
                                     (spent / args.log_every * 1000).round().tolist())),
                      "cut": raw["cut"], "balance": round(float(loss), 3)}
            if rank == 0:
                print(json.dumps(report), flush=True)
                with open(args.out / "log.jsonl", "a") as handle:
                    handle.write(json.dumps(report) + "\n")
                with open(args.out / "plan.json") as handle:
                    plan = json.load(handle)
                control[0], control[1], control[2] = plan["steps"], plan["decay_steps"], \
                    control[2] + float(time.time() - last_save > args.save_seconds)
                if time.time() - last_save > args.save_seconds:
                    last_save = time.time()
            sums, counts, tokens, started = collections.Counter(), collections.Counter(), 0, time.time()
            spent[:] = 0
        barrier.wait(1800)
        if step % args.log_every == 0 and int(control[2]) > int(control[3 + rank]) or step >= int(control[0]):
            control[3 + rank] = control[2]
            save(checkpoint, {"optimizer": opt.state(), "packers": {k: p.state() for k, p in packers.items()}, "step": step,
                              "params": {n: opt.params[n] for n in opt.mine}})
    barrier.wait(1800)
    if rank == 0:
        print(f"done after {step} steps ({step - begun} in this run)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, help="encoded samples (default: OUT/data)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--decay-steps", type=int, default=1500)
    parser.add_argument("--switches", default="980,1800,3160,4680,9600,13400,17500",
                        help="steps from which on the next of shards.STAGES is used")
    parser.add_argument("--start", type=pathlib.Path, help="folder whose model.safetensors a new run begins with (default: random weights)")
    parser.add_argument("--first-step", type=int, default=0, help="number of a new run's first step")
    parser.add_argument("--freeze-tower", action="store_true", help="leave the vision tower as train_tower.py made it")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--length", type=int, default=320)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--slots", type=int, default=704, help="token positions per batch that get a loss")
    parser.add_argument("--prompt-weight", type=float, default=0.1)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--average", type=float, default=0.995, help="decay of the averaged weights")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-seconds", type=float, default=240)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    args = parser.parse_args()
    args.data = args.data or args.out / "data"
    args.out.mkdir(parents=True, exist_ok=True)
    plan = args.out / "plan.json"
    if not plan.exists():
        plan.write_text(json.dumps({"steps": args.steps, "decay_steps": args.decay_steps}) + "\n")
    wanted = json.loads(plan.read_text())
    cfg = shards.model_config(args.data)
    shapes = network.parameter_shapes(cfg)
    generator = torch.Generator().manual_seed(args.seed)
    size = sum(int(np.prod(s)) for s in shapes.values())
    flat = torch.zeros(size).share_memory_()
    given = load_file(args.start / "model.safetensors") if args.start else {}
    for name, value in views(flat, shapes).items():
        value.copy_(given[name] if given else network.initial_value(name, tuple(value.shape), generator, cfg))
    gradients = [torch.zeros(size).share_memory_() for _ in range(args.processes)]
    # steps, decay steps, number of saves asked for, then the number of saves each process has made
    control = torch.zeros(3 + args.processes, dtype=torch.float64).share_memory_()
    control[0], control[1] = wanted["steps"], wanted["decay_steps"]
    print(f"{size / 1e6:.2f} M parameters", flush=True)
    os.environ.update(MALLOC)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a plain end takes the processes along
    context = mp.get_context("spawn")
    barrier = context.Barrier(args.processes)
    workers = [context.Process(target=work, args=(r, args.processes, args, cfg, flat, gradients, control, barrier))
               for r in range(args.processes)]
    for worker in workers:
        worker.daemon = True  # they end with this process
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed")


if __name__ == "__main__":
    main()
