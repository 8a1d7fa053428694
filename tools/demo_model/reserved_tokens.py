"""The 494 first vocabulary entries of Gemma 4, which every tokenizer of the family shares.

Control tokens; "<unusedN>" in the gaps; runs of 1..31 line feeds; runs of 2..31 blanks; HTML tags; the 256 bytes.
"""
BLANK = "\u2581"
CONTROL = {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 4: "<mask>", 46: "<|tool>", 47: "<tool|>", 48: "<|tool_call>",
           49: "<tool_call|>", 50: "<|tool_response>", 51: "<tool_response|>", 52: '<|"|>', 98: "<|think|>", 100: "<|channel>",
           101: "<channel|>", 105: "<|turn>", 106: "<turn|>"}
MULTIMODAL = {5: "[multimodal]"}      # an ordinary entry that no merge reaches
RUN_LIMIT = 31
FIRST_RUN, FIRST_TAG = 107, 168
# Groups of tags: first all opening forms of a group, then all its closing forms.
TAG_GROUPS = ("table caption thead tbody tfoot tr th td", "h1 h2 h3 h4 h5 h6 blockquote", "strong em b i u s sub sup code",
              "a html body img span bbox ul li div iframe footer")


def reserved_tokens():
    """Return the strings in order of their ids."""
    tokens, unused = [], 0
    for i in range(FIRST_RUN):
        token = CONTROL.get(i) or MULTIMODAL.get(i)
        if token is None:
            token = f"<unused{unused}>"
            unused += 1
        tokens.append(token)
    tokens += ["\n" * n for n in range(1, RUN_LIMIT + 1)] + [BLANK * n for n in range(2, RUN_LIMIT + 1)]
    for group in TAG_GROUPS:
        tokens += [f"<{tag}>" for tag in group.split()] + [f"</{tag}>" for tag in group.split()]
    return tokens + [f"<0x{byte:02X}>" for byte in range(256)]
