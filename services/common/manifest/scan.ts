/**
 * The tokens of a text of YAML or JSON, as the YAML library reads them, while they are bounded: what nests too deep, or holds more than
 * any manifest does, is refused at the place where it does so, before values are made of it.
 *
 * Levels and entries are read off the parser's own stack after each token, so there is no second reading of YAML that a text could
 * mislead: no map or list has more than was counted. One thing is not on the stack, a pair in a list in brackets (`[a: 1]`), which
 * becomes a map of its own: the composer may go twice as deep, and the reader of its trees refuses that.
 * @module
 */
import { CST, Lexer, type LineCounter, Parser } from "yaml";

/** Levels of maps and lists in each other. */
export const DEPTH_MAX = 64;
/** Entries of one map or list; a list of objects may have as many as there may be documents. */
export const ENTRIES_MAX = 20_000;
/** Anchors, aliases and tags in one text. */
export const MARKS_MAX = 1000;
/** Parts that stand where none may, each of which is an error to report. */
const MISPLACED_MAX = 100;
/** Lines with nothing on them, in a row: the parser looks through them again for each comment behind them. */
const BLANKS_MAX = 500;

/** What is counted in all of a text. */
export interface ScanLimits {
  readonly documentsMax: number;
  readonly nodesMax: number;
  /** Default {@link DEPTH_MAX}. */
  readonly depthMax?: number;
  /** Default {@link ENTRIES_MAX}. */
  readonly entriesMax?: number;
}

/** A text holds too much. */
export class ExcessError extends Error {
  /** @param at where in the text */
  constructor(readonly at: number, message: string) {
    super(message);
  }
}

/** The tokens of a text, for the composer. @throws {ExcessError} */
export function* scanTokens(text: string, limits: ScanLimits, lines: LineCounter): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine), count = new TokenCount(limits);
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    const at = parser.offset, before = parser.stack.at(-1);
    for (const token of parser.next(lexeme)) {
      count.take(token, at);
      yield token;
    }
    count.look({ lexeme, at, before }, parser.stack);
  }
  for (const token of parser.end()) {
    count.take(token, parser.offset);
    yield token;
  }
}

type Collection = CST.BlockMap | CST.BlockSequence | CST.FlowCollection;

/** A lexeme that was taken: where it stood, and what was on top of the stack before it. */
interface Taken {
  readonly lexeme: string;
  readonly at: number;
  readonly before: CST.Token | undefined;
}

class TokenCount {
  readonly #limits: Required<ScanLimits>;
  #documents = 0;
  #ends = 0;
  #values = 0;
  #marks = 0;
  #misplaced = 0;
  #blanks = 0;
  /** The next lexeme is a plain or block scalar, whatever it looks like. */
  #isScalar = false;

  constructor(limits: ScanLimits) {
    this.#limits = { depthMax: DEPTH_MAX, entriesMax: ENTRIES_MAX, ...limits };
  }

  /** Counts what the parser is done with. */
  take({ type }: CST.Token, at: number): void {
    const { documentsMax } = this.#limits;
    if (
      type === "document" && ++this.#documents > documentsMax ||
      type === "doc-end" && ++this.#ends > documentsMax
    ) {
      throw new ExcessError(at, `more than ${documentsMax} documents`);
    }
    if (type === "directive") this.#mark(at);
    if (type === "error") this.#misplace(at);
  }

  /** Counts a lexeme by what it made of the stack. */
  look({ lexeme, at, before }: Taken, stack: readonly CST.Token[]): void {
    const { depthMax, entriesMax, nodesMax } = this.#limits;
    const type = this.#isScalar ? "text" : CST.tokenType(lexeme);
    this.#isScalar = type === "scalar";
    if (this.#isScalar) return;
    if (type === "space") return;
    if (type === "newline") {
      if (++this.#blanks > BLANKS_MAX) {
        throw new ExcessError(at, `more than ${BLANKS_MAX} blank lines in a row`);
      }
      return;
    }
    this.#blanks = 0;
    if (type === "comment") return;
    if (type === "anchor" || type === "alias" || type === "tag") this.#mark(at);
    if (
      type === "seq-item-ind" || type === "map-value-ind" || type === "explicit-key-ind" || type === "comma"
    ) {
      if (++this.#values > nodesMax) throw new ExcessError(at, `more than ${nodesMax} values`);
    }
    const top = stack.at(-1);
    if (top === undefined) return;
    if (isMisplaced(before, top)) this.#misplace(at);
    if (stack.length > depthMax && stack.filter(isCollection).length > depthMax) {
      throw new ExcessError(at, `nested deeper than ${depthMax}`);
    }
    // What is further down got its last entry when the level above was opened.
    if (stack.slice(-2).some((token) => isCollection(token) && hasMore(token, entriesMax))) {
      throw new ExcessError(at, `more than ${entriesMax} entries in one map or list`);
    }
  }

  #mark(at: number): void {
    if (++this.#marks > MARKS_MAX) {
      throw new ExcessError(at, `more than ${MARKS_MAX} anchors, aliases, tags and directives`);
    }
  }

  #misplace(at: number): void {
    if (++this.#misplaced > MISPLACED_MAX) {
      throw new ExcessError(at, `more than ${MISPLACED_MAX} signs and texts where none may stand`);
    }
  }
}

function isCollection(token: CST.Token): token is Collection {
  return token.type === "block-map" || token.type === "block-seq" || token.type === "flow-collection";
}

function hasMore({ items }: Collection, max: number): boolean {
  if (items.length !== max + 1) return items.length > max;
  // The last one may be what stands before an entry.
  const { key, sep, value, start } = items[max] as CST.CollectionItem;
  return Boolean(key || sep || value) || start.some(({ type }) => INDICATORS.includes(type));
}

const INDICATORS: readonly string[] = ["seq-item-ind", "explicit-key-ind"];

/** A lexeme that went to the end of what was complete before it. */
function isMisplaced(before: CST.Token | undefined, top: CST.Token): boolean {
  switch (top.type) {
    case "flow-collection":
      if (top.end.length === 1) return (top.start.source === "[" ? "]" : "}") !== top.end[0].source;
      return top.end.length > 1;
    case "document":
      return before === top && top.end !== undefined;
    case "block-map":
    case "block-seq":
      return false;
    default:
      return before === top;
  }
}
