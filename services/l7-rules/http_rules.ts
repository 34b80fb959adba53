/**
 * Rules about HTTP requests. Method, path and host are expressions over the whole value; headers are asked for by name.
 *
 *     rule.mismatch of a header that is not as wanted:
 *       REFUSE  the rule does not mean the request        LOG      it does, and the name is recorded
 *       ADD     it does, and the header is added          DELETE   it does, and headers with another value go
 *       REPLACE it does, and the header is put in place of those that are there
 *
 * The first rule that allows is enough, unless some rule has such actions: then all are asked, so that all actions run. A rule that does not
 * mean the request does nothing to it.
 * @module
 */
import type { HeaderMatch, HttpRule } from "@weir/proto/l7";
import {
  allowedBy,
  type CompiledRule,
  type Condition,
  deniedBy,
  type HeaderChange,
  type Judgement,
  means,
  shown,
} from "./judgement.ts";
import { compilePattern, RuleFault } from "./pattern.ts";
import type { HttpRequest } from "./request.ts";

/** A rule about HTTP requests, ready. */
export interface CompiledHttpRule extends CompiledRule<HttpRequest> {
  /** Headers that do not make the rule mean another request, and do something. */
  readonly actions: readonly HeaderMatch[];
}

/** @throws {RuleFault} */
export function compileHttpRule(rule: HttpRule): CompiledHttpRule {
  const conditions: Condition<HttpRequest>[] = [];
  for (const field of ["method", "path", "host"] as const) {
    if (rule[field] === "") continue;
    const pattern = compilePattern(rule[field]);
    conditions.push({
      holds: (request) => pattern.isWhole(request[field]),
      lacks: (request) => `${field} ${shown(request[field])} is not ${shown(pattern.text)}`,
    });
  }
  const actions: HeaderMatch[] = [];
  for (const match of rule.headers) {
    if (match.name === "") throw new RuleFault("has a header without a name");
    if (isUnavailable(match)) {
      conditions.push({
        holds: () => false,
        lacks: () => `the value of header ${match.name} is in secret ${match.secret}, which is not read`,
      });
    } else if (match.mismatch === "REFUSE") {
      const name = match.name.toLowerCase();
      conditions.push({
        holds: (request) => isAsWanted(match, request.header(name)),
        lacks: (request) => {
          const value = request.header(name);
          if (value === undefined) return `there is no header ${match.name}`;
          return match.secret === ""
            ? `header ${match.name} is ${shown(value)}, not ${shown(match.value)}`
            : `header ${match.name} has another value`;
        },
      });
    } else actions.push(match);
  }
  return { cookie: rule.cookie, conditions, actions };
}

/** @param deniedCookie of a request that none of them means */
export function judgeHttp(
  rules: readonly CompiledHttpRule[],
  request: HttpRequest,
  deniedCookie: number,
): Judgement {
  const first = rules.find((rule) => means(rule, request));
  if (first === undefined) return deniedBy(deniedCookie);
  if (!rules.some(({ actions }) => actions.length > 0)) return allowedBy(first.cookie);
  const headers: HeaderChange[] = [], missing = new Set<string>();
  for (const rule of rules) {
    if (rule.actions.length === 0 || (rule !== first && !means(rule, request))) continue;
    for (const match of rule.actions) {
      const value = request.header(match.name.toLowerCase());
      if (isAsWanted(match, value)) continue;
      if (match.mismatch === "LOG") missing.add(match.name);
      // Whoever asks only for the presence of a header has no value that others could differ from.
      else if (match.mismatch !== "DELETE") {
        headers.push({ action: match.mismatch as "ADD" | "REPLACE", name: match.name, value: match.value });
      } else if (value !== undefined && match.value !== "") {
        headers.push({ action: "DELETE", name: match.name, value: "" });
      }
    }
  }
  return { ...allowedBy(first.cookie), headers, missingHeaders: [...missing] };
}

/** Secrets are not read: only a value beside one can be compared. */
function isUnavailable({ secret, value }: HeaderMatch): boolean {
  return secret !== "" && value === "";
}

function isAsWanted({ value: wanted }: HeaderMatch, value: string | undefined): boolean {
  if (value === undefined) return false;
  return wanted === "" || isSame(value, wanted);
}

/** Takes the same time wherever the two differ: a value may be a password. */
function isSame(a: string, b: string): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) different |= a.charCodeAt(i) ^ b.charCodeAt(i % b.length);
  return different === 0;
}
