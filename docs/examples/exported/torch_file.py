"""Runs a torch.export program on a photograph: python torch_file.py model.pt2 photo.jpg drawn.png.

Needs torch, numpy and Pillow.
"""

import json
import sys

import torch
from picture import draw, prepared


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    stored = {"info.json": "", "shapes.json": ""}
    program = torch.export.load(file, extra_files=stored).module()
    info, shapes = json.loads(stored["info.json"]), json.loads(stored["shapes.json"])
    image, size = prepared(photo, info, shapes)
    with torch.no_grad():
        values = program(torch.from_numpy(image), torch.from_numpy(size))
    outputs = {name: value.numpy() for name, value in values.items()}
    print("\n".join(draw(photo, outputs, size, info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
