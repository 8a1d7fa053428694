"""Write calibration.jsonl, eval.jsonl and the sample images of the demo model. Same seeds, same bytes.

calibration.jsonl: 512 training chats {"messages", "tools"?} that end with the assistant's answer, for the static recipe.
eval.jsonl: held-out chats {"messages", "tools"?, "ability", "answer", "images"?, "chat_template_kwargs"?} that end with the
user's or the tool's turn. "answer" is the reference text, or a list of {"name", "arguments"} where calls are wanted; "images"
are paths relative to the file, in order of the {"type": "image"} parts; "chat_template_kwargs" asks for thinking.
Arguments of calls are JSON objects, as chat templates want them.

Usage: write_data.py [OUTPUT_FOLDER]
"""
import itertools
import json
import os
import sys

from tokenizers import Tokenizer

from encode import encode
from generate import MIXTURE, samples
from template import DEMO, Template

CALIBRATION = {"facts": 150, "tools": 170, "thinking": 70, "memory": 60, "system": 31, "unknown": 31}
EVALUATION = {"facts": 100, "tools": 90, "images": 60, "thinking": 40, "memory": 40, "system": 25, "unknown": 25}
SEED = 2026


def chat(sample):
    """Return the whole chat as a calibration line."""
    line = {"messages": sample.messages}
    if sample.tools:
        line["tools"] = sample.tools
    return line


def question(sample, number, folder):
    """Return the chat without its answer as an evaluation line; the images are written to `folder`/images."""
    target = sample.messages[-1]
    line = {"messages": sample.messages[:-1], "ability": sample.ability}
    if sample.tools:
        line["tools"] = sample.tools
    line["answer"] = json.loads(sample.answer) if target.get("tool_calls") else sample.answer
    if sample.enable_thinking:
        line["chat_template_kwargs"] = {"enable_thinking": True}
    if sample.images:
        line["images"] = []
        for letter, image in zip("ab", sample.images):
            path = f"images/{number:03}{letter if len(sample.images) > 1 else ''}.png"
            image.save(os.path.join(folder, path), optimize=True)
            line["images"].append(path)
    return line


def write_lines(path, lines):
    with open(path, "w", encoding="utf-8") as handle:
        for line in lines:
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def checked(split, counts, tokenizer, template):
    """Yield samples in turn of ability; encoding them checks the round trip."""
    streams = [itertools.islice(samples(split, ability, SEED), count) for ability, count in counts.items()]
    for group in itertools.zip_longest(*streams):
        for sample in filter(None, group):
            encode(sample, tokenizer, template)
            yield sample


def main(folder):
    tokenizer, template = Tokenizer.from_file(os.path.join(DEMO, "tokenizer.json")), Template()
    if set(EVALUATION) != set(MIXTURE):
        raise ValueError("every ability must be evaluated")
    os.makedirs(os.path.join(folder, "images"), exist_ok=True)
    write_lines(os.path.join(folder, "calibration.jsonl"), map(chat, checked("train", CALIBRATION, tokenizer, template)))
    held_out = enumerate(checked("heldout", EVALUATION, tokenizer, template))
    write_lines(os.path.join(folder, "eval.jsonl"), (question(sample, number, folder) for number, sample in held_out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else DEMO)
