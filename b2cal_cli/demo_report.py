"""What the demo has to show: constants beside the truth, verdicts, times, and where to look next."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b2cal_cli.demo_closure import Closure
from b2cal_cli.output import print_json, print_table, say
from b2cal_core.errors import CalibrationError

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """One calibration in one bucket; ``seconds`` is none when nothing was done for it now."""

    name: str
    made: bool
    verdict: str | None
    seconds: float | None
    closures: tuple[Closure, ...]

    @property
    def closes(self) -> bool:
        """Whether it has constants, and all agree with the truth."""
        return bool(self.closures) and all(closure.closes for closure in self.closures)


@dataclass(frozen=True, slots=True)
class BucketReport:
    """One bucket.

    Attributes:
        worked: false when nothing was missing.
        problems: what failed; when nothing did, what is waited for.
    """

    bucket: str
    calibrations: tuple[CalibrationReport, ...]
    published: bool
    worked: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The whole demo; ``simulated`` counts runs made now, ``seconds`` is wall time by kind of work."""

    home: Path
    seed: int
    runs: int
    simulated: int
    campaign: str
    target_tag: str
    buckets: tuple[BucketReport, ...]
    seconds: Mapping[str, float]

    @property
    def repeated_nothing(self) -> bool:
        """Whether a former demo had done everything."""
        return not self.simulated and not any(bucket.worked for bucket in self.buckets)

    def failures(self) -> tuple[str, ...]:
        """What did not close, or is not published, one sentence each."""
        sentences = []
        for bucket in self.buckets:
            sentences += [f"{bucket.bucket}: {problem}" for problem in bucket.problems]
            if not bucket.published:
                sentences.append(f"{bucket.bucket} is not published")
            sentences += [
                f"{bucket.bucket}: {calibration.name} does not agree with the truth"
                for calibration in bucket.calibrations
                if calibration.verdict and not calibration.closes
            ]
        return tuple(sentences) if self.buckets else ("no bucket was formed",)

    def require_success(self) -> None:
        """Raise ``CalibrationError`` unless everything closed and is published."""
        failures = self.failures()
        if failures:
            raise CalibrationError(
                "the demo did not succeed:\n" + "\n".join(f"  - {sentence}" for sentence in failures)
            )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        content = {**asdict(self), "home": str(self.home), "repeated_nothing": self.repeated_nothing}
        for bucket, report in zip(content["buckets"], self.buckets, strict=True):
            for fields, calibration in zip(bucket["calibrations"], report.calibrations, strict=True):
                fields["closes"] = calibration.closes
        return {**content, "closed": not self.failures()}


def print_report(report: DemoReport, *, as_json: bool) -> None:
    """Show the report on the standard output."""
    if as_json:
        print_json(report.to_json())
        return
    columns = (
        "calibration",
        "payload",
        "IoVs",
        "constants",
        "fitted",
        "true",
        "pull",
        "width",
        "closes",
        "verdict",
        "s",
    )
    for bucket in report.buckets:
        rows = [row for calibration in bucket.calibrations for row in _rows(calibration)]
        state = f"published to {report.target_tag}" if bucket.published else "not published"
        print_table(
            columns, rows, title=f"bucket {bucket.bucket}, {state}", empty=f"bucket {bucket.bucket}: nothing was made"
        )
    _say_times(report)
    if report.repeated_nothing:
        say("everything was done before; nothing was repeated")
    _say_next(report)


def _rows(calibration: CalibrationReport) -> list[tuple[object, ...]]:
    before = "before" if calibration.made else "-"
    seconds = before if calibration.seconds is None else f"{calibration.seconds:.1f}"
    own = (calibration.verdict or "-", seconds)
    if not calibration.closures:
        return [(calibration.name, *["-"] * 8, *own)]
    rows = []
    for number, closure in enumerate(calibration.closures):
        first = number == 0
        rows.append((calibration.name if first else "", *_cells(closure), *(own if first else ("", ""))))
    return rows


def _cells(closure: Closure) -> tuple[object, ...]:
    return (
        f"{closure.name}.{closure.column}",
        closure.iovs,
        closure.constants,
        _number(closure.fitted),
        _number(closure.true),
        f"{closure.pull_mean:+.2f}",
        "" if closure.constants == 1 else f"{closure.pull_width:.2f}",
        "yes" if closure.closes else "NO",
    )


def _number(value: float) -> str:
    """Five digits; what is only the rest of a rounding is shown as 0."""
    return f"{value if abs(value) > _ROUNDING else 0.0:.5g}"


def _say_times(report: DemoReport) -> None:
    whole = sum(report.seconds.values())
    parts = ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in report.seconds.items())
    say(f"{report.runs} runs ({report.simulated} simulated now), {len(report.buckets)} buckets, {whole:.1f} s: {parts}")
    say("fitted and true are means over the constants; pull and width are mean and r.m.s. of (fitted - true) / error")


def _say_next(report: DemoReport) -> None:
    home = f"--home {shlex.quote(str(report.home))}"
    say("Where to look next:")
    say(f"  b2cal up {home}                        lineage, partitions, plots and logs in the browser")
    if report.buckets:
        say(f"  b2cal bucket status {report.campaign} {report.buckets[0].bucket} {home}")
    say(f"  b2cal cdb iovs {report.target_tag} {home}")
