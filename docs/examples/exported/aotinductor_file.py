"""Runs a compiled package on a photograph: python aotinductor_file.py model.pt2 photo.jpg a.png.

Needs torch, numpy and Pillow, and a processor like the one that compiled it.
"""

import json
import sys
import zipfile

import torch
from picture import draw, read
from prepared import prepared, restored


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    with zipfile.ZipFile(file) as archive:
        paths = {path.rpartition("/")[2]: path for path in archive.namelist() if "extra/" in path}
        info, shapes = (json.loads(archive.read(paths[k])) for k in ("info.json", "shapes.json"))
    program = torch._inductor.aoti_load_package(file)
    pixels = read(photo, info)
    image, size = prepared(pixels, info, shapes)
    values = program(torch.from_numpy(image), torch.from_numpy(size))
    outputs = {name: value.numpy() for name, value in values.items()}
    print("\n".join(draw(photo, restored(outputs, size, pixels, info), info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
