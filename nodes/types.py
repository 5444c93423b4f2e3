"""The pack's own socket types: a loaded model, image tokens, a conversation."""

from comfy_api.latest import io

JanusSocket = io.Custom("JANUS")
ImageTokensSocket = io.Custom("JANUS_IMAGE_TOKENS")
ChatSocket = io.Custom("JANUS_CHAT")
