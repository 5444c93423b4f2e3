"""What a Janus is: its numbers, its layers and its parts. No loops and no files."""
