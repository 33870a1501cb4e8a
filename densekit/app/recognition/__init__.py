"""Recognition of the data in a folder, for `densekit init`.

Each format has one function that looks at a listing (`tree`) and returns what it `found`: `coco`,
`voc`, `yolo`, `masks` (whose pairs of names `pairing` finds), `volumes`, `folders` (classes and
identities), `tables`, `series`. `recognise` tries all of them, `proposal` turns one into a file
with its command, `recipes` holds the settings per task, `look` opens a sample of the images,
`problems` looks for what is wrong, and `counts` counts the examples of
each class, `report` prints it, `initialise` does all of this in order.
"""
