#!/usr/bin/env python3
"""Judges `smolt serve` by openai-python as published, unmodified.

    python -m venv venv && venv/bin/pip install openai pydantic jsonschema
    venv/bin/python scripts/serve/openai_client.py --smolt target/release/smolt -m model.gguf

Answers and streams are asked about here, texts that are continued in openai_completions.py, forms and tools in
openai_forms.py, errors and disconnections in openai_errors.py. A model without a chat template is given ChatML.
"""

import asyncio
import time

from openai import AsyncOpenAI, OpenAI

import openai_completions
import openai_errors
import openai_forms
from common import Checks, arguments, serving

GREEDY = {"temperature": 0}
# Draws from the whole distribution, so that two answers hardly ever are the same.
WILD = {"temperature": 2.0, "top_p": 1, "extra_body": {"top_k": 0, "min_p": 0}}
PROMPT = "Tell me about the lights and the blinds."


class Judge:
    """A server, its client and short ways to ask."""

    def __init__(self, server, args):
        self.server, self.args = server, args
        self.client = OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=300)
        self.model = self.client.models.list().data[0].id
        self.template = bool(server.get("/tokenizer_info").json().get("chat_template"))
        self.eos = server.get("/tokenizer_info").json()["eos_token"]

    def chat(self, prompt=PROMPT, **options):
        """A chat completion; `prompt` is a user's text or a list of messages."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        options.setdefault("max_tokens", 24)
        return self.client.chat.completions.create(model=self.model, messages=messages, **options)

    def text(self, prompt=PROMPT, **options):
        return self.chat(prompt, **options).choices[0].message.content

    def complete(self, prompt="The door is", **options):
        options.setdefault("max_tokens", 16)
        return self.client.completions.create(model=self.model, prompt=prompt, **options)

    def tokens(self, text: str, special: bool = False) -> list[int]:
        return self.server.post("/tokenize", {"prompt": text, "add_special_tokens": special}).json()["tokens"]


def models(j: Judge):
    (model,) = j.client.models.list().data
    assert model.object == "model" and isinstance(model.created, int) and model.owned_by
    assert j.client.models.retrieve(model.id) == model


def completion_object(j: Judge):
    answer = j.chat(**GREEDY)
    assert answer.id.startswith("chatcmpl") and answer.object == "chat.completion" and answer.model == j.model
    assert abs(answer.created - time.time()) < 300
    (choice,) = answer.choices
    assert choice.index == 0 and choice.message.role == "assistant" and choice.message.refusal is None
    assert isinstance(choice.message.content, str) and choice.logprobs is None and not choice.message.tool_calls
    assert choice.finish_reason in ("stop", "length")


def usage(j: Judge):
    counts = j.chat(**GREEDY).usage
    assert counts.prompt_tokens > 0 and 0 < counts.completion_tokens <= 24
    assert counts.total_tokens == counts.prompt_tokens + counts.completion_tokens
    assert isinstance(counts.prompt_tokens_details.cached_tokens, int)
    again = j.chat(**GREEDY).usage
    assert again.prompt_tokens_details.cached_tokens <= again.prompt_tokens == counts.prompt_tokens


def max_tokens(j: Judge):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = j.chat(**GREEDY, **{"max_tokens": None, name: 2})
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 2, name


def default_length_is_not_tiny(j: Judge):
    answer = j.chat("Write a long story about a house.", max_tokens=None, temperature=0)
    assert answer.choices[0].finish_reason == "stop" or answer.usage.completion_tokens > 64, answer.usage
    answer = j.complete("Once upon a time", max_tokens=None, temperature=0)
    assert answer.choices[0].finish_reason == "stop" or answer.usage.completion_tokens > 16, answer.usage


def stream_equals_answer(j: Judge):
    whole = j.chat(**GREEDY)
    chunks = list(j.chat(**GREEDY, stream=True))
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk" and chunks[0].choices[0].delta.role == "assistant"
    assert all(c.usage is None for c in chunks)
    last = chunks[-1].choices[0]
    assert last.finish_reason == whole.choices[0].finish_reason and not last.delta.content
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content


def stream_usage(j: Judge):
    whole = j.chat(**GREEDY)
    *chunks, last = j.chat(**GREEDY, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and all(c.usage is None for c in chunks)
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens


def stream_bytes(j: Judge):
    body = {"model": j.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "stream": True}
    answer = j.server.post("/v1/chat/completions", body)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    assert "no-cache" in answer.headers["cache-control"] or "no-store" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    events = answer.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""] and all(e.startswith(("data: ", ": ")) for e in events[:-1])


def several_answers(j: Judge):
    answer = j.chat(n=4, seed=7, max_tokens=12, **WILD)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert len({c.message.content for c in answer.choices}) > 1, "four answers drawn at random are the same"
    assert 4 <= answer.usage.completion_tokens <= 48


def several_answers_streamed(j: Judge):
    whole = j.chat(n=2, seed=7, max_tokens=12, **WILD)
    texts = ["", ""]
    for chunk in j.chat(n=2, seed=7, max_tokens=12, stream=True, **WILD):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [c.message.content for c in whole.choices]


def same_seed_same_answer(j: Judge):
    texts = {j.text(seed=11, **WILD) for _ in range(3)}
    assert len(texts) == 1, texts


def other_seed_other_answer(j: Judge):
    assert len({j.text(seed=seed, max_tokens=12, **WILD) for seed in range(4)}) > 1
    assert len({j.text(max_tokens=12, **WILD) for _ in range(4)}) > 1, "without a seed answers are the same"


def stops(j: Judge):
    text = j.text(**GREEDY)
    at = len(text) // 2
    end = text[at : at + 4]
    for stop in (end, ["zzzz qqqq", end], [f"zz{i}" for i in range(15)] + [end]):
        answer = j.chat(**GREEDY, stop=stop).choices[0]
        assert answer.message.content == text[: text.index(end)], answer.message.content
        assert answer.finish_reason == "stop"
    for stop in ([], None):
        assert j.text(**GREEDY, stop=stop) == text


def stop_in_a_stream(j: Judge):
    text = j.text(**GREEDY)
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    parts = [c.choices[0].delta.content or "" for c in j.chat(**GREEDY, stop=stop, stream=True)]
    assert "".join(parts) == text[: text.index(stop)]


def log_probabilities(j: Judge):
    answer = j.chat(**GREEDY, logprobs=True, top_logprobs=5).choices[0]
    entries = answer.logprobs.content
    assert b"".join(bytes(e.bytes) for e in entries).decode(errors="replace").startswith(answer.message.content)
    for entry in entries:
        values = [top.logprob for top in entry.top_logprobs]
        assert len(values) == 5 and values == sorted(values, reverse=True) and entry.logprob <= 0
        assert entry.logprob == values[0], "the likeliest token was not taken at temperature 0"
        assert len({tuple(top.bytes or ()) for top in entry.top_logprobs}) == 5
    streamed = [
        e
        for c in j.chat(**GREEDY, logprobs=True, top_logprobs=5, stream=True)
        for e in (c.choices[0].logprobs.content if c.choices[0].logprobs else [])
    ]
    assert streamed == entries


def bias(j: Judge):
    first = j.tokens(j.text(**GREEDY, max_tokens=1))[0]
    other = j.tokens(" window")[0]
    assert j.text(**GREEDY, max_tokens=1, logit_bias={str(first): -100}) != j.text(**GREEDY, max_tokens=1)
    forced = j.text(**GREEDY, max_tokens=1, logit_bias={str(other): 100})
    assert forced == j.server.post("/detokenize", {"tokens": [other]}).json()["prompt"], forced


def penalties(j: Judge):
    def texts(**options):
        prompts = [" on" * 12, "One two three one"]
        answers = [j.complete(prompts, max_tokens=32, temperature=1.5, seed=seed, **options) for seed in range(4)]
        return [choice.text for answer in answers for choice in answer.choices]

    plain = texts()
    assert texts() == plain
    for options in ({"frequency_penalty": 2.0}, {"presence_penalty": 2.0}):
        assert texts(**options) != plain, f"{options} is ignored"
    for name in ("repeat_penalty", "repetition_penalty"):
        assert texts(extra_body={name: 1.8}) != plain, f"{name} is ignored"


def content_parts(j: Judge):
    parts = [{"type": "text", "text": PROMPT[:9]}, {"type": "text", "text": PROMPT[9:]}]
    one = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    assert j.text(one, **GREEDY) == j.text(**GREEDY)
    assert isinstance(j.text([{"role": "user", "content": parts}], **GREEDY), str)


def developer_is_system(j: Judge):
    ask = lambda role: j.text([{"role": role, "content": "Be brief."}, {"role": "user", "content": "Hello"}], **GREEDY)
    assert ask("developer") == ask("system")


def several_turns(j: Judge):
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "How are you?"},
    ]
    assert j.chat(messages, **GREEDY).usage.prompt_tokens > j.chat("Hello", **GREEDY).usage.prompt_tokens


def control_tokens_in_texts_stay_text(j: Judge):
    plain, marked = (j.chat(f"Say {text}", **GREEDY).usage.prompt_tokens for text in ("x", j.eos * 8))
    assert marked - plain >= 12, f"8 of {j.eos} in a user's text became {marked - plain + 1} tokens"


def together_equals_alone(j: Judge):
    prompts = [f"Tell me about room {i} and its {'very ' * i}bright light." for i in range(8)]

    async def ask(client, prompt, i):
        options = {"temperature": 1.0, "seed": i, "max_tokens": 20, "logprobs": True}
        messages = [{"role": "user", "content": prompt}]
        return (await client.chat.completions.create(model=j.model, messages=messages, **options)).choices[0]

    async def all_of_them(at_once: bool):
        async with AsyncOpenAI(base_url=j.server.url + "/v1", api_key="none", max_retries=0, timeout=300) as client:
            if at_once:
                return await asyncio.gather(*(ask(client, p, i) for i, p in enumerate(prompts)))
            return [await ask(client, p, i) for i, p in enumerate(prompts)]

    assert asyncio.run(all_of_them(True)) == asyncio.run(all_of_them(False))


def asynchronous_stream(j: Judge):
    async def read():
        async with AsyncOpenAI(base_url=j.server.url + "/v1", api_key="none", max_retries=0) as client:
            messages = [{"role": "user", "content": PROMPT}]
            stream = await client.chat.completions.create(
                model=j.model, messages=messages, max_tokens=24, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(read()) == j.text(**GREEDY)


# fmt: off
CHECKS = [
    models, completion_object, usage, max_tokens, default_length_is_not_tiny, stream_equals_answer,
    stream_usage, stream_bytes, several_answers, several_answers_streamed, same_seed_same_answer,
    other_seed_other_answer, stops, stop_in_a_stream, log_probabilities, bias, penalties, content_parts,
    developer_is_system, several_turns, control_tokens_in_texts_stay_text, together_equals_alone,
    asynchronous_stream,
]
# fmt: on


def chat_needs_a_template(j: Judge):
    openai_forms.refused(lambda: j.chat("Hello"), "messages")


def main() -> None:
    args, checks = arguments(__doc__), Checks()
    options = ["--slots", "4", "--queue", "16"]
    with serving(args, *options) as server:
        judge = Judge(server, args)
        if not judge.template:
            checks.run("chat needs a template", chat_needs_a_template, judge)
    if not judge.template:
        checks.note("the model has no chat template: it is asked with --template chatml")
        args.options = ["--template", "chatml"]
    with serving(args, *options) as server:
        judge = Judge(server, args)
        for check in [*CHECKS, *openai_completions.CHECKS, *openai_forms.CHECKS, *openai_errors.CHECKS]:
            checks.run(check.__name__.replace("_", " "), check, judge)
    checks.end()


if __name__ == "__main__":
    main()
