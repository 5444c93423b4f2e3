"""Published model folders: recognise the layout, list the files, rename the tensors to ours.

Knows files and tensors; knows nothing of prompts, sampling or how a model is used.
"""
