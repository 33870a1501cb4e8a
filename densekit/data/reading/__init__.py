"""Reads image files and tables as they are stored.

`files` finds files below a folder, `pairs` those of two folders by name, `image_files` holds those
of a data set, `tables` reads CSV. `images` reads one image, `jpeg` decodes it; `stored_values`
reads a mask; `stacks` reads TIFF, NumPy and 16-bit PNG; `bit_depths`, `orientation` and
`truncation` correct or refuse what decoders hide, `limits` what is larger than an image can be.
`intensity` scales values, `file_check` reads every file once before training, `progress` shows a
bar for long loops.
"""
