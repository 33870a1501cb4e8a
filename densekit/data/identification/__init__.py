"""Data sets of identities, such as faces.

`dataset` reads folders and tables, `open_set` hides identities for evaluation, `pairs` reads lists
of comparisons. `align` warps faces by their landmarks; `prepared` is what a checkpoint keeps of
how images were prepared.
"""
