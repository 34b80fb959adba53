/**
 * Reading of arguments: `node:util`'s `parseArgs`, with wrong usage as `UsageError`.
 *
 * @module
 */
import { parseArgs, type ParseArgsConfig } from "node:util";
import { type GlobalFlags, type KubernetesFlags, UsageError } from "./context.ts";
import { nearest } from "./suggestion.ts";

/** Options in `node:util` form: `{ output: { type: "string", short: "o" } }`. */
export type OptionTable = NonNullable<ParseArgsConfig["options"]>;

/** One option as it was given. */
export interface GivenOption {
  readonly name: string;
  readonly value: string | undefined;
}

/** Values of the options that were given. */
export interface ParsedArgs {
  /** The options in their order. */
  readonly given: readonly GivenOption[];
  readonly values: Record<string, string | boolean | (string | boolean)[] | undefined>;
  readonly positionals: string[];
}

/** An option that the command does not have; `options` are those that it has. */
export class UnknownOptionError extends UsageError {
  constructor(message: string, hint: string | undefined, readonly options: OptionTable) {
    super(message, hint);
  }
}

/** Parses `args`, refuses unknown options. `usage` is what the error tells to read. */
export function parse(args: string[], options: OptionTable, usage?: string): ParsedArgs {
  try {
    const { values, positionals, tokens } = parseArgs({
      args,
      options,
      allowPositionals: true,
      strict: true,
      tokens: true,
    });
    const given = tokens.filter((token) => token.kind === "option").map(({ name, value }) => ({
      name,
      value,
    }));
    return { values: values as ParsedArgs["values"], positionals, given };
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const [said] = message.split(". ");
    if (code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") {
      const word = /--([^'=]+)/.exec(said)?.[1] ?? "";
      const meant = nearest(word, [...Object.keys(options), ...GLOBALS.keys()]);
      const also = meant === undefined ? "" : ` (did you mean "--${meant}"?)`;
      throw new UnknownOptionError(`${said}${also}`, usage, options);
    }
    throw new UsageError(said, usage);
  }
}

/** Refuses words that are no option, of a command that takes none. */
export function noWords({ positionals: [word] }: ParsedArgs, usage: string): void {
  if (word !== undefined) {
    throw new UsageError(`Cannot take ${JSON.stringify(word)}: expected options only`, usage);
  }
}

/** The one string of an option, or undefined. */
export function text(parsed: ParsedArgs, name: string): string | undefined {
  const value = parsed.values[name];
  return typeof value === "string" ? value : undefined;
}

/** Every string of an option that may be repeated. */
export function texts(parsed: ParsedArgs, name: string): string[] {
  const value = parsed.values[name];
  if (Array.isArray(value)) return value.filter((item) => typeof item === "string");
  return typeof value === "string" ? [value] : [];
}

/** Whether a switch was given. */
export function flag(parsed: ParsedArgs, name: string): boolean {
  return parsed.values[name] === true;
}

/** Global flags, and where their values go; those of Kubernetes by their names there. */
const GLOBALS: ReadonlyMap<string, keyof GlobalFlags | `kubernetes.${keyof KubernetesFlags | ""}`> = new Map([
  ["lab", "lab"],
  ["node", "node"],
  ["server", "server"],
  ["kubernetes", "kubernetes."],
  ["kubeconfig", "kubernetes.kubeconfig"],
  ["context", "kubernetes.context"],
  ["weir-namespace", "kubernetes.namespace"],
]);

/**
 * Takes the global flags out of the words, wherever they stand before `--`.
 * `--node NAME`, `--node=NAME`, `--kubernetes`.
 */
export function takeGlobalFlags(words: string[]): { flags: GlobalFlags; rest: string[] } {
  const flags: Record<string, string> = {};
  const rest: string[] = [];
  let kubernetes: Record<string, string> | undefined;
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    if (word === "--") {
      rest.push(...words.slice(index));
      break;
    }
    const [name, inline] = splitFlag(word), place = GLOBALS.get(name ?? "");
    if (name === undefined || place === undefined) {
      rest.push(word);
      continue;
    }
    const [group, key] = place.split(".");
    if (group === "kubernetes") kubernetes ??= {};
    if (key === "") {
      if (inline !== undefined) throw new UsageError(`--${name} takes no value`);
      continue;
    }
    const value = inline ?? words[++index];
    if (value === undefined || value === "") throw new UsageError(`--${name} needs a value`);
    if (key === undefined) flags[group] = value;
    else kubernetes![key] = value;
  }
  return { flags: { ...flags, ...(kubernetes === undefined ? {} : { kubernetes }) }, rest };
}

function splitFlag(word: string): [string | undefined, string | undefined] {
  if (!word.startsWith("--")) return [undefined, undefined];
  const equals = word.indexOf("=");
  return equals < 0 ? [word.slice(2), undefined] : [word.slice(2, equals), word.slice(equals + 1)];
}

/** "90s", "15m", "24h", "30d" in seconds; 0 when nothing was said. `usage` is what the error tells to read. */
export function seconds(given: string | undefined, usage?: string): number {
  if (given === undefined) return 0;
  const match = /^(\d{1,9})(s|m|h|d)$/.exec(given);
  if (match === null || Number(match[1]) === 0) {
    throw new UsageError(`Cannot take "${given}" for a time: expected 90s, 15m, 24h or 30d`, usage);
  }
  return Number(match[1]) * { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] as "s"]!;
}
