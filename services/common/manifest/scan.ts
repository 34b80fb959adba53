/**
 * A look at a text of YAML or JSON before it is parsed: what nests too deep, or holds more than any manifest does, is refused at the
 * place where it does so, at the speed of reading. Parsing takes a hundred times as long, and memory by what the text holds.
 *
 * It knows of YAML what it needs to count: quotes, comments, block scalars, brackets and indentation. Where it misreads a text (a plain
 * scalar of several lines may look like anything) it counts something wrong, never more than a line's worth; limits are far beyond that.
 * @module
 */
import type { Place } from "./fault.ts";

/** Levels of maps and lists in each other. */
export const DEPTH_MAX = 64;
/** Entries of one map or list; a list of objects may have as many as there may be documents. */
export const ENTRIES_MAX = 20_000;
/** Anchors, aliases and tags in one text. */
export const MARKS_MAX = 1000;
/** A quote may stand in a plain scalar that goes on from line to line: one that nothing closes is refused where much follows. */
const UNCLOSED_MAX = 256 << 10;
/** Brackets that close another kind, or nothing. */
const MISMATCHES_MAX = 100;

/** What is counted in all of a text. */
export interface ScanLimits {
  readonly documentsMax: number;
  readonly nodesMax: number;
}

/** What is too much, and where; undefined: nothing is. */
export function scanText(text: string, limits: ScanLimits): { place: Place; detail: string } | undefined {
  const found = new Scanner(text, limits).scan();
  if (found === undefined) return undefined;
  const line = text.slice(0, found.at).split("\n").length;
  const column = found.at - text.lastIndexOf("\n", found.at - 1);
  return { place: { path: "", line, column }, detail: found.detail };
}

/** A map or list that is open: of block style its column, of flow style -1. */
interface Level {
  readonly column: number;
  entries: number;
}

interface Excess {
  readonly at: number;
  readonly detail: string;
}

const NEWLINE = 10, SPACE = 32, TAB = 9, RETURN = 13;

class Scanner {
  readonly #blocks: Level[] = [];
  /** Entries of each bracket that is open, and what closes it. */
  readonly #flows: { readonly closing: string; entries: number }[] = [];
  #at = 0;
  #lineStart = 0;
  #values = 0;
  #marks = 0;
  #mismatches = 0;
  #documents = 1;

  constructor(readonly text: string, readonly limits: ScanLimits) {}

  scan(): Excess | undefined {
    const { text } = this;
    while (this.#at < text.length) {
      const excess = this.#token();
      if (excess !== undefined) return { at: Math.min(this.#at, text.length - 1), detail: excess };
    }
    return undefined;
  }

  /** Takes one token; the text of what is too much. */
  #token(): string | undefined {
    const { text } = this, code = text.charCodeAt(this.#at), isFlow = this.#flows.length > 0;
    if (code === NEWLINE) return this.#newLine();
    if (code === SPACE || code === TAB || code === RETURN) return void this.#at++;
    const sign = text[this.#at];
    switch (sign) {
      case "#":
        return void this.#skipTo("\n");
      case '"':
      case "'":
        return this.#quoted(sign);
      case "[":
      case "{":
        this.#at++;
        this.#flows.push({ closing: sign === "[" ? "]" : "}", entries: 0 });
        return this.#depth();
      case "]":
      case "}":
        if (!isFlow) break;
        this.#at++;
        if (this.#flows.pop()!.closing === sign) return undefined;
        return ++this.#mismatches > MISMATCHES_MAX ? "too many brackets do not match" : undefined;
      case ",":
        if (!isFlow) break;
        this.#at++;
        return this.#count(this.#flows.at(-1)!);
      case "*":
      case "&":
      case "!":
        this.#skipWord();
        return ++this.#marks > MARKS_MAX ? `more than ${MARKS_MAX} anchors, aliases and tags` : undefined;
      case "|":
      case ">":
        if (isFlow) break;
        return void this.#blockScalar();
      case "-":
      case "?":
        if (isFlow || !this.#isBlank(this.#at + 1)) break;
        this.#at++;
        return this.#enter(this.#at - 1 - this.#lineStart);
      case ":":
        // After a quoted key, or an empty one.
        if (isFlow || this.#isBlank(this.#at + 1)) return void this.#at++;
        break;
    }
    return this.#plain();
  }

  #newLine(): string | undefined {
    this.#lineStart = ++this.#at;
    if (!this.text.startsWith("---", this.#at) || !this.#isBlank(this.#at + 3)) return undefined;
    this.#blocks.length = this.#flows.length = 0;
    this.#at += 3;
    return ++this.#documents > this.limits.documentsMax + 1
      ? `more than ${this.limits.documentsMax} documents`
      : undefined;
  }

  #quoted(quote: string): string | undefined {
    const { text } = this, start = this.#at;
    for (;;) {
      const end = text.indexOf(quote, this.#at + 1);
      if (end < 0) {
        const isLong = text.length - start > UNCLOSED_MAX;
        this.#at = isLong ? start : text.length;
        return isLong ? "nothing closes this quote" : undefined;
      }
      this.#at = end;
      if (quote === '"') {
        let slashes = 0;
        while (text[end - 1 - slashes] === "\\") slashes++;
        if (slashes % 2 === 1) continue;
      } else if (text[end + 1] === "'") {
        this.#at++;
        continue;
      }
      break;
    }
    this.#at++;
    // Looked for in the quotes alone: a text of one line would be read again for each.
    const newline = text.slice(start, this.#at).lastIndexOf("\n"), column = start - this.#lineStart;
    if (newline >= 0) this.#lineStart = start + newline + 1;
    return text[this.#at] === ":" && newline < 0 ? this.#key(column) : undefined;
  }

  #plain(): string | undefined {
    const { text } = this, start = this.#at, isFlow = this.#flows.length > 0;
    for (;; this.#at++) {
      const code = text.charCodeAt(this.#at);
      if (Number.isNaN(code) || code === NEWLINE) return undefined;
      const sign = text[this.#at];
      if (sign === ":" && this.#isBlank(this.#at + 1)) break;
      if (sign === "#" && this.#isBlank(this.#at - 1)) return undefined;
      if (isFlow && (sign === "," || sign === "]" || sign === "}" || sign === "[" || sign === "{")) {
        // Nothing was taken: it is no plain scalar.
        if (this.#at === start) this.#at++;
        return undefined;
      }
    }
    return this.#key(start - this.#lineStart);
  }

  /** A key that ends at a colon. */
  #key(column: number): string | undefined {
    this.#at++;
    if (this.#flows.length > 0) return this.#value();
    return this.#enter(column);
  }

  /** An entry of the map or list of block style at a column. */
  #enter(column: number): string | undefined {
    const blocks = this.#blocks;
    while (blocks.length > 0 && blocks.at(-1)!.column > column) blocks.pop();
    if (blocks.at(-1)?.column !== column) blocks.push({ column, entries: 0 });
    return this.#depth() ?? this.#count(blocks.at(-1)!);
  }

  #count(level: { entries: number }): string | undefined {
    return ++level.entries > ENTRIES_MAX
      ? `more than ${ENTRIES_MAX} entries in one map or list`
      : this.#value();
  }

  #value(): string | undefined {
    return ++this.#values > this.limits.nodesMax ? `more than ${this.limits.nodesMax} values` : undefined;
  }

  #depth(): string | undefined {
    return this.#blocks.length + this.#flows.length > DEPTH_MAX
      ? `nested deeper than ${DEPTH_MAX}`
      : undefined;
  }

  /** Lines that are further in than the entry that they belong to. */
  #blockScalar(): void {
    const { text } = this, around = this.#blocks.at(-1)?.column ?? -1;
    this.#skipTo("\n");
    while (this.#at < text.length) {
      let at = this.#at + 1;
      while (text.charCodeAt(at) === SPACE) at++;
      const isEmpty = at >= text.length || text.charCodeAt(at) === NEWLINE || text.charCodeAt(at) === RETURN;
      if (!isEmpty && at - this.#at - 1 <= around) return;
      this.#at = at;
      this.#skipTo("\n");
    }
  }

  #skipWord(): void {
    const isEnd = () =>
      this.#isBlank(this.#at) || this.#flows.length > 0 && ",[]{}".includes(this.text[this.#at]);
    do this.#at++; while (!isEnd());
  }

  #skipTo(sign: string): void {
    const end = this.text.indexOf(sign, this.#at);
    this.#at = end < 0 ? this.text.length : end;
  }

  #isBlank(at: number): boolean {
    const code = this.text.charCodeAt(at);
    return Number.isNaN(code) || code === NEWLINE || code === SPACE || code === TAB || code === RETURN;
  }
}
