"""The processor, and which class of instructions it has."""

import platform
from pathlib import Path

# The first whose flags are all there names the class.
X86 = [
    ("AMX", ["amx_int8"]),
    ("AVX-512 VNNI", ["avx512f", "avx512bw", "avx512_vnni"]),
    ("AVX-512 without VNNI", ["avx512f", "avx512bw"]),
    ("AVX-VNNI", ["avx2", "fma", "f16c", "avx_vnni"]),
    ("AVX2 alone", ["avx2", "fma", "f16c"]),
    ("SSE4.1", ["sse4_1"]),
]
ARM = [("Neon with i8mm", ["i8mm"]), ("Neon with dotprod", ["asimddp"]), ("Neon", ["asimd"])]


def lines() -> list[tuple[str, str]]:
    found = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return [(key.strip(), value.strip()) for key, _, value in found]


def cpu_name() -> str:
    return next((value for key, value in lines() if key.lower().startswith("model name") or key == "Model"), platform.machine())


def cpu_class() -> str:
    """Such as "AVX-512 VNNI": what the fastest kernels for it can use."""
    flags = next((value.split() for key, value in lines() if key.lower() in ("flags", "features")), [])
    known = (name for name, needed in X86 + ARM if set(needed) <= set(flags))
    return next(known, f"{platform.machine()} without known extensions")
