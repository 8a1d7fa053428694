"""Samples of tool use with random function declarations.

A function's name is composed of a verb and a noun, its arguments of names and types; the request mentions every value, mostly with
the argument's name. Held out by split.py: function names, argument names, values. Targets: one call, several calls, an answer made from
tool responses, a plain answer where no tool fits.
"""
import json

import course
import words
from sample import Sample, assistant, user
from split import belongs, draw

VERBS = ("get find show list add set send make open close start stop check read write save load book order buy sell plan move copy "
         "delete update count sort print play call rent build test scan track share pay lock merge search create cancel export "
         "import fetch store query reset clean watch wash paint repair measure").split()
NOUNS = ("weather train ticket room table user file folder report order price stock flight hotel car bike meeting event reminder "
         "alarm timer light lamp door window heater song movie book recipe message mail letter invoice account task note list map "
         "route package parcel job server log backup photo camera printer robot machine sensor garden plant animal doctor patient "
         "course exam student team game match score song shop product cart coupon bank loan tax truck ship port bridge street house "
         "energy water signal").split()
TEXT_ARGUMENTS = ("city name title place person street country query text topic label owner guest target source subject message "
                  "folder path key code model brand color author artist language address station airport product note").split()
NUMBER_ARGUMENTS = ("count days hours minutes price amount size level speed width height year page limit number age weight "
                    "distance budget score volume seats nights floor").split()
BOOL_ARGUMENTS = "urgent loud fast hidden public private active silent dry hot fresh safe open shared strict deep".split()
ENUMS = {"unit": ("celsius", "fahrenheit", "kelvin"), "mode": ("fast", "slow", "eco"), "size": ("small", "medium", "large"),
         "priority": ("low", "normal", "high"), "format": ("json", "csv", "xml"), "direction": ("north", "south", "east", "west"),
         "status": ("open", "closed", "done"), "class": ("first", "second", "third"), "day": ("monday", "friday", "sunday"),
         "season": ("spring", "summer", "autumn", "winter"), "payment": ("cash", "card", "invoice"), "style": ("modern", "old", "plain")}
LIST_ARGUMENTS = "tags names parts colors cities members steps ids values files".split()
OBJECT_ARGUMENTS = "address range options contact place filter window period".split()
PREFIXES = "max min home first last new old user main my start end".split()
OPENINGS = ("{intent}", "Please {intent}", "I want to {intent}", "Can you {intent}", "Could you {intent}", "Now {intent}",
            "I need you to {intent}", "Help me {intent}", "Let us {intent}")
NO_TOOL = "None of the tools can do that."

# Real-looking functions: names, arguments {name: (JSON type, enum or None)}, requests with slots, makers of the values.
DOMAINS = (
    (("get_weather", "weather", "current_weather", "fetch_weather", "weather_report", "get_forecast", "weather_now"), {"city": ("string", None)}, {"city": words.city},
     ("What is the weather in {city}?", "How is the weather in {city}?", "Weather in {city}?", "Will it rain in {city}?", "Is it cold in {city} today?")),
    (("get_weather", "weather", "get_forecast", "city_weather", "weather_info"), {"city": ("string", None), "unit": ("string", ("celsius", "fahrenheit"))},
     {"city": words.city, "unit": ("celsius", "fahrenheit")},
     ("What is the weather in {city} in {unit}?", "Weather in {city}, in {unit} please.", "Give me the {unit} temperature in {city}.")),
    (("get_time", "local_time", "current_time", "time_in_city", "clock_time"), {"city": ("string", None)}, {"city": words.city},
     ("What time is it in {city}?", "Tell me the time in {city}.", "How late is it in {city}?")),
    (("set_timer", "start_timer", "timer", "new_timer"), {"minutes": ("integer", None)}, {"minutes": lambda r, s: words.integer(r, s, 2)},
     ("Set a timer for {minutes} minutes.", "Wake me in {minutes} minutes.", "Timer, {minutes} minutes please.")),
    (("send_mail", "send_email", "write_mail", "mail_to"), {"to": ("string", None), "subject": ("string", None)}, {"to": words.mail, "subject": words.phrase},
     ("Send a mail to {to} about {subject}.", "Write to {to}, subject {subject}.", "Mail {to} with the subject {subject}.")),
    (("send_message", "text_person", "message_to", "send_sms"), {"person": ("string", None), "text": ("string", None)}, {"person": words.name, "text": words.phrase},
     ("Tell {person}: {text}", "Send {person} the message {text}", "Write {text} to {person}.")),
    (("add_reminder", "create_reminder", "remind_me", "new_reminder"), {"text": ("string", None), "time": ("string", None)}, {"text": words.phrase, "time": words.clock},
     ("Remind me at {time}: {text}", "At {time} remind me of {text}.", "Set a reminder {text} for {time}.")),
    (("set_light", "switch_light", "light", "lamp_control"), {"room": ("string", None), "on": ("boolean", None)}, {"room": words.word, "on": None},
     ("Turn the light in the {room} {on}.", "Switch {on} the {room} light.", "Light {on} in the {room}.")),
    (("play_music", "play_song", "music_player", "start_music"), {"artist": ("string", None)}, {"artist": words.name},
     ("Play something by {artist}.", "I want to hear {artist}.", "Play music of {artist}.")),
    (("translate", "translate_text", "get_translation"), {"text": ("string", None), "language": ("string", None)},
     {"text": words.phrase, "language": ("German", "French", "Spanish", "Italian", "Polish", "Greek", "Dutch", "Danish")},
     ("Translate {text} to {language}.", "What is {text} in {language}?", "Say {text} in {language}.")),
    (("convert_currency", "exchange_money", "currency", "convert_money"), {"amount": ("number", None), "from": ("string", None), "to": ("string", None)},
     {"amount": lambda r, s: words.integer(r, s, 3), "from": ("USD", "EUR", "GBP"), "to": ("JPY", "CHF", "SEK")},
     ("Convert {amount} {from} to {to}.", "How much is {amount} {from} in {to}?", "Change {amount} {from} into {to}.")),
    (("search_web", "web_search", "search", "find_online"), {"query": ("string", None)}, {"query": words.phrase},
     ("Search the web for {query}", "Look up {query}", "Find {query} online.", "Search for {query}")),
    (("book_table", "reserve_table", "table_booking"), {"people": ("integer", None), "time": ("string", None)}, {"people": lambda r, s: words.integer(r, s, 1), "time": words.clock},
     ("Book a table for {people} at {time}.", "A table for {people} people at {time}, please.", "Reserve at {time} for {people}.")),
    (("get_stock_price", "stock_price", "share_price", "stock_quote"), {"company": ("string", None)}, {"company": words.name},
     ("What is the stock price of {company}?", "How are shares of {company}?", "Price of {company} stock?")),
    (("calculate", "multiply", "calc", "product_of"), {"a": ("integer", None), "b": ("integer", None)}, {"a": words.integer, "b": words.integer},
     ("Multiply {a} by {b}.", "What is {a} times {b}?", "Calculate {a} * {b}.")),
    (("get_capital", "capital_of", "find_capital"), {"country": ("string", None)}, {"country": words.name},
     ("What is the capital of {country}?", "Capital of {country}?", "Which city is the capital of {country}?")),
    (("read_file", "open_file", "show_file", "load_file", "cat_file"), {"path": ("string", None)}, {"path": words.path},
     ("Read the file {path}", "What is in {path}?", "Show me {path}", "Open {path}")),
    (("get_user", "find_user", "user_info", "lookup_user"), {"name": ("string", None)}, {"name": words.name},
     ("Who is {name}?", "Find the user {name}.", "Show me {name}.", "Look up {name}.")),
)


class Function:
    """A declared function: name, description, properties {name: schema}, required names, and how a request speaks of it.

    `topics` are the words that tell it from others: two functions without a common topic cannot be confused.
    """

    def __init__(self, name, description, properties, required, topics, intent=None, requests=None, makers=None):
        self.name, self.description, self.properties, self.required, self.topics = name, description, properties, required, topics
        self.intent, self.requests, self.makers = intent, requests, makers

    def declaration(self):
        schema = {"type": "object", "properties": self.properties}
        if self.required:
            schema["required"] = self.required
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": schema}}


def argument_name(rng, split, names):
    """One of the names, sometimes with a prefix, sometimes invented."""
    def make():
        chance = rng.random()
        if chance < (0.35 if course.LATE and split == "train" else 0.15):
            return words.invented(rng, 2, split)
        name = rng.choice(names)
        return f"{rng.choice(PREFIXES)}_{name}" if chance < 0.45 else name
    return draw(split, "argument", make)


def random_schema(rng, split, depth=0):
    """Return (argument name, JSON schema) of a random type."""
    kinds = ("string", "number", "boolean", "enum", "array", "object")
    kind = rng.choices(kinds, (8, 4, 2, 3, 2, 2) if depth == 0 else (4, 3, 1, 0, 0, 0))[0]
    if kind == "string":
        return argument_name(rng, split, TEXT_ARGUMENTS), {"type": "string"}
    if kind == "number":
        return argument_name(rng, split, NUMBER_ARGUMENTS), {"type": rng.choice(("integer", "integer", "number"))}
    if kind == "boolean":
        return argument_name(rng, split, BOOL_ARGUMENTS), {"type": "boolean"}
    if kind == "enum":
        if rng.random() < 0.6:
            base = rng.choice(list(ENUMS))
            name, choices = argument_name(rng, split, (base,)), ENUMS[base]
        else:
            name, choices = argument_name(rng, split, list(ENUMS)), [words.word(rng, split) for _ in range(rng.randint(2, 3))]
        return name, {"type": "string", "enum": list(dict.fromkeys(choices))}
    if kind == "array":
        return argument_name(rng, split, LIST_ARGUMENTS), {"type": "array", "items": {"type": rng.choice(("string", "string", "integer"))}}
    properties = dict(random_schema(rng, split, depth + 1) for _ in range(2))
    return argument_name(rng, split, OBJECT_ARGUMENTS), {"type": "object", "properties": properties}


def random_function(rng, split, like=None):
    """Return a composed Function; `like` shares its verb or noun with the new one, which makes the choice harder."""
    def make():
        verb = rng.choice(VERBS)
        noun = rng.choice(NOUNS) if rng.random() < (0.6 if course.LATE and split == "train" else 0.85) else words.invented(rng, 2, split)
        if like and "_" in like.name:
            old_verb, old_noun = like.name.split("_", 1)
            verb, noun = (old_verb, noun) if rng.random() < 0.5 else (verb, old_noun.split("_")[-1])
        extra = f"{rng.choice(words.COLOURS + PREFIXES)}_" if rng.random() < 0.2 else ""
        return verb, extra + noun
    verb, noun = draw(split, "function", make, key="_".join)
    properties = dict(random_schema(rng, split) for _ in range(rng.choices((1, 2, 3), (5, 4, 2))[0]))
    if rng.random() < 0.15:
        for schema_name, schema in properties.items():
            schema["description"] = f"{rng.choice(('the', 'which', 'the wanted'))} {schema_name.replace('_', ' ')}"
    thing = noun.replace("_", " ")
    intent = f"{verb} {rng.choice(('the ', 'a ', 'my ', ''))}{thing}"
    description = rng.choice((f"{verb.capitalize()} the {thing}.", f"{verb.capitalize()} a {thing}.", f"{verb} {thing}", ""))
    required = rng.choices((list(properties), [], list(properties)[:1]), (6, 2, 2))[0]
    return Function(f"{verb}_{noun}", description, properties, required, {noun.split("_")[-1]}, intent)


def renamed(rng, split, name):
    """Another name with one word of the old one in it, so that names have to be read and not remembered."""
    def make():
        part, strange = rng.choice([p for p in name.split("_") if len(p) > 2]), words.invented(rng, 2, split)
        return rng.choice((f"{part}_{strange}", f"{rng.choice(VERBS)}_{part}", f"{strange}_{part}", f"{part}_{rng.choice(NOUNS)}"))
    return draw(split, "function", make)


def domain_function(rng, split):
    """Return a real-looking Function."""
    while True:
        names, arguments, makers, requests = rng.choice(DOMAINS)
        fitting = [n for n in names if belongs(split, "function", n)]
        if fitting:
            break
    properties = {k: {"type": t, **({"enum": list(e)} if e else {})} for k, (t, e) in arguments.items()}
    name = rng.choice(fitting)
    if course.LATE and split == "train" and rng.random() < 0.5:
        name = renamed(rng, split, name)
    description = rng.choice((name.replace("_", " ").capitalize() + ".", name.replace("_", " "), ""))
    topics = {part for other in names for part in other.split("_")} - {"get", "find", "new", "info", "current", "send", "start"}
    return Function(name, description, properties, list(properties), topics, requests=requests, makers=makers)


def random_value(rng, split, schema):
    """Return a value that fits the schema."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema["type"]
    if kind == "string":
        return words.text_value(rng, split)
    if kind == "integer":
        return words.integer(rng, split)
    if kind == "number":
        return words.decimal(rng, split) if rng.random() < 0.6 else words.integer(rng, split)
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "array":
        item = words.word if schema["items"]["type"] == "string" else words.integer
        return [item(rng, split) for _ in range(rng.randint(1, 3))]
    return {k: random_value(rng, split, s) for k, s in schema["properties"].items()}


def spoken(rng, name, value):
    """Return how a request mentions one argument."""
    name = name.replace("_", " ") if rng.random() < 0.6 else name
    if isinstance(value, bool):
        return rng.choice((f"{name} {'yes' if value else 'no'}", f"{name} {'true' if value else 'false'}",
                           f"{'with' if value else 'without'} {name}", f"{name}: {'on' if value else 'off'}"))
    if isinstance(value, list):
        items = [str(v) for v in value]
        joined = ", ".join(items[:-1]) + (" and " if len(items) > 1 else "") + items[-1]
        return f"{name} {rng.choice((joined, '[' + ', '.join(items) + ']'))}"
    if isinstance(value, dict):
        return f"{name} with " + " and ".join(spoken(rng, k, v) for k, v in value.items())
    text = str(value)
    if isinstance(value, str) and (" " in value or rng.random() < 0.15):
        text = f'"{value}"'
    return rng.choice((f"{name} {text}", f"{name} {text}", f"{name}: {text}", f"{name} = {text}", f"{name} is {text}"))


def request(rng, split, function):
    """Return (request text without its end, arguments) for one call."""
    if function.requests:
        arguments, slots = {}, {}
        for name, maker in function.makers.items():
            if maker is None:
                arguments[name] = rng.random() < 0.5
                slots[name] = "on" if arguments[name] else "off"
            else:
                arguments[name] = maker(rng, split) if callable(maker) else rng.choice(maker)
                slots[name] = arguments[name]
        return rng.choice(function.requests).format(**slots), arguments
    given = [k for k in function.properties if k in function.required or rng.random() < 0.7] or list(function.properties)[:1]
    arguments = {k: random_value(rng, split, function.properties[k]) for k in given}
    intent = function.intent if rng.random() < 0.9 else f"use {function.name}"
    text = rng.choice(OPENINGS).format(intent=intent)
    text = text[:1].upper() + text[1:]
    only = arguments[given[0]]
    if len(given) == 1 and isinstance(only, (str, int, float)) and not isinstance(only, bool) and rng.random() < 0.5:
        shown = f'"{only}"' if isinstance(only, str) and " " in only else only
        return f"{text} {rng.choice(('for', 'with', 'in', 'of', 'to', ':'))} {shown}".replace(" :", ":"), arguments
    mentions = [spoken(rng, k, arguments[k]) for k in rng.sample(given, len(given))]
    return text + rng.choice((", ", ": ", " with ")) + rng.choice((", ", " and ")).join(mentions), arguments


def call(number, function, arguments):
    return {"id": f"call_{number}", "type": "function", "function": {"name": function.name, "arguments": dict(sorted(arguments.items()))}}


def ended(rng, text):
    return text if text[-1] in ".?!" else text + rng.choice((".", ".", "", "?" if text.startswith(("Can", "Could")) else ""))


def tool_set(rng, split):
    """Return the wanted Function and the shuffled list of declared ones, the wanted one among them."""
    wanted = domain_function(rng, split) if rng.random() < 0.3 else random_function(rng, split)
    functions = {wanted.name: wanted}
    for _ in range(rng.choices((0, 1, 2, 3), (15, 30, 35, 20) if course.WIDE and split == "train" else (30, 40, 24, 6))[0]):
        similar = wanted.intent and rng.random() < 0.35
        if similar:
            other = random_function(rng, split, like=wanted)
        else:
            other = domain_function(rng, split) if rng.random() < 0.3 else random_function(rng, split)
        if similar or not any(other.topics & f.topics for f in functions.values()):
            functions.setdefault(other.name, other)
    listed = list(functions.values())
    rng.shuffle(listed)
    return wanted, listed


def calling(rng, split, given=None, thinking=False):
    """The target is one call. `given` (wanted, functions) is the tool list to ask about; a new one without it."""
    wanted, functions = given or tool_set(rng, split)
    text, arguments = request(rng, split, wanted)
    target = {"role": "assistant", "content": None, "tool_calls": [call(1, wanted, arguments)]}
    return Sample([user(ended(rng, text)), target], "tools", [f.declaration() for f in functions], enable_thinking=thinking or not given and rng.random() < 0.06)


def calling_twice(rng, split, given=None):
    """The target is two calls: of the same function with other values, or of two functions."""
    wanted, functions = given or tool_set(rng, split)
    first_text, first = request(rng, split, wanted)
    if len(functions) > 1 and rng.random() < 0.5:
        second_function = rng.choice([f for f in functions if f is not wanted])
    else:
        second_function = wanted
    second_text, second = request(rng, split, second_function)
    joined = ended(rng, first_text).rstrip() + rng.choice((" And ", " Then ", " Also ", " ")) + ended(rng, second_text)
    calls = [call(1, wanted, first), call(2, second_function, second)]
    target = {"role": "assistant", "content": None, "tool_calls": calls}
    return Sample([user(joined), target], "tools", [f.declaration() for f in functions])


def result(rng, split):
    """Return (text of a tool's response, sentence that tells it)."""
    kind = rng.random()
    if kind < 0.35:
        value = words.text_value(rng, split) if rng.random() < 0.7 else words.integer(rng, split)
        return str(value), f"The result is {value}."
    if kind < 0.8:
        fields = {}
        for _ in range(rng.randint(1, 2)):
            number = rng.random() < 0.4
            field = argument_name(rng, split, NUMBER_ARGUMENTS if number else TEXT_ARGUMENTS)
            fields[field] = words.integer(rng, split) if number else words.word(rng, split)
        told = " and ".join(f"{'the' if i else 'The'} {k.replace('_', ' ')} is {v}" for i, (k, v) in enumerate(fields.items()))
        return json.dumps(fields), told + "."
    if kind < 0.9:
        return rng.choice(("ok", "done", "success")), "Done."
    reason = rng.choice(("not found", "timeout", "access denied")) if rng.random() < 0.5 else words.phrase(rng, split)
    return json.dumps({"error": reason}), f"The tool reports an error: {reason}."


def answering(rng, split, given=None, thinking=False):
    """The target is an answer made from one or two responses."""
    wanted, functions = given or tool_set(rng, split)
    functions = [wanted] if len(functions) > 2 and not given else functions
    count = 2 if rng.random() < 0.2 else 1
    requests = [request(rng, split, wanted) for _ in range(count)]
    calls = [call(i + 1, wanted, arguments) for i, (_, arguments) in enumerate(requests)]
    messages = [user(" And ".join(ended(rng, text) for text, _ in requests)), {"role": "assistant", "content": None, "tool_calls": calls}]
    thinking = thinking or not given and rng.random() < 0.1
    if count == 1:
        response, told = result(rng, split)
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": response})
    else:
        values = [words.text_value(rng, split) for _ in range(2)]
        messages += [{"role": "tool", "tool_call_id": f"call_{i + 1}", "content": v} for i, v in enumerate(values)]
        told = f"The first result is {values[0]}, the second is {values[1]}."
    messages.append(assistant(told, "The tool has answered." if thinking else None))
    return Sample(messages, "tools", [f.declaration() for f in functions], enable_thinking=thinking)


def refusing(rng, split, given=None):
    """No declared tool fits the request."""
    if given:
        return refusing_from(rng, split, given[1])
    wanted, functions = tool_set(rng, split)
    kept = [f for f in functions if not f.topics & wanted.topics]
    while not kept:
        other = random_function(rng, split)
        kept = [other] if not other.topics & wanted.topics else []
    text, _ = request(rng, split, wanted)
    return Sample([user(ended(rng, text)), assistant(NO_TOOL)], "tools", [f.declaration() for f in kept])


def refusing_from(rng, split, functions):
    """None of these tools fits; half of the requests share a word with one of them."""
    while True:
        like = rng.choice(functions) if rng.random() < 0.5 else None
        wanted = domain_function(rng, split) if rng.random() < 0.3 else random_function(rng, split, like)
        if not any(wanted.topics & f.topics for f in functions):
            break
    text, _ = request(rng, split, wanted)
    return Sample([user(ended(rng, text)), assistant(NO_TOOL)], "tools", [f.declaration() for f in functions])


def tool_group(rng, split, count):
    """Samples about one tool list."""
    functions = tool_set(rng, split)[1]
    if course.WIDE and rng.random() < 0.1:
        forms = rng.choices((calling, answering), (50, 50), k=count)
        return [form(rng, split, (rng.choice(functions), functions), thinking=True) for form in forms]
    forms = rng.choices((calling, calling_twice, answering, refusing), (50, 20, 10, 20), k=count)
    return [form(rng, split, (rng.choice(functions), functions)) for form in forms]


def tool_sample(rng, split):
    """Return one sample of any of the forms above."""
    form = rng.choices((calling, calling_twice, answering, refusing), (50, 22, 13, 15) if course.LATE and split == "train" else (60, 13, 17, 10))[0]
    return form(rng, split)
