"""The only translator between ComfyUI and `janus_core`: `comfy`, `folder_paths` and `server` appear here."""
