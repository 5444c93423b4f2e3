// What happens on a node while it runs, and when the run ends early: unfinished text stays, a half-drawn picture
// goes.

import { app } from "../../../scripts/app.js";
import { hideTexts, removeWidget, showOutput } from "./shown_text.js";

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

const written = new Map(); // what nodes have written so far, until their result is there

// Core shows text while it is written, in a widget of its own; an older result makes room for it.
export function onProgressText({ nodeId, text }) {
  const node = nodeId == null ? null : nodeAt(nodeId);
  if (!node?.isJanus || !text) return;
  if (!written.has(node)) hideTexts(node);
  written.set(node, text);
}

export function endText(node) {
  written.delete(node);
}

// A run that ends early leaves what was written, in the place where results stay.
export function keepUnfinished() {
  for (const [node, text] of written) {
    if (node.graph) showOutput(node, { text: [text] });
  }
  written.clear();
}

// A run that ended well leaves results only: how a download went is of no use any more.
export function forgetUnfinished() {
  for (const [node] of written) {
    if (node.graph) showOutput(node, { text: [] });
  }
  written.clear();
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
