"""The data doctor: what is wrong with a data set, file by file.

`facts` are plain values: what is annotated for each image, and what its files hold. `readers`
collect the annotations however broken they are, `collect` finds the images of a configuration,
`scan` opens every file once. `checks` are functions of the facts; `findings` defines them.
`report` and `page` show what they find, `repair` writes a repaired copy, `disagreement` compares
the annotations with the predictions of a checkpoint.
"""
