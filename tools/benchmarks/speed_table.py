"""Measures every row of docs/benchmarks/speed.md; writes its table and the chart, README's too.

    python tools/benchmarks/speed_table.py                 # about 20 minutes on 2 quiet cores
    python tools/benchmarks/speed_table.py coco_evaluation # one of them again
    python tools/benchmarks/speed_table.py --page          # only the page, from what is measured

Each work is a `densekit benchmark` of its own, whose results are kept in runs/speed/NAME.json: a
run that was stopped continues where it was.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from densekit._files import write_text
from densekit.app.studies.benchmark.chart import draw
from densekit.app.studies.benchmark.report import Report, markdown, markdown_table, read_report
from densekit.app.studies.benchmark.timing import Measured
from densekit.app.studies.benchmark.work import OURS

FOLDER = Path("runs", "speed")
PAGE, README = Path("docs/benchmarks/speed.md"), Path("README.md")
CHART, SMALL = Path("docs/images/speed.png"), Path("docs/images/speed_small.png")
ALT = "Speed of every row relative to the peer's eager float32"
IN_README = (
    "detector_r50_train",
    "detector_r50_predict",
    "unet_r50_predict",
    "deeplabv3plus_r50_predict",
)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PRECISIONS = ("fp32", "bf16", "int8")
ENGINES = "engine=[eager,inductor,onnxruntime,openvino] precision=[fp32,bf16,int8]"
FEWER = "engine=[eager,openvino] precision=[fp32,bf16,int8]"
"""Without what takes minutes to compile or is slower."""


@dataclass(frozen=True)
class Wanted:
    """One line of the table.

    Attributes:
        name: Of its file and on the command line.
        label: In the table.
        arguments: Of `densekit benchmark`.
        aim: Times the peer's eager fp32 that ours is to reach, by precision.
    """

    name: str
    label: str
    arguments: str
    aim: str


WANTED = (
    Wanted(
        "detector_r18_train",
        "Faster R-CNN R18 training, 4 x 320x448",
        "step=train rounds=3",
        "2.5x / 5x",
    ),
    Wanted(
        "detector_r50_train",
        "Faster R-CNN R50 training, 2 x 480x640",
        "step=train depth=50 size=[480,640] batch=2 rounds=3",
        "2.2x / 4.5x",
    ),
    Wanted(
        "retinanet_r50_train",
        "RetinaNet R50 training, 2 x 480x640",
        "work=retinanet step=train depth=50 size=[480,640] batch=2 rounds=3",
        "1.5x",
    ),
    Wanted(
        "fcos_r50_train",
        "FCOS R50 training, 2 x 480x640",
        "work=fcos step=train depth=50 size=[480,640] batch=2 rounds=3",
        "1.5x",
    ),
    Wanted(
        "detector_r50_predict",
        "Faster R-CNN R50 prediction, 1 x 800x1088",
        f"step=predict depth=50 size=[800,1088] batch=1 rounds=5 {ENGINES}",
        "2.3x / 5x / 8x",
    ),
    Wanted(
        "detector_r18_predict",
        "Faster R-CNN R18 prediction, 1 x 320x448",
        f"step=predict batch=1 rounds=9 {FEWER}",
        "3x / 6x / 9x",
    ),
    Wanted(
        "mask_rcnn_r18_train",
        "Mask R-CNN R18 training, 4 x 320x448",
        "work=mask_rcnn step=train rounds=3",
        "2x / 4x",
    ),
    Wanted(
        "mask_rcnn_r50_predict",
        "Mask R-CNN R50 prediction with pasted masks, 1 x 800x1088",
        "work=mask_rcnn step=predict depth=50 size=[800,1088] batch=1 rounds=5",
        "2x / 4x",
    ),
    Wanted(
        "unet_r50_predict",
        "U-Net R50 prediction, 1 x 512x512",
        f"work=unet step=predict depth=50 size=[512,512] batch=1 rounds=9 {FEWER}",
        "2x / 5x / 8x",
    ),
    Wanted(
        "deeplabv3plus_r50_predict",
        "DeepLabV3+ R50 prediction, 1 x 512x512",
        f"work=deeplabv3plus step=predict depth=50 size=[512,512] batch=1 rounds=9 {FEWER}",
        "2x / 5x / 8x",
    ),
    Wanted(
        "unet_r18_train",
        "U-Net R18 training, 8 x 256x320",
        "work=unet step=train size=[256,320] batch=8 rounds=3",
        "1.4x / 3x",
    ),
    Wanted(
        "deeplabv3plus_r18_train",
        "DeepLabV3+ R18 training, 8 x 256x320",
        "work=deeplabv3plus step=train size=[256,320] batch=8 rounds=3",
        "1.4x / 3x",
    ),
    Wanted(
        "coco_evaluation",
        "COCO evaluation of 5,000 images",
        "work=coco_evaluation batch=5000 rounds=1",
        "25x",
    ),
    Wanted(
        "sliding_window",
        "Sliding window, U-Net R18, 1 x 1024x1024",
        "work=sliding_window rounds=3",
        "",
    ),
    Wanted("arcface", "ArcFace, 256 embeddings, 10,000 identities", "work=arcface rounds=21", ""),
    Wanted("cosface", "CosFace, 256 embeddings, 10,000 identities", "work=cosface rounds=21", ""),
)


def main(arguments: list[str]) -> None:
    """Measures what is missing or named, and writes the page and the chart."""
    known = {wanted.name: wanted for wanted in WANTED}
    if unknown := [name for name in arguments if name not in (*known, "--page")]:
        raise SystemExit(f"expected some of {', '.join(known)} or --page, got {unknown[0]}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    if "--page" not in arguments:
        for name in arguments or [name for name in known if not _file(name).exists()]:
            _measure(known[name])
    found = {name: read_report(_file(name)) for name in known if _file(name).exists()}
    if not found:
        raise SystemExit("nothing is measured yet")
    draw(list(found.values()), CHART)
    _replace(PAGE, [f"![{ALT}](../images/{CHART.name})", "", *_sections(found)])
    draw([found[name] for name in IN_README if name in found], SMALL)
    _replace(README, [f"[![{ALT}]({SMALL})]({PAGE})"])
    missing = [name for name in known if name not in found]
    print(f"{PAGE}, {CHART}" + (f"; not measured: {', '.join(missing)}" if missing else ""))


def _file(name: str) -> Path:
    return FOLDER / f"{name}.json"


def _measure(wanted: Wanted) -> None:
    command = [sys.executable, "-m", "densekit", "benchmark", *wanted.arguments.split()]
    print(f"densekit benchmark {wanted.arguments}", flush=True)
    subprocess.run([*command, f"output={_file(wanted.name)}"], check=False)


def _replace(file: Path, lines: list[str]) -> None:
    """Replaces what stands between the marks of a file."""
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    write_text(file, "\n".join([before + BEGIN, *lines, END + after]))


def _sections(found: dict[str, Report]) -> list[str]:
    """The table of all works, and a section with all rows for each."""
    columns = ["work", "peer fp32", "peer bf16", "peer compiled fp32 / bf16"]
    columns += [*(f"ours {precision}" for precision in PRECISIONS), "aim", "at the peak"]
    wanted = [one for one in WANTED if one.name in found]
    lines = markdown_table(columns, [_line(one, found[one.name]) for one in wanted])
    for one in wanted:
        lines += ["", f"## {one.label}", "", *markdown(found[one.name])]
    return lines


def _line(wanted: Wanted, report: Report) -> list[str]:
    peer = report.rows[0]
    theirs = [row for row in report.rows if row.who != OURS]
    ours = [row for row in report.rows if row.who == OURS]
    compiled = [_best(theirs, name, "inductor") for name in PRECISIONS[:2]]
    return [
        wanted.label,
        f"{peer.seconds:.3g} s",
        _best(theirs, "bf16", "eager"),
        " / ".join(compiled) if any(text != "-" for text in compiled) else "-",
        *(_best(ours, precision) for precision in PRECISIONS),
        wanted.aim or "-",
        " / ".join(_limits(report)) or "-",
    ]


def _limits(report: Report) -> list[str]:
    """How many times the peer's eager fp32 our operations take at the peak of convolutions."""
    peer, peaks = report.rows[0], report.machine.peaks
    flops = next((row.flops for row in report.rows if row.who == OURS and row.flops), None)
    found = [peak for precision in PRECISIONS if (peak := peaks.get(precision))]
    return (
        [f"{peer.seconds * peak / flops:.1f}x" for peak in found] if flops and peer.seconds else []
    )


def _best(rows: list[Measured], precision: str, engine: str | None = None) -> str:
    """The fastest row of a precision, with its engine unless that is eager or asked for."""
    found = [
        row
        for row in rows
        if (row.precision or "fp32") == precision and engine in (None, row.engine) and row.speedup
    ]
    if not found:
        return "-"
    best = max(found, key=lambda row: row.speedup or 0)
    by = f" ({best.engine})" if engine is None and best.engine not in ("", "eager") else ""
    return f"{best.speedup:.2f}x{by}"


if __name__ == "__main__":
    main(sys.argv[1:])
