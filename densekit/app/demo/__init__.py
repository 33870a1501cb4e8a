"""The page of `densekit demo`: results of any checkpoint, seen in a browser on the same machine.

`serve` runs the page that `page` lays out; `runner` predicts; one file per kind of result draws it.
"""
