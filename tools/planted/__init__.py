"""Defects that are planted into clean copies of data sets, to measure what the doctor finds."""
