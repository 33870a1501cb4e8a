"""Public data sets: fetched from their official places, verified and unpacked.

`sets` is the table of data sets, `fetch` brings one of them into a folder; `transfer` is one file
over HTTP, `digests` its verification, `unpack` its content, `prepare` what a data set needs beyond
unpacking.
"""
