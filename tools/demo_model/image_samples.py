"""Samples about drawn images: colour, shape, position, count, and comparison of two images.

An image shows one big shape at one of five places, or one to five equal small shapes. Held out by split.py: the triples
(colour, shape, position) and (colour, shape, count). Every drawn image is measured again from its pixels; a mismatch raises.
"""
import math

import numpy
from PIL import Image, ImageDraw

import course
from sample import Sample, assistant
from split import draw

COLOURS = {"red": (220, 30, 30), "green": (20, 150, 40), "blue": (30, 60, 220), "yellow": (245, 215, 20), "orange": (250, 130, 10),
           "purple": (130, 30, 160), "pink": (250, 130, 190), "black": (15, 15, 15)}
SHAPES = ("circle", "square", "triangle", "star", "cross")
PLACES = {"left": (0.2, 0.5), "right": (0.8, 0.5), "top": (0.5, 0.2), "bottom": (0.5, 0.8), "centre": (0.5, 0.5)}
WHERE = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom", "centre": "in the centre"}
BACKGROUNDS = ((255, 255, 255), (235, 235, 235), (225, 235, 245), (250, 245, 230))
SIZES = ((192, 192), (96, 96), (320, 320), (256, 192), (192, 256), (320, 240), (288, 192), (192, 288), (320, 180), (180, 320), (200, 120))


def polygon(shape, x, y, r):
    """Corner points of a shape that fills the box from (x - r, y - r) to (x + r, y + r), y downwards."""
    if shape == "square":
        return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    if shape == "triangle":
        return [(x, y - r), (x + r, y + r), (x - r, y + r)]
    if shape == "cross":
        a = r / 3
        return [(x - a, y - r), (x + a, y - r), (x + a, y - a), (x + r, y - a), (x + r, y + a), (x + a, y + a), (x + a, y + r),
                (x - a, y + r), (x - a, y + a), (x - r, y + a), (x - r, y - a), (x - a, y - a)]
    points = []
    for i in range(10):
        radius = r if i % 2 == 0 else 0.42 * r
        angle = math.pi * i / 5
        points.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
    return points


class Picture:
    """What an image shows: colour, shape, count, position (None unless count is 1 and it was placed), and the image itself."""

    def __init__(self, rng, colour, shape, count=1, position=None):
        self.colour, self.shape, self.count, self.position = colour, shape, count, position
        self.image = self._draw(rng)
        self._measure()

    def _draw(self, rng):
        width, height = rng.choice(SIZES)
        image = Image.new("RGB", (width, height), rng.choice(BACKGROUNDS))
        pen = ImageDraw.Draw(image)
        side = min(width, height)
        ink = tuple(max(0, min(255, c + rng.randint(-12, 12))) for c in COLOURS[self.colour])
        if self.position:
            r = side * rng.uniform(0.15, 0.19)
            fx, fy = PLACES[self.position]
            places = [(width * fx + side * rng.uniform(-0.01, 0.03) * (1 if fx < 0.5 else -1 if fx > 0.5 else 0),
                       height * fy + side * rng.uniform(-0.01, 0.03) * (1 if fy < 0.5 else -1 if fy > 0.5 else 0))]
        else:
            r = side * rng.uniform(0.10, 0.13)
            places = self._scatter(rng, width, height, r)
        for x, y in places:
            if self.shape == "circle":
                pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
            else:
                pen.polygon(polygon(self.shape, x, y, r), fill=ink)
        return image

    def _scatter(self, rng, width, height, r):
        while True:
            places = []
            for _ in range(200):
                x, y = rng.uniform(1.2 * r, width - 1.2 * r), rng.uniform(1.2 * r, height - 1.2 * r)
                if all(max(abs(x - a), abs(y - b)) > 2.5 * r for a, b in places):
                    places.append((x, y))
                if len(places) == self.count:
                    return places

    def _measure(self):
        """Read colour, count, shape and position back from the pixels; raise ValueError where they differ."""
        pixels = numpy.asarray(self.image).astype(int)
        mask = numpy.abs(pixels - pixels[0, 0]).sum(axis=2) > 60
        mean = pixels[mask].mean(axis=0)
        colour = min(COLOURS, key=lambda name: numpy.abs(mean - COLOURS[name]).sum())
        boxes = components(mask)
        shapes = {shape_in_box(mask, box) for box in boxes}
        self.boxes = boxes
        found = (colour, len(boxes), shapes)
        if found != (self.colour, self.count, {self.shape}):
            raise ValueError(f"the image shows {found}, wanted {(self.colour, self.count, self.shape)}")
        if self.position:
            top, bottom, left, right = boxes[0]
            dx = (left + right + 1) / 2 / mask.shape[1] - 0.5
            dy = (top + bottom + 1) / 2 / mask.shape[0] - 0.5
            if max(abs(dx), abs(dy)) < 0.1:
                place = "centre"
            elif abs(dx) > abs(dy):
                place = "left" if dx < 0 else "right"
            else:
                place = "top" if dy < 0 else "bottom"
            if place != self.position:
                raise ValueError(f"the shape is at {place}, wanted {self.position}")

    def words(self):
        """Return the description, as in "a red circle on the left" or "3 red circles"."""
        if self.position:
            return f"{article(self.colour)} {self.colour} {self.shape} {WHERE[self.position]}"
        return f"{self.count} {self.colour} {plural(self.shape, self.count)}"


def components(mask):
    """Return the boxes (top, bottom, left, right; inclusive) of the 8-connected regions, found row by row from runs."""
    parent, boxes, previous = [], [], []

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for y, row in enumerate(mask):
        edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([0], row.astype(numpy.int8), [0]))))
        runs = []
        for left, end in zip(edges[::2], edges[1::2]):
            label = len(parent)
            parent.append(label)
            boxes.append([y, y, int(left), int(end) - 1])
            for other_left, other_end, other in previous:
                if other_left <= end and left <= other_end:
                    a, b = sorted((root(label), root(other)))
                    if a != b:
                        parent[b] = a
                        boxes[a] = [min(boxes[a][0], boxes[b][0]), max(boxes[a][1], boxes[b][1]),
                                    min(boxes[a][2], boxes[b][2]), max(boxes[a][3], boxes[b][3])]
            runs.append((left, end, label))
        previous = runs
    return [tuple(boxes[i]) for i in range(len(parent)) if parent[i] == i]


def shape_in_box(mask, box):
    """Tell the shape from a few points of its box."""
    top, bottom, left, right = box

    def at(fx, fy):
        return bool(mask[round(top + (bottom - top) * fy), round(left + (right - left) * fx)])
    if at(0.08, 0.96):
        return "square" if at(0.08, 0.04) else "triangle"
    if at(0.2, 0.25) and at(0.8, 0.25):
        return "circle"
    return "cross" if at(0.5, 0.94) else "star"


def article(word):
    return "an" if word[0] in "aeiou" else "a"


def plural(shape, count):
    return shape if count == 1 else shape + ("es" if shape == "cross" else "s")


def single(rng, split, **fixed):
    """A picture of one placed shape; `fixed` sets attributes."""
    def make():
        return (fixed.get("colour") or rng.choice(list(COLOURS)), fixed.get("shape") or rng.choice(SHAPES), rng.choice(list(PLACES)))
    colour, shape, position = draw(split, "image", make, key="/".join)
    return Picture(rng, colour, shape, position=position)


def several(rng, split):
    """A picture of one to five equal shapes."""
    colour, shape, count = draw(split, "image", lambda: (rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.randint(1, 5)),
                                key=lambda t: "/".join(map(str, t)))
    return Picture(rng, colour, shape, count)


def ask_single(rng, split, given=None):
    """A question about one placed shape: about the picture `given`, or about a new one. So do the other two."""
    p = given or single(rng, split)
    form = rng.uniform(0.86, 1) if given and course.COMPARE and rng.random() < 0.35 else rng.random()
    thing = rng.choice(("shape", p.shape))
    if form < 0.25:
        question = rng.choice((f"What colour is the {thing}?", "What colour is it?", "Which colour do you see?", f"Tell me the colour of the {thing}.",
                               f"Which colour has the {thing}?", "What is the colour?"))
        answer = f"It is {p.colour}."
    elif form < 0.5:
        question = rng.choice(("What shape is it?", "Which shape do you see?", "What is the shape?", "What shape is in the image?",
                               f"What is the {p.colour} shape?", "Tell me the shape."))
        answer = f"It is {article(p.shape)} {p.shape}."
    elif form < 0.72:
        question = rng.choice((f"Where is the {thing}?", "Where is it?", f"At which place is the {thing}?", f"Tell me where the {thing} is.",
                               f"On which side is the {thing}?"))
        answer = f"It is {WHERE[p.position]}."
    elif form < 0.86:
        return p, rng.choice(("Describe the image.", "What do you see?", "What is in the image?", "What does the picture show?",
                              "Tell me what you see.")), capital(p.words()) + "."
    else:
        guess = p.colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
        if rng.random() < 0.5:
            question, right = rng.choice((f"Is it {guess}?", f"Is the shape {guess}?")), guess == p.colour
            answer = f"Yes, it is {guess}." if right else f"No, it is {p.colour}."
        else:
            guess = p.shape if rng.random() < 0.5 else rng.choice(SHAPES)
            question = rng.choice((f"Is it a {guess}?", f"Is there a {guess}?", f"Do you see a {guess}?"))
            answer = f"Yes, it is a {guess}." if guess == p.shape else f"No, it is a {p.shape}."
    return p, question, answer


def ask_several(rng, split, given=None):
    p = given or several(rng, split)
    things = rng.choice(("shapes", plural(p.shape, 2)))
    if rng.random() < 0.75:
        question = rng.choice((f"How many {things} are there?", f"How many {things} do you see?", f"Count the {things}.", "How many?",
                               f"What is the number of {things}?"))
        return p, question, "There is 1." if p.count == 1 else f"There are {p.count}."
    return p, rng.choice(("What is in the image? Count.", "Describe and count.", "How many of what do you see?")), f"{capital(p.words())}."


def ask_pair(rng, split, given=None):
    """Two images are compared."""
    form = rng.random()
    if given:
        form = rng.uniform(0, 0.72) if given[0].position else 1
    if form < 0.36:
        a, b = given or pair_with_one(rng, split, "colour")
        question = rng.choice(("Do both images have the same colour?", "Are the colours equal?", "Compare the colours.", "Is the colour the same?"))
        same, first, second = a.colour == b.colour, a.colour, b.colour
        told = f"both are {first}" if same else f"the first is {first} and the second is {second}"
    elif form < 0.72:
        a, b = given or pair_with_one(rng, split, "shape")
        question = rng.choice(("Do both images show the same shape?", "Are the shapes equal?", "Compare the shapes.", "Is the shape the same?"))
        same = a.shape == b.shape
        told = f"both show a {a.shape}" if same else f"the first shows a {a.shape} and the second a {b.shape}"
    else:
        a, b = given or (several(rng, split), several(rng, split))
        question = rng.choice(("Which image has more shapes?", "In which image are more shapes?", "Compare the counts.", "Which one shows more?"))
        told = f"Both have {a.count}." if a.count == b.count else f"The {'first' if a.count > b.count else 'second'} has more: {a.count} and {b.count}."
        return (a, b), question, told
    return (a, b), question, ("Yes, " if same else "No, ") + told + "."


def pair_with_one(rng, split, attribute):
    """Two pictures of a shape; half of the pairs share the attribute."""
    a = single(rng, split)
    return a, single(rng, split, **({attribute: getattr(a, attribute)} if rng.random() < 0.5 else {}))


def capital(text):
    return text[:1].upper() + text[1:]


def image_sample(rng, split):
    """Return one sample about one or two images; the images stand before the text, as users send them."""
    ask = rng.choices((ask_single, ask_several, ask_pair), (60, 22, 18))[0]
    pictures, question, answer = ask(rng, split)
    return asked_about(pictures if isinstance(pictures, tuple) else (pictures,), question, answer)


def asked_about(pictures, question, answer):
    content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": question}]
    return Sample([{"role": "user", "content": content}, assistant(answer)], "images", images=[p.image for p in pictures])


def image_group(rng, split, count):
    """Samples about one picture, or about one pair."""
    kind = rng.choices(("single", "several", "pair", "pair of several"), (36, 18, 30, 16) if course.COMPARE else (56, 22, 15, 7))[0]
    if kind == "single":
        ask, shown = ask_single, single(rng, split)
    elif kind == "several":
        ask, shown = ask_several, several(rng, split)
    else:
        ask = ask_pair
        shown = pair_with_one(rng, split, rng.choice(("colour", "shape"))) if kind == "pair" else (several(rng, split), several(rng, split))
    pictures = shown if isinstance(shown, tuple) else (shown,)
    count = min(count, 4) if course.COMPARE and len(pictures) == 2 else count
    return [asked_about(pictures, *ask(rng, split, shown)[1:]) for _ in range(count)]
