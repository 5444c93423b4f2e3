"""What goes in, and what comes out of it: pictures, prompts, conversations, text and image tokens."""
