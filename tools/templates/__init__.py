"""The templates of the pack, written briefly."""
