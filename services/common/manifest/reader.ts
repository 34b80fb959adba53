/**
 * Readers of typed values of a manifest: each reports what it finds instead, and reading goes on.
 * @module
 */
import { describe, type ManifestNode } from "./document.ts";
import type { FaultList, Place } from "./fault.ts";

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

  /** A map of texts, e.g. labels; empty when absent, undefined after a fault. */
  texts(node: ManifestNode | undefined): Record<string, string> | undefined {
    const found: Record<string, string> = {};
    if (node === undefined || node.kind === "null") return found;
    if (node.kind !== "map") return this.invalid(node, `${describe(node)}, want a map of texts`);
    for (const [key, field] of node.fields) {
      const value = this.string(field.value, 4096);
      if (value === undefined) return undefined;
      found[key] = value;
    }
    return found;
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

/** The known name that differs from `key` by one or two letters, if any. */
export function nearest(key: string, known: readonly string[]): string | undefined {
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
