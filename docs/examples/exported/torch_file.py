"""Runs a torch.export program on a photograph: python torch_file.py model.pt2 photo.jpg drawn.png.

Needs torch, numpy and Pillow, and a file that was exported with resize=true.
"""

import json
import sys

import torch
from picture import draw, read


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    stored = {"info.json": ""}
    program = torch.export.load(file, extra_files=stored).module()
    info = json.loads(stored["info.json"])
    with torch.no_grad():
        values = program(torch.from_numpy(read(photo, info)))
    outputs = {name: value.numpy() for name, value in values.items()}
    print("\n".join(draw(photo, outputs, info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
