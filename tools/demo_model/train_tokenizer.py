"""Train the demo model's tokenizer on the generated samples and write tokenizer.json and tokenizer_config.json.

The structure is that of Gemma's tokenizer: no real pre-split, blanks written as U+2581, byte fallback, every split of a token into two
vocabulary entries listed as a merge. Ids 0..493 carry Gemma's strings (control tokens, runs of line feeds and of
blanks, HTML tags, bytes). Then come characters, trained pieces, and whole words with a blank before them; the seven media
tokens are last.

A word's pieces must be the same with and without a blank in front, so that the network can copy a name from a sentence into
an argument token by token. Therefore pieces are trained without blanks, and merges that take in the blank rank last: they
only join it to a whole frequent word. Digits are never joined.

Usage: train_tokenizer.py [OUTPUT_FOLDER]
"""
import collections
import itertools
import json
import os
import re
import sys

from tokenizers import Tokenizer, models, trainers

import words
from generate import MIXTURE, samples
from reserved_tokens import BLANK, CONTROL, RUN_LIMIT, reserved_tokens
from talk_samples import BASICS, FACTS
from template import DEMO, Template
from tool_samples import ENUMS

TRAINED = 2500            # trained pieces, single characters included
BLANK_WORDS = 1000        # words that have a form with a blank in front
SAMPLES = 6000            # generated samples per ability that the counts come from

MEDIA = ["<|image>", "<|audio>", "<|image|>", "<|audio|>", "<image|>", "<audio|>", "<|video|>"]
NAMED = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
         "boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "boa_token": "<|audio>",
         "eoa_token": "<audio|>", "audio_token": "<|audio|>", "sot_token": "<|turn>", "eot_token": "<turn|>",
         "soc_token": "<|channel>", "eoc_token": "<channel|>", "std_token": "<|tool>", "etd_token": "<tool|>",
         "stc_token": "<|tool_call>", "etc_token": "<tool_call|>", "str_token": "<|tool_response>",
         "etr_token": "<tool_response|>", "escape_token": '<|"|>', "think_token": "<|think|>"}
SPECIAL_PATTERN = re.compile("(" + "|".join(re.escape(t) for t in list(CONTROL.values()) + MEDIA) + ")")
# What the pieces are trained on: words, single digits, brackets and commas, runs of other marks.
PIECE_PATTERN = re.compile(r"[^\W\d_]+|\d|_|[{}\[\],:]+|[^\w\s{}\[\],:]+")
# Syntax of declarations and calls that is one token. They are joined after all words, so that no name loses a letter to them.
SYNTAX = [("declaration", ":"), ("call", ":"), ("response", ":"), ("value", ":"), ("{", "value:"), ("type", ":"), (",", "type:"),
          ("],", "type:"), ("},", "type:"), ("}},", "type:"), (":{", "type:"), ("description", ":"), ("{", "description:"),
          (":{", "description:"), ("parameters", ":{"), (",", "parameters:{"), ("properties", ":{"), (":{", "properties:{"),
          (",parameters:{", "properties:{"), ("required", ":["), ("},", "required:["), ("}},", "required:["), ("enum", ":["),
          (":{", "enum:["), (",", "enum:["), ("items", ":{"), ("items:{", "type:"), (":{", "items:{type:"), (",", "items:{type:")]


def corpus():
    """Yield texts between special tokens, from held-in samples, facts and their phrasings."""
    template = Template()
    for ability in MIXTURE:
        for sample in itertools.islice(samples("train", ability, seed=7), SAMPLES):
            text = template.render(sample.messages, sample.tools, enable_thinking=sample.enable_thinking)
            yield from SPECIAL_PATTERN.split(text)[::2]
    for fact in FACTS:
        yield from (fact.answer,) * 40
        yield from fact.phrasings
    for basic in BASICS:
        yield from (text for text in basic for _ in range(40))


def count_pieces():
    """Return (Counter of pieces without blanks, Counter of words that follow a blank, set of all characters)."""
    pieces, after_blank, characters = collections.Counter(), collections.Counter(), set()
    for text in corpus():
        characters.update(text)
        pieces.update(PIECE_PATTERN.findall(text))
        after_blank.update(re.findall(r" ([^\W\d_]+)", text))
    return pieces, after_blank, characters


def train_pieces(pieces, characters):
    """Return the trained pieces (characters first), most frequent merges first."""
    tokenizer = Tokenizer(models.BPE())
    printable = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(vocab_size=TRAINED, max_token_length=16, show_progress=False,
                                  initial_alphabet=sorted(set(printable) | {c for c in characters if not c.isspace()}))
    # The trainer keeps no order among pieces of equal count, so give it a stable one.
    repeated = [w for w, n in sorted(pieces.items()) for _ in range(min(n, 2000))]
    tokenizer.train_from_iterator(repeated, trainer)
    return [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]


def build():
    """Return (vocabulary {string: id}, merges [(a, b)])."""
    pieces, after_blank, characters = count_pieces()
    vocab = {t: i for i, t in enumerate(reserved_tokens())}
    trained = [t for t in train_pieces(pieces, characters) if t not in vocab]
    for token in trained + [BLANK]:
        vocab.setdefault(token, len(vocab))
    missing = [t for t in ("],", "},", "}},", ":{", ":[", "}}") if t not in vocab]
    if missing:
        raise ValueError(f"the pieces lack {missing}")
    for a, b in SYNTAX:
        vocab.setdefault(a + b, len(vocab))
    # Single letters begin codes such as K7-42; with a blank joined to them they could not be copied.
    # Nor could the words that samples use as values.
    values = {*words.CITIES, *words.NAMES, *words.THINGS, *words.COLOURS, *itertools.chain(*ENUMS.values())}
    frequent = [w for w, _ in after_blank.most_common() if w in vocab and w not in values and (len(w) > 1 or w in "aI")]
    frequent = frequent[:BLANK_WORDS]
    with_blank = [BLANK + w for w in frequent]
    for token in with_blank + MEDIA:
        vocab.setdefault(token, len(vocab))
    runs = [c * n for n in range(RUN_LIMIT, 1, -1) for c in ("\n", BLANK) if c * n in vocab]
    merges = []
    for token in runs + [t for t in trained if len(t) > 1] + [a + b for a, b in SYNTAX] + with_blank:
        splits = [(token[:k], token[k:]) for k in range(1, len(token))]
        merges += sorted((s for s in splits if s[0] in vocab and s[1] in vocab), key=lambda s: (vocab[s[0]], vocab[s[1]]))
    return vocab, merges


def tokenizer_json(vocab, merges):
    """Return the tokenizer.json object."""
    special = list(CONTROL.items()) + [(vocab[t], t) for t in MEDIA]
    sequences = [{"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB")]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                          "special": True} for i, t in special],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {"type": "TemplateProcessing", "single": sequences[:1], "pair": sequences, "special_tokens": {}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
                  "merges": [list(m) for m in merges]}}


def tokenizer_config():
    """Return the tokenizer_config.json object."""
    config = {"backend": "tokenizers", "tokenizer_class": "GemmaTokenizer", "processor_class": "Gemma4Processor",
              "padding_side": "left", "model_max_length": 1000000000000000019884624838656, "extra_special_tokens": ["<|video|>"]}
    return dict(sorted({**config, **NAMED}.items()))


def main(out):
    vocab, merges = build()
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as handle:
        json.dump(tokenizer_json(vocab, merges), handle, ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(out, "tokenizer_config.json"), "w", encoding="utf-8") as handle:
        json.dump(tokenizer_config(), handle, ensure_ascii=False, indent=1)
        handle.write("\n")
    print(f"{len(vocab)} tokens, {len(merges)} merges")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else DEMO)
