/**
 * Rules that decide, in a few words, and how such words stand in a table of Markdown.
 * @module
 */
import type { RuleSource } from "@weir/proto/policy";
import { harmless } from "../harmless_text.ts";

/** Rules that are named before the rest is counted. */
const RULES_SHOWN = 3;

/** What a change does, and the rules that were and are about it. */
export interface Decided {
  readonly effect: string;
  readonly before: readonly RuleSource[];
  readonly now: readonly RuleSource[];
}

/** What a person has to read: the rules that decide now, or those that did when none does any more. */
export function reasonOf({ effect, before, now }: Decided): string {
  if (now.length > 0) return ruleList(now);
  if (before.length > 0) {
    return `${ruleList(before)} ${effect === "opens" ? "is gone or changed" : "no longer allows it"}`;
  }
  return "no policy is about it";
}

/** The first rules, each with its policy, path, file and line. */
export function ruleList(sources: readonly RuleSource[]): string {
  const shown = sources.slice(0, RULES_SHOWN).map(({ policy, path, file, line }) =>
    `${policy} ${path} (${file === "" ? `line ${line}` : `${file}:${line}`})`
  );
  const more = sources.length - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** A text that Markdown shows as it is. */
export function markdownCell(text: string): string {
  return harmless(text).replace(/[|\\`*_<>[\]]/g, (sign) => `\\${sign}`);
}
