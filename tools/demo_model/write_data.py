"""Write calibration.jsonl, eval.jsonl and the sample images of the demo model. Same seeds, same bytes.

calibration.jsonl: 512 training chats {"messages", "tools"?, "images"?} that end with the assistant's answer, for the static
recipe. eval.jsonl: held-out chats {"messages", "tools"?, "ability", "answer", "attributes"?, "images"?,
"chat_template_kwargs"?} that end with the user's or the tool's turn. "answer" is the reference text, or a list of {"name",
"arguments"} where calls are wanted; "attributes" are the words of the answer that say what an image shows; "images" are paths
relative to the file, in order of the {"type": "image"} parts; "chat_template_kwargs" asks for thinking. Arguments of calls are
JSON objects, as chat templates want them.

    write_data.py [FOLDER]                   both files, into models/demo/ if no folder is named
    write_data.py FOLDER --heldout 500       eval.jsonl alone, with so many samples of every ability (facts: all there are)
"""
import argparse
import itertools
import json
import os

from tokenizers import Tokenizer

from attributes import attributes_of
import course
from encode import encode
from generate import MIXTURE, samples
from template import DEMO, Template

CALIBRATION = {"facts": 130, "tools": 150, "images": 80, "thinking": 60, "memory": 40, "system": 26, "unknown": 26}
EVALUATION = {"facts": 100, "tools": 90, "images": 60, "thinking": 40, "memory": 40, "system": 25, "unknown": 25}
SEED = 2026


def save_images(sample, name, folder):
    """Write the images of a sample to `folder`/images; return their paths from `folder`."""
    paths = []
    for letter, image in zip("ab", sample.images):
        paths.append(f"images/{name}{letter if len(sample.images) > 1 else ''}.png")
        image.save(os.path.join(folder, paths[-1]), optimize=True)
    return paths


def chat(sample, number, folder):
    """Return the whole chat as a calibration line."""
    line = {"messages": sample.messages}
    if sample.tools:
        line["tools"] = sample.tools
    if sample.images:
        line["images"] = save_images(sample, f"calibration-{number:03}", folder)
    return line


def question(sample, number, folder):
    """Return the chat without its answer as an evaluation line."""
    target = sample.messages[-1]
    line = {"messages": sample.messages[:-1], "ability": sample.ability}
    if sample.tools:
        line["tools"] = sample.tools
    line["answer"] = json.loads(sample.answer) if target.get("tool_calls") else sample.answer
    if sample.enable_thinking:
        line["chat_template_kwargs"] = {"enable_thinking": True}
    if sample.images:
        line["images"] = save_images(sample, f"{number:03}", folder)
        line["attributes"] = attributes_of(sample.answer)
    return line


def write_lines(path, lines):
    with open(path, "w", encoding="utf-8") as handle:
        for line in lines:
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def draw(split, ability, count):
    """Yield `count` samples; one seed's held-out samples are finite, so further seeds follow. Facts know no others."""
    seeds = itertools.count(SEED) if ability != "facts" else [SEED]
    return itertools.islice(itertools.chain.from_iterable(samples(split, ability, seed) for seed in seeds), count)


def checked(split, counts, tokenizer, template):
    """Yield samples in turn of ability; encoding them checks the round trip."""
    streams = [draw(split, ability, count) for ability, count in counts.items()]
    for group in itertools.zip_longest(*streams):
        for sample in filter(None, group):
            encode(sample, tokenizer, template)
            yield sample


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=DEMO)
    parser.add_argument("--heldout", type=int, help="samples of every ability; calibration.jsonl is left alone")
    args = parser.parse_args()
    course.SMALL_STEPS = True  # calibrate on the sums as the model works them
    tokenizer, template = Tokenizer.from_file(os.path.join(DEMO, "tokenizer.json")), Template()
    if set(EVALUATION) != set(MIXTURE):
        raise ValueError("every ability must be evaluated")
    os.makedirs(os.path.join(args.folder, "images"), exist_ok=True)

    def write(name, line, split, counts):
        drawn = enumerate(checked(split, counts, tokenizer, template))
        write_lines(os.path.join(args.folder, name), (line(sample, number, args.folder) for number, sample in drawn))

    if args.heldout:
        write("eval.jsonl", question, "heldout", dict.fromkeys(EVALUATION, args.heldout))
        return
    write("calibration.jsonl", chat, "train", CALIBRATION)
    write("eval.jsonl", question, "heldout", EVALUATION)


if __name__ == "__main__":
    main()
