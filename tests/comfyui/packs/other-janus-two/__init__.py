"""Stands for a pack that passes a dictionary as JANUS_MODEL, under the same id as another pack."""

import folder_paths

folder_paths.add_model_folder_path("Janus-Pro", f"{folder_paths.models_dir}/Janus-Pro")


class JanusModelLoader:
    CATEGORY, FUNCTION, RETURN_TYPES = "Janus", "load", ("JANUS_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model_path": (["base"],)}}

    def load(self, model_path):
        return ({"model": None, "processor": None},)


class JanusImageGenerator:
    CATEGORY, FUNCTION, RETURN_TYPES = "Janus", "generate", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"janus_model": ("JANUS_MODEL",)}}

    def generate(self, janus_model):
        raise NotImplementedError


NODE_CLASS_MAPPINGS = {"JanusModelLoader": JanusModelLoader, "JanusImageGenerator": JanusImageGenerator}
