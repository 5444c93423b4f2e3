"""Where weights are, in which form, and how much memory a task needs beside them."""
