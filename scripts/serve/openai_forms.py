"""Checks of forms, tools and thinking through openai-python. Part of openai_client.py.

One small function is offered, for the sake of models with a context of 256 tokens.
"""

import json
import re
import tempfile

import jsonschema
import openai
from openai import BadRequestError
from pydantic import BaseModel

from common import Server

GREEDY = {"temperature": 0}
LIGHT = {
    "type": "object",
    "properties": {"room": {"type": "string", "enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "set_light", "parameters": LIGHT}}
ASK = "Turn on the light in the kitchen."

THINKING = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% else %}<think>
{% endif %}{% endif %}"""


class Light(BaseModel):
    room: str
    on: bool


def schema_format(schema: dict, name: str = "light", **more) -> dict:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True, **more}}


def refused(call, param: str, **fields):
    """Asserts that a call is refused as a wrong request that names `param`."""
    try:
        call()
    except BadRequestError as error:
        named = re.split(r"[.\[]", error.param or "")[0]
        assert named == param, f"param is {error.param!r}: {error}"
        assert error.type == "invalid_request_error" and error.body["message"], error.body
        for name, value in fields.items():
            assert getattr(error, name) == value, f"{name} is {getattr(error, name)!r}"
    else:
        raise AssertionError(f"not refused; {param} should have been named")


def text_format(j):
    assert j.text(ASK, **GREEDY, response_format={"type": "text"}) == j.text(ASK, **GREEDY)


def json_object(j):
    options = {**GREEDY, "max_tokens": 80, "response_format": {"type": "json_object"}}
    answer = j.chat("Describe a light as JSON.", **options).choices[0]
    assert isinstance(json.loads(answer.message.content), dict) and answer.finish_reason == "stop"


def json_schema(j):
    for seed in range(5):
        answer = j.chat(ASK, temperature=1.5, seed=seed, max_tokens=60, response_format=schema_format(LIGHT)).choices[0]
        jsonschema.validate(json.loads(answer.message.content), LIGHT)
        assert answer.finish_reason == "stop"


def json_schema_streamed(j):
    options = {**GREEDY, "max_tokens": 60, "response_format": schema_format(LIGHT)}
    parts = [c.choices[0].delta.content or "" for c in j.chat(ASK, **options, stream=True)]
    assert "".join(parts) == j.text(ASK, **options)


def parse_to_pydantic(j):
    messages = [{"role": "user", "content": ASK}]
    answer = j.client.chat.completions.parse(
        model=j.model, messages=messages, response_format=Light, max_tokens=60, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Light)


def stream_helper(j):
    messages = [{"role": "user", "content": ASK}]
    options = {"model": j.model, "messages": messages, "max_tokens": 60, "temperature": 0, "response_format": Light}
    with j.client.chat.completions.stream(**options) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.parsed == j.client.chat.completions.parse(**options).choices[0].message.parsed


def wrong_forms_are_refused(j):
    wrong = [
        {"type": "xml"},
        {"type": "json_schema"},
        schema_format({"type": "nonsense"}),
        schema_format({"type": "object", "properties": {"x": {"$ref": "http://example.invalid/x"}}}),
    ]
    for form in wrong:
        refused(lambda: j.chat(response_format=form), "response_format")


def forms_of_smolt(j):
    answer = j.text(ASK, **GREEDY, max_tokens=30, extra_body={"regex": "[a-c]{3}-[0-9]{2}"})
    assert re.fullmatch("[a-c]{3}-[0-9]{2}", answer), answer
    assert j.text(ASK, **GREEDY, extra_body={"choices": ["kitchen", "hall"]}) in ("kitchen", "hall")
    answer = j.text(ASK, **GREEDY, max_tokens=30, extra_body={"grammar": 'start: "on " /[0-9]/'})
    assert re.fullmatch("on [0-9]", answer), answer
    jsonschema.validate(json.loads(j.text(ASK, **GREEDY, max_tokens=60, extra_body={"schema": LIGHT})), LIGHT)


def two_forms_are_refused(j):
    both = {"regex": "a", "choices": ["a", "b"]}
    try:
        j.chat(ASK, extra_body=both)
    except BadRequestError as error:
        assert error.param in both, error.param
    else:
        raise AssertionError("two forms at once were taken")


def forms_of_completions(j):
    answer = j.complete("Door:", **GREEDY, extra_body={"regex": " (open|closed)"}).choices[0]
    assert answer.text in (" open", " closed") and answer.finish_reason == "stop"


def called(j, **options):
    """The one call of an answer, judged as far as every call can be."""
    choice = j.chat(ASK, **GREEDY, max_tokens=60, tools=[TOOL], **options).choices[0]
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.id and call.function.name == "set_light" and not choice.message.content
    jsonschema.validate(json.loads(call.function.arguments), LIGHT)
    assert choice.finish_reason == "tool_calls", choice.finish_reason
    return call


def tool_required(j):
    first, second = called(j, tool_choice="required"), called(j, tool_choice="required")
    assert first.function == second.function and first.id != second.id


def tool_named(j):
    called(j, tool_choice={"type": "function", "function": {"name": "set_light"}})
    wrong = {"type": "function", "function": {"name": "no_such"}}
    refused(lambda: j.chat(ASK, tools=[TOOL], tool_choice=wrong), "tool_choice")


def tool_auto_and_none(j):
    choice = j.chat(ASK, **GREEDY, max_tokens=60, tools=[TOOL], tool_choice="auto").choices[0]
    assert bool(choice.message.tool_calls) == (choice.finish_reason == "tool_calls")
    assert choice.message.tool_calls or choice.message.content
    assert choice == j.chat(ASK, **GREEDY, max_tokens=60, tools=[TOOL]).choices[0] or choice.message.tool_calls
    choice = j.chat(ASK, **GREEDY, tools=[TOOL], tool_choice="none").choices[0]
    assert not choice.message.tool_calls and choice.message.content and choice.finish_reason != "tool_calls"


def tool_choice_needs_tools(j):
    refused(lambda: j.chat(ASK, tool_choice="required"), "tool_choice")


def two_steps_with_a_tool(j):
    call = called(j, tool_choice="required")
    messages = [
        {"role": "user", "content": ASK},
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": '{"ok": true}'},
    ]
    choice = j.chat(messages, **GREEDY, tools=[TOOL], tool_choice="none", max_tokens=20).choices[0]
    assert isinstance(choice.message.content, str) and choice.finish_reason in ("stop", "length")
    assert not choice.message.tool_calls


def streamed_tool_call(j):
    whole = called(j, tool_choice="required")
    chunks = list(j.chat(ASK, **GREEDY, max_tokens=60, tools=[TOOL], tool_choice="required", stream=True))
    deltas = [call for c in chunks for call in c.choices[0].delta.tool_calls or []]
    assert deltas and {d.index for d in deltas} == {0}
    assert deltas[0].id and deltas[0].type == "function" and deltas[0].function.name == "set_light"
    assert not any(d.id or d.function.name for d in deltas[1:])
    assert "".join(d.function.arguments or "" for d in deltas) == whole.function.arguments
    assert not any(c.choices[0].delta.content for c in chunks)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def parsed_tool_call(j):
    tool = openai.pydantic_function_tool(Light, name="set_light")
    tool["function"]["parameters"] = {**LIGHT}
    answer = j.client.chat.completions.parse(
        model=j.model,
        messages=[{"role": "user", "content": ASK}],
        tools=[tool],
        tool_choice="required",
        max_tokens=60,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Light)


def one_call_at_a_time(j):
    called(j, tool_choice="required", parallel_tool_calls=False)


def wrong_tools_are_refused(j):
    refused(lambda: j.chat(ASK, tools=[{"type": "web_search"}]), "tools")
    refused(lambda: j.chat(ASK, tools=[{"type": "function", "function": {"parameters": LIGHT}}]), "tools")
    wrong = {"type": "function", "function": {"name": "x", "parameters": {"type": "nonsense"}}}
    refused(lambda: j.chat(ASK, tools=[wrong], tool_choice="required"), "tools")


def thinking_off(j):
    plain = j.chat("Hello", **GREEDY).choices[0].message
    for options in (
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"enable_thinking": False},
        {"think": False},
    ):
        message = j.chat("Hello", **GREEDY, extra_body=options).choices[0].message
        assert message.content and not getattr(message, "reasoning_content", None), options
        assert "<think>" not in message.content
    assert getattr(plain, "reasoning_content", None) is None or plain.reasoning_content


def thinking_on(j):
    """Models that cannot think are to say so by name, or to answer; their answers hold no marks of thinking."""
    try:
        message = j.chat("Hello", **GREEDY, extra_body={"enable_thinking": True}).choices[0].message
    except BadRequestError as error:
        assert error.param == "enable_thinking", error.param
        return
    assert "<think>" not in (message.content or "") and "</think>" not in (message.content or "")


def thinking_of_a_template(j):
    """A template that begins answers with thoughts: they are apart from the text, and can be switched off."""
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
        file.write(THINKING)
        file.flush()
        with Server(j.args.smolt, j.args.model, "--slots", "1", "--template", file.name) as server:
            client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
            fields = {"model": j.model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 12}
            ask = lambda **more: client.chat.completions.create(**fields, temperature=0, **more)
            thoughts = ask(extra_body={"enable_thinking": True}).choices[0].message
            assert thoughts.reasoning_content and not thoughts.content, thoughts
            answer = ask(extra_body={"chat_template_kwargs": {"enable_thinking": False}}).choices[0].message
            assert answer.content and not getattr(answer, "reasoning_content", None), answer
            deltas = [c.choices[0].delta for c in ask(extra_body={"enable_thinking": True}, stream=True)]
            parts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
            assert "".join(parts) == thoughts.reasoning_content and not any(delta.content for delta in deltas)


# fmt: off
CHECKS = [
    text_format, json_object, json_schema, json_schema_streamed, parse_to_pydantic, stream_helper,
    wrong_forms_are_refused, forms_of_smolt, two_forms_are_refused, forms_of_completions, tool_required,
    tool_named, tool_auto_and_none, tool_choice_needs_tools, two_steps_with_a_tool, streamed_tool_call,
    parsed_tool_call, one_call_at_a_time, wrong_tools_are_refused, thinking_off, thinking_on,
    thinking_of_a_template,
]
# fmt: on
