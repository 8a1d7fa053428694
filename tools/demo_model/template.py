"""The demo model's chat template as transformers would run it."""
import json
import os

import jinja2
import jinja2.ext
import jinja2.sandbox

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "demo")


def _raise_exception(message):
    raise jinja2.TemplateError(message)


class Template:
    """Renders messages to prompt text."""

    def __init__(self, path=os.path.join(DEMO, "chat_template.jinja")):
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _raise_exception
        with open(path, encoding="utf-8") as handle:
            self.template = environment.from_string(handle.read())

    def render(self, messages, tools=None, **kwargs):
        """Return the prompt text; kwargs as in apply_chat_template (add_generation_prompt, enable_thinking, ...)."""
        return self.template.render(messages=messages, tools=tools, bos_token="<bos>", **kwargs)
