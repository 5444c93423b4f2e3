"""Inputs and their encoding: pictures, prompts, conversations, text tokens, image tokens."""
