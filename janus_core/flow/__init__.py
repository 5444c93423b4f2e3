"""JanusFlow, the sibling that draws by rectified flow: what it does not share with the other models."""
