"""Speed and memory beside transformers and the authors' loop: `python -m benchmarks` (see README.md)."""
