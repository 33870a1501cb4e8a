"""`densekit search`: finds the images of a gallery that are most similar to one image."""

from __future__ import annotations

from collections.abc import Sequence

from densekit._names import counted
from densekit.app.options.shared import existing
from densekit.app.options.table import Command, Option, choice, parse_command, text, whole
from densekit.app.prediction.embedder import OPTIONS, embedder_of
from densekit.app.prediction.gallery import check_length, exact, read_gallery, with_faiss
from densekit.app.terminal import print_lines

COMMAND = Command(
    name="search",
    usage="checkpoint=PATH IMAGE gallery=PATH [key=value ...]",
    about="""
Prints the images of a gallery that are most similar to one image, the most similar first; `same`
marks those above the threshold, where there is one (see densekit verify --help). The larger the
gallery, the more likely some stranger is above the threshold. Images that cannot be read are listed
at the end, and the exit code is 1.
""",
    examples=(
        "search checkpoint=faces.ckpt probe.png gallery=people",
        "predict checkpoint=faces.ckpt source=people output=gallery",
        "search checkpoint=faces.ckpt probe.png gallery=gallery/embeddings.npz top=20",
    ),
    options=(
        OPTIONS[0],
        Option(
            "gallery",
            text("PATH", "a folder of images or a file of embeddings"),
            None,
            "a folder of images, or embeddings.npz or embeddings.parquet of densekit predict",
            required=True,
        ),
        Option("top", whole(1), 5, "number of images to print"),
        Option(
            "index",
            choice("exact", "faiss"),
            "exact",
            "faiss gives the same result, faster on large galleries (densekit[faces])",
        ),
        *OPTIONS[1:],
    ),
    words=("IMAGE",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if an image of the gallery could not be read."""
    options, words = parse_command(COMMAND, arguments)
    probe = existing("IMAGE", words[0])
    gallery = existing("gallery", options["gallery"])
    embed = embedder_of(options)
    threshold = embed.threshold(options["threshold"], options["far"])
    files, entries, broken = read_gallery(gallery, embed)
    vector = embed([probe])
    check_length(gallery, entries, vector.shape[1])
    find = exact if options["index"] == "exact" else with_faiss
    scores, indices = find(entries, vector, min(options["top"], len(files)))
    if threshold is not None:
        print_lines(f"threshold:  {threshold}")
    for score, index in zip(scores[0], indices[0], strict=True):
        accepted = "" if threshold is None else "same " if score >= threshold.value else "     "
        print_lines(f"{score:.4f}  {accepted}{files[index]}")
    if broken:
        print_lines(f"{counted(len(broken), 'image')} could not be read:", *broken)
    return 1 if broken else 0
