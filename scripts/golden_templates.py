#!/usr/bin/env python3
"""Renders every *.jinja of a folder with Jinja2, set up as Hugging Face sets it up for chat templates, and writes the
texts to golden.json beside them.

    pip install jinja2
    scripts/golden_templates.py [FOLDER]     (default: tests/data/templates)
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 7, 14, 5, 9)


class Generation(jinja2.ext.Extension):
    """{% generation %}: a scope of its own, otherwise nothing."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_call"), [], [], body).set_lineno(line)

    def _call(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda layout: NOW.strftime(layout)
    return env


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place, \"now\" & later <b>",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town, e.g. Zürich"},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 7.5},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["place"],
        },
        "return": {"type": "object", "properties": {"degrees": {"type": "number"}}},
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, number=0):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def cases():
    system = message("system", "You are brief.")
    hello, again = message("user", "Hello, who are you?"), message("user", "And why?")
    answer = message("assistant", "I am a small model.")
    thought = message("assistant", "<think>\nWho am I?\n</think>\n\nI am a small model.")
    tricky = message("user", "  <b>\"it's\" & {{ x }} {% y %}\\n</b> 日本語 \U0001f600\n\ttab \u00a0 ")
    calling = message("assistant", "", tool_calls=[call("get_weather", {"place": "Zürich", "days": 2})])
    result = message("tool", '{"degrees": 21.5}', name="get_weather", tool_call_id="call00000")
    dialog = [hello, answer, again]
    plain = {
        "user": [hello],
        "system_user": [system, hello],
        "turns": dialog,
        "system_turns": [system, *dialog],
        "tricky": [message("system", " a\nb "), tricky],
        "tricky_turns": [tricky, message("assistant", " \n ok \n"), tricky],
        "thought": [hello, thought, again],
        "four": [*dialog, message("assistant", "Because."), message("user", "")],
        "no_user": [system],
        "two_users": [hello, again],
    }
    given = {name: {"messages": messages, "add_generation_prompt": True} for name, messages in plain.items()}
    given["system_only_asked"] = {"messages": [system, hello], "add_generation_prompt": False}
    given["no_prompt"] = {"messages": [hello, answer], "add_generation_prompt": False}
    given["not_thinking"] = {**given["system_turns"], "enable_thinking": False}
    given["thinking"] = {**given["system_turns"], "enable_thinking": True, "thinking": True}
    tools = {"tools": [WEATHER, CLOCK], "add_generation_prompt": True}
    given["tools"] = {**tools, "messages": [hello]}
    given["tools_system"] = {**tools, "messages": [system, hello]}
    given["tool_calls"] = {**tools, "messages": [system, hello, calling, result, answer, again]}
    given["tool_result"] = {**tools, "messages": [hello, calling, result]}
    two = message("assistant", None, tool_calls=[call("clock", {}), call("get_weather", {"place": "a\"b", "tags": []}, 1)])
    given["two_calls"] = {**tools, "messages": [hello, two, result, message("tool", "12:00"), answer]}
    given["documents"] = {
        **given["user"],
        "documents": [{"title": "One", "text": "First."}, {"title": "Two", "text": "Second."}],
    }
    for case in given.values():
        case.update(bos_token="<s>", eos_token="</s>")
    return given


def render(template, variables):
    try:
        return template.render(**variables)
    except Exception:  # whatever a template runs into is a refusal
        return None


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/templates")
    env, given, expected = environment(), cases(), {}
    for path in sorted(folder.glob("*.jinja")):
        try:
            template = env.from_string(path.read_bytes().decode())
        except jinja2.exceptions.TemplateSyntaxError as error:
            sys.exit(f"{path}: {error}")
        expected[path.stem] = {name: render(template, variables) for name, variables in given.items()}
    golden = json.dumps({"cases": given, "expected": expected}, ensure_ascii=False, indent=1)
    (folder / "golden.json").write_text(golden + "\n", encoding="utf-8")
    texts = sum(text is not None for cases in expected.values() for text in cases.values())
    print(f"{len(expected)} templates, {texts} texts")


if __name__ == "__main__":
    main()
