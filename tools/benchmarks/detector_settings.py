"""The detectors and data sets of the table of `detectors.py`, as words of `densekit train`."""

from __future__ import annotations

from dataclasses import dataclass

BATCH = {"scenes": 8, "bccd": 4}
IMAGES = {"bccd": 205}
RECIPE = (
    "backbone=resnet18",
    "neck.out_channels=128",
    "optimizer=adamw",
    "optimizer.lr=5e-4",
    "schedule=onecycle",
    "resize.min_size=256",
    "resize.max_size=427",
    "callbacks.checkpoint.monitor=null",
)
"""What all heads share on bccd: the recipe of bccd_faster_rcnn."""
SCORED = "{_target_: densekit.heads.one_stage.DenseDetectionRule, score_threshold: 0.05,"


@dataclass(frozen=True)
class Detector:
    """A head of the table.

    Attributes:
        label: In the table.
        scenes: The words that name it on the rendered scenes, first its experiment.
        bccd: Those on bccd at 256x341, whose cells have 20 to 120 pixels; None leaves it out.
    """

    label: str
    scenes: tuple[str, ...]
    bccd: tuple[str, ...] | None


HEADS = {
    "faster_rcnn": Detector(
        "Faster R-CNN", ("experiment=quickstart",), ("experiment=bccd_faster_rcnn",)
    ),
    "mask_rcnn": Detector("Mask R-CNN", ("experiment=quickstart", "head=mask_rcnn_small"), None),
    "retinanet": Detector(
        "RetinaNet",
        ("experiment=quickstart_retinanet",),
        (
            "data=bccd",
            "head=retinanet",
            "heads.detection.levels=[p3,p4,p5]",
            "heads.detection.depth=2",
            "heads.detection.norm=group",
            "heads.detection.sizes=[[20,28],[40,57],[80,113]]",
            "heads.detection.box_loss={_target_: densekit.losses.GIoUBox}",
        ),
    ),
    "fcos": Detector(
        "FCOS",
        ("experiment=quickstart_fcos",),
        (
            "data=bccd",
            "head=fcos",
            "heads.detection.levels=[p3,p4,p5]",
            "heads.detection.depth=2",
            f"heads.detection.detection={SCORED} nms_iou: 0.6, max_detections: 100}}",
        ),
    ),
    "atss": Detector(
        "ATSS",
        ("experiment=quickstart_atss",),
        (
            "data=bccd",
            "head=atss",
            "heads.detection.levels=[p3,p4,p5]",
            "heads.detection.depth=2",
            "heads.detection.sizes=[24,48,96]",
        ),
    ),
    "ssd": Detector(
        "SSD",
        (
            "experiment=quickstart",
            "head=ssd",
            "heads.detection.extra_channels=[]",
            "heads.detection.sizes=[12,24,48,72]",
        ),
        (
            "data=bccd",
            "head=ssd",
            "heads.detection.extra_channels=[]",
            "heads.detection.sizes=[20,40,80,160]",
        ),
    ),
    "yolox": Detector(
        "YOLOX",
        ("experiment=quickstart", "head=yolox", "heads.detection.channels=96"),
        ("data=bccd", "head=yolox", "heads.detection.channels=96"),
    ),
}


@dataclass(frozen=True)
class Setting:
    """One training: a head on a data set with a seed."""

    data: str
    head: str
    seed: int

    @classmethod
    def of(cls, name: str) -> Setting:
        """Reads `DATA/HEAD` or `DATA/HEAD:SEED`.

        Raises:
            SystemExit: There is no such training.
        """
        path, _, seed = name.partition(":")
        data, _, head = path.partition("/")
        if data not in BATCH or head not in HEADS or not (seed or "0").isdecimal():
            raise SystemExit(
                f"{name}: expected DATA/HEAD or DATA/HEAD:SEED with {', '.join(BATCH)} and"
                f" {', '.join(HEADS)}"
            )
        setting = cls(data, head, int(seed or 0))
        if not setting.exists:
            raise SystemExit(f"{name}: expected data that {head} learns from, got {data}")
        return setting

    @property
    def exists(self) -> bool:
        """Whether the head learns from the data set."""
        return self.data == "scenes" or HEADS[self.head].bccd is not None

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.data}/{self.head}:{self.seed}"

    @property
    def stem(self) -> str:
        """Of the files of its results."""
        return f"{self.data}-{self.head}-{self.seed}"

    def words(self, steps: int) -> list[str]:
        """The words that train it for some steps and validate once, at the end.

        Of the scenes every step has new ones, rendered for it.
        """
        both = ["metrics=[coco,voc]", f"seed={self.seed}"]
        if self.data == "scenes":
            length = steps * BATCH["scenes"]
            return [*HEADS[self.head].scenes, f"data.scenes.train.length={length}", *both]
        own = HEADS[self.head].bccd or ()
        shared = () if own[0].startswith("experiment=") else RECIPE
        epochs = -(-steps * BATCH["bccd"] // IMAGES["bccd"])
        both += [f"trainer.max_epochs={epochs}", f"trainer.check_val_every_n_epoch={epochs}"]
        return [*own[:2], *shared, *own[2:], *both]
