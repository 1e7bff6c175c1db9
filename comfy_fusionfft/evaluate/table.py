"""The text table of a Report: a row per clip, drop and method, means beside references, then what went worst."""

from __future__ import annotations

from collections.abc import Iterator

from .report import SLACK, Bad, Reference, Report, Row


def table(report: Report) -> str:
    rows, means = report.rows, report.means
    name = max([4, *(len(_name(row)) for row in (*rows, *means))])
    method = max(len(row.method) for row in rows)
    head = f"{'clip':{name}}  ×  {'method':{method}}   PSNR    SSIM   energy    tOF   frames  s/frame"
    lines = [head, "-" * len(head), *(_line(row, name, method) for row in rows), "-" * len(head)]
    previous = None
    for row in means:
        if previous is not None and row.group != previous:
            lines += _references(report, previous, name)
        previous = row.group
        lines.append(_line(row, name, method))
    lines += _references(report, previous, name)
    return "\n".join((*lines, *_protocols(report), *_defeats(report), *_worst(report)))


def _name(item: Row | Reference) -> str:
    return " ".join(part for part in (item.group, getattr(item, "clip", "")) if part)


def _line(row: Row, name: int, method: int) -> str:
    return (
        f"{_name(row):{name}}  {row.drop}  {row.method:{method}}  {row.psnr:6.2f}  {row.ssim:.4f}"
        f"  {row.energy_ratio:6.3f}  {row.tof:6.3f}  {row.frames:6d}  {row.seconds:7.3f}"
    )


def _references(report: Report, group: str, name: int) -> Iterator[str]:
    for item in report.references:
        if item.group == group:
            partly = "" if item.here == item.scenes else f", of which {item.here} are here"
            yield f"{group:{name}}     {item.psnr:.2f} dB  reference: {item.method}, {item.scenes} scenes{partly}"


def _protocols(report: Report) -> Iterator[str]:
    for group, text in report.protocol.get("benchmarks", {}).items():
        yield f"{group}: {text}"


def _defeats(report: Report) -> Iterator[str]:
    if report.defeats:
        yield f"clips on which {report.methods[-1]} is worse by more than {SLACK} dB than"
    for d in report.defeats:
        names = ", ".join(f"{clip} ({lead:+.2f})" for clip, lead in sorted(d.worse.items(), key=lambda item: item[1]))
        yield f"  {' '.join((d.group, d.method)).strip()} {d.drop}×: {len(d.worse)} of {d.clips}{names and ': '}{names}"


def _worst(report: Report) -> Iterator[str]:
    yield f"worst frames of {report.methods[-1]}"
    for bad in report.worst:
        yield f"  {title(bad)}"


def title(bad: Bad) -> str:
    """Which frame, how good, and how far behind the best other method; ASCII, for sheets too."""
    ours = bad.ours
    frame = f"frame {ours.frame}" if ours.frame.isdecimal() else ours.frame
    where = f"{ours.group} {ours.clip} x{ours.drop} {frame}: {ours.psnr:.2f} dB".strip()
    return where if bad.best is None else f"{where}, {bad.best.method} {bad.best.psnr:.2f} dB ({bad.lead:+.2f})"
