"""A small HTTP server: an image in, boxes, classes or an embedding as JSON out, or a mask as PNG.

pip install 'densekit[serve]'
python server.py runs/NAME/TIMESTAMP/checkpoints/last.ckpt
curl localhost:8000                                                       # heads and classes
curl --data-binary @photo.jpg localhost:8000/detection                    # JSON
curl --data-binary @photo.jpg localhost:8000/segmentation -o mask.png     # PNG of class numbers
"""

import io
import sys
from threading import Lock
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from PIL import Image

from densekit import Predictor

MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000


def create_app(predictor: Predictor) -> FastAPI:
    """Builds the application of one model.

    Args:
        predictor: Of 2-D images. One image is predicted at a time: the network itself uses every
            core.
    """
    app, turn = FastAPI(title="densekit"), Lock()

    @app.get("/")
    def heads() -> dict[str, list[str]]:
        return predictor.names

    @app.post("/{head}")
    async def predict(head: str, request: Request) -> Response:
        if head not in predictor.names:
            known = ", ".join(predictor.names)
            raise HTTPException(404, f"head: expected one of {known}, got {head}")
        image = opened(await body(request))
        return await run_in_threadpool(answer, head, image)

    def answer(head: str, image: Image.Image) -> Response:
        try:
            with turn:
                result = predictor.head(head)(image)[0]
        except (ValueError, TypeError) as error:  # of another size or depth than the model takes
            raise HTTPException(422, str(error)) from error
        return as_png(result["mask"]) if "mask" in result else JSONResponse(as_plain(result))

    return app


async def body(request: Request) -> bytes:
    """Reads the body, and stops at the limit."""
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > MAX_BYTES:
            limit = f"{MAX_BYTES >> 20} MiB"
            raise HTTPException(413, f"body: expected an image of at most {limit}, got more")
        parts.append(part)
    return b"".join(parts)


def opened(content: bytes) -> Image.Image:
    """Opens an image, and refuses what is none, is damaged or is too large."""
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            got = f"{image.width} x {image.height}"
            raise HTTPException(413, f"body: expected at most {MAX_PIXELS:,} pixels, got {got}")
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = "nothing" if not content else f"{len(content):,} bytes of something else"
        raise HTTPException(400, f"body: expected an image file, got {what}") from error
    return image


def as_plain(result: dict[str, Any]) -> Any:
    """One object per box or class; else the arrays as lists."""
    if "labels" not in result:
        return {key: np.asarray(value).tolist() for key, value in result.items()}
    rows = range(len(result["labels"]))
    keys = {"names": "name", "labels": "label", "scores": "score", "boxes": "box"}
    return [
        {new: np.asarray(result[key][row]).tolist() for key, new in keys.items() if key in result}
        for row in rows
    ]


def as_png(mask: np.ndarray) -> Response:
    """A PNG whose values are the classes; of K independent classes, K images below each other."""
    file = io.BytesIO()
    Image.fromarray(mask.reshape(-1, mask.shape[-1])).save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png")


def main(checkpoint: str) -> None:
    """Serves a checkpoint on port 8000."""
    import uvicorn

    uvicorn.run(create_app(Predictor(checkpoint)), host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main(sys.argv[1])
