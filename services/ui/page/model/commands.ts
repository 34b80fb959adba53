/**
 * The commands that show the same as the page: `weir observe` and `hubble observe`, with the flags in their order.
 * @module
 */
import type { Card } from "../../api.ts";
import type { FilterTerm } from "./filter_language.ts";
import { formatTime, type TimeWindow } from "./url_state.ts";

/** Filters that the `hubble` command does not have under any name. */
const WEIR_ONLY = new Set([
  "type:no-answer",
  "type:refused",
  "type:unreachable",
  "type:too-big",
  "type:unconfirmed",
  "type:retransmitted",
  "type:trouble",
]);
/** Names of the server's parameters that are other words on the command line. */
const FLAG: Readonly<Record<string, string>> = { "drop-reason": "drop-reason-desc" };

/** A word as a shell takes it. */
export function shellWord(text: string): string {
  return /^[-\w./:=,@%+]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * @param lab Name of the lab that the page shows; "" for the host's own Weir.
 * @returns null where `hubble` has no flag for a term.
 */
export function observeCommand(
  program: "weir" | "hubble",
  terms: readonly FilterTerm[],
  { window = null, lab = "" }: { window?: TimeWindow | null; lab?: string } = {},
): string | null {
  const words = [program, "observe"];
  if (program === "weir" && lab !== "") words.push("--lab", shellWord(lab));
  for (const { name, value, not } of terms) {
    if (program === "hubble" && WEIR_ONLY.has(`${name}:${value}`)) return null;
    if (not) words.push("--not");
    // Flags that take no value.
    if (name === "encrypted") words.push(value === "false" ? "--unencrypted" : "--encrypted");
    // A switch of one program, an option of the other: both take it so.
    else if (name === "reply") words.push(`--reply=${value}`);
    else if (name === "ip-version") words.push(value.endsWith("6") ? "--ipv6" : "--ipv4");
    else words.push(`--${FLAG[name] ?? name}`, shellWord(value));
  }
  if (window) words.push("--since", formatTime(window.sinceUnixS), "--until", formatTime(window.untilUnixS));
  else words.push("--follow");
  return words.join(" ");
}

/** Conditions that name a card, at either end: what the table shows for it, and a command asks for. Empty where none can. */
export function cardTerms(card: Pick<Card, "query">): FilterTerm[] {
  return Object.entries(card.query).map(([name, value]) => ({ name, value, not: false }));
}

/** The same for one end: "from" or "to". What has no ends, such as a node's name, stays as it is. */
export function endTerms(end: "from" | "to", card: Pick<Card, "query">): FilterTerm[] {
  return cardTerms(card).map((term) =>
    term.name === "node-name" ? term : { ...term, name: `${end}-${term.name}` }
  );
}
