#!/usr/bin/env python3
"""Lists each `unsafe` of the programs with its reason, as Markdown.

  scripts/unsafe_list.py [--check] [ROOT]

A block's reason is the SAFETY comment before it, an unsafe function's what its documentation says under `# Safety`. Where
many have one reason, it stands before the item that holds them, or under `# Safety` in the module's documentation. --check
prints only those without a reason, and exits with 1 if there are any.
"""

import re
import sys
from pathlib import Path

ARGUMENTS = [argument for argument in sys.argv[1:] if argument != "--check"]
ROOT = Path(ARGUMENTS[0]) if ARGUMENTS else Path(__file__).resolve().parent.parent
FOLDERS = ["src", "quantize/src"]
WORD = re.compile(r"\bunsafe\b(?!_)\s*(\{|fn\b(?!\()|impl\b|trait\b|extern\b)?")


def code_of(line):
    """A line without its comment and the texts in it."""
    line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    return re.sub(r"//.*", "", line)


def comment_above(lines, at):
    """The comment and attributes above a line, with the beginning of its statement between them; and doc text."""
    found = []
    while at > 0:
        at -= 1
        line = lines[at].strip()
        if line.startswith("//"):
            found.append(re.sub(r"^//[/!]?\s?", "", line))
        elif found or not (line.startswith("#[") or is_open(line)):
            if not line.startswith("#["):
                break
    return list(reversed(found))


def is_open(line):
    """Whether a statement goes on behind this line: a comment above it is of what follows too."""
    return line.endswith(("=", "(", "|", "=>", "{ //", "return", ",", "&&", ".map(", "=> {", "])", ")]")) or line == ""


def reason(path, lines, at, kind):
    inline = re.search(r"SAFETY:\s*(.*)", lines[at])
    if inline:
        return inline.group(1)
    if at + 1 < len(lines) and kind == "block":
        within = re.search(r"^\s*//\s*SAFETY:\s*(.*)", lines[at + 1])
        if within:
            return within.group(1)
    found = stated(comment_above(lines, at))
    depth = indentation(lines[at])
    for above in range(at - 1, -1, -1):
        if found:
            return found
        line = lines[above]
        if line.strip() and indentation(line) < depth and code_of(line).rstrip().endswith("{"):
            depth = indentation(line)
            found = stated(comment_above(lines, above))
    return found or (inherited(path) if kind == "fn" else None)


def inherited(path):
    """What the documentation of the module says of all its functions, or that of a module above."""
    for module in [path, *(folder / "mod.rs" for folder in path.parents)]:
        if module.is_file():
            found = stated([line[3:].strip() for line in module.read_text().split("\n") if line.startswith("//!")])
            if found:
                return found
    return None


def indentation(line):
    return len(line) - len(line.lstrip())


def stated(comment):
    """The reason that a comment states, up to the end of its paragraph."""
    text = "\n".join(comment)
    parts = re.split(r"SAFETY(?: \([^)]*\))?:|# Safety\n\n?", text, maxsplit=1)
    return " ".join(parts[1].split("\n\n", 1)[0].split()) if len(parts) == 2 else None


def entries():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.rs")):
            lines = path.read_text().split("\n")
            for at, line in enumerate(lines):
                for match in WORD.finditer(code_of(line)):
                    what = match.group(1)
                    kind = {"{": "block", None: "type"}.get(what, what)
                    if kind == "type" and re.search(r"\bunsafe\s*$", code_of(line)):
                        kind = "block"
                    yield path.relative_to(ROOT), at + 1, kind, reason(path, lines, at, kind), line.strip()


def main():
    check = "--check" in sys.argv[1:]
    missing, last = 0, None
    for path, line, kind, why, text in entries():
        if kind == "type":
            continue
        missing += why is None
        if check and why is None:
            print(f"{path}:{line}: {kind} without a reason: {text}")
        if check:
            continue
        if path != last:
            print(f"\n## {path}\n")
            last = path
        print(f"* {line}, {kind}: {why or 'NO REASON'}")
    if check and missing:
        sys.exit(1)


if __name__ == "__main__":
    main()
