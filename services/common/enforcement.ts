/**
 * When the policies of an endpoint are enforced: `--enable-policy`, and what one endpoint says itself.
 * @module
 */
import type { Enforcement } from "@weir/proto/common";
import type { MapState } from "@weir/proto/policy";
import { PRECEDENCE_ALLOW_ALL } from "./precedence.ts";
import { invalidArgument } from "./problem.ts";

/** In a direction that some policy is about, in both, in none. */
const ENFORCEMENTS = ["DEFAULT", "ALWAYS", "NEVER"] as const;

/** Reads a mode as people write it: `default`, `always`, `never`. @throws {ProblemError} INVALID_ARGUMENT for another word */
export function readEnforcement(word: string): Enforcement {
  const found = ENFORCEMENTS.find((mode) => mode.toLowerCase() === word);
  if (found !== undefined) return found;
  throw invalidArgument(`Cannot enforce policies "${word}"`, {
    found: word,
    expected: ENFORCEMENTS.map((mode) => mode.toLowerCase()).join(", "),
  });
}

/** What of a map state a mode is about. */
export type EnforcedParts = Pick<MapState, "enforceIngress" | "enforceEgress" | "entries">;

/**
 * A map state as it is in force in a mode. Always means that nothing is open behind the rules, as policies with
 * `enableDefaultDeny: false` have it.
 */
export function enforcedAs(
  { enforceIngress, enforceEgress, entries }: EnforcedParts,
  mode: Enforcement,
): EnforcedParts {
  if (mode === "NEVER") return { enforceIngress: false, enforceEgress: false, entries: [] };
  if (mode !== "ALWAYS") return { enforceIngress, enforceEgress, entries };
  return {
    enforceIngress: true,
    enforceEgress: true,
    entries: entries.filter(({ precedence }) => precedence !== PRECEDENCE_ALLOW_ALL),
  };
}
