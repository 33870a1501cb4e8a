"""What `--help` prints. Nothing here may import torch or Hydra: help has to be there at once."""

from __future__ import annotations

COMMANDS = {
    "train": "train a model and evaluate it",
    "eval": "measure a checkpoint on a data set, or a file of results against annotations",
    "predict": "find objects in pictures, structures in pictures and volumes; embed pictures",
    "verify": "say whether two pictures show the same person or thing",
    "search": "find the pictures of a gallery that look most like one",
    "plan": "look at volumes with masks and propose a configuration",
    "info": "say what a checkpoint holds: classes, heads, input, settings",
    "export": "write a checkpoint as a program that runs without densekit",
    "check-head": "put a head, ours or yours, to every point of the contract",
    "new-head": "write a package of your own with a head that keeps the contract",
    "benchmark": "time training and prediction against a reference",
    "study": "train plain and residual nets of several depths and say what shortcuts do",
}

LISTS = {
    "heads": "head",
    "backbones": "backbone",
    "necks": "neck",
    "data": "data",
    "experiments": "experiment",
}
"""Commands that list a group of configurations."""

OVERVIEW = """usage: densekit COMMAND [key=value ...]

One backbone, any head: dense prediction composed by Hydra, trained by Lightning.

commands:
{commands}
  {lists}
              list what there is, plug-ins and ./conf included

  densekit COMMAND --help    what it takes, with examples
  densekit --version

first steps:
  densekit train experiment=quickstart
  densekit eval checkpoint=runs/quickstart/TIMESTAMP
  densekit predict checkpoint=PATH source=FOLDER output=DIR

checkpoint=PATH is a file, or a run folder, which stands for its best checkpoint.
"""

TRAIN = """usage: densekit train [group=option ...] [key=value ...] [-m] [--cfg job] [--resolve]

Trains, validates after every epoch and tests the best checkpoint at the end. Everything goes into
one new folder, runs/NAME/TIMESTAMP: checkpoints, resolved config, console.log, metrics.json,
curves, pictures.

examples:
  densekit train experiment=quickstart
  densekit train experiment=bccd_faster_rcnn paths.data=FOLDER
  densekit train experiment=quickstart backbone=resnet50 optimizer=adamw optimizer.lr=1e-4
  densekit train experiment=quickstart trainer.devices=2 trainer.accelerator=cpu
  densekit train experiment=coco_faster_rcnn_r50_1x trainer.devices=4 paths.data=FOLDER
  densekit train -m experiment=quickstart seed=0,1,2
  densekit train resume=runs/NAME/TIMESTAMP
  densekit train +heads.mine._target_=my_head.MyHead 'trust=[my_head]' \\
                 'data.scenes.heads=[detection,mine]'

options:
  group=option        choose a file of a group, listed below; your own go into ./conf/GROUP/
  key=value           set one value, or any argument of a class that the config builds
  +head@heads.NAME=X  a second head
  resume=PATH         go on exactly where a checkpoint or run folder stopped; without further groups
                      the configuration is the checkpoint's
  checkpoint=PATH     start from the weights of a checkpoint; of a run folder, those of its best one
  trust=[PACKAGE]     allow classes of a package that is neither densekit's nor an installed plug-in
  -m, --multirun      one job for each combination of a=1,2 b=x,y, one after the other
  hydra/sweeper=optuna objective=FIGURE, hydra/launcher=submitit_slurm
                      with -m: search for the best FIGURE of metrics.json; start jobs on a cluster
  --cfg job           print the configuration; with --resolve as the run would get it

groups:
{groups}
"""

EVAL = """usage: densekit eval checkpoint=PATH [data=NAME] [split=test|val] [output=DIR] [k=v]
       densekit eval results=DET.json annotations=GT.json [iou_type=bbox|segm] [output=DIR]

The first form prints the figures of a checkpoint and writes metrics.json into DIR (default
runs/eval/TIMESTAMP). The data are those it was trained with, or those of a group file. The second
form needs no model: it measures COCO results against COCO annotations.

examples:
  densekit eval checkpoint=runs/quickstart/TIMESTAMP
  densekit eval checkpoint=PATH data=bccd paths.data=FOLDER split=val
  densekit eval checkpoint=PATH data.bccd.test.root=FOLDER
  densekit eval checkpoint=PATH trainer.devices=2 trainer.accelerator=cpu
  densekit eval results=detections.json annotations=instances_val2017.json

options:
  checkpoint=PATH     a run folder (its best checkpoint is taken), a checkpoint, or an artifact
  data=NAME           a file of the group data: {data}
  split=NAME          default test, or val where there is no test
  output=DIR          where metrics.json goes
  metrics=NAME        other metrics, or several: metrics=[coco,voc]
  precision=32-true   as in densekit predict; bf16-mixed, 16-mixed, or auto as in training
  trainer.KEY=VALUE   devices, accelerator, limit_test_batches; those of the training do not count
  artifact=FILE       writes the model with what was measured and predictions need: the similarity
                      thresholds of verification, which densekit verify reads
  trust=[PACKAGE]     allow classes of a package that is neither densekit's nor an installed plug-in
"""

PREDICT = """usage: densekit predict checkpoint=PATH source=FOLDER|FILE|GLOB output=DIR [k=v]

Writes into DIR, by what the model finds:
  boxes              results.json (COCO results: original category ids, boxes as x, y, w, h)
  masks of pictures  masks/NAME.png, the data set's own values with a palette of the class colours
  masks of volumes   masks/NAME.nii.gz with the source's affine and header
  masks of series    masks/NAME.csv, a row a position: the data set's own value
  embeddings         embeddings.npz: arrays path (N,) and embedding (N, E), of length 1
and images.json (which id is which file), classes.json (which value of a mask is which class) and
overlays/ to look at. It predicts as the checkpoint was validated: sliding window, test-time
augmentation and clean-up included. An image that cannot be read is named at the end, the exit code
is 1 then; the others are not lost.

A model of volumes takes NIfTI, MetaImage and NRRD files and DICOM folders; channels of a case are
CASE_0000.nii.gz, CASE_0001.nii.gz, or files of each patient's folder that channels= names. A
TIFF or .npy picture of more than 67 million pixels goes through tile by tile, its mask is
masks/NAME.tif: memory is bounded by the tile.

examples:
  densekit predict checkpoint=runs/NAME/TIMESTAMP source=photos output=out
  densekit predict checkpoint=PATH source='photos/**/*.jpg' output=out threshold=0.7
  densekit predict checkpoint=PATH source=val2017 output=out annotations=instances_val2017.json
  densekit predict checkpoint=PATH source=patient_17/T1 output=out
  densekit predict checkpoint=PATH source=patients.csv output=out       # image_0, image_1, ...
  densekit predict checkpoint=PATH source=BraTS output=out channels=[flair,t1,t1ce,t2]

options:
  threshold=0.5       lowest score of a box that is drawn; results.json holds them all
  annotations=PATH    COCO JSON to take the image ids from, for densekit eval results=
  channels=[A,B]      what the channels are called in each patient's folder, or columns of a table
  series=NAME         UID or description of one series (* and ? stand for letters) of DICOM folders
  overlays=true       false writes no pictures
  embeddings=npz      or parquet (densekit[faces])
  inferer.KEY=VALUE   of the checkpoint's inferer, inferer.overlap=0.75; another one as a whole,
                      inferer={_target_:densekit.inference.SlidingWindow,window:[256,256]}
  device=auto         auto, cpu, cuda, cuda:1, mps
  precision=null      bf16 or fp16 for autocast
  trust=[PACKAGE]     allow classes of a package that is neither densekit's nor an installed plug-in
"""

VERIFY = """usage: densekit verify checkpoint=PATH A B [far=RATE] [threshold=NUMBER] [k=v]

Prints the similarity of two pictures (cosine of their embeddings), the threshold with the false
accept rate it was measured at, and the answer. Pictures must be prepared as those of the training:
aligned, if those were.

Thresholds are in the checkpoint if it was validated on pairs, or in the artifact that
densekit eval checkpoint=PATH data=NAME artifact=FILE writes. They hold for pictures like those
pairs. Without one there is no answer, and the exit code is 1.

examples:
  densekit verify checkpoint=faces.ckpt one.png two.png
  densekit verify checkpoint=faces.ckpt one.png two.png far=1e-2 json=true
  densekit verify checkpoint=faces.ckpt one.png two.png threshold=0.45

options:
  far=RATE            which of the stored false accept rates; default the lowest
  threshold=NUMBER    similarity from which the answer is "same", in place of a stored one
  head=NAME           where several heads give embeddings
  json=false          true prints one line of JSON
  device=auto         auto, cpu, cuda, cuda:1, mps
  precision=null      bf16 or fp16 for autocast
  trust=[PACKAGE]     allow classes of a package that is neither densekit's nor an installed plug-in
"""

SEARCH = """usage: densekit search checkpoint=PATH PICTURE gallery=FOLDER|FILE [top=5] [k=v]

Prints the pictures of a gallery by falling similarity; `same` marks those above the threshold, if
there is one (see densekit verify --help). A picture that cannot be read is named at the end, the
exit code is 1 then. With a large gallery the chance that some stranger is
above it grows with every entry.

examples:
  densekit search checkpoint=faces.ckpt probe.png gallery=people
  densekit predict checkpoint=faces.ckpt source=people output=gallery
  densekit search checkpoint=faces.ckpt probe.png gallery=gallery/embeddings.npz top=20

options:
  gallery=PATH        folder of pictures, or embeddings.npz / .parquet of densekit predict
  top=5               how many are printed
  index=exact         or faiss (densekit[faces]), the same result faster
  far, threshold, head, device, precision, trust    as in densekit verify
"""

LIST = """usage: densekit {command}

Lists what {group}=NAME may name: densekit's own, those of ./conf and those of installed plug-ins,
with what is known of each. What cannot be used is named with its error.
"""

INFO = """usage: densekit info PATH [json=true]

Prints what a checkpoint (of a run folder, its best) or an exported program says of itself: version,
backbone, neck, heads with their settings, classes with the data set's ids, channels, mean, std,
resize rule, inferer. Nothing of it is built.

examples:
  densekit info runs/quickstart/TIMESTAMP/checkpoints/last.ckpt
"""

BENCHMARK = """usage: densekit benchmark [key=value ...]

Times a model of torchvision or smp and ours in turn, with the same weights and pictures, after
checking that losses and predictions are equal.

examples:
  densekit benchmark
  densekit benchmark model=unet size=[256,320] batch=8
  densekit benchmark step=predict depth=50 size=[800,1088] batch=1 precision=32

options:
  model=faster_rcnn   faster_rcnn (of torchvision), unet or deeplabv3plus (of smp)
  step=train          train (forward, losses, backward) or predict
  depth=18            of the ResNet: 18, 34 or 50
  size=[320,448]      height and width
  batch=4             pictures a step
  classes=3
  precision=[32,bf16] 32, bf16, fp16, or several
  rounds=5            timed rounds, after one of warm-up
  device=cpu          cpu or cuda
  output=PATH         JSON with the figures
"""


STUDY = """usage: densekit study degradation [backbone.depth=8,20,44] [seed=0,1,2] [k=v]

Trains plain and residual twins of several depths from experiment=degradation, each run in a process
of its own, and draws training and test error, gradient norms by layer, and how far the signal of a
picture goes before training. The answer is computed: with more than two standard errors over the
seeds between them, does the deepest plain net have a higher training error than the shallowest, and
the deepest residual net not?

Everything goes into one new folder, runs/degradation/TIMESTAMP: a run folder a network, and
degradation.md, .csv, .json and .png. With output= of a folder that is there, finished runs are
kept and the others made. The exit code is 1 if a run failed, whatever the answer is.

examples:
  densekit study degradation
  densekit study degradation backbone.depth=8,32 seed=0,1 trainer.max_epochs=5
  densekit study degradation output=runs/degradation/TIMESTAMP optimizer.lr=0.05

options:
  backbone.depth=8,20,44, backbone.residual=false,true, seed=0,1,2
                      what the runs differ in; two depths and two seeds are the least for an answer
  output=DIR          folder of the study
  jobs=N              runs at a time; default as many as cores
  group=option, key=value
                      as for densekit train; experiment=NAME takes an experiment of your own
"""


EXPORT = """usage: densekit export checkpoint=PATH output=FILE.pt2 size=[H,W] [heads=[NAME]] [k=v]

Writes the network with its post-processing as a torch.export program of static shape, runs it once
beside the model and refuses to leave another answer behind. It takes image (B, C, H, W) float32 in
the unit of mean and std, and size (B, 2), the height and width of each without padding; it gives
HEAD/KEY, such as detection/boxes, in the frame of the image. Class names, mean, std, resize rule
and configuration are in the file: densekit info FILE.pt2.

examples:
  densekit export checkpoint=PATH output=model.pt2 size=[256,448]
  densekit export checkpoint=PATH output=masks.pt2 size=[512,512] heads=[segmentation] batch=8

options:
  heads=[NAME]        some heads alone; the others and what only they needed are left out
  batch=1             images a call
  trust=[PACKAGE]     allow classes of a package that is neither densekit's nor an installed plug-in
"""

CHECK_HEAD = """usage: densekit check-head head=NAME [data=NAME] [key=value ...]

Wires the head into a small model and puts it to every point of the contract: images with no, one
and 500 objects, everything ignored, odd sizes, one and four channels, bfloat16, compile, export,
two processes, ... Prints a table; the exit code is 1 if a point fails. In Python and in your tests:
densekit.testing.check_head. It takes about half a minute.

The images are made up, with boxes, masks, classes and identities. With data=NAME the first of a
data set are taken, for heads with targets of their own.

examples:
  densekit check-head head=acme/polyp
  densekit check-head head=unet heads.segmentation.depth=4
  densekit check-head '~head' '+heads.mine._target_=my_head.MyHead' 'trust=[my_head]'
  densekit check-head head=faster_rcnn data=bccd paths.data=FOLDER
"""


NEW_HEAD = """usage: densekit new-head NAME [output=DIR]

Writes a small package: the head, its conf/head/NAME.yaml, a test and pyproject.toml. It installs
with pip and passes densekit check-head as it is; from there it is yours.

examples:
  densekit new-head acme/polyp          # package acme_polyp in ./acme-polyp, head=acme/polyp
"""


PLAN = """usage: densekit plan data=NAME [memory=GIB] [cases=N] [output=FILE] [key=value ...]

Looks at the training volumes of a data set as they are stored, prints sizes, spacings, intensities
and class frequencies, and proposes an experiment: spacing, intensity by channel, patch, batch,
network, augmentation, epochs, sliding window. It begins with the command that trains it. You edit
it; nothing is applied.

examples:
  densekit plan data=hippocampus paths.data=FOLDER
  densekit plan data=mine paths.data=FOLDER memory=24 output=conf/experiment/mine_planned.yaml

options:
  memory=8            GiB that a training step may take, in float32
  cases=40            volumes that are looked at, evenly spread
  output=FILE         writes the proposal; a file that is there is not overwritten
"""


def overview() -> str:
    """The text of `densekit --help`."""
    rows = [f"  {name:<12}{text}" for name, text in COMMANDS.items()]
    return OVERVIEW.format(commands="\n".join(rows), lists=", ".join(LISTS))


def help_of(command: str) -> str:
    """The text of `densekit COMMAND --help`, with the options that are really there."""
    from densekit.app.config import groups

    if command in LISTS:
        return LIST.format(command=command, group=LISTS[command])
    if command == "train":
        rows = [f"  {name:<12}{', '.join(groups.options(name))}" for name in groups.groups()]
        return TRAIN.replace("{groups}", "\n".join(rows))
    if command == "eval":
        return EVAL.replace("{data}", ", ".join(groups.options("data")))
    texts = {
        "predict": PREDICT,
        "verify": VERIFY,
        "search": SEARCH,
        "plan": PLAN,
        "info": INFO,
        "check-head": CHECK_HEAD,
        "export": EXPORT,
        "new-head": NEW_HEAD,
        "benchmark": BENCHMARK,
        "study": STUDY,
    }
    return texts[command]
