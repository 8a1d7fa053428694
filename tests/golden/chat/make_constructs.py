#!/usr/bin/env python3
"""Writes constructs.jsonl beside it: constructs that chat templates of other model families use, as transformers renders them.

Usage: make_constructs.py          (needs transformers and jinja2; the file was made with 5.19.0 and 3.1.6)

A row: {"name", "template", "context", "output", "error", "now"?}; the snippets are written for this test. "error" is null or {"class"}.
"""
import datetime
import json
import pathlib

from transformers.utils.chat_template_utils import _cached_compile_jinja_template

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)
CLASSES = {"TemplateSyntaxError": "syntax", "TemplateAssertionError": "unknown_name", "UndefinedError": "undefined", "TemplateError": "raised",
           "SecurityError": "forbidden", "TypeError": "type", "ValueError": "value", "ZeroDivisionError": "value"}
CHAT = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "messages": [
    {"role": "system", "content": " Be brief. "}, {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image"}]},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes", "tool_calls": [{"id": "abcdefgh1", "function": {"name": "f", "arguments": {"x": 1, "y": [True, None, "é<"]}}}]},
    {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefgh1"}, {"role": "tool", "content": "2"}, {"role": "user", "content": "bye"}]}
TOOLS = {"tools": [{"type": "function", "function": {"name": "get", "description": "Gets \"it\" & <more>", "parameters": {"type": "object", "properties": {"b": {"type": "string", "enum": ["u", "v"]}, "a": {"type": ["integer", "null"]}}, "required": ["b"]}}}]}
ROWS = {"rows": [{"k": 2, "n": "x"}, {"k": 1, "n": "Y"}, {"k": 2, "n": "a"}], "words": ["b", "A", "a", "B", "c"]}

SNIPPETS = [
    # Llama 3: date, tools in the user turn, message trimmed, ipython role
    ("{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}{{ date_string }}", CHAT),
    ("{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}[{{ system_message }}]{{ messages|length }}", CHAT),
    ("{%- for t in tools %}\n    {{- t | tojson(indent=4) }}\n    {{- '\\n\\n' }}\n{%- endfor %}", TOOLS),
    ("{%- for message in messages %}{%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}{{- '<|h|>' + message['role'] + '|' }}{%- elif 'tool_calls' in message %}{%- if not message.tool_calls|length == 1 %}{{- raise_exception('one call only') }}{%- endif %}{%- set tool_call = message.tool_calls[0].function %}{{- '{\"name\": \"' + tool_call.name + '\", ' }}{{- '\"parameters\": ' }}{{- tool_call.arguments | tojson }}{{- '}' }}{%- elif message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- endif %}{%- endfor %}", CHAT),
    # Qwen 2.5 / 3: namespaces, reversed messages, consecutive tool answers, thinking
    ("{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi_step_tool and message.role == 'user' and message.content is string and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}{{ ns.last_query_index }}{{ ns.multi_step_tool }}", CHAT),
    ("{%- for message in messages %}{%- if message.role == 'tool' %}{%- if loop.first or (messages[loop.index0 - 1].role != 'tool') %}{{- '<|im_start|>user' }}{%- endif %}{{- '\\n<r>\\n' }}{{- message.content }}{{- '\\n</r>' }}{%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endif %}{%- endfor %}", CHAT),
    ("{%- for m in messages if m.role == 'assistant' %}{%- set content = m.content %}{%- set reasoning = '' %}{%- if m.reasoning_content is string %}{%- set reasoning = m.reasoning_content %}{%- elif '</think>' in content %}{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{{ reasoning.strip('\\n') ~ '|' ~ content }}{%- endfor %}", CHAT),
    ("{%- for m in messages if m.tool_calls %}{%- for tool_call in m.tool_calls %}{%- if (loop.first and m.content) or (not loop.first) %}{{- '\\n' }}{%- endif %}{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}{{- tool_call.name }}{%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}{%- endfor %}{%- endfor %}", CHAT),
    ("{%- if add_generation_prompt %}{{- '<a>\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}", dict(CHAT, enable_thinking=False)),
    # Mistral: loop filters on messages, ids checked, tojson items, alternation
    ("{%- set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{%- set user_messages = loop_messages | selectattr('role', 'equalto', 'user') | list %}{{ user_messages | length }}{%- set ns = namespace() %}{%- set ns.index = 0 %}{%- for m in loop_messages %}{%- if not (m.role == 'tool' or m.role == 'tool_results' or (m.tool_calls is defined and m.tool_calls is not none)) %}{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}{{ ns.index }}", CHAT),
    ("{%- for tool in tools %}{%- set tool = tool.function %}{{- '{\"type\": \"function\", \"function\": {' }}{%- for key, val in tool.items() if key != 'return' %}{%- if val is string %}{{- '\"' + key + '\": \"' + val + '\"' }}{%- else %}{{- '\"' + key + '\": ' + val|tojson }}{%- endif %}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- '}}' }}{%- if not loop.last %}, {% else %}]{% endif %}{%- endfor %}", TOOLS),
    ("{%- for m in messages if m.tool_calls is defined %}{%- for c in m.tool_calls %}{%- if not c.id is defined or c.id|length != 9 %}{{- raise_exception('ids of 9') }}{%- endif %}{%- set out = c.function|tojson %}{{- out[:-1] }}{{- ', \"id\": \"' + c.id + '\"}' }}{%- endfor %}{%- endfor %}", CHAT),
    ("{%- for m in messages %}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('must alternate ' ~ loop.index0) }}{%- endif %}{%- endfor %}", CHAT),
    # Phi, DeepSeek, Gemma 2 and 3
    ("{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['tools'] }}{% else %}{{ '<|' + message['role'] + '|>' ~ message['content'] + '<|end|>' if message.content is string }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}", CHAT),
    ("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{{ ns.is_first }}", CHAT),
    ("{%- for m in messages %}{%- if m['role'] == 'assistant' and m['tool_calls'] is not none %}{%- for tool in m['tool_calls'] %}{{ tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] | string + '\\n' + '```' }}{%- endfor %}{%- endif %}{%- endfor %}", CHAT),
    ("{%- for message in messages -%}\n    {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        {%- set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<t>' + role + '\\n' + (first_user_prefix if loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n    {%- elif message['content'] is iterable -%}\n        {%- for item in message['content'] -%}\n            {%- if item['type'] == 'image' -%}\n                {{ '<image>' }}\n            {%- elif item['type'] == 'text' -%}\n                {{ item['text'] | trim }}\n            {%- endif -%}\n        {%- endfor -%}\n    {%- else -%}\n        {{ raise_exception(\"Invalid content type\") }}\n    {%- endif -%}\n    {{ '</t>\\n' }}\n{%- endfor -%}", dict(CHAT, first_user_prefix="P ")),
    ("{%- macro content(m) %}{%- if m.content is string %}{{ m.content | trim }}{%- else %}{%- for p in m.content %}{{ p.text if p.type == 'text' else '<' ~ p.type ~ '>' }}{%- endfor %}{%- endif %}{%- endmacro %}{% for m in messages %}{% generation %}{{ content(m) }}{% endgeneration %};{% endfor %}", CHAT),
    ("{%- macro kinds(p, sep=' | ') -%}{%- if p.type is iterable and p.type is not string -%}{{ p.type | join(sep) }}{%- else -%}{{ p.type }}{%- endif -%}{%- if p.enum %} ({% for e in p.enum %}{{ '\"' + e + '\"' }}{{ ', ' if not loop.last else '' }}{% endfor %}){% endif -%}{%- endmacro -%}{% for name, p in tools[0].function.parameters.properties | dictsort %}{{ name }}: {{ kinds(p) }}{{ ' required' if name in tools[0].function.parameters.required }};{% endfor %}", TOOLS),
    # loops
    ("{% for i in [1, 1, 2, 3, 3] %}{% if loop.changed(i) %}*{% endif %}{{ loop.previtem | default('^') }}{{ i }}{{ loop.nextitem | default('$') }}{{ loop.cycle('a', 'b') }} {% endfor %}", {}),
    ("{% for i in range(10) %}{% if i % 2 %}{% continue %}{% endif %}{% if i > 6 %}{% break %}{% endif %}{{ i }}{{ ',' if not loop.last }}{% else %}none{% endfor %}", {}),
    ("{% for a in [1, 2] %}{% set outer = loop %}{% for b in 'xy' %}{{ outer.index }}{{ b }}{{ loop.revindex0 }}{{ loop.depth }} {% endfor %}{% endfor %}", {}),
    ("{% for g in rows | groupby('k') %}{{ g.grouper }}={{ g.list | map(attribute='n') | join('/') }}; {% endfor %}{% for k, l in rows | groupby('k') %}{{ k }}{{ l | length }}{% endfor %}", ROWS),
    ("{% for k, v in {'b': 1, 'a': [2]} | items %}{{ loop.index }}{{ k }}{{ v }}{% endfor %}{% for k, v in {'b': 1, 'A': 2}.items() | sort %}{{ k }}{% endfor %}", {}),
    # macros, call, set blocks, filter blocks, with
    ("{% macro dialog(title, kind='info', n=1 + 1) %}<{{ kind }} {{ title }} {{ n }}>{{ caller('u', 3) }}{% endmacro %}{% call(name, count) dialog('T', n=5) %}{{ name * count }}{% endcall %}", {}),
    ("{% macro m(a, b='x') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, c=4) }}{{ m(a=[]) }}", {}),
    ("{% set block %}\n  a {{ 1 }}\n{% endset %}[{{ block }}]{% set up | upper | trim %} abc {% endset %}[{{ up }}]{% filter indent(2, true) %}x\ny{% endfilter %}", {}),
    ("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", {}),
    # filters
    ("{{ words | sort }}{{ words | sort(case_sensitive=true, reverse=true) }}{{ words | unique | list }}{{ words | batch(2, '-') | list }}{{ words | slice(2) | list }}{{ ['a'] | slice(3, 'f') | list }}", ROWS),
    ("{{ rows | selectattr('k', 'gt', 1) | map(attribute='n') | list }}{{ rows | rejectattr('k', 'in', [2]) | list }}{{ rows | map(attribute='z', default='?') | join }}{{ rows | sort(attribute='k,n') | map(attribute='n') | join(',') }}{{ rows | sum(attribute='k') }}{{ rows | max(attribute='n') }}", ROWS),
    ("{{ [1, 2, 3] | select('odd') | list }}{{ ['a', '', none] | select | list }}{{ [1, 'b'] | reject('string') | list }}{{ ['1', 'x', '2.7'] | map('int', default=-1) | list }}{{ ['a b', 'c'] | map('replace', ' ', '_') | join }}", {}),
    ("{{ {'b': [1.0, true], 'a': {'é': none}} | tojson }}{{ [] | tojson(indent=2) }}{{ {'a': [], 'b': {}} | tojson(indent=2) }}{{ 'a\"\\n\\u2028' | tojson }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}{{ '<é>' | tojson(ensure_ascii=true) }}", {}),
    ("{{ x | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | default('d', boolean=true) }}{{ x.y.z is defined if x is defined else 'no' }}", {}),
    ("{{ 2.5 | round }}{{ 3.14159 | round(2) }}{{ -0.5 | round(0, 'ceil') }}{{ 7 | float }}{{ '0x1f' | int(0, 16) }}{{ '12abc' | int }}{{ 1e16 }}{{ 1e15 }}{{ 10 / 4 }}{{ 10 / 5 }}{{ 2 ** 0.5 }}{{ 7.0 // 2 }}{{ 1 / 3 }}", {}),
    ("{{ 'aXbXc' | replace('X', '-', 1) }}{{ 'hello wORLD-it' | title }}{{ 'x' | center(5) }}|{{ 'long text here' | truncate(8) }}{{ 'a b' | wordcount }}{{ [3, 1] | first }}{{ 'abc' | last }}{{ 'abc' | reverse }}{{ '%05.1f|%-4s|%x' | format(2.25, 'q', 255) }}", {}),
    # tests
    ("{{ {} is mapping }}{{ [] is mapping }}{{ 'a' is sequence }}{{ {} is sequence }}{{ 1 is sequence }}{{ true is true }}{{ 1 is true }}{{ true is boolean }}{{ true is number }}{{ true is integer }}{{ 1.0 is float }}{{ none is none }}{{ x is defined }}{{ x is none }}{{ 'a' is iterable }}{{ range is callable }}{{ 4 is divisibleby 2 }}{{ 'A' is upper }}{{ 1 is in [1] }}{{ 'upper' is filter }}", {}),
    # slices and string methods
    ("{{ [0, 1, 2, 3, 4][::2] }}{{ [0, 1, 2, 3, 4][-2:] }}{{ 'abcdef'[4:1:-1] }}{{ (1, 2, 3)[1:] }}{{ 'é中😀'[::-1] }}{{ 'abc'[5:] }}{{ [1, 2, 3][:-1] }}", {}),
    ("{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', maxsplit=1) }}{{ ' a  b '.split() }}{{ '--a-'.strip('-') }}{{ 'xxabcxx'.lstrip('x').rstrip('x') }}{{ 'abc'.startswith(('x', 'ab')) }}{{ 'aaa'.replace('a', 'b', 2) }}{{ \"it's a\".title() }}{{ 'a\\nb\\r\\nc'.splitlines() }}{{ 'x=1=2'.partition('=') }}{{ 'abcabc'.count('bc') }}{{ 'abc'.find('z') }}{{ '7'.zfill(3) }}{{ 'ab'.join(['1', '2', '3']) }}", {}),
    ("{{ '{:>5}|{:<5}|{:^5}|{:.2f}|{:,}|{!r}'.format('a', 'b', 'c', 1.005, 1234567, 'q') }}{{ '{0}{1[k]}{0.imag}'.format(3, {'k': 'v'}) }}{{ '%s %d%% %r' % ('a', 3.9, 'b') }}", {}),
    ("{{ '²½'.isalnum() }}{{ '½'.isnumeric() }}{{ '²x'.isdecimal() }}{{ '١٢'.isdigit() }}{{ (5).real }}{{ true.real }}{{ (2.5).imag }}{{ range(1, 9, 2).step }}", {}),
    ("{{ range(5)[1:4] }}{{ range(9)[::-2] | list }}{% for i in range(5)[2:] %}{{ i }}{% endfor %}", {}), ("{{ x[1:] }}", {"x": 5}), ("{{ x[:1] }}", {"x": {"a": 1}}),
    ("{{ '{:05}|{:<05}|{:^05}|{:05}|{:x>4}'.format('abc', 1, 2.5, -3, 7) }}{{ '%05s|%-05d|%05d' % ('a', 1, -2) }}", {}), ("{{ '{:.2}'.format(1) }}", {}), ("{{ '{:,}'.format('a') }}", {}),
    # operators
    ("{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1] }}{{ 'b' in 'abc' }}{{ 'k' not in {'k': 1} }}{{ not 1 == 2 }}{{ 1 if false }}|{{ 'x' if 1 else 'y' }}{{ -7 // 2 }}{{ -7 % 3 }}{{ 2 + 3 * 4 ** 2 }}{{ 1 and 0 or 'z' }}{{ [] or none or 'q' }}{{ -2 ** 2 }}{{ 'a' 'b' ~ 'c' }}", {}),
    # white space
    ("<a>\n  {% if true %}\n  b\n    {%- if true %}\n c\n  {% endif %}\n{# note #}\n  {% endif %}\n\n<d>\n", {}),
    ("a\n  {%+ if true %}b{%+ endif %}\n  {{- 'c' -}}\n  {% raw -%}\n  {{ x }}{% endraw %}\nd", {}),
    ("x {%- set a = 'q' -%} y\n\t{# c -#}\n z {{ a }}\n", {}),
    # undefined and errors
    ("[{{ x }}][{{ messages[99] }}][{{ messages[0].nosuch }}]{% for i in x %}{% endfor %}{{ x | length }}{{ x ~ 'a' }}{{ x == y }}{{ x is undefined }}{{ messages[0]['nosuch'] is defined }}", CHAT),
    ("{{ x.y }}", {}), ("{{ messages[0].nosuch.more }}", CHAT), ("{{ x + 1 }}", {}), ("{{ 'a' + 1 }}", {}), ("{{ none | length }}", {}), ("{{ messages[0].content.nosuch() }}", CHAT),
    ("{{ 1 / 0 }}", {}), ("{{ [] | first }}|", {}), ("{{ {[]: 1} }}", {}), ("{{ [] in {'a': 1} }}", {}), ("{{ 'a' | nosuch }}", {}), ("{{ 1 is nosuch }}", {}), ("{{ x() }}", {}), ("{{ ''.__class__ }}{{ ''.__class__.mro }}", {}), ("{% set l = [] %}{{ l.append(1) }}", {}),
    ("{{ 1 | truncate(5) }}", {}), ("{{ [] | unique(attribute='x') | list }}{{ [[1]] | unique | list }}", {}),
    ("{{ strftime_now('%Y-%m-%d %H:%M') }} {{ strftime_now('%A %d %B %y') }}", {}),
]

# Every operator between values of every kind. What Python refuses is left out, and so is the identity of equal numbers or texts,
# which depends on how Python's compiler stores them.
VALUES = ["1", "0", "-3", "7", "true", "none", "1.5", "-0.0", "2.0", "1e20", "'a'", "'12'", "'ab%'", "[1, 2]", "[]", "(1,)", "{'a': 1}", "u", "range(3)", "'é'"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "is divisibleby", "is in", "is sameas"]


def operator_tables(environment):
    for operator in OPERATORS:
        cells = []
        for left in VALUES:
            for right in VALUES:
                cell = f"{{{{ ({left}) {operator} ({right}) }}}}"
                if operator == "**" and "1e20" in (left, right) or operator == "is sameas" and left == right:
                    continue
                if operator == "is divisibleby" and "'" in left:  # which would format a text
                    continue
                try:
                    text = environment.from_string(cell).render()
                except Exception:
                    continue
                if "j)" not in text:  # a complex number
                    cells.append(cell)
        yield "|".join(cells), {}


def row(number, template, context):
    environment = _cached_compile_jinja_template("").environment
    made = {"name": f"constructs/{number}", "template": template, "context": context}
    hidden = {}
    if "strftime_now" in template:
        made["now"] = NOW.isoformat()
        hidden["strftime_now"] = NOW.strftime
    try:
        made["output"], made["error"] = environment.from_string(template).render(**context, **hidden), None
    except Exception as error:
        made["output"], made["error"] = None, {"class": CLASSES.get(type(error).__name__, "runtime")}
    return made


if __name__ == "__main__":
    with open(pathlib.Path(__file__).with_name("constructs.jsonl"), "w", encoding="utf-8") as file:
        tables = operator_tables(_cached_compile_jinja_template("").environment)
        for number, (template, context) in enumerate([*SNIPPETS, *tables]):
            file.write(json.dumps(row(number, template, context), ensure_ascii=False) + "\n")
