"""Nodes and a route that the tests need inside the server: odd pictures, texts, another model, memory."""

import ctypes
import gc
from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import torch
from aiohttp import web
from server import PromptServer

from .pattern import pattern


class AnyType(str):
    """A socket type that every release lets connect to everything."""

    def __ne__(self, _):
        return False


class JanusTestPicture:
    """Pictures; each kind but "pattern" is something that no node of ours can use."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {name: ("INT", {"default": 1, "min": 0}) for name in ("count", "height", "width")}
        return {"required": {"kind": ("STRING", {}), **sizes}}

    def make(self, kind, count, height, width):
        pictures = pattern(max(count, 1), height, width)
        odd = {
            "pattern": pictures,
            "empty batch": pictures[:0],
            "no channels": pictures[..., :0],
            "five channels": torch.cat((pictures, pictures[..., :2]), dim=-1),
            "nan": torch.where(pictures > pictures.mean(), torch.nan, pictures),
            "infinite": pictures / 0,
            "three axes": pictures[0],
            "0 to 255": (pictures * 255).round(),
        }
        return (odd[kind],)


class JanusTestPictureList:
    """A list of batches of different sizes."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_IS_LIST = "test", "make", ("IMAGE",), (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        return ([pattern(1, 64, 64), pattern(2, 40, 97), pattern(1, 120, 33)],)


class JanusTestText:
    """A text for a widget that a person would not type into."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", (AnyType("*"),)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {})}}

    def make(self, value):
        return (value,)


class JanusTestOtherModel:
    """Another pack's model in a patcher of its own, loaded between ours."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "seed": ("INT", {"default": 0})}}

    def make(self, image, seed):
        module = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(8)))
        device, offload = mm.get_torch_device(), mm.unet_offload_device()
        patcher = comfy.model_patcher.ModelPatcher(module, load_device=device, offload_device=offload)
        mm.load_models_gpu([patcher], force_full_load=True)
        shift = module(torch.full((1, 1024), float(seed % 7))).mean()
        return ((image + 0 * shift).clamp(0, 1),)


@PromptServer.instance.routes.get("/janus_test/memory")
async def memory(_):
    """Return the resident memory of this process in KiB, after returning to the system what is unused."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return web.json_response({"resident": int(fields["VmRSS"]), "anonymous": int(fields["RssAnon"])})


NODE_CLASS_MAPPINGS = {
    kind.__name__: kind
    for kind in (JanusTestPicture, JanusTestPictureList, JanusTestText, JanusTestOtherModel)
}
