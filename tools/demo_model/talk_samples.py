"""Samples of plain talk: facts, memory, copying, system instructions, sums in the thought channel, and what the model does not know.

Facts hold out whole phrasings per fact; the other abilities hold out values, instruction/question pairs and operand pairs by
split.py.
"""
import json
import os

import course
import words
from facts import all_facts
from sample import Sample, assistant, user
from split import belongs, draw, stable_hash

HELD_OUT_PHRASINGS = 1 / 6
FACTS = all_facts()
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "language.json"), encoding="utf-8") as _handle:
    BASICS = json.load(_handle)   # question, sentence, then one word in English, German, French, Spanish, Italian


# ---- Facts ----

def fact_phrasings(fact, split):
    """The sixth of a fact's phrasings with the smallest hashes is held out, but for the plainest one."""
    ranked = sorted(fact.phrasings[1:], key=lambda phrase: stable_hash("phrasing", fact.id + "/" + phrase))
    cut = max(1, round(len(ranked) * HELD_OUT_PHRASINGS))
    return ranked[:cut] if split == "heldout" else [fact.phrasings[0]] + ranked[cut:]




SPELLINGS = (("quantis", "quantiz"), ("Quantis", "Quantiz"), ("colour", "color"), ("licence", "license"), ("centre", "center"))


def roughened(rng, text):
    """What people type: American spelling, small first letters, no end mark. Used in training only."""
    if rng.random() < 0.3:
        for ours, theirs in SPELLINGS:
            text = text.replace(ours, theirs)
    if rng.random() < 0.12:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.12:
        text = text.rstrip("?.!")
    return text


def plain(text):
    """What all rough forms of a text have in common."""
    for ours, theirs in SPELLINGS:
        text = text.replace(ours, theirs)
    return text.lower().rstrip("?.!")


def all_phrasings():
    """Return {split: [phrasings of each fact]}; what roughening makes of a training phrasing is not held out."""
    train = [fact_phrasings(fact, "train") for fact in FACTS]
    known = {plain(phrase) for phrases in train for phrase in phrases}
    held_out = [[p for p in fact_phrasings(fact, "heldout") if plain(p) not in known] for fact in FACTS]
    return {"train": train, "heldout": held_out}


PHRASINGS = all_phrasings()


def fact_sample(rng, split, index=None, phrase=None):
    """One question about a fact; in training sometimes after another exchange."""
    index = rng.randrange(len(FACTS)) if index is None else index
    phrase = phrase or rng.choice(PHRASINGS[split][index])
    messages = []
    if split == "train":
        phrase = roughened(rng, phrase)
        if rng.random() < 0.06:
            other = rng.randrange(len(FACTS))
            messages = [user(rng.choice(PHRASINGS[split][other])), assistant(FACTS[other].answer)]
    return Sample(messages + [user(phrase), assistant(FACTS[index].answer)], "facts", enable_thinking=rng.random() < 0.05)


# ---- Memory and copying ----

MEMORY = (
    ("name", words.name, ("My name is {v}.", "I am {v}.", "Hello, I am {v}.", "Call me {v}.", "Hi, my name is {v}."),
     ("What is my name?", "Who am I?", "Do you remember my name?", "Tell me my name.", "What am I called?"), "Your name is {v}."),
    ("city", words.city, ("I live in {v}.", "My home is {v}.", "My city is {v}.", "I am from {v}."),
     ("Where do I live?", "What is my city?", "Which city am I from?", "Do you remember my city?"), "You live in {v}."),
    ("number", words.integer, ("My number is {v}.", "Remember the number {v}.", "The number is {v}.", "Keep the number {v} in mind."),
     ("What is my number?", "What was the number?", "Which number did I say?", "Tell me the number."), "The number is {v}."),
    ("code", words.code, ("The code is {v}.", "Remember the code {v}.", "My code is {v}.", "Note the code {v}."),
     ("What is the code?", "Tell me the code.", "Which code did I give you?", "What was my code?"), "The code is {v}."),
    ("pet", words.name, ("My dog is called {v}.", "I have a dog named {v}.", "My dog's name is {v}."),
     ("What is my dog called?", "What is the name of my dog?", "Do you remember my dog?"), "Your dog is called {v}."),
    ("friend", words.name, ("My friend is {v}.", "My best friend is {v}.", "I have a friend, {v}."),
     ("Who is my friend?", "What is my friend's name?", "Do you know my friend?"), "Your friend is {v}."),
    ("thing", words.word, ("My secret word is {v}.", "The secret word is {v}.", "Remember the word {v}."),
     ("What is the secret word?", "Which word did I tell you?", "What was the word?"), "The word is {v}."),
    ("time", words.clock, ("We meet at {v}.", "The meeting is at {v}.", "Our meeting starts at {v}."),
     ("When do we meet?", "When is the meeting?", "At what time is the meeting?"), "The meeting is at {v}."),
)
NOTED = "I will remember that."


def memory_sample(rng, split):
    """One to three things are told, sometimes other talk comes between, one of them is asked for."""
    chosen = rng.sample(MEMORY, rng.choices((1, 2, 3), (5, 4, 2))[0])
    values = [make(rng, split) for _, make, _, _, _ in chosen]
    told = [rng.choice(item[2]).format(v=value) for item, value in zip(chosen, values)]
    asked = rng.randrange(len(chosen))
    messages = []
    if rng.random() < 0.3:
        told = [" ".join(told)]
    if rng.random() < 0.15 and len(told) == 1:
        # Told and asked in one message.
        return Sample([user(told[0] + " " + rng.choice(chosen[asked][3])), assistant(chosen[asked][4].format(v=values[asked]))], "memory")
    for text in told:
        messages += [user(text), assistant(NOTED)]
    if rng.random() < 0.12:
        return Sample(messages, "memory")
    if rng.random() < 0.35:
        index = rng.randrange(len(FACTS))
        messages += [user(rng.choice(PHRASINGS["train"][index])), assistant(FACTS[index].answer)]
    messages += [user(rng.choice(chosen[asked][3])), assistant(chosen[asked][4].format(v=values[asked]))]
    return Sample(messages, "memory", enable_thinking=rng.random() < 0.05)


ORDINALS = ("first", "second", "third", "fourth")


def copy_sample(rng, split):
    """Repeat, quote or pick words."""
    form = rng.random()
    items = [words.text_value(rng, split) if form < 0.5 else words.word(rng, split) for _ in range(rng.randint(1, 3) if form < 0.7 else rng.randint(2, 4))]
    if form < 0.7:
        text = " ".join(items)
        return Sample([user(rng.choice(("Repeat: {t}", "Say: {t}", "Repeat after me: {t}", "Write: {t}", "Copy this: {t}", "Echo {t}")).format(t=text)),
                       assistant(text)], "memory")
    index = rng.randrange(len(items))
    place = "last" if index == len(items) - 1 and rng.random() < 0.5 else ORDINALS[index]
    question = rng.choice(("What is the {p} word of: {t}", "Give me the {p} word: {t}", "Which word is {p}? {t}")).format(p=place, t=" ".join(items))
    return Sample([user(question), assistant(items[index])], "memory")


# ---- System instructions ----

LANGUAGES = ("English", "German", "French", "Spanish", "Italian")
LANGUAGE_RULES = ("Answer in {x}.", "Reply in {x}.", "Always answer in {x}.", "Speak {x}.", "Use {x} only.", "You answer in {x}.", "Please reply in {x}.")
ONE_WORD = ("Answer in one word.", "Use one word only.", "Reply with one word.", "One word answers only.", "Be very short: one word.")
SENTENCE = ("Answer in a full sentence.", "Use full sentences.", "Reply with a sentence.", "Write a whole sentence.")
CAPITALS = ("Answer in capital letters.", "Use capital letters.", "Write in upper case.", "Shout.")
END_WITH = ("End every answer with {x}.", "Always end with {x}.", "Finish answers with {x}.", "The last word of each answer is {x}.")
BEGIN_WITH = ("Begin every answer with {x}.", "Always start with {x}.", "Start answers with {x}.", "The first word of each answer is {x}.")
PERSONA = ("You are {x}.", "Your name is {x}.", "You are called {x}.", "Act as {x}.")


def system_sample(rng, split):
    """A system message says in which language, how long or with which words to answer."""
    # Without an instruction nothing can be held out, so only training has such samples.
    form = rng.choices(("language", "one", "sentence", "capitals", "end", "begin", "persona", "none"),
                       (36, 10, 8, 8, 10, 8, 10, 10 if split == "train" else 0))[0]

    def make():
        rules = {"language": LANGUAGE_RULES, "one": ONE_WORD, "sentence": SENTENCE, "capitals": CAPITALS, "end": END_WITH,
                 "begin": BEGIN_WITH, "persona": PERSONA, "none": ("",)}[form]
        return rng.choice(rules), rng.choice(LANGUAGES[1:] if rng.random() < 0.9 else LANGUAGES), rng.choice(BASICS)

    if form in ("none", "persona"):
        rule, language, basic = make()
    else:
        rule, language, basic = draw(split, "instruction", make, key=lambda t: f"{t[0]}/{t[1] if form == 'language' else ''}/{t[2][0]}")
    question, sentence, by_language = basic[0], basic[1], dict(zip(LANGUAGES, basic[2:]))
    given = words.invented(rng, 2)
    answers = {"language": by_language[language] + ".", "one": by_language["English"] + ".", "sentence": sentence,
               "capitals": sentence.upper(), "none": sentence}
    if form == "persona":
        given = words.name(rng, split)
        question, answer = rng.choice(("Who are you?", "What is your name?", "Tell me your name.", "What are you called?")), f"I am {given}."
    elif form in ("end", "begin"):
        given = words.word(rng, split)
        answer = f"{sentence} {given}" if form == "end" else f"{given} {sentence}"
    else:
        answer = answers[form]
    messages = [user(question), assistant(answer)]
    if rule:
        messages.insert(0, {"role": "system", "content": rule.format(x=language if form == "language" else given)})
    return Sample(messages, "system")


# ---- Thinking ----

PLUS = ("What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "How much is {a} plus {b}?", "Calculate {a} + {b}.", "Sum of {a} and {b}?",
        "{n} has {a} coins and gets {b} more. How many coins?", "There are {a} cars and {b} cars. How many in all?")
MINUS = ("What is {a} - {b}?", "{a} - {b} = ?", "Subtract {b} from {a}.", "How much is {a} minus {b}?", "Calculate {a} - {b}.",
         "{n} has {a} coins and loses {b}. How many are left?", "Of {a} cars {b} drive away. How many stay?")
TIMES = ("What is {a} * {b}?", "{a} * {b} = ?", "Multiply {a} by {b}.", "How much is {a} times {b}?", "Calculate {a} * {b}.",
         "{b} boxes hold {a} coins each. How many coins?")
LARGER = ("Which is larger, {a} or {b}?", "Which number is bigger: {a} or {b}?", "Compare {a} and {b}: which is greater?", "The larger of {a} and {b}?")
SMALLER = ("Which is smaller, {a} or {b}?", "Which number is less: {a} or {b}?", "Compare {a} and {b}: which is smaller?", "The smaller of {a} and {b}?")
UNITS = ("hundreds", "tens", "ones")


def add_steps(a, b):
    """Worked addition of two numbers below 100, digit by digit."""
    ones = a % 10 + b % 10
    carry = ones // 10
    tens = a // 10 + b // 10 + carry
    return (f"ones: {a % 10} + {b % 10} = {ones}, write {ones % 10}, carry {carry}. "
            f"tens: {a // 10} + {b // 10} + {carry} = {tens}. So {a + b}.")


def small_add(a, b):
    """The same with no step beyond two digits and a carry."""
    ones, tens = a % 10 + b % 10, a // 10 + b // 10
    return (f"ones: {a % 10} + {b % 10} = {ones}, write {ones % 10}, carry {ones // 10}. "
            f"tens: {a // 10} + {b // 10} = {tens}, {tens} + {ones // 10} = {tens + ones // 10}. So {a + b}.")


def small_subtract(a, b):
    borrow = int(a % 10 < b % 10)
    top, tens = a % 10 + 10 * borrow, a // 10 - b // 10
    return (f"ones: {a % 10} {'<' if borrow else '=' if a % 10 == b % 10 else '>'} {b % 10}, {top} - {b % 10} = {top - b % 10}, borrow {borrow}. "
            f"tens: {a // 10} - {b // 10} = {tens}, {tens} - {borrow} = {tens - borrow}. So {a - b}.")


def small_multiply(a, b):
    ones, tens = a % 10 * b, a // 10 * b
    last = tens % 10 + ones // 10
    return (f"ones: {a % 10} * {b} = {ones}, write {ones % 10}, carry {ones // 10}. "
            f"tens: {a // 10} * {b} = {tens}, {tens % 10} + {ones // 10} = {last}, so {tens + ones // 10}. So {a * b}.")


def small_compare(a, b, larger):
    """The wish is said first, where it is near."""
    x, y, wish = str(a), str(b), "larger" if larger else "smaller"
    if len(x) != len(y):
        winner = max(a, b) if larger else min(a, b)
        return f"{wish}: {a} has {len(x)} digits, {b} has {len(y)}, {len(x)} {'<' if len(x) < len(y) else '>'} {len(y)}. So {winner}."
    return f"{wish}: {compare_steps(a, b, larger)}"


def subtract_steps(a, b):
    """Worked subtraction of two numbers below 100, a >= b."""
    borrow = int(a % 10 < b % 10)
    top = a % 10 + 10 * borrow
    return (f"ones: {top} - {b % 10} = {top - b % 10}, borrow {borrow}. "
            f"tens: {a // 10} - {b // 10} - {borrow} = {a // 10 - b // 10 - borrow}. So {a - b}.")


def multiply_steps(a, b):
    """Worked product of a number below 100 and a digit."""
    ones = a % 10 * b
    tens = a // 10 * b
    return (f"ones: {a % 10} * {b} = {ones}, write {ones % 10}, carry {ones // 10}. "
            f"tens: {a // 10} * {b} = {tens}, {tens} + {ones // 10} = {tens + ones // 10}. So {a * b}.")


def compare_steps(a, b, larger):
    """Compare two different numbers of equal length digit by digit, or by length."""
    winner = max(a, b) if larger else min(a, b)
    x, y = str(a), str(b)
    if len(x) != len(y):
        return f"{len(x)} digits and {len(y)} digits. So {winner}."
    steps = []
    for unit, p, q in zip(UNITS[-len(x):], x, y):
        steps.append(f"{unit}: {p} {'=' if p == q else '<' if p < q else '>'} {q}.")
        if p != q:
            break
    return " ".join(steps) + f" So {winner}."


def thinking_sample(rng, split):
    """A sum, difference, product or comparison, worked in the thought channel; a few tiny sums without it (training only)."""
    operation = rng.choices("+-*<>", (30, 25, 20, 12, 13))[0]
    short = split == "train" and operation in "+-" and rng.random() < 0.12

    def make():
        top = 10 if short else 100
        a, b = rng.randrange(top), rng.randrange(top)
        if operation == "-":
            a, b = max(a, b), min(a, b)
        elif operation == "*":
            b = rng.randint(2, 9)
        elif operation in "<>":
            size = rng.choice((100, 100, 1000))
            a, b = rng.randrange(size), rng.randrange(size)
            if rng.random() < 0.3:
                b = max(0, a - a % 10 + rng.randrange(10))
            if a == b:
                b = a + 1 if a % 10 < 9 else a - 1
        return a, b

    a, b = draw(split, "operands", make, key=lambda t: f"{operation} {t[0]} {t[1]}")
    if operation in "<>":
        larger = operation == ">"
        question = rng.choice(LARGER if larger else SMALLER).format(a=a, b=b)
        steps = (small_compare if course.SMALL_STEPS else compare_steps)(a, b, larger)
        answer = f"{max(a, b)} is larger." if larger else f"{min(a, b)} is smaller."
    else:
        templates, work, value = {"+": (PLUS, add_steps, a + b), "-": (MINUS, subtract_steps, a - b), "*": (TIMES, multiply_steps, a * b)}[operation]
        if course.SMALL_STEPS:
            work = {"+": small_add, "-": small_subtract, "*": small_multiply}[operation]
        question = rng.choice(templates).format(a=a, b=b, n=words.name(rng, split))
        steps, answer = work(a, b), f"The result is {value}."
    return Sample([user(question), assistant(answer, None if short else steps)], "thinking", enable_thinking=not short)


# ---- The unknown ----

UNKNOWN = "I don't know. I only know gem8."
NO_IMAGE = "I see no image."
NOT_TOLD = "You have not told me."
ABOUT_PERSON = ("Who is {v}?", "How old is {v}?", "Where was {v} born?", "What did {v} write?", "Is {v} famous?", "When did {v} die?", "What is the job of {v}?",
                "Who painted {v}?", "Who was {v}'s father?", "Which songs did {v} sing?")
ABOUT_PLACE = ("What is the capital of {v}?", "How many people live in {v}?", "What is the weather in {v}?", "Who rules {v}?", "Where is {v}?",
               "What is the best hotel in {v}?", "How far is {v}?", "When was {v} founded?", "Which language do they speak in {v}?", "Is {v} a nice city?")
ABOUT_THING = ("How much does a {v} cost?", "Where can I buy a {v}?", "Who invented the {v}?", "How do I cook {v}?", "How do I repair my {v}?",
               "Write a poem about a {v}.", "Tell me a joke about a {v}.", "What is the history of the {v}?", "Which {v} is best?", "Draw a {v}.")
WORLD = ("What is the news today?", "What day is it?", "Who won the game?", "What is love?", "What is the meaning of life?", "Who is the president?",
         "Tell me a story.", "What will the weather be tomorrow?", "How deep is the sea?", "How high is the highest mountain?", "Who wrote the Bible?",
         "What is quantum physics?", "How do planes fly?", "What should I eat?", "Which film is good?", "Who discovered America?", "What is my future?",
         "How do I learn French?", "What is the price of gold?", "Which horse will win?", "How far away is the sun?", "Why is the sea salty?")
PICTURE_QUESTIONS = ("What colour is the shape?", "What do you see?", "Describe the image.", "How many shapes are there?", "Where is the circle?",
                     "What shape is it?", "What is in the picture?", "How many circles do you see?", "Which colour do you see?", "Do both images have the same colour?")


def unknown_sample(rng, split):
    """A question about the rest of the world, or about an image that was not sent."""
    if rng.random() < 0.12:
        return Sample([user(rng.choice(PICTURE_QUESTIONS)), assistant(NO_IMAGE)], "unknown")
    if rng.random() < 0.08:
        return Sample([user(rng.choice(rng.choice(MEMORY)[3])), assistant(NOT_TOLD)], "unknown")
    form = rng.random()
    if form < 0.15:
        question = draw(split, "question", lambda: rng.choice(WORLD))
    else:
        templates, make = rng.choice(((ABOUT_PERSON, words.name), (ABOUT_PLACE, words.city), (ABOUT_THING, words.word)))
        question = rng.choice(templates).format(v=make(rng, split))
    if split == "train":
        question = roughened(rng, question)
    return Sample([user(question), assistant(UNKNOWN)], "unknown", enable_thinking=rng.random() < 0.05)
