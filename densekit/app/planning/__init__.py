"""The rules by which `plan` derives a recipe from a data set."""
