"""Published models brought from the model hub into a folder: which, from where, resumed, checked.

Knows names, files and bytes; knows nothing of layouts, tensors or configurations. Needs `huggingface_hub`,
which comes with transformers, and touches the network only when a download is planned or run.
"""
