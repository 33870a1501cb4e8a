"""Runs an ONNX file on a photograph: python onnx_file.py model.onnx photo.jpg drawn.png.

Needs onnxruntime, numpy and Pillow.
"""

import json
import sys

import onnxruntime
from picture import draw, prepared


def main(file: str, photo: str, result: str) -> None:
    """Predicts, draws, and prints what was found."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    info, shapes = json.loads(texts["info.json"]), json.loads(texts["shapes.json"])
    image, size = prepared(photo, info, shapes)
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {"image": image, "size": size})
    outputs = dict(zip(names, values, strict=True))
    print("\n".join(draw(photo, outputs, size, info, result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
