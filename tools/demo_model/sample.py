"""One training or test sample."""
import json
from dataclasses import dataclass, field


@dataclass
class Sample:
    """A chat whose last message is what the model should say.

    messages: OpenAI style; the last one is the assistant's target (content, reasoning, tool_calls with mapping arguments).
    tools: OpenAI style declarations or None. images: PIL images in order of their placeholders.
    answer: reference for scoring: the text, or a JSON list of {"name", "arguments"} when the target is tool calls.
    """
    messages: list
    ability: str
    tools: list = None
    images: list = field(default_factory=list)
    enable_thinking: bool = False
    answer: str = ""

    def __post_init__(self):
        target = self.messages[-1]
        if target["role"] != "assistant":
            raise ValueError("the last message of a sample must be the assistant's")
        if target.get("tool_calls"):
            self.answer = json.dumps([call["function"] for call in target["tool_calls"]], ensure_ascii=False)
        else:
            self.answer = target["content"]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, reasoning=None):
    message = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning"] = reasoning
    return message
