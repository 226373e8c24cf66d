"""Findings: what a check of an adapter, a bundle, a record or an installation has to say, as data and as text.

One type for all of them, so that one line in the terminal and one table in Markdown show them all.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "suspicious", "missing", "failed", "refused"]
"""What is missing, failed or refused stands in the way; what is suspicious a maintainer looks at."""


class CheckError(AssertionError):
    """A check that does not hold; `message` says what was seen, `hint` what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message, self.hint = message, hint


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule at one place.

    Attributes:
        rule: the rule or check by name.
        place: file and line, record or network; empty where the rule says it.
        message: what was seen; empty where nothing needs saying.
        hint: what to do; empty where nothing is to be done.
    """

    rule: str
    level: Level
    place: str = ""
    message: str = ""
    hint: str = ""

    @property
    def blocks(self) -> bool:
        """Whether it stands in the way."""
        return self.level in {"missing", "failed", "refused"}

    @property
    def seen(self) -> str:
        """The message, at its place."""
        return ": ".join(filter(None, (self.place, self.message)))

    def __str__(self) -> str:
        line = ": ".join(filter(None, (self.level, self.rule, self.seen)))
        return f"{line}\n    → {self.hint}" if self.hint else line


@dataclass(frozen=True)
class Report:
    """All findings on one adapter."""

    method: str
    file: str
    official: bool
    findings: tuple[Finding, ...] = ()

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.blocks)

    @property
    def suspicious(self) -> tuple[Finding, ...]:
        """The findings that a maintainer must look at."""
        return tuple(finding for finding in self.findings if finding.level == "suspicious")

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        counts = Counter(finding.level for finding in self.findings)
        return f"{self.method}: " + ", ".join(f"{count} {level}" for level, count in counts.items())

    def __str__(self) -> str:
        head = f"{self.verdict} ({self.file}{'' if self.official else ', unofficial'})"
        return "\n".join([head, *(f"  {finding}".replace("\n", "\n  ") for finding in self.findings)])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def markdown(reports: Iterable[Report]) -> str:
    """Return reports as Markdown: failures and suspicions with their hints first, everything in a table below."""
    lines: list[str] = []
    for report in reports:
        lines += [f"## `advbench check {report.method}`", "", f"**{report.verdict}** ({report.file})", ""]
        if not report.official:
            lines += ["Unofficial: the method lies outside the repository.", ""]
        for finding in (*report.failed, *report.suspicious):
            lines.append(f"- **{finding.rule}** ({finding.level}): {_cell(finding.seen)}")
            lines.append(f"  - {_cell(finding.hint)}")
        if report.failed or report.suspicious:
            lines.append("")
        lines += ["| | check | seen |", "|---|---|---|"]
        lines += [f"| {finding.level} | {finding.rule} | {_cell(finding.seen)} |" for finding in report.findings]
        lines.append("")
    return "\n".join(lines)
