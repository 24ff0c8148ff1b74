"""Checks of errors, full queues and disconnections through openai-python. Part of openai_client.py."""

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
from openai import OpenAI

from common import serving
from openai_forms import refused

GREEDY = {"temperature": 0}
RELEASE_SECONDS = 0.5


def unknown_model(j):
    messages = [{"role": "user", "content": "a"}]
    for call in (
        lambda: j.client.models.retrieve("no-such-model"),
        lambda: j.client.completions.create(model="no-such-model", prompt="a"),
        lambda: j.client.chat.completions.create(model="no-such-model", messages=messages),
    ):
        try:
            call()
        except openai.NotFoundError as error:
            assert error.code == "model_not_found", error.code
        else:
            raise AssertionError("an unknown model was taken")


def unknown_endpoint(j):
    try:
        j.client.embeddings.create(model=j.model, input="a")
    except openai.NotFoundError as error:
        assert error.body["message"]
    else:
        raise AssertionError("embeddings were made")


def numbers_out_of_range(j):
    wrong = {
        "temperature": [-1, 1e308],
        "top_p": [-0.1, 1.5],
        "max_tokens": [-1, 1.5],
        "n": [0, -1, 100000],
        "seed": [2**64],
        "frequency_penalty": [-3, 3],
        "presence_penalty": [-3, 3],
        "top_logprobs": [21, -1],
    }
    for name, values in wrong.items():
        for value in values:
            more = {"logprobs": True} if name == "top_logprobs" else {}
            refused(lambda: j.chat(**{name: value}, **more), name)
    for name, value in {"top_k": -5, "min_p": 1.5, "repeat_penalty": 0, "repetition_penalty": -1}.items():
        refused(lambda: j.chat(extra_body={name: value}), name)


def wrong_types(j):
    wrong = {
        "temperature": "hot",
        "max_tokens": "many",
        "n": 1.5,
        "stop": 7,
        "stream": "yes",
        "logit_bias": [1],
        "messages": "Hello",
        "seed": "x",
    }
    for name, value in wrong.items():
        refused(lambda: j.chat(**({"extra_body": {name: value}})), name)


def wrong_messages(j):
    wrong = [
        [],
        [{"role": "wizard", "content": "a"}],
        [{"content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": [{"type": "text"}]}],
        ["a"],
    ]
    for messages in wrong:
        refused(lambda: j.chat(messages), "messages")


def images_are_refused(j):
    parts = {
        "image": {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        "image by address": {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}},
        "sound": {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        "file": {"type": "file", "file": {"file_data": "AAAA", "filename": "x.pdf"}},
    }
    for part in parts.values():
        refused(lambda: j.chat([{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]), "messages")


def unsupported_fields_are_named(j):
    chat = {
        "audio": {"voice": "x", "format": "wav"},
        "modalities": ["text", "audio"],
        "web_search_options": {},
        "prediction": {"type": "content", "content": "a"},
        "functions": [{"name": "x"}],
        "function_call": "auto",
        "frobnicate": 1,
    }
    for name, value in chat.items():
        refused(lambda: j.chat(extra_body={name: value}), name)
    for name, value in {"suffix": "x", "best_of": 3}.items():
        refused(lambda: j.complete(extra_body={name: value}), name)
    refused(lambda: j.chat(top_logprobs=3), "top_logprobs")


def harmless_fields_are_taken(j):
    fields = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    raw = j.client.chat.completions.with_raw_response.create(
        model=j.model, messages=[{"role": "user", "content": "a"}], max_tokens=2, **fields
    )
    assert raw.parse().choices
    listed = [value for value in raw.headers.values() if all(name in value for name in fields)]
    assert listed, f"no header lists what was taken and not used: {dict(raw.headers)}"


def request_ids(j):
    first, second = j.chat(**GREEDY, max_tokens=1), j.chat(**GREEDY, max_tokens=1)
    assert first._request_id and second._request_id and first._request_id != second._request_id
    try:
        j.chat(max_tokens=-1)
    except openai.BadRequestError as error:
        assert error.request_id


def context_length(j):
    long = "one two three four five six seven eight nine ten " * 900
    for call, param in ((lambda: j.chat(long), "messages"), (lambda: j.complete(long), "prompt")):
        refused(call, param, code="context_length_exceeded")


def tokens_of_prompts_are_checked(j):
    refused(lambda: j.complete([[2**31]]), "prompt")
    refused(lambda: j.complete([[-1]]), "prompt")
    refused(lambda: j.complete([[]]), "prompt")


def authentication(j):
    with tempfile.NamedTemporaryFile("w", suffix=".token") as file:
        os.chmod(file.name, 0o600)
        file.write("right-token-of-the-judge\n")
        file.flush()
        with serving(j.args, "--slots", "1", "--token-file", file.name) as server:
            good = OpenAI(base_url=server.url + "/v1", api_key="right-token-of-the-judge", max_retries=0)
            assert good.models.list().data
            for key in ("wrong", "right-token-of-the-judg", "right-token-of-the-judge2"):
                bad = OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
                try:
                    bad.chat.completions.create(model=j.model, messages=[{"role": "user", "content": "a"}])
                except openai.AuthenticationError as error:
                    assert error.code == "invalid_api_key", error.code
                else:
                    raise AssertionError("a wrong token was taken")
            assert server.post("/v1/completions", {"prompt": "a"}).is_error(401)
            assert server.post("/tokenize", {"prompt": "a"}).is_error(401)
            assert server.get("/health").status == 200


def ask_at_once(j, server, count: int, retries: int) -> list:
    """Answers, or errors, of `count` long requests at once."""
    client = OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=retries, timeout=600)

    def ask(i):
        try:
            return client.chat.completions.create(
                model=j.model,
                messages=[{"role": "user", "content": f"Count to {i + 100}"}],
                max_tokens=100,
                logit_bias={str(j.tokens(j.eos)[0]): -100},
                temperature=0,
            )
        except openai.APIStatusError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def full_queue(j):
    with serving(j.args, "--slots", "1", "--queue", "1") as server:
        found = ask_at_once(j, server, 8, retries=0)
        errors = [one for one in found if isinstance(one, Exception)]
        assert errors and len(errors) < 8, f"{len(errors)} of 8 were refused with one slot and one place in the queue"
        for error in errors:
            assert isinstance(error, (openai.RateLimitError, openai.InternalServerError)), error
            assert error.status_code in (429, 503) and float(error.response.headers["retry-after"]) > 0
            assert error.body["message"] and error.body["code"]
        found = ask_at_once(j, server, 4, retries=30)
        assert not [one for one in found if isinstance(one, Exception)], "retries as the server advises did not help"
        assert server.wait_idle(5) is not None


def long_stream(j, server):
    client = OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)
    endless = {"logit_bias": {str(j.tokens(j.eos)[0]): -100}, "extra_body": {"loop_guard": False}, "temperature": 1.5}
    messages = [{"role": "user", "content": "Count."}]
    return client.chat.completions.create(model=j.model, messages=messages, max_tokens=200, stream=True, n=4, **endless)


def closed_stream_frees_the_slot(j):
    stream = long_stream(j, j.server)
    for _ in range(5):
        next(stream)
    before = j.server.metric("requests_cancelled_total")
    stream.close()
    took = j.server.wait_idle(5)
    assert took is not None and took <= RELEASE_SECONDS, f"idle after {took} s"
    assert j.server.metric("requests_cancelled_total") > before


def stop_of_the_server_ends_streams_well(j):
    with serving(j.args, "--slots", "4") as server:
        stream = long_stream(j, server)
        next(stream)
        code = []
        thread = threading.Thread(target=lambda: code.append(server.stop()))
        started = time.monotonic()
        thread.start()
        try:
            ends = [choice.finish_reason for chunk in stream for choice in chunk.choices if choice.finish_reason]
            assert len(ends) == 4, f"the stream ended with {len(ends)} of 4 last chunks"
        except openai.APIError as error:
            assert error.body, "the connection broke without a last event"
        thread.join()
        assert code == [0] or code == [143], f"exit code {code}"
        assert time.monotonic() - started < 20


def after_all_that(j):
    assert j.server.wait_idle(5) is not None and j.server.get("/health").status == 200
    assert j.chat(**GREEDY).choices[0].message.content is not None


# fmt: off
CHECKS = [
    unknown_model, unknown_endpoint, numbers_out_of_range, wrong_types, wrong_messages, images_are_refused,
    unsupported_fields_are_named, harmless_fields_are_taken, request_ids, context_length,
    tokens_of_prompts_are_checked, authentication, full_queue, closed_stream_frees_the_slot,
    stop_of_the_server_ends_streams_well, after_all_that,
]
# fmt: on
