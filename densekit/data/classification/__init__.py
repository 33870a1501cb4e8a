"""Images, series and sequences with a category each."""
