// What happens on a node while it runs: text as it is written; a half-drawn picture goes when the run ends early.

import { app } from "../../../scripts/app.js";
import { removeWidget, showLive } from "./shown_text.js";

const CORES_PREVIEW = "$$canvas-image-preview";

const rootGraph = () => app.graph?.rootGraph ?? app.graph;

// The node of an id that runs know it by ("4", or "7:4" inside a subgraph) or that results are kept under
// ("<id of the subgraph>:4").
export function nodeAt(id) {
  const path = String(id).split(":");
  const last = path.pop();
  let graph = rootGraph();
  for (const step of path) {
    graph = graph?.getNodeById(step)?.subgraph ?? rootGraph()?.subgraphs?.get(step);
  }
  return graph?.getNodeById(last) ?? graph?.getNodeById(Number(last)) ?? null;
}

export function onProgressText({ nodeId, text }) {
  if (nodeId == null || !text) return;
  // later: core's own listener shows it too, before or after this one
  queueMicrotask(() => {
    const node = nodeAt(nodeId);
    if (node?.isJanus) showLive(node, text);
  });
}

// Core keeps the last preview of a run that was cancelled; it goes only when the next run reaches the node. Its
// store of previews is not part of the page's interface, so a page without it keeps them.
export function dropPreview({ node_id: id }) {
  const node = id == null ? null : nodeAt(id);
  if (!node?.isJanus) return;
  const page = document.querySelector("#vue-app")?.__vue_app__;
  const store = page?.config.globalProperties.$pinia?._s?.get("nodeOutput");
  store?.revokePreviewsByLocatorId?.(node.graph === rootGraph() ? String(node.id) : `${node.graph.id}:${node.id}`);
  node.imgs = undefined;
  node.preview = undefined;
  removeWidget(node, CORES_PREVIEW);
  app.canvas?.setDirty(true, true);
}
