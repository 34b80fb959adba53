/**
 * The list that `weir lab test FILE` runs: who should, and who should not, reach whom.
 *
 * ```yaml
 * - { from: tiefighter, to: deathstar-1, port: 80/TCP, expect: allow }
 * - { from: alliance/xwing, to: deathstar-1, port: 80, expect: deny }
 * - { from: xwing, to: 198.51.100.10, port: ICMP, expect: allow, family: 4 }
 * ```
 *
 * @module
 */
import { parse } from "yaml";
import type { Probe, ProbeResult } from "./probe.ts";

/** Where traffic starts or ends: a pod (without namespace: as `Lab.pod` finds it), a node, the outside host, an address. */
export type Place =
  | { readonly kind: "pod"; readonly namespace: string | undefined; readonly pod: string }
  | { readonly kind: "node"; readonly node: string }
  | { readonly kind: "outside" }
  | { readonly kind: "address"; readonly address: string };

/** One line of the file. */
export interface Expectation {
  readonly from: Place;
  readonly to: Place;
  readonly fromText: string;
  readonly toText: string;
  readonly protocol: Probe["protocol"];
  readonly port: number;
  readonly expect: "allow" | "deny";
  readonly family: 4 | 6;
  readonly timeoutMs: number;
}

/** A file of expectations that is wrong. */
export class ExpectationError extends Error {
  override readonly name = "ExpectationError";
}

const FIELDS = new Set(["from", "to", "port", "expect", "family", "timeout", "name"]);
/** Silence of a second is a denial; who is allowed may be slow on a busy machine. */
const TIMEOUT_S_DEFAULT = { allow: 10, deny: 1 } as const;

/** Reads a YAML list of expectations; `file` names it in messages. */
export function parseExpectations(text: string, file: string): Expectation[] {
  let list: unknown;
  try {
    list = parse(text);
  } catch (error) {
    throw new ExpectationError(`${file}: ${(error as Error).message.split("\n")[0]}`);
  }
  if (typeof list === "object" && list !== null && Array.isArray((list as { tests?: unknown }).tests)) {
    list = (list as { tests: unknown[] }).tests;
  }
  if (!Array.isArray(list)) {
    throw new ExpectationError(`${file}: expected a list of {from, to, port, expect}`);
  }
  return list.map((item, index) => readExpectation(item, `${file}: entry ${index + 1}`));
}

function readExpectation(item: unknown, where: string): Expectation {
  if (typeof item !== "object" || item === null) {
    throw new ExpectationError(`${where}: expected {from, to, port, expect}`);
  }
  const fields = item as Record<string, unknown>;
  for (const field of Object.keys(fields)) {
    if (!FIELDS.has(field)) throw new ExpectationError(`${where}: unknown field "${field}"`);
  }
  for (const field of ["from", "to"]) {
    if (typeof fields[field] !== "string") throw new ExpectationError(`${where}: "${field}" is missing`);
  }
  if (fields.expect !== "allow" && fields.expect !== "deny") {
    throw new ExpectationError(
      `${where}: expect is ${JSON.stringify(fields.expect)}: expected allow or deny`,
    );
  }
  const to = parsePlace(String(fields.to));
  const from = parsePlace(String(fields.from));
  if (from.kind === "address") {
    throw new ExpectationError(`${where}: traffic cannot start at an address: name a pod, node or outside`);
  }
  const family = fields.family ?? (to.kind === "address" && to.address.includes(":") ? 6 : 4);
  if (family !== 4 && family !== 6) {
    throw new ExpectationError(`${where}: family is ${family}: expected 4 or 6`);
  }
  const timeout = fields.timeout ?? TIMEOUT_S_DEFAULT[fields.expect];
  if (typeof timeout !== "number" || !(timeout > 0 && timeout <= 60)) {
    throw new ExpectationError(`${where}: timeout is ${timeout}: expected seconds up to 60`);
  }
  return {
    from,
    to,
    fromText: String(fields.from),
    toText: String(fields.to),
    ...parsePort(fields.port, where),
    expect: fields.expect,
    family,
    timeoutMs: timeout * 1000,
  };
}

/** Reads "POD", "NAMESPACE/POD", "node:NAME", "node-1", "outside" or an address. */
function parsePlace(text: string): Place {
  if (text === "outside") return { kind: "outside" };
  if (text.startsWith("node:")) return { kind: "node", node: text.slice(5) };
  if (/^node-\d+$/.test(text)) return { kind: "node", node: text };
  if (/^\d+\.\d+\.\d+\.\d+$/.test(text) || text.includes(":")) return { kind: "address", address: text };
  const slash = text.indexOf("/");
  return slash < 0
    ? { kind: "pod", namespace: undefined, pod: text }
    : { kind: "pod", namespace: text.slice(0, slash), pod: text.slice(slash + 1) };
}

/** Reads 80, "80/TCP", "53/UDP", "ICMP". */
function parsePort(value: unknown, where: string): { protocol: Probe["protocol"]; port: number } {
  const text = String(value ?? "").toUpperCase();
  if (text === "ICMP" || text === "ICMPV6") return { protocol: "ICMP", port: 0 };
  const match = /^(\d{1,5})(?:\/(TCP|UDP))?$/.exec(text);
  const port = match === null ? 0 : Number(match[1]);
  if (match === null || port < 1 || port > 65535) {
    throw new ExpectationError(
      `${where}: port is ${JSON.stringify(value)}: expected 80, 80/TCP, 53/UDP or ICMP`,
    );
  }
  return { protocol: (match[2] ?? "TCP") as "TCP" | "UDP", port };
}

/** Whether a result is what was expected; traffic that was refused by the other end fulfils neither. */
export function judge(expectation: Expectation, result: ProbeResult): { passed: boolean; got: string } {
  switch (result.outcome) {
    case "answered":
      return { passed: expectation.expect === "allow", got: "allow" };
    case "timeout":
    case "unreachable":
      return { passed: expectation.expect === "deny", got: `deny (${result.outcome})` };
    case "refused":
      return { passed: false, got: `reached, but refused: ${result.detail}` };
    case "error":
      return { passed: false, got: `error: ${result.detail}` };
  }
}
