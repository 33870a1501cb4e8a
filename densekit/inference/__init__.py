"""Inference: `Predictor`, inferers, and tiled prediction of huge images."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "CleanUp": "components",
        "Engine": "engine",
        "Inferer": "inferer",
        "MirroredEmbedding": "mirrored",
        "Predictor": "predictor",
        "Slices": "slices",
        "SlidingWindow": "sliding_window",
        "TestTimeAugmentation": "augment",
        "Threshold": "thresholds",
        "WholeImage": "whole_image",
        "WrappingInferer": "wrapping",
        "build_engine": "engine",
        "calibrate_on": "calibration",
        "confident": "thresholds",
        "predict_tiles": "tiles",
        "predict_volume": "volume_stream",
        "with_engine": "engine",
    },
)
