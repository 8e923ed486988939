// Reads a JSON list of diagrams, { name, text }, and writes a JSON list of those that Mermaid cannot
// parse, { name, message }.
import { JSDOM } from "jsdom";

const { window } = new JSDOM();
globalThis.window = window; // Mermaid cleans labels with DOMPurify, which needs a document
globalThis.document = window.document;

const { default: mermaid } = await import("mermaid");
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const faults = [];
for (const { name, text } of JSON.parse(Buffer.concat(chunks))) {
  try {
    await mermaid.parse(text);
  } catch ({ message }) {
    faults.push({ name, message });
  }
}
console.log(JSON.stringify(faults));
