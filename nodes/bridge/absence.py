"""What an output gives that has nothing to give."""

from comfy_execution.graph_utils import ExecutionBlocker


def nothing(message: str) -> ExecutionBlocker:
    """Return a value that stops every node behind an output, with a message that says what is missing."""
    return ExecutionBlocker(message)
