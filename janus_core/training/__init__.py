"""Train a Janus from nothing: a world of pictures and words, and the stages of the paper.

A guest of the package: nothing below knows that it exists.
"""
