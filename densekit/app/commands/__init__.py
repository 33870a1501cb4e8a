"""The commands: each module declares options and help in `COMMAND` and runs in `main`.

A module here is imported to print its help. What takes long to import (torch, Hydra) is therefore
imported by the functions that need it, or by the modules that do the work.
"""

COMMANDS = {
    "init": "recognise the data in a folder and write a configuration for it",
    "train": "train a model and test it",
    "eval": "evaluate a checkpoint on a data set, or a file of COCO results",
    "predict": "run a checkpoint on images, volumes, series or sequences",
    "explain": "show which pixels made a prediction, and whether that can be believed",
    "verify": "decide whether two images show the same person or object",
    "search": "find the images of a gallery that are most similar to one image",
    "demo": "serve a local page that runs a checkpoint on what is dropped on it",
    "doctor": "find what is wrong with a data set, file by file",
    "plan": "propose a configuration for a data set of volumes",
    "download": "fetch public data sets in the layout that data=NAME reads",
    "convert": "turn weights of another library into a checkpoint",
    "info": "show what a checkpoint contains",
    "compare": "compare two evaluations: differences with intervals, and the images that changed",
    "report": "write one HTML page about a run, or about two and their differences",
    "replay": "repeat the step at which a training met a NaN or infinite number",
    "export": "export a checkpoint as a program that runs without densekit",
    "check": "test heads, backbones, necks, data sets and metrics against their contracts",
    "check-head": "test a head against its contract, short for check",
    "new-head": "create a package with a head of your own",
    "benchmark": "time training and prediction against a reference implementation",
    "study": "train plain and residual networks of several depths and compare them",
}
"""What each command does; the module of `check-head` is `check_head`."""

LISTS = {
    "heads": "head",
    "backbones": "backbone",
    "necks": "neck",
    "data": "data",
    "experiments": "experiment",
}
"""Commands of the module `listing` to the configuration group that each lists."""
