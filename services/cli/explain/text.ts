/** An explanation as people read it. @module */
import { harmless } from "../harmless_text.ts";
import type { Explanation } from "./explanation.ts";
import type { Stage } from "./stage.ts";

/** Width of the words before a line's text. */
const WIDTH = 11;

/** The answer in its first line, then each stage of the way. */
export function explanationText(explanation: Explanation): string {
  const { title, stages, allowed } = explanation;
  const lines = [`${title}: ${verdict(explanation)}`];
  for (const stage of stages) {
    lines.push("", ...stageLines(stage, allowed));
  }
  // Names, labels and what servers say stand in them: no terminal obeys a line, and none becomes two.
  return lines.map(harmless).join("\n") + "\n";
}

function verdict({ allowed, works, stages }: Explanation): string {
  if (!allowed) {
    const late = stages.find(({ kind, state }) => kind === "policy" && state === "unknown");
    return late === undefined ? "DENIED" : `DENIED, and not in force at ${late.subject} yet`;
  }
  if (works === false) {
    const worst = stages.find(({ state }) => state === "broken")!;
    return `ALLOWED, and it FAILS: ${worst.subject === "" ? "" : `${worst.subject}: `}${worst.message}`;
  }
  return works ? "ALLOWED" : "ALLOWED by policy; not everything on the way is known";
}

const STATES: Readonly<Record<Stage["state"], string>> = {
  ok: "ok",
  denied: "denied",
  broken: "FAILS",
  unknown: "not known",
};

function stageLines(stage: Stage, allowed: boolean): string[] {
  const { kind, subject, state, message, details, fixes, manifest } = stage;
  const isPolicy = kind === "egress" || kind === "ingress";
  const state_ = isPolicy && state === "ok" ? "allowed" : STATES[state];
  const lines = [
    `${kind}${subject === "" ? "" : isPolicy ? ` at ${subject}` : ` ${subject}`}: ${state_}`,
    `  ${message}`,
  ];
  for (const [name, text] of details) lines.push(line(name, text));
  // Where the other side denies, nobody wants to know how to deny here too.
  if (state === "ok" && !(isPolicy && allowed)) return lines;
  const word = isPolicy ? (state === "ok" ? "to deny it" : "to allow it") : "fix";
  for (const [index, fix] of fixes.entries()) lines.push(line(index === 0 ? word : "or", fix));
  if (manifest !== "" && state === "denied") {
    lines.push(line("or", "apply this (--manifest prints it alone, for weir policy apply -f -):"));
    lines.push(...manifest.trimEnd().split("\n").map((text) => `      ${text}`));
  }
  return lines;
}

function line(name: string, text: string): string {
  return `  ${name.padEnd(WIDTH)} ${text}`;
}
