"""Stands for a pack that passes a bare model as JANUS_MODEL, under ids that several packs share."""


class JanusModelLoader:
    CATEGORY, FUNCTION, RETURN_TYPES = "Janus-Pro", "load", ("JANUS_MODEL", "JANUS_PROCESSOR")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model_name": (["deepseek-ai/Janus-Pro-1B", "deepseek-ai/Janus-Pro-7B"],)}}

    def load(self, model_name):
        return (object(), object())


class JanusImageGeneration:
    CATEGORY, FUNCTION, RETURN_TYPES = "Janus-Pro", "generate", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("JANUS_MODEL",), "processor": ("JANUS_PROCESSOR",)}}

    def generate(self, model, processor):
        raise NotImplementedError


NODE_CLASS_MAPPINGS = {"JanusModelLoader": JanusModelLoader, "JanusImageGeneration": JanusImageGeneration}
