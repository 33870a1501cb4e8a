"""What tools/fuzz.py changes and reads: formats, and changes of their files."""
