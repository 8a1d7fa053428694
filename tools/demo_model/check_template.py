"""Compare the demo model's chat template with reference renders of the large Gemma 4 models.

Usage: check_template.py RENDERS.jsonl [--show]
Lines: {name, template, messages, tools, kwargs, rendered, error: {kind, message} | null}. Prints covered/total per group
(the first word of the name). An error case is covered when rendering fails with the same kind; our messages are our own.
Exit status 1 when a case is not covered.
"""
import collections
import json
import sys

from template import Template


def outcome(template, row):
    """Return (text, None) or (None, kind of the error)."""
    try:
        return template.render(row["messages"], row["tools"], **row["kwargs"]), None
    except Exception as error:  # the kind of any failure is what is compared
        return None, type(error).__name__


def main(path, show):
    template = Template()
    total, covered = collections.Counter(), collections.Counter()
    with open(path, encoding="utf-8") as handle:
        rows = [row for row in map(json.loads, handle) if row["template"] == "large"]
    for row in rows:
        group = "errors" if row["error"] else row["name"].split("/")[0].split("_")[0]
        total[group] += 1
        text, kind = outcome(template, row)
        if text == row["rendered"] and kind == (row["error"] or {}).get("kind"):
            covered[group] += 1
        elif show:
            print(f"{row['name']}\n  want {row['error'] or row['rendered']!r}\n  got  {kind or text!r}")
    for group in sorted(total):
        print(f"{group:12} {covered[group]:4} / {total[group]}")
    print(f"{'all':12} {covered.total():4} / {total.total()}")
    return covered != total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--show" in sys.argv[2:]))
