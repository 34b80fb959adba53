/** Finds, in a source line, the words that a reader knows a register by. @module */
import type { LineInfo, SourceMap } from "@weir/object";
import type { AbstractValue } from "@weir/verifier";

/** Words that are no variable, though they stand before an arrow or a bracket. */
const KEYWORDS = new Set(["if", "for", "while", "return", "switch", "sizeof", "goto", "else", "do", "case"]);

/**
 * The variable that a line reads or writes through: in `if (ip4->protocol == 6)` with the compiler's column at `protocol` it is `ip4`.
 * @returns undefined when the line does not say.
 */
export function pointerIn(line: LineInfo | undefined): string | undefined {
  // Assembly has no variables.
  if (line === undefined || line.text === "" || /\basm\b/.test(line.text)) return undefined;
  const text = line.text;
  const column = Math.max(0, line.column - 1);
  const left = text.slice(0, column);
  // clang's column is that of the member's name, or of the expression it belongs to.
  const before = /([A-Za-z_][\w.]*(?:\[[^\]]*\])?(?:->[\w.]+)*)\s*(?:->|\[)\s*$/.exec(left)?.[1];
  if (before !== undefined && !KEYWORDS.has(before)) return before;
  // At an assignment the memory accessed is what stands on the left: `session->bytes += skb->len`.
  if (/^\s*([-+*\/%|&^]|<<|>>)?=(?!=)/.test(text.slice(column))) {
    const named = /([A-Za-z_][\w.]*(?:->[\w.]+)*)->[\w.\[\]]+\s*$/.exec(left)?.[1] ??
      /([A-Za-z_]\w*)\[[^\]]*\]\s*$/.exec(left)?.[1] ?? /[*&]\s*([A-Za-z_]\w*)\s*$/.exec(left)?.[1];
    if (named !== undefined) return named;
  }
  for (const at of [column, 0]) {
    for (const found of text.slice(at).matchAll(/([A-Za-z_]\w*)\s*(?:->|\[)/g)) {
      if (!KEYWORDS.has(found[1])) return found[1];
    }
  }
  return /\*\s*(?:\([^)]*\*\s*\)\s*)?\(?\s*([A-Za-z_]\w*)/.exec(text.slice(column))?.[1];
}

/** The field that a line reads, with its variable: `ip4->protocol`. */
export function fieldIn(line: LineInfo | undefined): string | undefined {
  if (line === undefined) return undefined;
  const column = Math.max(0, line.column - 1);
  const head = /([A-Za-z_]\w*(?:(?:->|\.)[A-Za-z_]\w*)*(?:->|\.))$/.exec(line.text.slice(0, column));
  const tail = /^[A-Za-z_]\w*/.exec(line.text.slice(column));
  if (head !== null && tail !== null) return head[1] + tail[0];
  return /[A-Za-z_]\w*(?:->|\.)[A-Za-z_]\w*/.exec(line.text.slice(column))?.[0] ??
    /[A-Za-z_]\w*(?:->|\.)[A-Za-z_]\w*/.exec(line.text)?.[0];
}

/** The arguments of the call that a line makes to `name`, as they are written; undefined when it is not there. */
export function argumentsIn(line: LineInfo | undefined, name: string): string[] | undefined {
  if (line === undefined) return undefined;
  // Macros and wrappers may call the helper under another name; then the line says nothing sure.
  const at = line.text.indexOf(`${name}(`);
  if (at < 0) return undefined;
  const list: string[] = [];
  let depth = 0, current = "";
  for (const char of line.text.slice(at + name.length)) {
    if (char === "(" || char === "[" || char === "{") depth++;
    if (char === ")" || char === "]" || char === "}") depth--;
    if (depth === 0) break;
    if (depth === 1 && char === ",") {
      list.push(current.trim());
      current = "";
    } else if (!(depth === 1 && char === "(" && current === "")) current += char;
  }
  if (current.trim() !== "") list.push(current.trim());
  return list;
}

/** What a value is, in words for people: "packet pointer", "value of map `sessions`". */
export function describeValue(value: AbstractValue, source: SourceMap): string {
  const map = value.map >= 0 ? source.mapName(value.map) : undefined;
  const nullable = value.maybeNull ? ", perhaps NULL" : "";
  switch (value.kind) {
    case "number":
      if (value.unknown === 0n) return `the number ${BigInt.asIntN(64, value.bits)}`;
      return value.smin >= 0n && value.umax < 1n << 32n
        ? `a number from ${value.umin} to ${value.umax}`
        : "a number";
    case "map value":
      return `value of map ${map === undefined ? "" : `\`${map}\``}${nullable}`.replace("map ,", "a map,")
        .trimEnd();
    case "map":
      return map === undefined ? "map" : `map \`${map}\``;
    case "packet pointer":
      return `packet pointer, ${value.range} bytes proved`;
    default:
      return value.kind + nullable;
  }
}

/** The name a reader knows a register by, else `r3`. */
export function nameOfRegister(register: number, instruction: number, source: SourceMap): string {
  const { opcode, dst, src } = source.instructionAt(instruction);
  const kind = opcode & 7;
  const base = kind === 1 ? src : kind === 2 || kind === 3 ? dst : -1;
  const line = source.lineAt(instruction);
  if (base === register) {
    const name = pointerIn(line);
    if (name !== undefined) return `\`${name}\``;
  }
  if (opcode === 0x85 && line !== undefined && register >= 1 && register <= 5) {
    const callee = /\b([A-Za-z_]\w*)\s*\(/.exec(line.text.slice(Math.max(0, line.column - 1)))?.[1];
    const argument = callee === undefined ? undefined : argumentsIn(line, callee)?.[register - 1];
    if (argument !== undefined && argument.length <= 60) return `\`${argument}\``;
  }
  return register === 10 ? "the stack" : `r${register}`;
}
