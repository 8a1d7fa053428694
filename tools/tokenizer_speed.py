#!/usr/bin/env python3
"""Encoding speed of gem8 against Hugging Face's tokenizers, one core each, in turns, on text this script makes.

Usage: tools/tokenizer_speed.py BUILD_FOLDER TOKENIZER_FOLDER [--bytes 1000000] [--rounds 7]

Needs `pip install tokenizers` and the target tokenizer_bench (cmake --build --preset release --target tokenizer_bench). The ids
are compared before anything is timed. Prints the median time of each and the median ratio; the same of loading, in its own turns.
"""
import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def english(rng, size):
    """Words of Zipf-like frequency from syllables, in sentences."""
    syllables = ["the", "an", "er", "in", "ti", "on", "re", "st", "al", "com", "pro", "con", "ver", "ment", "ly", "ing", "ed", "es", "ma", "ple"]
    common = "the of and to a in is it you that he was for on are with as his they be at one have this from or had by word but what some we can".split()
    rare = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(20000)]
    out, n = [], 0
    while n < size:
        words = [rng.choice(common) if rng.random() < 0.55 else rare[min(int(rng.paretovariate(0.6)), len(rare) - 1)] for _ in range(rng.randint(5, 25))]
        line = " ".join(words).capitalize() + rng.choice([". ", ". ", "? ", ".\n\n", "; "])
        out.append(line)
        n += len(line)
    return "".join(out)


def code(rng, size):
    """Python-like functions with names, numbers, strings and indentation."""
    names = ["%s_%s" % (a, b) for a in ("load", "store", "index", "batch", "token", "cache", "layer") for b in ("map", "list", "size", "count", "item", "view")]
    out, n = [], 0
    while n < size:
        lines = ["def %s(%s, %s=%d):" % (rng.choice(names), rng.choice(names), rng.choice(names), rng.randint(0, 999))]
        for _ in range(rng.randint(2, 9)):
            a, b, c = (rng.choice(names) for _ in range(3))
            lines.append(rng.choice(["    %s = %s[%s + 1] * 2" % (a, b, c), "    if %s != %s and len(%s) > 0x%x:" % (a, b, c, rng.getrandbits(20)),
                                     "        return {\"%s\": %s, '%s': None}" % (a, b, c), "    # %s: see %s" % (a, b)]))
        text = "\n".join(lines) + "\n\n"
        out.append(text)
        n += len(text)
    return "".join(out)


def chinese(rng, size):
    """Common characters by frequency, with punctuation."""
    common = "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长"
    out, n = [], 0
    while n < size:
        line = "".join(common[min(int(rng.expovariate(1 / 25)), len(common) - 1)] for _ in range(rng.randint(6, 30))) + rng.choice("，。，。！？")
        out.append(line)
        n += 3 * len(line)
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("tokenizer")
    parser.add_argument("--bytes", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    from tokenizers import Tokenizer, __version__
    path = os.path.join(options.tokenizer, "tokenizer.json")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    theirs_load, ours_load = [], []
    print(f"tokenizers {__version__}; {options.bytes} bytes of each text; medians of {options.rounds} rounds in turns")
    rng = random.Random(1)
    for name, make in (("english", english), ("code", code), ("chinese", chinese)):
        text = make(rng, options.bytes)
        start = time.perf_counter()
        reference = Tokenizer.from_file(path)
        theirs_load.append(time.perf_counter() - start)
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            ours = subprocess.Popen([os.path.join(options.build, "tokenizer_bench"), options.tokenizer, file.name],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            ours_load.append(float(ours.stdout.readline()))
            ids = [int(i) for i in ours.stdout.readline().split()]
            if ids != reference.encode(text).ids:
                raise SystemExit(f"{name}: the ids differ")
            theirs_s, ours_s = [], []
            for _ in range(options.rounds):
                start = time.perf_counter()
                reference.encode(text)
                theirs_s.append(time.perf_counter() - start)
                ours.stdin.write("\n")
                ours.stdin.flush()
                ours_s.append(float(ours.stdout.readline()))
            ours.stdin.close()
            ours.wait()
        ratio = statistics.median(a / b for a, b in zip(theirs_s, ours_s))
        print(f"{name:8} {len(ids):8} tokens  gem8 {statistics.median(ours_s) * 1e3:7.1f} ms  tokenizers {statistics.median(theirs_s) * 1e3:7.1f} ms  ratio {ratio:.1f}")
    print(f"load: gem8 {statistics.median(ours_load):.3f} s, tokenizers {statistics.median(theirs_load):.3f} s")


if __name__ == "__main__":
    main()
