"""Runs an OpenVINO file on a photograph: python openvino_file.py model.xml photo.jpg drawn.png.

Needs openvino, numpy and Pillow. Without its hint OpenVINO may round boxes too.
"""

import json
import sys

import openvino
from picture import draw, prepared


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    core = openvino.Core()
    model = core.read_model(file)
    keys = ("info.json", "shapes.json", "precision_hint")
    *texts, hint = (model.get_rt_info(["densekit", key]).astype(str) for key in keys)
    info, shapes = map(json.loads, texts)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    image, size = prepared(photo, info, shapes)
    found = compiled({"image": image, "size": size})
    outputs = {output.get_any_name(): found[output] for output in compiled.outputs}
    print("\n".join(draw(photo, outputs, size, info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
