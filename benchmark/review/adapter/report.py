"""What a check found, as data: shown in the terminal, and as Markdown for a pull request."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["passed", "suspicious", "failed", "not run"]
MARKS: dict[State, str] = {"passed": "✓", "suspicious": "!", "failed": "✗", "not run": "–"}
"""A failure stands in the way; what is suspicious a maintainer looks at."""


class Broken(AssertionError):  # noqa: N818 (a verdict, not an accident)
    """A check that a method does not pass; the message says what was seen, `mend` what to do about it."""

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(f"{said}; {mend}")
        self.said, self.mend = said, mend


@dataclass(frozen=True)
class Finding:
    """One check and how it went.

    Attributes:
        topic: "source", "card", "contract", "learning", "tools" or "digits".
        name: the check in words.
        said: what was seen; empty where nothing needs saying.
        mend: what to do about it.
        seconds: what the check took.
    """

    topic: str
    name: str
    state: State
    said: str = ""
    mend: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """Everything that was checked of one method."""

    method: str
    file: str
    official: bool
    findings: tuple[Finding, ...] = field(default=())

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.state == "failed")

    @property
    def suspicious(self) -> tuple[Finding, ...]:
        """The findings that a maintainer must look at."""
        return tuple(finding for finding in self.findings if finding.state == "suspicious")

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        counts = {state: sum(finding.state == state for finding in self.findings) for state in MARKS}
        return f"{self.method}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def markdown(reports: Iterable[Report]) -> str:
    """Return reports as Markdown: failures and suspicions with their mends first, everything in a table below."""
    lines: list[str] = []
    for report in reports:
        lines += [f"## `advbench check {report.method}`", "", f"**{report.verdict}** ({report.file})", ""]
        if not report.official:
            lines += ["Unofficial: the method lies outside the repository.", ""]
        for finding in (*report.failed, *report.suspicious):
            lines += [f"- **{finding.name}** ({finding.state}): {_cell(finding.said)}", f"  - {_cell(finding.mend)}"]
        if report.failed or report.suspicious:
            lines.append("")
        lines += ["| | topic | check | seen | s |", "|---|---|---|---|---:|"]
        for finding in report.findings:
            said = _cell(finding.said) if finding.state != "not run" else f"not run: {_cell(finding.said)}"
            mark = MARKS[finding.state]
            lines.append(f"| {mark} | {finding.topic} | {finding.name} | {said} | {finding.seconds:.1f} |")
        lines.append("")
    return "\n".join(lines)
