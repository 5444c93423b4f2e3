// Read-only texts on a node: what it wrote, and remarks on it. They grow with their text and can be copied.
//
// The same textarea serves classic nodes, which lay out widgets by `getMinHeight`, and Vue nodes, which lay out
// the element itself.

import { app } from "../../../scripts/app.js";

const TEXT = "janus_text";
const REMARK = "janus_remark";
const CORES_OWN = "$$node-text-preview"; // in which core shows progress text
const TALLEST_PX = 480; // beyond it the text scrolls
const NARROWEST_PX = 160;
const SIDES_PX = 40; // of a node, beside its widgets

const STYLE = `
  .janus-shown { resize: none; cursor: text; user-select: text; box-sizing: border-box; width: 100%;
    border: none; border-radius: 6px; padding: 6px 8px; font-size: var(--comfy-textarea-font-size, 12px);
    line-height: 1.4; background: var(--comfy-input-bg); color: var(--input-text); overflow-y: auto; }
  .janus-shown.janus_remark { background: transparent; color: var(--descrip-text); font-style: italic; }
  .janus-shown.janus-missing { color: var(--warning-background, #e8a33d); font-style: normal; }`;

let ruler;

function heightOf(text, classes, width) {
  if (!ruler) {
    document.head.appendChild(Object.assign(document.createElement("style"), { textContent: STYLE }));
    ruler = document.createElement("textarea");
    ruler.tabIndex = -1;
    ruler.ariaHidden = "true";
    document.body.appendChild(ruler);
  }
  ruler.className = classes;
  ruler.style.cssText = `position:fixed;left:-9999px;top:0;height:0;min-height:0;width:${width}px;overflow:hidden`;
  ruler.value = text;
  return Math.min(ruler.scrollHeight + 4, TALLEST_PX);
}

// Fit a widget's height to its text at the width that it has now, and the node's height to its widgets.
function fit(node, widget) {
  const area = widget.element;
  const width = Math.max(area.offsetWidth || node.size[0] - SIDES_PX, NARROWEST_PX);
  widget.janusHeight = heightOf(area.value, area.className, width);
  area.style.minHeight = `${widget.janusHeight}px`;
  const least = node.computeSize()[1];
  // a node that a person made taller stays so; one that stands as tall as we made it follows its text
  if (node.size[1] < least || node.size[1] === node.janusFitted) {
    node.setSize([node.size[0], least]);
    node.janusFitted = node.size[1];
  }
  app.canvas?.setDirty(true, true);
}

function onWheel(event) {
  const area = event.currentTarget;
  if (area.scrollHeight > area.clientHeight + 4 && !event.ctrlKey) {
    event.stopPropagation();
  } else if (!window.LiteGraph?.vueNodesMode) {
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  }
}

// Classic nodes keep a margin above and below the element.
const leastHeight = (widget) => (widget?.janusHeight ?? 20) + 2 * (widget?.margin ?? 10);

function makeWidget(node, name) {
  const area = document.createElement("textarea");
  area.readOnly = true;
  area.spellcheck = false;
  area.className = `janus-shown ${name}`;
  area.dataset.captureWheel = "true";
  area.addEventListener("wheel", onWheel, { passive: false });
  // no part of what is sent or saved by position: other widgets keep their places
  const widget = node.addDOMWidget(name, "janus_shown", area, {
    serialize: false,
    hideOnZoom: false,
    getValue: () => area.value,
    setValue: (text) => void (area.value = text ?? ""),
    getMinHeight: () => leastHeight(widget),
    getMaxHeight: () => (name === REMARK ? leastHeight(widget) : undefined),
  });
  widget.serialize = false;
  let width = 0;
  const watch = new ResizeObserver(() => {
    if (area.offsetWidth && area.offsetWidth !== width) {
      width = area.offsetWidth;
      requestAnimationFrame(() => node.graph && fit(node, widget));
    }
  });
  watch.observe(area);
  return widget;
}

export function removeWidget(node, name) {
  const place = node.widgets?.findIndex((widget) => widget.name === name) ?? -1;
  if (place < 0) return;
  node.widgets[place].onRemove?.();
  node.widgets.splice(place, 1);
}

function show(node, name, text, isWarning = false) {
  const found = node.widgets?.find((widget) => widget.name === name);
  if (!text) {
    if (found) removeWidget(node, name);
    return;
  }
  const widget = found ?? makeWidget(node, name);
  widget.value = text;
  widget.element.classList.toggle("janus-missing", isWarning);
  fit(node, widget);
}

function keep(node, name, text) {
  const had = node.properties[name] ?? "";
  if (text) node.properties[name] = text;
  else delete node.properties[name];
  return had !== text;
}

const joined = (texts) => [...new Set(texts)].join("\n");

// Show what a run gave; returns whether anything that is saved has changed.
export function showOutput(node, output) {
  removeWidget(node, CORES_OWN);
  let isChanged = false;
  if (Array.isArray(output.text)) {
    const text = output.text.join("\n\n");
    isChanged = keep(node, TEXT, text);
    show(node, TEXT, text);
  }
  if (Array.isArray(output.janus_remarks)) {
    const text = joined(output.janus_remarks);
    isChanged = keep(node, REMARK, text) || isChanged;
    show(node, REMARK, text);
  }
  return isChanged;
}

// Make room for what is being written.
export function hideTexts(node) {
  show(node, TEXT, "");
}

export function showNote(node, text, isWarning) {
  show(node, REMARK, text, isWarning);
}

// Show what the node's properties hold.
export function restoreTexts(node) {
  removeWidget(node, CORES_OWN);
  show(node, TEXT, node.properties?.[TEXT]);
  show(node, REMARK, node.properties?.[REMARK]);
}
