"""A neck that projects every backbone stage, without a top-down path."""

from torch import nn

from densekit.necks import Neck
from densekit.types import FeatureSpec


class Lateral(Neck):
    """p2 to p5, each a 1x1 convolution of one backbone stage."""

    def __init__(self, features, reads=(), *, out_channels=64):
        stages = {c: spec for c, spec in features.items() if c not in ("c0", "c1")}
        specs = {f"p{c[1:]}": FeatureSpec(out_channels, s.stride) for c, s in stages.items()}
        super().__init__(features, reads, specs)
        self.reads = tuple(f"c{p[1:]}" for p in self.levels)  # layers only for what is read
        convs = [nn.Conv2d(features[c].channels, out_channels, 1) for c in self.reads]
        self.convs = nn.ModuleDict(zip(self.levels, convs, strict=True))

    def forward(self, features):
        return {**features, **{p: conv(features[f"c{p[1:]}"]) for p, conv in self.convs.items()}}
