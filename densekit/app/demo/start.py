"""One run of `densekit demo`: loads the model, prepares the page, and serves it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._malloc import kept_memory
from densekit._names import counted
from densekit.app.demo.embeddings import Gallery
from densekit.app.demo.examples import find_examples
from densekit.app.demo.page import build_page
from densekit.app.demo.runner import Runner
from densekit.app.demo.serve import listening, scratch, serve
from densekit.app.errors import Stopped, UsageError
from densekit.app.options.shared import device_name
from densekit.app.prediction.embedder import Embedder
from densekit.app.prediction.run import predictor_of

if TYPE_CHECKING:
    from densekit.inference import Predictor

logger = logging.getLogger(__name__)


def demo(checkpoint: Path, options: Mapping[str, Any]) -> None:
    """Serves the page of a checkpoint until Ctrl-C.

    Args:
        checkpoint: The model.
        options: Values of the options of `densekit demo`.

    Raises:
        UsageError: A value is wrong, the port is in use, or there is nothing to offer or to search.
        Stopped: By another signal.
    """
    device = device_name(options["device"])
    with listening(options["port"]) as server, scratch() as folder, kept_memory(device):
        predictor = predictor_of(checkpoint, device, options)
        galleries = {}
        if options["gallery"] is not None:
            galleries = _galleries(Path(options["gallery"]).expanduser(), predictor, checkpoint)
        examples = []
        if options["examples"] is not None:
            examples = find_examples(options["examples"], predictor, folder / "examples")
        runner = Runner(predictor, folder / "results", galleries)
        page = build_page(runner, about_model(predictor, checkpoint), examples)
        stopped_by = serve(page, server, browser=options["open"])
    interrupted = stopped_by is signal.SIGINT
    if runner.is_busy:  # the thread of a prediction would hold the process until it is done
        os._exit(0 if interrupted else 128 + stopped_by)
    if not interrupted:
        raise Stopped(stopped_by)


def about_model(predictor: Predictor, checkpoint: Path) -> str:
    """One line on a model: its file, its heads and what computes it."""
    names = predictor.names
    heads = ", ".join(
        f"{head} ({counted(len(names[head]), 'class', 'classes')})" if names.get(head) else head
        for head in predictor.model.heads
    )
    engine = predictor.engine
    return f"{checkpoint}: {heads}; {engine.name}, {engine.precision}, {predictor.device}"


def _galleries(path: Path, predictor: Predictor, checkpoint: Path) -> dict[str, Gallery]:
    """Head name to the images to search in, for every head of embeddings."""
    known = predictor.model.info.get("heads", {})
    heads = [name for name, head in known.items() if "num_identities" in head]
    if not heads:
        raise UsageError(f"gallery: expected a head of embeddings, got none in {checkpoint}")
    galleries = {head: Gallery(path, Embedder(predictor, head)) for head in heads}
    for message in galleries[heads[0]].broken:
        logger.warning("gallery: left out: %s", message)
    return galleries
