"""Exports a trained model into files that run without densekit, one module per format.

What a file takes and returns is the same in every format:

    image (B, C, *S) float32, in the unit of the model's mean and std, zero beyond `size`
    size (B, D) int64
    -> HEAD/KEY, for example detection/boxes, see `Head.decode`

`formats` lists the formats, `base` is what they share, `gate` compares a file with its model.
"""
