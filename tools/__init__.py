"""What the project measures and checks about its own source; not part of any package or archive."""
