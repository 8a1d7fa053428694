"""From a Sample to token ids, loss mask and images, with checks that nothing was lost on the way."""
import math
from dataclasses import dataclass, field

IMAGE, BEGIN_IMAGE, END_IMAGE = "<|image|>", "<|image>", "<image|>"
PATCH, POOLING, BUDGET = 16, 3, 70      # pixels, patches per soft token and side, soft tokens per image at most
NO_THOUGHT = "<|channel>thought\n<channel|>"


@dataclass
class Encoded:
    """ids: the whole chat; loss_mask: 1 where the id is to be learnt; images: PIL images; soft_tokens: their numbers of places."""
    ids: list
    loss_mask: list
    images: list
    soft_tokens: list = field(default_factory=list)
    prompt_tokens: int = 0


def target_size(width, height, budget=BUDGET):
    """Return (width, height) in pixels after the resize rule of Gemma 4: fill the budget, sides are multiples of 48."""
    side = PATCH * POOLING
    area = budget * side * side
    factor = math.sqrt(area / (height * width))
    h, w = math.floor(factor * height / side) * side, math.floor(factor * width / side) * side
    if h == 0:
        h, w = side, min(width // height * side, budget * side)
    elif w == 0:
        w, h = side, min(height // width * side, budget * side)
    return w, h


def soft_token_count(width, height, budget=BUDGET):
    """Return the number of soft tokens of an image of this size in pixels."""
    w, h = target_size(width, height, budget)
    return (w // (PATCH * POOLING)) * (h // (PATCH * POOLING))


def expand_images(text, images, budget=BUDGET):
    """Replace every placeholder by begin, n placeholders, end. Raises ValueError when the counts differ."""
    parts = text.split(IMAGE)
    if len(parts) != len(images) + 1:
        raise ValueError(f"{len(parts) - 1} image placeholders and {len(images)} images")
    out = parts[0]
    for image, rest in zip(images, parts[1:]):
        out += BEGIN_IMAGE + IMAGE * soft_token_count(*image.size, budget) + END_IMAGE + rest
    return out


def prompt_text(sample, template):
    """Return what the model reads before it speaks."""
    return template.render(sample.messages[:-1], sample.tools, add_generation_prompt=True, enable_thinking=sample.enable_thinking)


def target_text(sample, template):
    """Return what the model should say, its stop token included; raises ValueError where the template disagrees."""
    prompt = prompt_text(sample, template)
    whole = template.render(sample.messages, sample.tools, enable_thinking=sample.enable_thinking)
    # History has no empty thought block, and an open thought channel is opened by the prompt.
    stem = prompt.removesuffix(NO_THOUGHT)
    if not whole.startswith(stem):
        raise ValueError(f"the prompt {stem!r} does not begin the chat {whole!r}")
    return whole[len(stem):].removesuffix("\n")


def encode(sample, tokenizer, template, budget=BUDGET):
    """Return an Encoded; tokenizer is a tokenizers.Tokenizer or a transformers tokenizer.

    The mask covers the last message: thought, content and "<turn|>", or the calls and the "<|tool_response>" that stops them.
    Raises ValueError when the round trip text -> ids -> text fails or prompt and target do not split at a token border.
    """
    prompt = expand_images(prompt_text(sample, template), sample.images, budget)
    target = target_text(sample, template)
    head, tail = token_ids(tokenizer, prompt), token_ids(tokenizer, target)
    if head + tail != token_ids(tokenizer, prompt + target):
        raise ValueError(f"no token border between {prompt[-40:]!r} and {target[:40]!r}")
    if tokenizer.decode(head + tail, skip_special_tokens=False) != prompt + target:
        raise ValueError(f"the text {prompt + target!r} does not survive the tokenizer")
    return Encoded(head + tail, [0] * len(head) + [1] * len(tail), sample.images,
                   [soft_token_count(*image.size, budget) for image in sample.images], len(head))


def token_ids(tokenizer, text):
    out = tokenizer.encode(text, add_special_tokens=False)
    return out if isinstance(out, list) else out.ids
