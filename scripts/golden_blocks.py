#!/usr/bin/env python3
"""Writes the golden block files of tests/data/blocks with the PyPI package `gguf`.

    pip install gguf numpy
    python3 scripts/golden_blocks.py tests/data/blocks [libggml-base.so]

Q1_0 and Q2_0, which the package does not decode, need llama.cpp's library; without it their files stay as they are.

values.f32           values to encode (little-endian, a multiple of 256)
TYPE.encoded         those values as the package encodes them; only for types that are written and it can encode
TYPE.blocks          random valid blocks: extreme, negative, subnormal and zero scales
TYPE.decoded         TYPE.blocks as the package decodes them, f32
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

# Per type: byte offsets of the f16 scales in a block.
SCALES = {
    "F32": [],
    "F16": [0],
    "BF16": [],
    "Q8_0": [0],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
}

# The same for types that are only read.
READ_SCALES = {
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "IQ2_XXS": [0],
    "IQ2_XS": [0],
    "IQ3_XXS": [0],
    "IQ1_S": [0],
    "IQ3_S": [0],
    "IQ2_S": [0],
    "IQ4_XS": [0],
    "IQ1_M": [],
    "TQ1_0": [52],
    "TQ2_0": [64],
    "MXFP4": [],
    "NVFP4": [],
}

# Types that llama.cpp's library decodes: elements and bytes of a block.
BY_LIBRARY = {"Q1_0": (128, 18), "Q2_0": (64, 18)}

# Scales that every type's blocks contain, next to random ones: largest, smallest normal and subnormal, zeros.
EDGE_SCALES = np.array([0x7BFF, 0xFBFF, 0x0400, 0x8400, 0x0001, 0x8001, 0x03FF, 0x0000, 0x8000], dtype=np.uint16)


def fused_differs(x: np.ndarray, half: int, steps: int) -> np.ndarray:
    """Rows of x (rows, 32) where a fused multiply-add gives another code than two roundings.

    Codes are those of the formats `d * (q - half)` (steps = 0) or `d * q + m` (half = 0).
    """
    low = x.min(axis=1, keepdims=True) if steps else np.float32(0)
    extreme = np.take_along_axis(x, abs(x).argmax(axis=1, keepdims=True), axis=1)
    d = (x.max(axis=1, keepdims=True) - low) / np.float32(steps) if steps else extreme / np.float32(-half)
    inverse, bias = np.float32(1) / d, np.float32(half + 0.5)
    separate = (x - low) * inverse + bias
    # The f64 product is exact, and so is the sum near a change of the code.
    fused = ((x - low).astype(np.float64) * inverse + bias).astype(np.float32)
    return x[(np.trunc(separate) != np.trunc(fused)).any(axis=1)]


def fused_groups(rng: np.random.Generator) -> list[np.ndarray]:
    """One group each for Q4_0, Q5_0, Q4_1 and Q5_1 whose codes a fused multiply-add would change."""
    groups = []
    for half, steps in [(8, 0), (16, 0), (0, 15), (0, 31)]:
        codes = rng.integers(1, 2 * half + steps, (4096, 32)) - 0.5  # halfway between two codes
        codes[:, 0] = 0
        if steps:
            codes[:, 1] = steps
        d = rng.uniform(0.01, 0.1, (4096, 1))
        low = rng.normal(size=(4096, 1)) if steps else 0
        groups.append(fused_differs((low + d * (codes - half)).astype(np.float32), half, steps)[0])
    return groups


def values(rng: np.random.Generator) -> np.ndarray:
    """Sixty-four groups of 32 values."""
    ramp = np.arange(32, dtype=np.float32)
    groups = [
        np.zeros(32),
        np.full(32, 0.37),
        np.full(32, -0.37),
        ramp,
        -ramp,
        ramp - 16,
        16 - ramp,
        (ramp - 16) / 2,
        (ramp - 15.5) / 4,
        np.where(ramp % 2 == 0, 1.5, -1.5),
        np.where(ramp == 5, -100, ramp / 100),
        np.where(ramp == 31, 100, -ramp / 100),
        np.where(ramp == 0, 127, ramp - 15.5),
        np.minimum(ramp / 2, 15),
        1 + ramp / 2**8,
        1 + ramp / 2**11,
        ramp / 2**25,
        rng.normal(size=32) * 1e-36,
        rng.normal(size=32) * 1e-7,
        rng.normal(size=32) * 1e-4,
        rng.normal(size=32) * 1e4,
        rng.normal(size=32) * 3e6,
        1 + rng.normal(size=32) * 1e-4,
        *fused_groups(rng),
    ]
    while len(groups) < 64:
        scale = 10.0 ** rng.uniform(-3, 1)
        groups.append(rng.normal(size=32) * scale if len(groups) % 2 else rng.laplace(size=32) * scale)
    return np.concatenate(groups).astype("<f4")


def random_scales(rng: np.random.Generator, count: int, column: int) -> np.ndarray:
    scales = (rng.normal(size=count) * 10.0 ** rng.uniform(-5, 3, count)).astype("<f2").view(np.uint16)
    # Roll, so that a block's scale and minimum take different edge cases.
    scales[: len(EDGE_SCALES)] = np.roll(EDGE_SCALES, 4 * column)
    return scales


def random_blocks(name: str, length: int, size: int, rng: np.random.Generator) -> np.ndarray:
    count = {1: 256, 32: 36, 64: 24, 128: 12, 256: 12}[length]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for column, offset in enumerate((SCALES | READ_SCALES).get(name, [0])):
        scales = random_scales(rng, count, column)
        blocks[:, offset : offset + 2] = scales.reshape(-1, 1).view(np.uint8)
    if name == "IQ1_M":
        # Four bits each in the upper bits of the last four words.
        words = blocks[:, 48:].view("<u2")
        bits = random_scales(rng, count, 0).reshape(-1, 1) >> np.array([0, 4, 8, 12], dtype=np.uint16)
        words[:] = (words & 0x0FFF) | (bits & 15) << 12
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(90, 140, count)
        blocks[:6, 0] = [0, 1, 2, 3, 251, 252]
    if name == "NVFP4":
        blocks[:, :4] = rng.integers(0, 0x7F, (count, 4))
        blocks[:2, :4] = [[0, 1, 7, 8], [9, 0x78, 0x7E, 0x40]]
    return blocks


def by_library(library: str, rng: np.random.Generator, folder: Path) -> None:
    load = ctypes.CDLL(library)
    for name, (length, size) in BY_LIBRARY.items():
        blocks = random_blocks(name, length, size, rng)
        blocks.tofile(folder / f"{name}.blocks")
        out = np.empty(len(blocks) * length, dtype="<f4")
        decode = getattr(load, f"dequantize_row_{name.lower()}")
        decode(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(len(out)))
        out.tofile(folder / f"{name}.decoded")


def main(folder: Path, library: str | None) -> None:
    rng = np.random.default_rng(20240229)
    x = values(rng)
    x.tofile(folder / "values.f32")
    for name in [*SCALES, *READ_SCALES]:
        kind = GGMLQuantizationType[name]
        try:
            if name in SCALES:
                with np.errstate(over="ignore"):
                    quantize(x, kind).view(np.uint8).tofile(folder / f"{name}.encoded")
        except NotImplementedError:
            print(f"{name}: the package cannot encode it, decoding only")
        blocks = random_blocks(name, *GGML_QUANT_SIZES[kind], rng)
        blocks.tofile(folder / f"{name}.blocks")
        with np.errstate(invalid="ignore"):
            dequantize(blocks, kind).astype("<f4").tofile(folder / f"{name}.decoded")
    if library:
        by_library(library, rng, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
