/**
 * Documents of a text that is JSON throughout, read quickly: what reflectors and programs send. Places inside a document
 * are not known here; a text with something to say about is read again by the YAML reader, which knows them.
 * @module
 */
import type { ManifestDocument, ManifestField, ManifestNode } from "./document.ts";

/** The documents, or undefined when one of them is no JSON object. @param firstLine of the text in its file */
export function readJsonDocuments(text: string, firstLine: number): ManifestDocument[] | undefined {
  if (!/^[\s-]*\{/.test(text)) return undefined;
  const documents: ManifestDocument[] = [];
  let line = firstLine;
  for (const part of text.split(/^---[ \t]*$/m)) {
    const leading = /^\s*/.exec(part)![0];
    const start = line + newlines(leading);
    line += newlines(part);
    const own = part.slice(leading.length);
    if (own === "") continue;
    try {
      documents.push({ root: nodeOf(JSON.parse(own), "", start), text: own, line: start });
    } catch {
      return undefined; // no JSON, or nested too deep for the stack: the YAML reader says which, and where
    }
  }
  return documents;
}

function nodeOf(value: unknown, path: string, line: number): ManifestNode {
  const empty = { path, line, column: 1, fields: NO_FIELDS, items: NO_ITEMS, scalar: null };
  if (Array.isArray(value)) {
    return { ...empty, kind: "list", items: value.map((item) => nodeOf(item, path, line)) };
  }
  if (typeof value === "object" && value !== null) {
    const fields = new Map<string, ManifestField>();
    for (const key in value) {
      const one = nodeOf((value as Record<string, unknown>)[key], key, line);
      fields.set(key, { line, column: 1, value: one });
    }
    return { ...empty, kind: "map", fields };
  }
  if (typeof value === "string") return { ...empty, kind: "string", scalar: value };
  if (typeof value === "number") return { ...empty, kind: "number", scalar: value };
  if (typeof value === "boolean") return { ...empty, kind: "boolean", scalar: value };
  return { ...empty, kind: "null" };
}

const NO_FIELDS: ReadonlyMap<string, ManifestField> = new Map();
const NO_ITEMS: readonly ManifestNode[] = [];

function newlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}
