"""Label-error candidates, which a checkpoint brings; see `densekit.app.doctor.disagreement`."""

from __future__ import annotations

from densekit.app.doctor.findings import Severity, recorded

CHECKS = tuple(
    recorded(name, Severity.NOTE, about)
    for name, about in (
        ("unlabelled-object-candidate", "an object that the model is sure of and nobody annotated"),
        ("spurious-object-candidate", "an annotated object where the model sees nothing"),
        ("moved-object-candidate", "an annotated object that the model sees beside its box"),
        ("wrong-class-candidate", "an object that the model is sure to be of another class"),
        ("mask-disagreement", "a mask that differs from its prediction far more than the others"),
        ("no-face", "an image of a person in which a face detector finds no face"),
        ("several-faces", "an image of a person in which a face detector finds several faces"),
        ("wrong-label-candidate", "an image that the model is sure to be of another class"),
    )
)
