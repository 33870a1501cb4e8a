"""Files as they are stored: found, read once, checked, and never changed in depth."""
