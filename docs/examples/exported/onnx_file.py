"""Runs an ONNX file on a photograph: python onnx_file.py model.onnx photo.jpg drawn.png.

Needs onnxruntime, numpy and Pillow, and a file that was exported with resize=true.
"""

import json
import sys

import onnxruntime
from picture import draw, read


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["info.json"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {"picture": read(photo, info)})
    outputs = dict(zip(names, values, strict=True))
    print("\n".join(draw(photo, outputs, info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
