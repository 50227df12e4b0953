"""Findings about a data set, and the report that a person reads.

    findings = [*summarize("warning", "all-zero snippets", examples, advice="extract them again")]
    print(render(findings)); exit_code(findings)

All examples of one kind are one finding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from formats.problems import Kind, Problem
from utils.printable import one_line

# An error is refused by training or certainly wrong. A note is harmless, and explained.
SEVERITIES = ("error", "warning", "note")
SHOWN = 3  # examples of a finding, unless all are asked for


@dataclass(frozen=True, kw_only=True)
class Finding:
    severity: str  # one of SEVERITIES
    title: str
    examples: tuple[str, ...]
    advice: str  # what to do; empty if the examples say it

    @property
    def count(self) -> int:
        return len(self.examples)


def summarize(severity: str, title: str, examples: Sequence[str], *, advice: str = "") -> Iterator[Finding]:
    """Yield one finding with all of its examples, or none if there are no examples."""
    if examples:
        yield Finding(severity=severity, title=title, examples=tuple(examples), advice=advice)


def group_by_kind(problems: Iterable[Problem]) -> dict[Kind, list[Problem]]:
    """The problems of each kind, in the order in which kinds first occur."""
    groups: dict[Kind, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.kind, []).append(problem)
    return groups


def summarize_by_kind(severity: str, title: str, problems: Iterable[Problem]) -> Iterator[Finding]:
    """Yield one finding for each kind of problem; the examples say what to do."""
    for group in group_by_kind(problems).values():
        yield from summarize(severity, title, [str(problem) for problem in group])


def exit_code(findings: Iterable[Finding]) -> int:
    """The exit code: 0 fine, 1 warnings, 2 errors."""
    severities = {finding.severity for finding in findings}
    return 2 if "error" in severities else int("warning" in severities)


def render(findings: Sequence[Finding], *, shown: int | None = SHOWN) -> str:
    """Lay out findings, errors first, with a line of counts at the end; of each `shown` examples, None for all."""
    blocks = [_block(finding, shown) for severity in SEVERITIES for finding in findings if finding.severity == severity]
    counts = [sum(finding.severity == severity for finding in findings) for severity in SEVERITIES]
    total = ", ".join(
        f"{count} {severity}{'s' * (count != 1)}" for count, severity in zip(counts, SEVERITIES, strict=True)
    )
    return "\n\n".join([*blocks, f"{total}: exit code {exit_code(findings)}"])


def _block(finding: Finding, shown: int | None) -> str:
    examples = finding.examples[:shown]
    rest = finding.count - len(examples)
    lines = [f"{finding.severity}: {one_line(finding.title)}" + f" ({finding.count:,})" * (finding.count > 1)]
    lines += [f"    {one_line(example)}" for example in examples]
    lines += [f"    and {rest:,} more; --list shows all"] if rest else []
    lines += [f"  -> {one_line(finding.advice)}"] if finding.advice else []
    return "\n".join(lines)
