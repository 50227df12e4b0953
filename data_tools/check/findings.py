"""What is found in a data set, and the report that a person reads.

    findings = [*found("warning", "all-zero snippets", examples, advice="extract them again")]
    print(render(findings)); exit_code(findings)

Examples of one kind are one finding, however many there are.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# An error is what training refuses or what is certainly wrong. A note is harmless, and explained.
SEVERITIES = ("error", "warning", "note")
SHOWN = 3  # examples of a finding


@dataclass(frozen=True)
class Finding:
    severity: str  # one of SEVERITIES
    kind: str
    count: int
    examples: tuple[str, ...]  # the first SHOWN
    advice: str  # what to do; empty where the examples say it


def found(severity: str, kind: str, examples: Sequence[str], *, advice: str = "") -> Iterator[Finding]:
    """One finding with all of its examples, or none where there are no examples."""
    if examples:
        yield Finding(severity, kind, len(examples), tuple(examples[:SHOWN]), advice)


def alike(severity: str, kind: str, messages: Sequence[str]) -> Iterator[Finding]:
    """One finding for all messages that say the same of different files, videos and numbers."""
    groups: dict[str, list[str]] = {}
    for message in messages:
        groups.setdefault(re.sub(r"'[^']*'|\S*/\S*|\d+", "", message), []).append(message)
    for group in groups.values():
        yield from found(severity, kind, group)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 fine, 1 warnings, 2 errors."""
    severities = {finding.severity for finding in findings}
    return 2 if "error" in severities else int("warning" in severities)


def render(findings: Sequence[Finding]) -> str:
    """Errors first, and a line that counts them at the end."""
    blocks = [_block(finding) for severity in SEVERITIES for finding in findings if finding.severity == severity]
    counts = [sum(finding.severity == severity for finding in findings) for severity in SEVERITIES]
    total = ", ".join(
        f"{count} {severity}{'s' * (count != 1)}" for count, severity in zip(counts, SEVERITIES, strict=True)
    )
    return "\n\n".join([*blocks, f"{total}: exit code {exit_code(findings)}"])


def _block(finding: Finding) -> str:
    rest = finding.count - len(finding.examples)
    lines = [f"{finding.severity}: {finding.kind}" + f" ({finding.count:,})" * (finding.count > 1)]
    lines += [f"    {example}" for example in finding.examples]
    lines += [f"    and {rest:,} more"] if rest else []
    lines += [f"  -> {finding.advice}"] if finding.advice else []
    return "\n".join(lines)
