"""Where weights are, in which form, and how much memory a job needs."""
