/**
 * Manifests as trees that know where each part stands. YAML and JSON, several documents in one text; every fault
 * carries its path and its line and column, and reading goes on after a fault so that all are reported at once.
 * @module
 */
import {
  Composer,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
} from "yaml";
import type { FaultList } from "./fault.ts";
import { DEPTH_MAX, ExcessError, scanTokens } from "./scan.ts";

/** Largest text of manifests, most documents and nodes in it; beyond them reading stops with a fault. */
export const MANIFEST_BYTES_MAX = 2 * 1024 * 1024;
export const DOCUMENTS_MAX = 5000;
export const NODES_MAX = 400_000;
/** Values that aliases stand for, in one document. */
export const ALIASED_MAX = 20_000;

/** Limits of one text; the defaults are those above. */
export interface ManifestLimits {
  bytesMax?: number;
  documentsMax?: number;
  nodesMax?: number;
}

/** One value of a document with its place. */
export interface ManifestNode {
  readonly kind: "map" | "list" | "string" | "number" | "boolean" | "null";
  readonly path: string;
  readonly line: number;
  readonly column: number;
  /** Fields of a map, in order. */
  readonly fields: ReadonlyMap<string, ManifestField>;
  /** Items of a list. */
  readonly items: readonly ManifestNode[];
  readonly scalar: string | number | boolean | null;
}

/** A field of a map: the place of its key, and its value. */
export interface ManifestField {
  readonly line: number;
  readonly column: number;
  readonly value: ManifestNode;
}

/** One document of a text. */
export interface ManifestDocument {
  readonly root: ManifestNode;
  /** The document's own text. */
  readonly text: string;
  /** Its first line in the whole text, from 1. */
  readonly line: number;
}

/**
 * Reads all documents of a text. Empty ones are left out; ones with a syntax error appear only in the faults.
 * @param firstLine line of the file on which the text begins
 */
export function readDocuments(
  text: string,
  faults: FaultList,
  firstLine = 1,
  limits: ManifestLimits = {},
): ManifestDocument[] {
  const { bytesMax = MANIFEST_BYTES_MAX, documentsMax = DOCUMENTS_MAX, nodesMax = NODES_MAX } = limits;
  const offset = firstLine - 1;
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > bytesMax) {
    faults.add(
      "limit",
      { path: "", line: firstLine, column: 1 },
      `${bytes} bytes, want at most ${bytesMax}`,
    );
    return [];
  }
  const lines = new LineCounter();
  let parsed: Document.Parsed[];
  try {
    // Keys are compared by the reader below: the library compares each with all before it.
    const composer = new Composer({ stringKeys: true, logLevel: "silent", uniqueKeys: false });
    parsed = Array.from(composer.compose(scanTokens(text, { documentsMax, nodesMax }, lines)));
  } catch (error) {
    if (!(error instanceof ExcessError)) throw error;
    const { line, col } = lines.linePos(error.at);
    faults.add("limit", { path: "", line: line + offset, column: col }, error.message);
    return [];
  }
  const documents: ManifestDocument[] = [];
  const budget = { nodes: 0, max: nodesMax };
  for (const document of parsed) {
    for (const error of document.errors) {
      const { line, col } = lines.linePos(error.pos[0]);
      faults.add(
        "syntax",
        { path: "", line: line + offset, column: col },
        reasonOf(error.message, text.slice(error.pos[0])),
      );
    }
    if (document.errors.length > 0 || document.contents === null) continue;
    if (isScalar(document.contents) && document.contents.value === null) continue;
    const reader = new TreeReader(lines, faults, budget, offset);
    const root = reader.read(document.contents as ParsedNode, "", 0);
    if (root === undefined || reader.hasTwins) continue;
    const [start, , end] = document.contents.range ?? [0, 0, text.length];
    // The text of a document begins on the line of its first key, so that places inside it stay right.
    const first = text.lastIndexOf("\n", start - 1) + 1;
    documents.push({ root, text: text.slice(first, end), line: lines.linePos(start).line + offset });
  }
  return documents;
}

/** @param at the text from the fault on */
function reasonOf(message: string, at: string): string {
  const [star] = /^\*(?=[\s,\]}]|$)/.exec(at) ?? [];
  return star === undefined ? message.split("\n")[0].replace(/ at line .*$/, "") : quoted(star);
}

/** People write patterns; YAML takes a star in front for the name of another value. */
function quoted(text: string): string {
  return `${text} without quotes is an alias in YAML: write "${text}" for a text that begins with a star`;
}

class TreeReader {
  readonly #lines: LineCounter;
  readonly #faults: FaultList;
  readonly #budget: { nodes: number; max: number };
  readonly #offset: number;
  /** Those that were read, by name: an alias means the last one before it. */
  readonly #anchors = new Map<string, Node>();
  /** Aliases that are being followed. */
  #following = 0;
  #aliased = 0;
  /** A map has a key twice. */
  hasTwins = false;

  constructor(
    lines: LineCounter,
    faults: FaultList,
    budget: { nodes: number; max: number },
    offset: number,
  ) {
    this.#lines = lines;
    this.#faults = faults;
    this.#budget = budget;
    this.#offset = offset;
  }

  read(node: ParsedNode | Node | null | undefined, path: string, depth: number): ManifestNode | undefined {
    const offset = node?.range?.[0] ?? 0;
    const { line, col } = this.#lines.linePos(offset);
    const place = { path, line: Math.max(line, 1) + this.#offset, column: Math.max(col, 1) };
    // Aliases are followed, so the budget counts what they expand to: a small text may unfold to a huge tree.
    if (this.#following > 0) this.#aliased++;
    const limit = depth > DEPTH_MAX
      ? `nested deeper than ${DEPTH_MAX}`
      : ++this.#budget.nodes > this.#budget.max
      ? `more than ${this.#budget.max} values`
      : this.#aliased > ALIASED_MAX
      ? `aliases stand for more than ${ALIASED_MAX} values`
      : undefined;
    if (limit !== undefined) {
      this.#faults.add("limit", place, limit);
      return undefined;
    }
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target) {
        this.#following++;
        const value = this.read(target as ParsedNode, path, depth + 1);
        this.#following--;
        return value;
      }
      this.#faults.add("syntax", place, `${quoted(`*${node.source}`)}; no anchor &${node.source} is there`);
      return undefined;
    }
    this.#note(node);
    const empty = { ...place, fields: new Map<string, ManifestField>(), items: [], scalar: null };
    if (isMap(node)) {
      const fields = new Map<string, ManifestField>();
      for (const pair of node.items) {
        const key = String((pair.key as { value?: unknown })?.value ?? "");
        this.#note(pair.key as Node | null);
        const at = this.#lines.linePos((pair.key as Node | null)?.range?.[0] ?? offset);
        const value = this.read(pair.value as ParsedNode, joinPath(path, key), depth + 1);
        if (!value) return undefined;
        if (fields.has(key) && this.#following === 0) {
          this.hasTwins = true;
          this.#faults.add(
            "syntax",
            { path: value.path, line: at.line + this.#offset, column: at.col },
            "Map keys must be unique",
          );
        }
        fields.set(key, { line: at.line + this.#offset, column: at.col, value });
      }
      return { ...empty, kind: "map", fields };
    }
    if (isSeq(node)) {
      const items: ManifestNode[] = [];
      for (const [index, item] of node.items.entries()) {
        const value = this.read(item as ParsedNode, `${path}[${index}]`, depth + 1);
        if (!value) return undefined;
        items.push(value);
      }
      return { ...empty, kind: "list", items };
    }
    const value = isScalar(node) ? node.value : null;
    if (typeof value === "string") return { ...empty, kind: "string", scalar: value };
    if (typeof value === "number") return { ...empty, kind: "number", scalar: value };
    if (typeof value === "bigint") return { ...empty, kind: "number", scalar: Number(value) };
    if (typeof value === "boolean") return { ...empty, kind: "boolean", scalar: value };
    return { ...empty, kind: "null" };
  }

  #note(node: Node | null | undefined): void {
    const anchor = (node as { anchor?: string } | null | undefined)?.anchor;
    if (anchor !== undefined && this.#following === 0) this.#anchors.set(anchor, node!);
  }
}

function joinPath(path: string, key: string): string {
  const plain = /^[A-Za-z_][A-Za-z0-9_-]*$/.test(key);
  if (path === "") return plain ? key : `[${JSON.stringify(key)}]`;
  return plain ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
}

/** What a node is, for messages. */
export function describe(node: ManifestNode): string {
  if (node.kind === "map") return "a map";
  if (node.kind === "list") return "a list";
  if (node.kind === "null") return "nothing (null)";
  return JSON.stringify(node.scalar).slice(0, 80);
}

/** The plain value of a node. */
export function toValue(node: ManifestNode): unknown {
  if (node.kind === "map") {
    return Object.fromEntries([...node.fields].map(([key, field]) => [key, toValue(field.value)]));
  }
  return node.kind === "list" ? node.items.map(toValue) : node.scalar;
}
