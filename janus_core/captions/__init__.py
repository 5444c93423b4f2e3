"""Captions of picture files: which files are meant, what is there already, and how the rest gets them."""
