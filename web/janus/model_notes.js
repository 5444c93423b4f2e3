// Before a run, Load Janus says what will happen: a model that is missing, with size and folder, or what a
// small one knows. The server writes the sentences.

import { api } from "../../../scripts/api.js";
import { showNote } from "./shown_text.js";

let notes = null;

export async function readModels() {
  try {
    const reply = await api.fetchApi("/janus/models");
    if (reply.ok) notes = await reply.json();
  } catch (error) {
    console.warn("Janus: the list of installed models could not be read.", error);
  }
}

export function markModel(node) {
  const widget = node.widgets?.find((one) => one.name === "model");
  const isLinked = node.inputs?.some((input) => input.widget?.name === "model" && input.link != null);
  if (!notes || !widget) return;
  const note = notes.models[widget.value] ?? { is_installed: false, text: notes.unknown };
  if (isLinked) showNote(node, "");
  else showNote(node, note.text, !note.is_installed);
}
