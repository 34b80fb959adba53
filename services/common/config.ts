/**
 * Configuration from flags, environment and a file, in this order of precedence, checked against named limits.
 *
 *     --identity-grace-s 30   >   WEIR_IDENTITY_GRACE_S=30   >   identityGraceS: 30 in --config FILE   >   default
 *
 * @module
 */
import { parse as parseYaml } from "yaml";
import { readInputTextSync } from "./input_file.ts";
import { ProblemError } from "./problem.ts";

/** Kinds of options. */
export type ConfigOption =
  | { kind: "text"; default?: string; env?: string; description?: string }
  | { kind: "number"; default?: number; min?: number; max?: number; env?: string; description?: string }
  | { kind: "flag"; default?: boolean; env?: string; description?: string }
  | { kind: "list"; default?: string[]; env?: string; description?: string };

/** Options by name in lowerCamelCase. */
export type ConfigSpec = Record<string, ConfigOption>;

type ValueOf<O> = O extends { kind: "flag" } ? boolean
  : O extends { kind: "list" } ? string[]
  : O extends { kind: "number" } ? (O extends { default: number } ? number : number | undefined)
  : O extends { kind: "text" } ? (O extends { default: string } ? string : string | undefined)
  : never;
/** The values that a specification gives. */
export type Config<S extends ConfigSpec> = { [K in keyof S]: ValueOf<S[K]> };

/** Where {@link loadConfig} reads from; defaults are the process's own. */
export interface ConfigSources {
  args?: readonly string[];
  env?: (name: string) => string | undefined;
  readFile?: (path: string) => string;
  /** Permission bits of a file, undefined when they are not known. */
  modeOf?: (path: string) => number | undefined;
}

/**
 * Reads the configuration.
 * @throws {ProblemError} CONFIG_INVALID, which names the option, where it was set, what was found and expected
 */
export function loadConfig<const S extends ConfigSpec>(spec: S, sources: ConfigSources = {}): Config<S> {
  const env = sources.env ?? readEnv;
  const flags = parseFlags(spec, sources.args ?? Deno.args);
  const file = flags.config ?? env("WEIR_CONFIG");
  const fromFile = file === undefined ? {} : readConfigFile(spec, String(file), sources.readFile ?? readFile);
  const out: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(spec) as [string, ConfigOption][]) {
    const variable = option.env ?? variableOf(name);
    const inEnv = env(variable);
    const [value, origin] = flags[name] !== undefined
      ? [flags[name], `--${kebab(name)}`]
      : inEnv !== undefined && inEnv !== ""
      ? [inEnv, variable]
      : fromFile[name] !== undefined
      ? [fromFile[name], `${file}: ${name}`]
      : [undefined, ""];
    if (origin.startsWith(`${file}: `) && hasPassword(String(value))) {
      assertPrivate(String(file), origin, sources.modeOf ?? modeOf);
    }
    out[name] = value === undefined ? option.default ?? emptyOf(option) : convert(option, value, origin);
  }
  return out as Config<S>;
}

const CONFIG_BYTES_MAX = 1 << 20;
const readFile = (path: string) => readInputTextSync(path, { bytesMax: CONFIG_BYTES_MAX });

/** Usage text of a specification, one line per option. */
export function configUsage(spec: ConfigSpec): string {
  const rows = Object.entries(spec).map(([name, option]): [string, string] => {
    const value = option.kind === "flag" ? "" : ` ${option.kind.toUpperCase()}`;
    const given = option.default === undefined || option.default === "" ? "" : ` (default ${option.default})`;
    return [`--${kebab(name)}${value}`, `${option.description ?? ""}${given}`];
  });
  const width = Math.max(...rows.map(([option]) => option.length));
  return rows.map(([option, description]) => `  ${option.padEnd(width)}  ${description}`).join("\n");
}

function parseFlags(spec: ConfigSpec, args: readonly string[]): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (let i = 0; i < args.length; i++) {
    const match = /^--([a-z0-9-]+)(?:=([\s\S]*))?$/.exec(args[i]);
    const name = match === null ? "" : camel(match[1]);
    const option = name === "config"
      ? { kind: "text" } as const
      : Object.hasOwn(spec, name)
      ? spec[name]
      : undefined;
    if (match === null || option === undefined) {
      throw invalid(
        args[i],
        "the command line",
        args[i],
        `one of ${Object.keys(spec).map((n) => "--" + kebab(n)).join(" ")}`,
      );
    }
    let value: unknown = match[2];
    if (value === undefined) {
      if (option.kind === "flag") value = true;
      else if (i + 1 < args.length) value = args[++i];
      else throw invalid(name, args[i], "nothing", "a value");
    }
    if (hasPassword(String(value))) {
      const instead = `${variableOf(name)} in the environment, or ${name} in a --config file of mode 0600`;
      throw new ProblemError("CONFIG_INVALID", {
        detail:
          `Cannot take --${
            kebab(name)
          } from the command line, where everybody may read it: it has a password; ` +
          `expected ${instead}`,
        found: "a URL with a password",
        expected: instead,
      });
    }
    if (option.kind === "list") value = [...(found[name] as string[] ?? []), ...String(value).split(",")];
    found[name] = value;
  }
  return found;
}

function readConfigFile(
  spec: ConfigSpec,
  path: string,
  read: (path: string) => string,
): Record<string, unknown> {
  let document: unknown;
  try {
    document = parseYaml(read(path)) ?? {};
  } catch (cause) {
    throw new ProblemError("CONFIG_INVALID", { detail: `Cannot read the configuration ${path}`, cause });
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    throw invalid("the file", path, typeof document, "a mapping of options");
  }
  for (const name of Object.keys(document)) {
    if (!Object.hasOwn(spec, name)) throw invalid(name, path, name, `one of ${Object.keys(spec).join(", ")}`);
  }
  return document as Record<string, unknown>;
}

function convert(option: ConfigOption, value: unknown, origin: string): unknown {
  switch (option.kind) {
    case "text":
      if (typeof value === "object") throw invalid(origin, origin, JSON.stringify(value), "a text");
      return String(value);
    case "list":
      return (Array.isArray(value) ? value.map(String) : String(value).split(",")).map((part) => part.trim())
        .filter((part) => part !== "");
    case "flag": {
      const text = String(value).toLowerCase();
      if (["true", "1", "yes"].includes(text)) return true;
      if (["false", "0", "no"].includes(text)) return false;
      throw invalid(origin, origin, text, "true or false");
    }
    case "number": {
      const number = typeof value === "number" || String(value).trim() !== "" ? Number(value) : NaN;
      const min = option.min ?? -Number.MAX_SAFE_INTEGER, max = option.max ?? Number.MAX_SAFE_INTEGER;
      if (Number.isNaN(number) || number < min || number > max) {
        throw invalid(origin, origin, String(value), `a number from ${min} to ${max}`);
      }
      return number;
    }
  }
}

/** A file with a password is its owner's alone. */
function assertPrivate(path: string, origin: string, modeOf: (path: string) => number | undefined): void {
  const mode = modeOf(path);
  if (mode === undefined || (mode & 0o077) === 0) return;
  throw invalid(origin, path, `a password in a file of mode 0${(mode & 0o777).toString(8)}`, "mode 0600");
}

function modeOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).mode ?? undefined;
  } catch {
    return undefined;
  }
}

/** Whether a text is a URL that carries a password: "postgres://user:secret@host/db", "...?password=secret". */
function hasPassword(text: string): boolean {
  return /^[a-z]+:\/\/[^/@]*:[^/@]+@/i.test(text) || /^[a-z]+:\/\/.*[?&]password=[^&]/i.test(text);
}

function variableOf(name: string): string {
  return `WEIR_${kebab(name).replaceAll("-", "_").toUpperCase()}`;
}

function emptyOf(option: ConfigOption): unknown {
  return option.kind === "flag" ? false : option.kind === "list" ? [] : undefined;
}

function invalid(name: string, origin: string, found: string, expected: string): ProblemError {
  return new ProblemError("CONFIG_INVALID", {
    detail: `Cannot take ${name} from ${origin}: found ${found}, expected ${expected}`,
    found,
    expected,
  });
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => "-" + letter.toLowerCase());
}

function camel(flag: string): string {
  return flag.replace(/-([a-z0-9])/g, (_, letter) => letter.toUpperCase());
}

function readEnv(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch {
    return undefined; // started without --allow-env for this name
  }
}
