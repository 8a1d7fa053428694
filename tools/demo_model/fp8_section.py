"""Measure what FP8 costs the demo model and fill that section of its card, with gem8 alone (no torch).

    python fp8_section.py --data FOLDER [--gem8 PROGRAM] [--work FOLDER]

FOLDER holds the eval.jsonl of `write_data.py FOLDER --heldout 500`. Quantises models/demo statically and dynamically, compares
each with it by `gem8 eval`, and replaces what stands between the marks <!-- fp8:begin --> and <!-- fp8:end --> of the card.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
# Weights alone: static and dynamic checkpoints hold the same codes, and input scales are not used.
RUNS = (("weights", "static", "bf16"), ("static W8A8", "static", "fp8"), ("dynamic W8A8", "dynamic", "fp8"))


def run(*command):
    print("$", *command, flush=True)
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def percent(share):
    return f"{100 * share:.1f} %"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def distances(reports):
    def row(title, value):
        return [title] + [value(report) for report in reports.values()]
    rows = [row("mean KL(bf16 ‖ FP8)", lambda r: f"{r['kl']['mean']:.5f}"),
            row("median, 99th percentile", lambda r: f"{r['kl']['median']:.5f}, {r['kl']['p99']:.3f}"),
            row("likeliest token the same", lambda r: percent(r["top1"])),
            row("router choices changed", lambda r: percent(r["router_changed"])),
            row("perplexity (bf16)", lambda r: f"{r['perplexity']['model']:.4f} ({r['perplexity']['source']:.4f})")]
    for kind in ("text", "tools", "images"):
        rows.append(row(f"mean KL, {kind}", lambda r: f"{r['by_kind'][kind]['kl']['mean']:.5f}"))
    return table(["", *reports], rows)


def abilities(reports):
    def cell(share, source, ability):
        return f"{percent(share)} ({100 * (share - source):+.1f}; +{ability['gained']} −{ability['lost']})"

    rows = []
    for name, first in next(iter(reports.values()))["abilities"].items():
        rows.append([name, str(first["samples"]), percent(first["source"])] + [
            cell(r["abilities"][name]["model"], first["source"], r["abilities"][name]) for r in reports.values()])
        parts = first["parts"]
        if parts["parts"] != first["samples"]:
            what = "attributes" if name == "images" else "calls"
            rows.append([f"{name}, {what}", str(parts["parts"]), percent(parts["source"])] + [
                f"{percent(p['model'])} ({100 * (p['model'] - p['source']):+.1f})"
                for p in (r["abilities"][name]["parts"] for r in reports.values())])
    return table(["right", "samples", "bf16", *reports], rows)


def section(reports, count):
    one = next(iter(reports.values()))
    return f"""## FP8 against bf16

`gem8 eval` on {one['samples']} held-out chats, {one['tokens']} tokens, both models on the same tokens: up to {count} of every
ability, drawn as `eval.jsonl` is but more of them, because of 25 samples one is four points. "weights": FP8 weights, bf16 activations, which
is how gem8 runs them; static and dynamic checkpoints are then the same. W8A8 is the arithmetic of FP8 GPUs
(`--activations fp8`). Static scales come from `calibration.jsonl`.

{distances(reports)}

Greedy answers. In brackets: the difference in points; how many samples FP8 gets right and bf16 does not, and the other way round. A
difference that is no larger than the root of the sum of those two is chance.

{abilities(reports)}

Made by `write_data.py DATA --heldout {count}`, then `fp8_section.py --data DATA`, in `tools/demo_model/`.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--gem8", type=pathlib.Path, default=ROOT / "build" / "release" / "gem8")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "fp8_section")
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    run(args.gem8, "quantize", DEMO, "-o", args.work / "static", "--calibration", DEMO / "calibration.jsonl")
    run(args.gem8, "quantize", DEMO, "-o", args.work / "dynamic", "--scheme", "dynamic")
    reports = {}
    for name, scheme, activations in RUNS:
        reports[name] = json.loads(run(args.gem8, "eval", args.work / scheme, "--against", DEMO, "--data", args.data / "eval.jsonl",
                                       "--activations", activations, "--format", "json"))
        (args.work / f"{scheme}-{activations}.json").write_text(json.dumps(reports[name], indent=1))
    count = max(ability["samples"] for ability in reports["weights"]["abilities"].values())
    text = section(reports, count)
    card = DEMO / "README.md"
    mark = re.compile(r"(<!-- fp8:begin[^>]*-->\n).*?(<!-- fp8:end -->)", re.S)
    if not mark.search(card.read_text()):
        raise SystemExit(f"{card}: the marks <!-- fp8:begin --> and <!-- fp8:end --> are missing")
    card.write_text(mark.sub(lambda found: found[1] + text + found[2], card.read_text()))
    print(text)


if __name__ == "__main__":
    main()
