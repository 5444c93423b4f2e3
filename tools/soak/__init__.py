"""A long run of a real ComfyUI with the bundled model, that looks for what only shows after hours."""
