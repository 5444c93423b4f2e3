"""Makes the bundled model: the paper's three stages on a world of pictures and words made by a program.

A package beside the engine, which never imports it.
"""
