"""What bench_peers.py found, as Markdown and as a chart."""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

OURS = "smolt"
COLOURS = ["#2f7d5b", "#3b6fb5", "#8a5fb0"]
SLOWER = "#b5523b"


@dataclass
class Case:
    """One row of the report: values of every side, one each round."""

    model: str
    threads: int
    name: str
    unit: str
    # By side, OURS among them.
    values: dict[str, list[float]]
    note: str = ""
    lower_is_better: bool = False
    shares: list[float] | None = None

    def median(self, side: str) -> float:
        return statistics.median(self.values[side])

    def ratio(self, peer: str) -> float:
        """Ours to a peer's; for times and sizes, below 1 is better."""
        return self.median(OURS) / self.median(peer)

    def spread(self, side: str) -> str:
        values = self.values[side]
        digits = 0 if statistics.median(values) >= 1000 else 1
        middle, low, high = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
        return f"{middle} {self.unit} ({low}-{high})"


class Report:
    """The cases of all models, beside those of the same model and threads that generate from an empty context."""

    def __init__(self, cases: list[Case], peers: list[str], facts: list[str], one_row: str, steps: dict[str, int]):
        self.cases, self.peers, self.facts = cases, peers, facts
        self.one_row, self.steps = one_row, steps

    def markdown(self) -> str:
        lines = [f"# smolt beside {' and '.join(self.peers)}", ""]
        lines += [f"* {fact}" for fact in self.facts] + [""]
        for model in dict.fromkeys(case.model for case in self.cases):
            size = os.path.getsize(model) / 1e6
            lines += [f"## {Path(model).name} ({size:.1f} MB)", ""]
            heads = ["", "threads", OURS, *(cell for peer in self.peers for cell in (peer, "ratio")), "of read bandwidth", ""]
            lines += [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
            lines += [self.row(case) for case in self.cases if case.model == model] + [""]
        return "\n".join(lines)

    def row(self, case: Case) -> str:
        share = f"{statistics.median(case.shares):.0%}" if case.shares else ""
        notes = [case.note] if case.note else []
        notes += self.beside_one_row(case)
        if case.lower_is_better:
            notes.append("less is better")
        beside = [cell for peer in self.peers for cell in (case.spread(peer), f"**{case.ratio(peer):.2f}**")]
        cells = [case.name, case.threads, case.spread(OURS), *beside, share, ", ".join(notes)]
        return "| " + " | ".join(map(str, cells)) + " |"

    def beside_one_row(self, case: Case) -> list[str]:
        """Every side's speed, or the cost of a step, beside generating from an empty context."""
        base = next(
            (
                other
                for other in self.cases
                if (other.model, other.threads, other.name) == (case.model, case.threads, self.one_row)
            ),
            None,
        )
        if base is None or case is base:
            return []
        kept = [case.median(side) / base.median(side) for side in case.values]
        if case.name in self.steps:
            costs = [f"{self.steps[case.name] / share:.2f}" for share in kept]
            return [f"a step costs {listed(costs)} of one token"]
        if case.name.startswith("tg"):
            return [f"{listed([f'{share:.0%}' for share in kept])} of {self.one_row}"]
        return []

    def svg(self) -> str:
        """Bars of the ratios in speed; the line marks a peer's."""
        cases = [case for case in self.cases if not case.lower_is_better]
        bars = [(case, peer) for case in cases for peer in self.peers]
        row, left, width = 22, 420, 360
        most = max(2.0, *(case.ratio(peer) for case, peer in bars)) * 1.1
        scale = width / most
        height = row * len(bars) + 50
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {height}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="10" y="18" font-size="14">Tokens per second, {" and ".join(self.peers)} = 1</text>',
        ]
        for i, (case, peer) in enumerate(bars):
            y, ratio = 30 + i * row, case.ratio(peer)
            beside = f", beside {peer}" if len(self.peers) > 1 else ""
            label = f"{Path(case.model).stem}, {case.name}, t={case.threads}{beside}"
            label = label.replace("&", "&amp;").replace("<", "&lt;")
            colour = COLOURS[self.peers.index(peer) % len(COLOURS)] if ratio >= 1 else SLOWER
            parts += [
                f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{label}</text>',
                f'<rect x="{left}" y="{y}" width="{ratio * scale:.1f}" height="{row - 6}" fill="{colour}"/>',
                f'<text x="{left + ratio * scale + 5:.1f}" y="{y + 13}">{ratio:.2f}</text>',
            ]
        x = f"{left + scale:.1f}"
        parts.append(f'<line x1="{x}" y1="26" x2="{x}" y2="{height - 14}" stroke="#222"/>')
        return "\n".join([*parts, "</svg>", ""])


def listed(texts: list[str]) -> str:
    return f"{', '.join(texts[:-1])} and {texts[-1]}"
