"""Annotated objects: read, checked and packed, before they become boxes or masks."""
