// When the page puts a node in the place of another pack's, it does not tell the node that it is in the graph: its
// text boxes stay away until the workflow is opened again, and it has the height of the node before it.

export function noticeTakenPlace(node) {
  const told = node.onAdded;
  let isTold = false;
  node.onAdded = function (...values) {
    isTold = true;
    return told?.apply(this, values);
  };
  // later: the page adds a new node right after making it
  setTimeout(() => {
    if (!node.graph || isTold) return;
    node.onAdded(node.graph);
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  });
}
