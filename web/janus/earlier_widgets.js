// Workflows of other packs keep values by position only. Those of an earlier version, in another order, are put into
// the order that the page is told, so that it moves each to the right widget when it replaces the node.

import { api } from "../../../scripts/api.js";

const CONTROL = "control_after_generate";
const CHOICES = ["fixed", "increment", "decrement", "randomize"];

let orders = null;

function readOrders() {
  orders ??= api
    .fetchApi("/node_replacements")
    .then((reply) => (reply.ok ? reply.json() : {})) // older releases replace nothing
    .catch(() => ({}));
  return orders;
}

const fits = (names, values) =>
  values.every((value, at) => at >= names.length || (names[at] === CONTROL) === CHOICES.includes(value));

function reordered(values, entry) {
  const now = entry.old_widget_ids ?? [];
  const once = entry.janus_widgets_once;
  if (!once?.length || fits(now, values) || values.length !== once.length || !fits(once, values)) return values;
  const since = { ...entry.janus_values_since };
  once.forEach((name, at) => (since[name] = values[at]));
  return now.map((name) => since[name]);
}

export async function putInOrder(workflow) {
  const known = await readOrders();
  const graphs = [workflow, ...(workflow?.definitions?.subgraphs ?? [])];
  for (const node of graphs.flatMap((graph) => graph?.nodes ?? [])) {
    const [entry] = known[node.type] ?? [];
    const isAbsent = !(node.type in window.LiteGraph.registered_node_types);
    if (entry?.janus_widgets_once && isAbsent && Array.isArray(node.widgets_values)) {
      node.widgets_values = reordered(node.widgets_values, entry);
    }
  }
}
