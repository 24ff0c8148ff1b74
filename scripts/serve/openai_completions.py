"""Checks of `/v1/completions` through openai-python: texts continued, prompts scored. Part of openai_client.py."""

GREEDY = {"temperature": 0}


def plain_completion(j):
    answer = j.complete(**GREEDY)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl") and answer.model == j.model
    assert answer.choices[0].finish_reason in ("stop", "length") and answer.choices[0].logprobs is None
    assert answer.usage.prompt_tokens > 0
    *chunks, last = j.complete(**GREEDY, stream=True, stream_options={"include_usage": True})
    assert "".join(c.choices[0].text for c in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason
    assert last.choices == [] and last.usage.completion_tokens == answer.usage.completion_tokens


def scored_prompt(j):
    ids = j.tokens("The café is on the left 🌞 side")
    for generated in (1, 0):
        choice = j.complete([ids], max_tokens=generated, echo=True, logprobs=3, **GREEDY).choices[0]
        scores = choice.logprobs
        lengths = {len(scores.tokens), len(scores.token_logprobs), len(scores.top_logprobs), len(scores.text_offset)}
        assert lengths == {len(ids) + generated}, lengths
        assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None
        assert all(value <= 0 for value in scores.token_logprobs[1:])
        for token, value, top in list(zip(scores.tokens, scores.token_logprobs, scores.top_logprobs))[1:]:
            assert top[token] == value and value <= max(top.values()) and len(top) >= 3
        assert choice.text.startswith("The café is on the left 🌞 side") and scores.text_offset[0] == 0
        assert scores.text_offset == sorted(scores.text_offset) and scores.text_offset[-1] <= len(choice.text)
        for token, offset in zip(scores.tokens, scores.text_offset):
            assert token.startswith("bytes:") or choice.text[offset:].startswith(token), (token, offset)


def end_token_is_scored(j):
    (end,) = j.tokens(j.eos)
    ids = j.tokens("The door is open")
    forced = {"max_tokens": 1, "logit_bias": {str(end): 100}, **GREEDY}
    scores = j.complete([ids], echo=True, logprobs=1, **forced).choices[0].logprobs
    assert len(scores.token_logprobs) == len(ids) + 1 and all(value > -1e30 for value in scores.token_logprobs[1:])


def several_prompts(j):
    prompts = ["The door is", "One two three four five six", "A"]
    answer = j.complete(prompts, **GREEDY)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert [c.text for c in answer.choices] == [j.complete(p, **GREEDY).choices[0].text for p in prompts]
    assert [c.index for c in j.complete(prompts[:2], n=2, seed=1).choices] == [0, 1, 2, 3]


def token_prompts(j):
    text = j.complete(**GREEDY).choices[0].text
    ids = j.tokens("The door is", special=True)
    assert j.complete(ids, **GREEDY).choices[0].text == j.complete([ids], **GREEDY).choices[0].text == text


def tokens_and_texts(j):
    for text in ("Hello world", " The café ☕ of 東京\n\tx = 1", "a" * 300, "🌞🇩🇪", ""):
        for prefix in ("", "/v1"):
            ids = j.server.post(prefix + "/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"]
            back = j.server.post(prefix + "/detokenize", {"tokens": ids}).json()
            assert back["prompt"] == text and back["content"] == text, back
        theirs = j.server.post("/tokenize", {"content": text, "add_special": False, "parse_special": True}).json()
        assert theirs["tokens"] == ids
    assert len(j.tokens(j.eos)) == 1


def other_names(j):
    for path in ("/tokenizer_info", "/health"):
        assert j.server.get("/v1" + path).json() == j.server.get(path).json(), path


CHECKS = [
    plain_completion,
    scored_prompt,
    end_token_is_scored,
    several_prompts,
    token_prompts,
    tokens_and_texts,
    other_names,
]
