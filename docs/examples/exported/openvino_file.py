"""Runs an OpenVINO file on a photograph: python openvino_file.py model.xml photo.jpg drawn.png.

Needs openvino, numpy and Pillow, and a file that was exported with resize=true. Without its hint
OpenVINO may round boxes too.
"""

import json
import sys

import openvino
from picture import draw, read


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    core = openvino.Core()
    model = core.read_model(file)
    keys = ("info.json", "precision_hint")
    text, hint = (model.get_rt_info(["densekit", key]).astype(str) for key in keys)
    info = json.loads(text)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    found = compiled({"picture": read(photo, info)})
    outputs = {output.get_any_name(): found[i] for i, output in enumerate(model.outputs)}
    print("\n".join(draw(photo, outputs, info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
