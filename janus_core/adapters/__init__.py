"""Adapters (LoRA): small files that change a model's weights. Read, checked, merged, and made."""
