// Colours of our sockets and links, where a palette has none of its own for them.

const COLOURS = { JANUS: "#7c8cff", JANUS_IMAGE_TOKENS: "#f2a65a", JANUS_CHAT: "#5ec9b4" };

// Every palette that is loaded empties the entries of types that it does not know.
function keepColour(table, type, colour) {
  if (!table) return;
  let chosen = table[type];
  Object.defineProperty(table, type, {
    configurable: true,
    enumerable: true,
    get: () => chosen || colour,
    set: (value) => void (chosen = value),
  });
}

export function colourSockets(app) {
  for (const [type, colour] of Object.entries(COLOURS)) {
    keepColour(app.canvas.constructor.link_type_colors, type, colour);
    keepColour(app.canvas.default_connection_color_byType, type, colour);
  }
  // Vue nodes take them from the style sheet
  const lines = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
  const style = document.createElement("style");
  style.textContent = `:root { ${lines.join(" ")} }`;
  document.head.appendChild(style);
}
