"""A model written anew: as one file or a folder, in another dtype, or quantised."""
