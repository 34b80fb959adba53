/**
 * Values that a person chose: `--set image.tag=2`, `--set node.ipam=cluster-pool`, `--set config.routingMode=direct`, and files
 * of them as Helm takes.
 *
 * @module
 */
import { AGENT_CONFIG } from "@weir/agent/options";
import { loadConfig } from "@weir/common/config";
import { parse } from "yaml";
import { UsageError } from "../context.ts";
import { nearest } from "../suggestion.ts";
import { configText } from "./manifest.ts";
import { type Json, valuePaths, type Values } from "./values.ts";

const CONFIG = "config";

/** Values of `--set` words over those of `before`. @throws {UsageError} */
export function setValues(words: readonly string[], before: Values, hint: string): Values {
  const values: Record<string, Json> = { ...before };
  for (const word of words) {
    const at = word.indexOf("=");
    if (at <= 0) throw new UsageError(`Cannot take --set ${word}: expected NAME=VALUE`, hint);
    const [name, text] = [word.slice(0, at), word.slice(at + 1)];
    if (name.startsWith(`${CONFIG}.`)) {
      const config = (values[CONFIG] ?? defaultOf(CONFIG)) as Record<string, Json>;
      values[CONFIG] = setOption(config, name.slice(CONFIG.length + 1), text, hint);
    } else values[name] = valueOf(name, text, hint);
  }
  return values;
}

/** A configuration with one option more; without it where the text is empty. @throws {UsageError} */
export function setOption(
  config: Readonly<Record<string, Json>>,
  name: string,
  text: string,
  hint: string,
): Record<string, Json> {
  const next = { ...config };
  if (text === "") delete next[name];
  else next[name] = scalarOf(text, hint);
  checkConfig(next, hint);
  return next;
}

/** The values of a file, as of a chart. @throws {UsageError} */
export function fileValues(text: string, hint: string): Values {
  const values: Record<string, Json> = {};
  const visit = (at: Json, before: string): void => {
    if (at === null || typeof at !== "object" || Array.isArray(at)) {
      throw new UsageError(`Cannot read values: "${before || "the file"}" is no mapping`, hint);
    }
    for (const [name, value] of Object.entries(at)) {
      const path = `${before}${name}`;
      if (valuePaths().some(([known]) => known === path)) values[path] = checked(path, value, hint);
      else if (valuePaths().some(([known]) => known.startsWith(`${path}.`))) visit(value, `${path}.`);
      else throw unknown(path, hint);
    }
  };
  let document: Json;
  try {
    document = parse(text) ?? {};
  } catch (error) {
    throw new UsageError(`Cannot read values: ${(error as Error).message.split("\n")[0]}`, hint);
  }
  visit(document, "");
  if (values[CONFIG] !== undefined) checkConfig(values[CONFIG] as Record<string, Json>, hint);
  return values;
}

function valueOf(path: string, text: string, hint: string): Json {
  const spec = specOf(path);
  if (spec === undefined) throw unknown(path, hint);
  return checked(path, typeof spec.default === "string" ? text : scalarOf(text, hint), hint);
}

function checked(path: string, value: Json, hint: string): Json {
  const spec = specOf(path)!;
  const kind = (one: Json) => Array.isArray(one) ? "list" : typeof one;
  if (kind(value) !== kind(spec.default)) {
    throw new UsageError(`Cannot take ${kind(value)} for ${path}: expected a ${kind(spec.default)}`, hint);
  }
  const choices = "enum" in spec ? spec.enum : undefined;
  if (choices !== undefined && !choices.includes(String(value))) {
    throw new UsageError(`Cannot take "${value}" for ${path}: expected ${choices.join(" or ")}`, hint);
  }
  return value;
}

/** Refuses options that the agent would refuse, before anything is written. */
function checkConfig(config: Readonly<Record<string, Json>>, hint: string): void {
  try {
    loadConfig(AGENT_CONFIG, {
      args: ["--config=weir.yaml"],
      env: () => undefined,
      readFile: () => configText(config),
      modeOf: () => 0o600,
    });
  } catch (error) {
    throw new UsageError((error as Error).message, hint);
  }
}

function scalarOf(text: string, hint: string): Json {
  try {
    return parse(text) as Json;
  } catch {
    throw new UsageError(`Cannot read "${text}": expected a value of YAML`, hint);
  }
}

const specOf = (path: string) => valuePaths().find(([known]) => known === path)?.[1];
const defaultOf = (path: string) => specOf(path)!.default;

function unknown(path: string, hint: string): UsageError {
  const names = valuePaths().map(([known]) => known);
  const meant = nearest(path, names);
  return new UsageError(
    `There is no value ${path}${meant === undefined ? "" : ` (did you mean ${meant}?)`}: ${names.join(", ")}`,
    hint,
  );
}
