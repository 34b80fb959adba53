/**
 * Manifests as trees that know where each part stands. YAML and JSON, several documents in one text; every fault
 * carries its path and its line and column, and reading goes on after a fault so that all are reported at once.
 * @module
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  type ParsedNode,
} from "yaml";

/** Largest text of manifests, most documents, nodes and faults in it; beyond them reading stops with a fault. */
export const MANIFEST_BYTES_MAX = 2 * 1024 * 1024;
export const DOCUMENTS_MAX = 5000;
export const NODES_MAX = 400_000;
export const DEPTH_MAX = 64;
export const FAULTS_MAX = 100;

/** Limits of one text; the defaults are those above. */
export interface ManifestLimits {
  bytesMax?: number;
  documentsMax?: number;
  nodesMax?: number;
}

/** Why something is refused. */
export type FaultCode = "syntax" | "unknown-field" | "unsupported" | "invalid" | "limit";

/** One thing that is wrong, and where. */
export interface Fault {
  readonly code: FaultCode;
  /** `spec.ingress[0].toPorts[1].rules`; `""` for a whole document. */
  readonly path: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  readonly detail: string;
}

/** `12:7 spec.ingress[0].toPorts: ...` */
export function formatFault(fault: Fault, file = ""): string {
  const where = `${file === "" ? "" : `${file}:`}${fault.line}:${fault.column}`;
  return `${where}${fault.path === "" ? "" : ` ${fault.path}`}: ${fault.detail}`;
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
  const parsed = parseAllDocuments(text, { lineCounter: lines, stringKeys: true, logLevel: "silent" });
  if (!Array.isArray(parsed)) return [];
  const documents: ManifestDocument[] = [];
  const budget = { nodes: 0, max: nodesMax };
  for (const [index, document] of parsed.entries()) {
    if (index >= documentsMax) {
      faults.add("limit", { path: "", line: firstLine, column: 1 }, `more than ${documentsMax} documents`);
      break;
    }
    for (const error of document.errors) {
      const { line, col } = lines.linePos(error.pos[0]);
      faults.add(
        "syntax",
        { path: "", line, column: col },
        error.message.split("\n")[0].replace(/ at line .*$/, ""),
      );
    }
    if (document.errors.length > 0 || document.contents === null) continue;
    if (isScalar(document.contents) && document.contents.value === null) continue;
    const root = new TreeReader(document as unknown as Document, lines, faults, budget, offset).read(
      document.contents as ParsedNode,
      "",
      0,
    );
    if (!root) continue;
    const [start, , end] = document.contents.range ?? [0, 0, text.length];
    // The text of a document begins on the line of its first key, so that places inside it stay right.
    const first = text.lastIndexOf("\n", start - 1) + 1;
    documents.push({ root, text: text.slice(first, end), line: lines.linePos(start).line + offset });
  }
  return documents;
}

class TreeReader {
  constructor(
    private readonly document: Document,
    private readonly lines: LineCounter,
    private readonly faults: FaultList,
    private readonly budget: { nodes: number; max: number },
    private readonly offset: number,
  ) {}

  read(node: ParsedNode | Node | null | undefined, path: string, depth: number): ManifestNode | undefined {
    const offset = node?.range?.[0] ?? 0;
    const { line, col } = this.lines.linePos(offset);
    const place = { path, line: Math.max(line, 1) + this.offset, column: Math.max(col, 1) };
    // Aliases are followed, so the budget counts what they expand to: a small text may unfold to a huge tree.
    if (++this.budget.nodes > this.budget.max || depth > DEPTH_MAX) {
      const limit = depth > DEPTH_MAX
        ? `nested deeper than ${DEPTH_MAX}`
        : `more than ${this.budget.max} values`;
      this.faults.add("limit", place, limit);
      return undefined;
    }
    if (isAlias(node)) {
      const target = node.resolve(this.document);
      if (target) return this.read(target as ParsedNode, path, depth + 1);
      this.faults.add("syntax", place, `alias *${node.source} has no anchor`);
      return undefined;
    }
    const empty = { ...place, fields: new Map<string, ManifestField>(), items: [], scalar: null };
    if (isMap(node)) {
      const fields = new Map<string, ManifestField>();
      for (const pair of node.items) {
        const key = String((pair.key as { value?: unknown })?.value ?? "");
        const at = this.lines.linePos((pair.key as Node | null)?.range?.[0] ?? offset);
        const value = this.read(pair.value as ParsedNode, joinPath(path, key), depth + 1);
        if (!value) return undefined;
        fields.set(key, { line: at.line + this.offset, column: at.col, value });
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
}

function joinPath(path: string, key: string): string {
  const plain = /^[A-Za-z_][A-Za-z0-9_-]*$/.test(key);
  if (path === "") return plain ? key : `[${JSON.stringify(key)}]`;
  return plain ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
}

/** A place in a document. */
export interface Place {
  readonly path: string;
  readonly line: number;
  readonly column: number;
}

/** The faults of one text, at most {@link FAULTS_MAX} of them, in the order found. */
export class FaultList {
  readonly faults: Fault[] = [];
  #more = 0;

  add(code: FaultCode, place: Place, detail: string): void {
    if (this.faults.length >= FAULTS_MAX) this.#more++;
    else this.faults.push({ code, path: place.path, line: place.line, column: place.column, detail });
  }

  get empty(): boolean {
    return this.faults.length === 0;
  }

  /** Faults beyond the limit, which are only counted. */
  get omitted(): number {
    return this.#more;
  }
}

/** Readers of typed values. Each reports a fault and answers undefined where the value is of another type. */
export class ManifestReader {
  constructor(readonly faults: FaultList) {}

  invalid(place: Place, detail: string): undefined {
    this.faults.add("invalid", place, detail);
    return undefined;
  }

  unsupported(place: Place, what: string, because = "not supported yet"): undefined {
    this.faults.add("unsupported", place, `${what} is ${because}`);
    return undefined;
  }

  /** The place of a field's key inside a map. */
  keyPlace(node: ManifestNode, key: string): Place {
    const field = node.fields.get(key);
    return field ? { path: field.value.path, line: field.line, column: field.column } : node;
  }

  /**
   * The fields of a map. `known` are read by the caller; `unsupported` are refused by name with a reason; every other
   * field is refused as unknown. A field whose value is null counts as absent.
   */
  map(
    node: ManifestNode,
    known: readonly string[],
    unsupported: Readonly<Record<string, string>> = {},
  ): ReadonlyMap<string, ManifestNode> | undefined {
    if (node.kind !== "map") return this.invalid(node, `${describe(node)}, want a map`);
    const found = new Map<string, ManifestNode>();
    for (const [key, field] of node.fields) {
      const place = { path: field.value.path, line: field.line, column: field.column };
      if (known.includes(key)) {
        if (field.value.kind !== "null") found.set(key, field.value);
      } else if (Object.hasOwn(unsupported, key)) {
        this.faults.add("unsupported", place, `field ${key} is ${unsupported[key]}`);
      } else {
        const similar = nearest(key, known);
        const hint = similar ? `, did you mean ${similar}?` : `, want one of ${known.join(", ")}`;
        this.faults.add("unknown-field", place, `unknown field ${JSON.stringify(key)}${hint}`);
      }
    }
    return found;
  }

  list(node: ManifestNode | undefined, max: number): readonly ManifestNode[] | undefined {
    if (!node) return undefined;
    if (node.kind !== "list") return this.invalid(node, `${describe(node)}, want a list`);
    if (node.items.length > max) {
      this.faults.add("limit", node, `${node.items.length} items, want at most ${max}`);
      return undefined;
    }
    return node.items;
  }

  string(node: ManifestNode | undefined, lengthMax = 4096): string | undefined {
    if (!node) return undefined;
    if (node.kind !== "string") return this.invalid(node, `${describe(node)}, want a text`);
    const text = node.scalar as string;
    if (text.length > lengthMax) {
      return this.invalid(node, `${text.length} characters, want at most ${lengthMax}`);
    }
    return text;
  }

  boolean(node: ManifestNode | undefined): boolean | undefined {
    if (!node) return undefined;
    if (node.kind !== "boolean") return this.invalid(node, `${describe(node)}, want true or false`);
    return node.scalar as boolean;
  }

  integer(node: ManifestNode | undefined, min: number, max: number): number | undefined {
    if (!node) return undefined;
    const value = node.scalar;
    if (
      node.kind !== "number" || !Number.isInteger(value) || (value as number) < min || (value as number) > max
    ) {
      return this.invalid(node, `${describe(node)}, want a whole number from ${min} to ${max}`);
    }
    return value as number;
  }
}

/** What a node is, for messages. */
export function describe(node: ManifestNode): string {
  if (node.kind === "map") return "a map";
  if (node.kind === "list") return "a list";
  if (node.kind === "null") return "nothing (null)";
  return JSON.stringify(node.scalar).slice(0, 80);
}

/** The known field that differs from `key` by one or two letters, if any. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const scored = known.map((name) => ({ name, distance: distance(key.toLowerCase(), name.toLowerCase()) }));
  const best = scored.sort((a, b) => a.distance - b.distance)[0];
  return best && best.distance <= 2 && key.length > 3 ? best.name : undefined;
}

function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2 || a.length > 64) return 99;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
