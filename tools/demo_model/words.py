"""Word material: invented words, names and values of every kind that the samples copy around.

Invented words are built from syllables, so that they vary without end and the network has to copy instead of remembering.
All functions take a random.Random and a split; words and values obey split.py.
"""
import functools
import json
import pathlib

import course
from split import draw

ONSETS = "b d f g h j k l m n p r s t v w z br dr gr kl st tr sh ch pl".split()
VOWELS = "a e i o u".split()
CODAS = ["", "", "", "n", "r", "l", "s", "m", "k", "x", "nd"]
CITIES = ("Paris London Berlin Oslo Rome Madrid Vienna Prague Lisbon Dublin Athens Warsaw Helsinki Brussels Zurich Geneva Munich "
          "Hamburg Milan Naples Tokyo Kyoto Seoul Beijing Delhi Mumbai Cairo Nairobi Lagos Boston Chicago Seattle Denver Austin "
          "Toronto Lima Quito Bogota Sydney Auckland").split()
NAMES = ("Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leo Maria Nina Oscar Paula Ruth Simon Tina Victor "
         "Alice Bob Carol Dan Eve Frank Grace Henry Ivan Julia Kevin Laura Mark Nora Otto Peter Rosa Sam Tom Zoe").split()
COLOURS = "red green blue yellow orange purple pink black".split()
THINGS = ("apple book lamp table chair door key cup plate bottle phone clock box coat shoe hat ring coin stone tree flower river "
          "boat train car bike road bridge house garden kitchen office letter map ticket song film game ball cake bread milk tea "
          "coffee rice soup fish horse dog cat bird").split()


def invented(rng, syllables=None, split=None):
    """Return an invented lower-case word."""
    if course.PIECES and split == "train" and rng.random() < 0.35:
        return "".join(rng.choice(pieces()).lower() for _ in range(rng.randint(1, 2)))
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables or rng.choice((2, 2, 2, 3))))


def word(rng, split):
    """An invented or common lower-case word."""
    return draw(split, "value", lambda: invented(rng, split=split) if rng.random() < 0.7 else rng.choice(THINGS))


def name(rng, split):
    """A person's name, half of them invented."""
    return draw(split, "value", lambda: invented(rng, split=split).capitalize() if rng.random() < 0.6 else rng.choice(NAMES))


def city(rng, split):
    """A city, half of them invented."""
    return draw(split, "value", lambda: invented(rng, split=split).capitalize() if rng.random() < 0.5 else rng.choice(CITIES))


def integer(rng, split, digits=4):
    """A whole number as int: short ones are as frequent as long ones."""
    return draw(split, "value", lambda: rng.randrange(10 ** rng.randint(1, digits)))


def decimal(rng, split):
    """A decimal number with one or two places as float."""
    return draw(split, "value", lambda: round(rng.uniform(0, 10 ** rng.randint(1, 3)), rng.randint(1, 2)))


def code(rng, split):
    """Letters and digits, as in K7-42."""
    def make():
        return f"{rng.choice('BCDEFGHKLMNPRSTUVXZ')}{rng.randrange(10)}-{rng.randrange(10, 1000)}"
    return draw(split, "value", make)


def date(rng, split):
    """An ISO date."""
    return draw(split, "value", lambda: f"{rng.randint(2020, 2029)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}")


def clock(rng, split):
    """A time of day, as in 14:30."""
    return draw(split, "value", lambda: f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}")


def mail(rng, split):
    """A mail address."""
    return draw(split, "value", lambda: f"{invented(rng, 2, split)}@{invented(rng, 2, split)}.{rng.choice(('com', 'org', 'net'))}")


def path(rng, split):
    """A file name, sometimes with a folder."""
    def make():
        folder = f"{invented(rng, 1, split)}/" if rng.random() < 0.5 else ""
        return f"{folder}{invented(rng, 2, split)}.{rng.choice(('txt', 'json', 'png', 'csv', 'pdf'))}"
    return draw(split, "value", make)


def phrase(rng, split, low=2, high=3):
    """A few words."""
    def make():
        words = [invented(rng, split=split) if rng.random() < 0.4 else rng.choice(THINGS + COLOURS) for _ in range(rng.randint(low, high))]
        return " ".join(words)
    return draw(split, "value", make)


@functools.cache
def pieces():
    """The words and parts of words of the shipped vocabulary."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "models" / "demo"
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted({p for p in (piece.lstrip("\u2581") for piece in vocabulary) if len(p) > 1 and p.isascii() and p.isalpha()})


def odd(rng, split):
    """Letters in no order, halves of two common words, any pieces of the vocabulary: what no syllable rule foresees."""
    def make():
        if course.PIECES and rng.random() < 0.6:
            return rng.choice(("", "", " ")).join(rng.choice(pieces()) for _ in range(rng.randint(1, 3)))
        if rng.random() < 0.5:
            text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 7)))
        else:
            a, b = rng.choice(NAMES + CITIES + THINGS), rng.choice(NAMES + CITIES + THINGS)
            text = (a[:rng.randint(1, len(a))] + b[rng.randint(1, len(b)):]).lower()
        return text.capitalize() if rng.random() < 0.5 else text
    return draw(split, "value", make)


def text_value(rng, split):
    """A string of any of the kinds above; phrases come with blanks in them."""
    if course.LATE and split == "train" and rng.random() < (0.4 if course.PIECES else 0.25):
        return odd(rng, split)
    return rng.choices((name, city, word, code, date, clock, mail, path, phrase), (5, 4, 5, 2, 1, 1, 1, 1, 3))[0](rng, split)
