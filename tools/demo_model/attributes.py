"""The words that say what an image shows, which evaluation counts one by one."""
import re

from image_samples import COLOURS, PLACES, SHAPES

ATTRIBUTES = set(COLOURS) | set(SHAPES) | set(PLACES) | set("12345") | {"yes", "no", "first", "second", "both"}


def words_of(text):
    """Words and numbers in lower case, attributes without a plural s."""
    return [w.rstrip("s") if w.rstrip("s") in ATTRIBUTES else w for w in re.findall(r"[a-z]+|\d+", text.lower())]


def attributes_of(text):
    """The attributes in a text, in order, each as often as it is there."""
    return [w for w in words_of(text) if w in ATTRIBUTES]
