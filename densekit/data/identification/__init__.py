"""Data sets of identities, such as faces.

`dataset` reads folders and tables, `open_set` hides identities for evaluation, `pairs` reads lists
of pairs to verify. `align` warps faces by their landmarks; `prepared` records in the checkpoint how
training images were prepared.
"""
