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

// The name in our list of a model that another pack calls by its repository or by its path.
function ourName(value) {
  if (value in notes.models) return value;
  const last = String(value).split(/[\\/]/).filter(Boolean).pop();
  const isPath = Object.values(notes.aliases).includes(last) && notes.models[last]?.is_installed;
  return notes.aliases[value] ?? (isPath ? last : value);
}

export function markModel(node) {
  const widget = node.widgets?.find((one) => one.name === "model");
  const isLinked = node.inputs?.some((input) => input.widget?.name === "model" && input.link != null);
  if (!notes || !widget) return;
  widget.value = ourName(widget.value);
  const note = notes.models[widget.value] ?? { is_installed: false, text: notes.unknown };
  if (isLinked) showNote(node, "");
  else showNote(node, note.text, !note.is_installed);
}
