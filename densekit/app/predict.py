"""`densekit predict`: pictures in, COCO results and overlays out."""

from __future__ import annotations

import glob
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UsageError
from densekit.app.overrides import (
    device_name,
    existing,
    number,
    output_folder,
    refuse_rest,
    split_options,
)
from densekit.app.report import print_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.inference import Predictor

OPTIONS: dict[str, Any] = {
    "checkpoint": None,
    "source": None,
    "output": None,
    "threshold": 0.5,
    "annotations": None,
    "overlays": True,
    "device": "auto",
    "precision": None,
    "trust": [],
}
SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])


class Writer:
    """Collects results and draws overlays; `close` writes the files.

    Args:
        output: Folder; it is made.
        ids: Original category ids by head.
        names: Class names by head.
        threshold: Lowest score that is drawn.
        overlays: Whether to draw.
    """

    def __init__(
        self,
        output: Path,
        ids: Mapping[str, Sequence[int]],
        names: Mapping[str, Sequence[str]],
        threshold: float = 0.5,
        overlays: bool = True,
    ) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.ids = ids
        self.names = names
        self.threshold = threshold
        self.overlays = overlays
        self.results: dict[str, list[dict[str, Any]]] = {head: [] for head in ids}
        self.images: list[dict[str, Any]] = []

    def add(
        self,
        image: NDArray[Any],
        image_id: int,
        file: Path,
        name: Path,
        by_head: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Takes in one image.

        Args:
            image: (H, W, C).
            image_id: Its COCO id.
            file: Where it was read.
            name: Its overlay, relative to the folder of overlays.
            by_head: Head name to result, as `Predictor` returns them.
        """
        height, width = image.shape[:2]
        entry = {"id": image_id, "file_name": str(file), "height": height, "width": width}
        self.images.append(entry)
        for head, result in by_head.items():
            if "boxes" not in result:
                continue
            self.results[head] += coco_entries(result, image_id, self.ids[head])
            if self.overlays:
                folder = self.output / "overlays" / (head if len(self.ids) > 1 else "")
                self._draw(image, result, self.names[head], folder / name)

    def close(self) -> None:
        """Writes the results of each head, and which id is which file."""
        for head, entries in self.results.items():
            name = "results.json" if len(self.results) == 1 else f"results_{head}.json"
            (self.output / name).write_text(json.dumps(entries), encoding="utf-8")
        text = json.dumps(self.images, indent=1, ensure_ascii=False)
        (self.output / "images.json").write_text(text + "\n", encoding="utf-8")

    def _draw(
        self, image: NDArray[Any], result: Mapping[str, Any], names: Sequence[str], file: Path
    ) -> None:
        from densekit import pictures

        keep = result["scores"] >= self.threshold
        boxes, labels, scores = (result[key][keep] for key in ("boxes", "labels", "scores"))
        pictures.save(pictures.draw_boxes(image, boxes, labels, names, scores=scores), file)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 1 if an image was broken, 0 if none was."""
    options, rest = split_options(arguments, OPTIONS)
    refuse_rest("predict", rest, OPTIONS)
    checkpoint = existing("predict", "checkpoint", options["checkpoint"])
    threshold = number("predict", "threshold", options["threshold"], at_least=0)
    device = device_name("predict", options["device"])
    files, root = find_images(options["source"])
    ids = image_ids([file.relative_to(root) for file in files], options["annotations"])
    output = output_folder("predict", options["output"])
    predictor = _predictor(checkpoint, device, options)
    writer = Writer(
        output,
        class_ids(predictor.model.info, checkpoint),
        predictor.names,
        threshold,
        bool(options["overlays"]),
    )
    try:
        broken = _run(predictor, files, ids, overlay_names(files, root), writer)
    finally:
        writer.close()  # also what was done before an interrupt
    count = sum(len(entries) for entries in writer.results.values())
    print_lines(f"{len(writer.images)} images, {count} objects: {writer.output}")
    if broken:
        print_lines(f"{len(broken)} images could not be read:", *broken)
    return 1 if broken else 0


def find_images(source: str | None) -> tuple[list[Path], Path]:
    """The images of a folder (with its sub-folders), a file or a pattern, and their root.

    Raises:
        UsageError: There are none.
    """
    if not source:
        raise UsageError("densekit predict: source=FOLDER, FILE or GLOB is missing")
    path = Path(source).expanduser()
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
        root = path
    else:
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        found = [file for file in found if file.is_file()]
        root = _fixed_part(path)
    if not found:
        raise UsageError(f"densekit predict: source={source}: no image there")
    return found, root


def image_ids(files: Sequence[Path], annotations: str | None) -> list[int]:
    """COCO image ids: those of an annotation file, else numbers in the names, else 1, 2, 3.

    Args:
        files: Images, relative to the folder they were looked for in.
        annotations: COCO JSON whose `file_name`s are those of the images: the same path, else the
            same name in another folder.

    Raises:
        UsageError: The file is no COCO JSON, an image is not in it, or it is unclear which one is.
    """
    if annotations is None:
        stems = [file.stem for file in files]
        numbered = all(stem.isdecimal() for stem in stems)
        ids = [int(stem) for stem in stems] if numbered else []
        return ids if ids and len(set(ids)) == len(ids) else list(range(1, len(files) + 1))
    by_path = _listed_images(existing("predict", "annotations", annotations), annotations)
    return [by_path[path] for path in _matched(files, list(by_path), annotations)]


def _matched(files: Sequence[Path], listed: Sequence[Path], annotations: str) -> list[Path]:
    """The entry of each image: that of the same path, else the only one of the same name."""
    by_name: dict[str, list[Path]] = {}
    for path in listed:
        by_name.setdefault(path.name, []).append(path)
    known = set(listed)
    found = {file: [file] if file in known else by_name.get(file.name, []) for file in files}
    unknown = [file for file, paths in found.items() if not paths]
    if unknown:
        raise UsageError(
            f"annotations={annotations}: {len(unknown)} of {len(files)} images are not among its "
            f"file names, the first is {unknown[0]}"
        )
    taken: dict[Path, Path] = {}
    for file, paths in found.items():
        other = taken.setdefault(paths[0], file)
        if len(paths) > 1 or other != file:
            rivals = paths if len(paths) > 1 else [other, file]
            raise UsageError(
                f"annotations={annotations}: which image is {file}? {rivals[0]} and {rivals[1]} "
                "have the same name; choose source= so that paths are equal to its file names"
            )
    return [found[file][0] for file in files]


def _listed_images(file: Path, annotations: str) -> dict[Path, int]:
    """File name to id of the images of a COCO file."""
    try:
        content = json.loads(file.read_text("utf-8"))
        return {Path(image["file_name"]): int(image["id"]) for image in content["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"annotations={annotations}: no COCO JSON with images of file_name and id: {error!r}"
        ) from error


def coco_entries(
    result: Mapping[str, Any], image_id: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Detections of one image as COCO results: original category ids, boxes as x, y, w, h."""
    entries = []
    for box, score, label in zip(
        result["boxes"].tolist(), result["scores"].tolist(), result["labels"].tolist(), strict=True
    ):
        left, top, right, bottom = box
        entries.append(
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
                "score": round(score, 6),
            }
        )
    return entries


def class_ids(info: Mapping[str, Any], checkpoint: Path) -> dict[str, list[int]]:
    """Original category ids of each head."""
    heads = info.get("heads", {})
    silent = [name for name, head in heads.items() if not {"ids", "names"} <= head.keys()]
    if not heads or silent:
        raise UsageError(
            f"checkpoint={checkpoint}: its info does not name the classes: heads."
            f"{silent[0] if silent else 'NAME'} with ids and names is needed for results"
        )
    return {name: list(head["ids"]) for name, head in heads.items()}


def _predictor(checkpoint: Path, device: str, options: Mapping[str, Any]) -> Predictor:
    from densekit.inference import Predictor

    trust = options["trust"]
    trust = trust if isinstance(trust, list) else [trust]
    return Predictor(checkpoint, device=device, precision=options["precision"], trust=trust)


def _run(
    predictor: Predictor,
    files: Sequence[Path],
    ids: Sequence[int],
    names: Sequence[Path],
    writer: Writer,
) -> list[str]:
    """Predicts image by image; returns a message for each one that cannot be read."""
    from rich.progress import track

    broken = []
    for file, image_id, name in track(list(zip(files, ids, names, strict=True)), "predicting"):
        try:
            image = predictor.read(file)
        except ValueError as error:  # names the file
            broken.append(str(error))
            continue
        writer.add(image, image_id, file, name, predictor([image])[0])
    return broken


def overlay_names(files: Sequence[Path], root: Path) -> list[Path]:
    """Where each picture goes: as in the source, `.jpg`; names that would collide keep theirs."""
    relative = [file.relative_to(root) for file in files]
    short = [path.with_suffix(".jpg") for path in relative]
    return [
        name if short.count(name) == 1 else path.with_name(path.name + ".jpg")
        for name, path in zip(short, relative, strict=True)
    ]


def _fixed_part(pattern: Path) -> Path:
    """The folder of a pattern before its first wildcard."""
    parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    return Path(*parts)
