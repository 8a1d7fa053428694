"""Score models/demo/ on the held-out split: greedy answers by transformers, compared with the reference answers.

    python evaluate.py --count 300 [--abilities facts,tools] [--misses 5]

Prints a markdown table. An answer counts when it equals the reference exactly; a tool answer counts when the
calls are the same in number, order, function and every argument with its type. "parts" is finer: the share of
right single calls (function and all arguments) and, for images, of the reference's attribute words.
"""
import argparse
import collections
import itertools
import json
import pathlib
import re
import time

import numpy as np
import torch
from tokenizers import Tokenizer

import batches
import config
import export
import generate
from attributes import attributes_of
from encode import expand_images, prompt_text, token_ids
from template import Template

QUOTE = '<|"|>'


class CallParser:
    """Reads `call:name{key:value,...}`; strings stand between <|"|> marks. Raises ValueError on anything else."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def take(self, literal):
        if not self.text.startswith(literal, self.at):
            raise ValueError(f"wanted {literal!r} at {self.at}")
        self.at += len(literal)

    def peek(self, literal):
        return self.text.startswith(literal, self.at)

    def until(self, marks):
        ends = [e for e in (self.text.find(m, self.at) for m in marks) if e >= 0]
        if not ends:
            raise ValueError("unfinished call")
        start, self.at = self.at, min(ends)
        return self.text[start:self.at]

    def call(self):
        self.take("call:")
        name = self.until("{")
        return {"name": name, "arguments": self.mapping()}

    def mapping(self):
        out = {}
        self.take("{")
        while not self.peek("}"):
            if out:
                self.take(",")
            if self.peek(QUOTE):
                key = self.string()
            else:
                key = self.until(":")
            self.take(":")
            out[key] = self.value()
        self.take("}")
        return out

    def string(self):
        self.take(QUOTE)
        value = self.until([QUOTE])
        self.take(QUOTE)
        return value

    def value(self):
        if self.peek(QUOTE):
            return self.string()
        if self.peek("{"):
            return self.mapping()
        if self.peek("["):
            out = []
            self.take("[")
            while not self.peek("]"):
                if out:
                    self.take(",")
                out.append(self.value())
            self.take("]")
            return out
        return json.loads(self.until(",}]"))


def calls_of(text):
    """All calls of an answer; raises ValueError when one is malformed."""
    out = []
    for body in re.findall(r"<\|tool_call>(.*?)<tool_call\|>", text, re.S):
        parser = CallParser(body)
        out.append(parser.call())
        if parser.at != len(body):
            raise ValueError("text after the call")
    return out


def content_of(text):
    """The visible answer: without thought and stop token."""
    text = text.rsplit("<channel|>", 1)[-1]
    return re.split(r"<turn\|>|<eos>|<\|tool_response>", text)[0].strip()


def score(sample, text):
    """(right, right parts, parts) of one answer."""
    if sample.messages[-1].get("tool_calls"):
        wanted = json.loads(sample.answer)
        try:
            got = calls_of(text)
        except ValueError:
            got = []
        same = [json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True) for a, b in zip(wanted, got)]
        return wanted == got and all(same), sum(same), len(wanted)
    right = content_of(text) == sample.answer.strip()
    if sample.ability == "images":
        wanted = collections.Counter(attributes_of(sample.answer))
        got = collections.Counter(attributes_of(content_of(text)))
        return right, sum((wanted & got).values()), sum(wanted.values())
    return right, int(right), 1


class Answers:
    """Greedy answers by the transformers model."""

    def __init__(self, folder, dtype):
        import transformers
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model = transformers.Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        self.template = Template()
        self.stops = [self.tokenizer.token_to_id(t) for t in config.STOP_TOKENS]
        self.image = self.model.config.image_token_id

    def prompt(self, sample):
        return token_ids(self.tokenizer, expand_images(prompt_text(sample, self.template), sample.images))

    def answer(self, samples, most):
        """Texts, special tokens included, for a batch of samples."""
        prompts = [self.prompt(s) for s in samples]
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt):] = torch.tensor(prompt)
            mask[row, longest - len(prompt):] = 1
        extra, images = {}, [i for s in samples for i in s.images]
        if images:
            pixels = torch.zeros(len(images), batches.PATCHES, 3 * config.PATCH**2)
            places = torch.full((len(images), batches.PATCHES, 2), -1)
            for k, image in enumerate(images):
                patch, at = batches.patches_of(image)
                # transformers pools by position and wants the patches row by row
                order = torch.from_numpy(np.lexsort((at[:, 0], at[:, 1])))
                pixels[k, :len(at)], places[k, :len(at)] = patch[order].float() / 255, at[order]
            extra = {"pixel_values": pixels.to(self.model.dtype), "image_position_ids": places,
                     "mm_token_type_ids": (ids == self.image).long()}
        with torch.inference_mode():
            out = self.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=most,
                                      eos_token_id=self.stops, pad_token_id=0, suppress_tokens=None,
                                      top_k=None, top_p=None, temperature=None, **extra)
        texts = []
        for row in out[:, longest:].tolist():
            end = next((k + 1 for k, t in enumerate(row) if t in self.stops), len(row))
            texts.append(self.tokenizer.decode(row[:end], skip_special_tokens=False))
        return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=export.MODEL)
    parser.add_argument("--abilities", default=",".join(batches.ABILITIES))
    parser.add_argument("--count", type=int, default=300, help="held-out samples per ability")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--most", type=int, default=120, help="new tokens per answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--misses", type=int, default=0, help="wrong answers to show per ability")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    answers = Answers(args.model, getattr(torch, args.dtype))
    rows, misses, start = [], [], time.time()
    for ability in args.abilities.split(","):
        samples = list(itertools.islice(generate.samples("heldout", ability, args.seed), args.count))
        samples.sort(key=lambda s: len(answers.prompt(s)))
        right = parts = total = 0
        for k in range(0, len(samples), args.batch):
            group = samples[k:k + args.batch]
            for sample, text in zip(group, answers.answer(group, args.most)):
                good, a, b = score(sample, text)
                right, parts, total = right + good, parts + a, total + b
                if not good and sum(m[0] == ability for m in misses) < args.misses:
                    misses.append((ability, sample.messages[-2]["content"], sample.answer, text))
        rows.append((ability, len(samples), right / len(samples), parts / total))
        print(f"# {ability} {right}/{len(samples)} after {time.time() - start:.0f} s", flush=True)
    print("\n| ability | samples | right | parts right |\n| --- | ---: | ---: | ---: |")
    for ability, count, share, part in rows:
        print(f"| {ability} | {count} | {100 * share:.1f} % | {100 * part:.1f} % |")
    for miss in misses:
        print(*(f"{name}: {value!r}" for name, value in zip(("\nability", "asked", "wanted", "got"), miss)), sep="\n")


if __name__ == "__main__":
    main()
