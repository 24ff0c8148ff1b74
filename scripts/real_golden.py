#!/usr/bin/env python3
"""Asks llama.cpp what the real models say, for tests/real.rs to compare with.

    scripts/real_golden.py FOLDER TEXT [OUT]     FOLDER: of scripts/real_models.sh; OUT: tests/data/real

For every model of FOLDER, OUT/NAME.json gets

    sha256, llama_cpp   the file, and the version of the package with the instruction sets that it was built for
    perplexity          of OUT/text.txt and of TEXT, by the protocol of llama-perplexity; `exact` that of the same weights in
                        F16, with which nothing is rounded to 8 bits
    prompts             of OUT/prompts.json: the conversations of `chat` by the model's template, rendered by Jinja2 as Hugging
                        Face sets it up, else the beginnings of `text`. Their ids; `greedy`: the 200 tokens that follow, each
                        the likeliest, also behind an end token; `gaps`: the thousandths by which each one's logit was above
                        the second, at most 9999; and `exact`: above all others, by the weights in F16

TEXT is data/text/eval-speeches.txt of the shared data, of which the first 75,000 bytes are read.
Needs: pip install llama-cpp-python gguf numpy jinja2
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
from golden_templates import environment
from llama_worker import Llama

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 200
CHUNK = 512
LARGEST_GAP = 9999
LONG_TEXT_BYTES = 75_000


class Reference(Llama):
    """A model whose logits are looked at."""

    def __init__(self, path: Path):
        super().__init__(str(path), threads=1, context=2 * CHUNK, flash="auto")
        self.size = self.lib.llama_vocab_n_tokens(self.vocab)
        self.rows = self.lib.llama_batch_init(CHUNK, 0, 1)

    def row(self, at: int) -> numpy.ndarray:
        logits = self.lib.llama_get_logits_ith(self.context, at)
        return numpy.ctypeslib.as_array(logits, (self.size,)).astype(numpy.float64)

    def template(self) -> str | None:
        text = self.lib.llama_model_chat_template(self.model, None)
        return text.decode() if text else None

    def greedy(self, prompt: list[int]) -> tuple[list[int], list[int]]:
        """The likeliest tokens and their leads over the second."""
        self.forget()
        self.feed(prompt)
        tokens, gaps = [], []
        for _ in range(TOKENS):
            logits = self.row(-1)
            second, best = numpy.argpartition(logits, -2)[-2:]
            tokens.append(int(best))
            gaps.append(min(LARGEST_GAP, int(1000 * (logits[best] - logits[second]))))
            self.feed([int(best)])
        return tokens, gaps

    def leads(self, prompt: list[int], tokens: list[int]) -> list[int]:
        """How far each token's logit is above all others, the text read at once."""
        first = len(prompt) - 1
        self.read([*prompt, *tokens[:-1]], first)
        found = []
        for place, token in enumerate(tokens):
            logits = self.row(first + place)
            own, logits[token] = logits[token], -numpy.inf
            found.append(max(-LARGEST_GAP, min(LARGEST_GAP, int(1000 * (own - logits.max())))))
        return found

    def perplexity(self, text: str) -> dict:
        tokens = self.tokenize(text.removesuffix("\n"))
        start = self.lib.llama_vocab_bos(self.vocab) if self.lib.llama_vocab_get_add_bos(self.vocab) else None
        losses = []
        for first in range(0, len(tokens) - CHUNK + 1, CHUNK):
            part = tokens[first : first + CHUNK]
            self.read([start, *part[1:]] if start is not None else part, CHUNK // 2)
            for at in range(CHUNK // 2, CHUNK - 1):
                logits = self.row(at)
                losses.append(numpy.logaddexp.reduce(logits) - logits[part[at + 1]])
        return {"tokens": len(tokens), "scored_tokens": len(losses), "ppl": float(numpy.exp(numpy.mean(losses)))}

    def read(self, tokens: list[int], first: int) -> None:
        """Reads a text for the logits from a token on."""
        self.forget()
        self.rows.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.rows.token[i], self.rows.pos[i] = token, i
            self.rows.n_seq_id[i], self.rows.seq_id[i][0] = 1, 0
            self.rows.logits[i] = i >= first
        if self.lib.llama_decode(self.context, self.rows) != 0:
            raise RuntimeError("llama_decode failed")


def in_halves(path: Path, out: Path) -> None:
    """Writes a model with its weights in F16, as they are when they are decoded."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            is_list = field.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=field.types[-1] if is_list else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1].tolist())
        writer.add_tensor(tensor.name, values.astype(numpy.float32 if values.ndim == 1 else numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def render(template: str, messages: list[dict]) -> str:
    return environment().from_string(template).render(messages=messages, add_generation_prompt=True)


def golden(path: Path, given: dict, texts: dict[str, str]) -> dict:
    model = Reference(path)
    template = model.template()
    if template:
        prompts = [{"messages": messages, "ids": model.tokenize(render(template, messages), True)} for messages in given["chat"]]
    else:
        prompts = [{"text": start, "ids": model.tokenize(start)} for start in given["text"]]
    with tempfile.TemporaryDirectory() as scratch:
        halves = Path(scratch) / path.name
        in_halves(path, halves)
        exact = Reference(halves)
        for prompt in prompts:
            prompt["greedy"], prompt["gaps"] = model.greedy(prompt["ids"])
            prompt["exact"] = exact.leads(prompt["ids"], prompt["greedy"])
            print(f"{path.name}: {len(prompt['ids'])} tokens, closest {min(prompt['gaps'])}", file=sys.stderr)
        perplexity = {name: model.perplexity(text) | {"exact": exact.perplexity(text)["ppl"]} for name, text in texts.items()}
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "llama_cpp": model.build(),
        "perplexity": perplexity,
        "prompts": prompts,
    }


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, long_text = Path(sys.argv[1]), Path(sys.argv[2])
    out = Path(sys.argv[3] if len(sys.argv) > 3 else ROOT / "tests/data/real")
    given = json.loads((out / "prompts.json").read_text())
    texts = {"short": (out / "text.txt").read_text(), "long": long_text.read_bytes()[:LONG_TEXT_BYTES].decode(errors="strict")}
    for path in sorted(folder.glob("*.gguf")):
        found = golden(path, given, texts)
        # One prompt a line: differences between versions can be read.
        prompts = ",\n".join(json.dumps(prompt, ensure_ascii=False, separators=(",", ":")) for prompt in found.pop("prompts"))
        head = json.dumps(found, ensure_ascii=False, indent=1).removesuffix("\n}")
        file = out / f"{path.stem}.json"
        file.write_text(f'{head},\n "prompts": [\n{prompts}\n]}}\n')
        print(f"{file}: {file.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
