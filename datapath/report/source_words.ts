/** Finds, in a source line, the words that a reader knows a register by. @module */
import type { LineInfo, SourceMap } from "@weir/object";
import type { AbstractValue } from "@weir/verifier";

/** Words that are no variable, though they stand before an arrow or a bracket, or behind a star. */
// deno-fmt-ignore
const KEYWORDS = new Set([
  "if", "for", "while", "return", "switch", "sizeof", "goto", "else", "do", "case", "default", "break", "continue",
  "volatile", "const", "restrict", "static", "inline", "extern", "register", "signed", "unsigned", "struct", "union", "enum",
  "void", "char", "short", "int", "long", "float", "double", "_Bool", "bool", "typeof", "__typeof__", "asm", "NULL", "true",
  "false",
]);

/** A type of the kernel's headers: `__u32`, `__be16`, `u8`, `size_t`. */
const TYPE = /^(__)?[usb]e?(8|16|32|64)$|^__(be|le)(16|32|64)$|_t$/;

function isVariable(word: string): boolean {
  return !KEYWORDS.has(word) && !TYPE.test(word);
}

/** The line without comments, which hold no words of the program; columns stay. */
function codeOf(line: LineInfo): LineInfo {
  const text = line.text.replace(/\/\*.*?(\*\/|$)|\/\/.*$/g, (comment) => " ".repeat(comment.length));
  return { ...line, text };
}

/** The number that a line adds to a pointer: in `ports[index]` it is `index`, in `data + length` it is `length`. */
export function indexIn(given: LineInfo | undefined): string | undefined {
  if (given === undefined) return undefined;
  const line = codeOf(given), column = Math.max(0, line.column - 1);
  for (const text of [line.text.slice(column), line.text]) {
    const found = /\[\s*([A-Za-z_][\w.]*(?:->[\w.]+)*)[^\]]*\]/.exec(text)?.[1] ??
      /[\w)\]]\s*\+=?\s*([A-Za-z_][\w.]*(?:->[\w.]+)*)(?!\w*\s*\()/.exec(text)?.[1];
    if (found !== undefined && isVariable(found)) return found;
  }
  return undefined;
}

/** The text without casts: parentheses that hold a type, whatever is nested in them, before something that can be cast. */
export function withoutCasts(text: string): string {
  let out = "";
  for (let at = 0; at < text.length; at++) {
    if (text[at] !== "(") {
      out += text[at];
      continue;
    }
    let depth = 0, end = at;
    for (; end < text.length; end++) {
      if (text[end] === "(") depth++;
      else if (text[end] === ")" && --depth === 0) break;
    }
    const inside = text.slice(at + 1, end).trim(), after = text.slice(end + 1).trimStart();
    const [first] = /^[A-Za-z_]\w*/.exec(inside) ?? [""];
    const type = inside.endsWith("*") ? /^[A-Za-z_]/.test(inside) : first !== "" && !isVariable(first);
    const called = /[A-Za-z_]\w*\s*$/.test(out) && !/\b(return|case)\s*$/.test(out);
    if (end < text.length && type && !called && /^[A-Za-z_(&*]/.test(after)) at = end;
    else out += text[at];
  }
  return out;
}

/** A variable that the expression at the line's column is about; undefined when the line does not say. */
function variableIn(given: LineInfo | undefined): string | undefined {
  if (given === undefined || given.text === "" || /\basm\b/.test(given.text)) return undefined;
  const line = codeOf(given);
  const column = Math.max(0, line.column - 1);
  const words = (text: string) =>
    [...text.matchAll(/[A-Za-z_]\w*(?:(?:->|\.)[A-Za-z_]\w*)*(?!\w*\s*\()/g)].map(([word]) => word)
      .filter((word) => isVariable(word) && !/^[A-Z0-9_]+$/.test(word));
  const here = /[A-Za-z_][\w.]*(?:->[\w.]+)*$/.exec(line.text.slice(0, column))?.[0] ?? "";
  return words(withoutCasts(here + line.text.slice(column)))[0] ?? words(withoutCasts(line.text))[0];
}

/**
 * The variable that a line reads or writes through: in `if (ip4->protocol == 6)` with the compiler's column at `protocol` it is `ip4`.
 * @returns undefined when the line does not say.
 */
export function pointerIn(given: LineInfo | undefined): string | undefined {
  // Assembly has no variables.
  if (given === undefined || given.text === "" || /\basm\b/.test(given.text)) return undefined;
  const line = codeOf(given);
  const column = Math.max(0, line.column - 1);
  const left = withoutCasts(line.text.slice(0, column)), right = withoutCasts(line.text.slice(column));
  return pointerAt(left + right, left.length);
}

/** As {@link pointerIn}, in a text without casts. */
function pointerAt(text: string, column: number): string | undefined {
  const left = text.slice(0, column);
  const atomic = /\b__(?:sync|atomic)_\w+\s*\(\s*&?\s*([A-Za-z_]\w*)/.exec(text)?.[1];
  if (atomic !== undefined) return atomic;
  // clang's column is that of the member's name, or of the expression it belongs to.
  const before = /([A-Za-z_][\w.]*(?:\[[^\]]*\])?(?:->[\w.]+)*)\s*(?:->|\[)\s*$/.exec(left)?.[1];
  if (before !== undefined && isVariable(before)) return before;
  // At an assignment the memory accessed is what stands on the left: `session->bytes += skb->len`.
  if (/^\s*([-+*\/%|&^]|<<|>>)?=(?!=)/.test(text.slice(column))) {
    const named = /([A-Za-z_][\w.]*(?:->[\w.]+)*)->[\w.\[\]]+\s*$/.exec(left)?.[1] ??
      /([A-Za-z_]\w*)\[[^\]]*\]\s*$/.exec(left)?.[1] ?? /[*&]\s*([A-Za-z_]\w*)\s*$/.exec(left)?.[1];
    if (named !== undefined && isVariable(named)) return named;
  }
  for (const at of [column, 0]) {
    for (const found of text.slice(at).matchAll(/([A-Za-z_]\w*)\s*(?:->|\[)/g)) {
      if (isVariable(found[1])) return found[1];
    }
  }
  for (const found of text.slice(column).matchAll(/\*[\s(&]*([A-Za-z_]\w*)/g)) {
    if (isVariable(found[1])) return found[1];
  }
  return undefined;
}

/** The field that a line reads, with its variable: `ip4->protocol`. */
export function fieldIn(given: LineInfo | undefined): string | undefined {
  if (given === undefined) return undefined;
  const line = codeOf(given);
  const column = Math.max(0, line.column - 1);
  const head = /([A-Za-z_]\w*(?:(?:->|\.)[A-Za-z_]\w*)*(?:->|\.))$/.exec(line.text.slice(0, column));
  const tail = /^[A-Za-z_]\w*/.exec(line.text.slice(column));
  if (head !== null && tail !== null) return head[1] + tail[0];
  return /[A-Za-z_]\w*(?:->|\.)[A-Za-z_]\w*/.exec(line.text.slice(column))?.[0] ??
    /[A-Za-z_]\w*(?:->|\.)[A-Za-z_]\w*/.exec(line.text)?.[0];
}

/** The arguments of the call that a line makes to `name`, as they are written; undefined when it is not there. */
export function argumentsIn(given: LineInfo | undefined, name: string): string[] | undefined {
  if (given === undefined) return undefined;
  const line = codeOf(given);
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

/**
 * The words for a register at a finding: its name, else what it holds, else the variable that its line is about. A number
 * of a register only where there is no source.
 */
export function wordsOfRegister(
  register: number,
  instruction: number,
  values: readonly AbstractValue[],
  source: SourceMap,
): string {
  const name = nameOfRegister(register, instruction, source);
  if (name !== `r${register}`) return name;
  const line = source.lineAt(instruction), value = values[register];
  // In assembly the registers are the source's own words.
  if (line !== undefined && /\basm\b/.test(line.text)) return name;
  if (value !== undefined && value.kind !== "number" && value.kind !== "uninitialised") {
    const held = describeValue({ ...value, maybeNull: false }, source).replace(/, .*/, "");
    if (line !== undefined) return `the ${held}`;
  }
  const variable = variableIn(line);
  return variable === undefined ? (line === undefined ? name : "a value of this line") : `\`${variable}\``;
}
