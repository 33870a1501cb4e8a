"""Runs an ExecuTorch program on a photograph: python executorch_file.py model.pte photo.jpg a.png.

Needs executorch, torch, numpy and Pillow. A phone runs the same file from C++, Java or Swift.
"""

import json
import sys
import zipfile

import torch
from executorch.runtime import Runtime
from picture import draw, read
from prepared import prepared, restored


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    with zipfile.ZipFile(file) as archive:
        texts = {path.rpartition("/")[2]: archive.read(path) for path in archive.namelist()}
    info, shapes, names = (json.loads(texts[f"{k}.json"]) for k in ("info", "shapes", "outputs"))
    method = Runtime.get().load_program(file).load_method("forward")
    pixels = read(photo, info)
    image, size = prepared(pixels, info, shapes)
    values = method.execute([torch.from_numpy(image), torch.from_numpy(size)])
    outputs = {name: value.numpy() for name, value in zip(names, values, strict=True)}
    print("\n".join(draw(photo, restored(outputs, size, pixels, info), info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
