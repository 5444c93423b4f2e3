// What our nodes show on the page: their texts and remarks, whether a model is installed, colours of sockets.
//
// Texts live in the node's properties, so that they are saved with the workflow; widgets only show them and
// take no place among the saved widget values. Every other pack's nodes are left alone.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { colourSockets } from "./janus/socket_colours.js";
import { putInOrder } from "./janus/earlier_widgets.js";
import { markModel, readModels } from "./janus/model_notes.js";
import {
  beginRun, dropPreview, endText, forgetUnfinished, keepUnfinished, nodeAt, onProgressText,
} from "./janus/live.js";
import { restoreTexts, showOutput } from "./janus/shown_text.js";
import { noticeTakenPlace } from "./janus/taken_place.js";

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/extensions/")[1].split("/")[0]);
const LOADER = "JanusLoad";
const TITLE_ROOM_PX = 80; // beside the title: the dot that collapses a node, and a margin

const isOurs = (definition) => definition?.python_module === `custom_nodes.${PACK}`;
const everyNode = (graph) =>
  (graph?.nodes ?? []).flatMap((node) => [node, ...everyNode(node.subgraph)]);

function after(prototype, method, then) {
  const before = prototype[method];
  prototype[method] = function (...values) {
    const result = before?.apply(this, values);
    then.call(this, ...values);
    return result;
  };
}

// Frontends give a run's results to a node of the same id in whatever workflow is in front. The workflow that
// was run keeps them too, and hands them over when it comes to the front again.
function belongsToAnother(output) {
  const workflows = app.extensionManager?.workflow;
  return (workflows?.openWorkflows ?? []).some(
    (other) =>
      other !== workflows.activeWorkflow &&
      Object.values(other.changeTracker?.nodeOutputs ?? {}).includes(output),
  );
}

function remember() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

function markAllModels() {
  for (const node of everyNode(app.graph?.rootGraph ?? app.graph)) {
    if (node.comfyClass === LOADER) markModel(node);
  }
}

app.registerExtension({
  name: "janus.page",

  async setup() {
    colourSockets(app);
    for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
      api.addEventListener(end, () => readModels().then(markAllModels));
    }
    for (const end of ["execution_error", "execution_interrupted"]) {
      api.addEventListener(end, ({ detail }) => {
        keepUnfinished();
        dropPreview(detail ?? {});
      });
    }
    api.addEventListener("execution_start", beginRun);
    // later: results are shown a moment after they arrive
    api.addEventListener("execution_success", () => setTimeout(forgetUnfinished, 100));
    api.addEventListener("progress_text", ({ detail }) => onProgressText(detail));
    await readModels();
    markAllModels();
  },

  beforeConfigureGraph(workflow) {
    return putInOrder(workflow);
  },

  async beforeRegisterNodeDef(nodeType, definition) {
    if (!isOurs(definition)) return;
    nodeType.prototype.isJanus = true;
    after(nodeType.prototype, "onExecuted", function (output) {
      // later: the workflow that was run notes its results on the same event
      setTimeout(() => {
        endText(this);
        if (!output || belongsToAnother(output)) restoreTexts(this);
        else if (showOutput(this, output)) remember();
      });
    });
    after(nodeType.prototype, "onConfigure", function () {
      restoreTexts(this);
      if (this.comfyClass === LOADER) markModel(this);
    });
  },

  nodeCreated(node) {
    if (!node.isJanus) return;
    noticeTakenPlace(node);
    // the page makes a node without widgets narrower than its title
    const ruler = document.createElement("canvas").getContext("2d");
    ruler.font = "14px Inter, Arial, sans-serif";
    const width = ruler.measureText(node.title).width + TITLE_ROOM_PX;
    if (node.size[0] < width) node.setSize([width, node.size[1]]);
    if (node.comfyClass !== LOADER) return;
    const model = node.widgets?.find((widget) => widget.name === "model");
    if (model) after(model, "callback", () => markModel(node));
    setTimeout(() => markModel(node)); // later: the model may be another one as soon as the node is made
  },

  refreshComboInNodes() {
    return readModels().then(markAllModels);
  },

  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {})) {
      const node = nodeAt(id);
      if (node?.isJanus && output) showOutput(node, output);
    }
  },
});
