#!/usr/bin/env python3
"""Writes the code books of the IQ formats, src/blocks/codebooks, from the PyPI package `gguf`.

    pip install gguf numpy
    python3 scripts/codebooks.py src/blocks/codebooks

An entry is a little-endian word of 16 bits, the first element in the lowest bits: two bits for each of 8 elements
(IQ1, IQ2) or four bits for each of 4 (IQ3). An element is its place among the magnitudes of the format, smallest first.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import quants

BOOKS = {
    "iq1": quants.IQ1_S,
    "iq2_xxs": quants.IQ2_XXS,
    "iq2_xs": quants.IQ2_XS,
    "iq2_s": quants.IQ2_S,
    "iq3_xxs": quants.IQ3_XXS,
    "iq3_s": quants.IQ3_S,
}


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, kind in BOOKS.items():
        kind.init_grid()
        elements = np.array(kind.grid, dtype=np.float32).reshape(kind.grid_shape)
        levels = np.searchsorted(np.array(kind.grid_map, dtype=np.float32), elements)
        assert (np.array(kind.grid_map, dtype=np.float32)[levels] == elements).all()
        bits = 16 // kind.grid_shape[1]
        words = (levels << (bits * np.arange(kind.grid_shape[1]))).sum(axis=1)
        words.astype("<u2").tofile(folder / f"{name}.bin")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
