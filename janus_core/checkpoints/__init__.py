"""Published model folders: which layout it is, what its files are called, how its tensors become ours.

Knows files and tensors; knows nothing of prompts, sampling or how a model is run.
"""
