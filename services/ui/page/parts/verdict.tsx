/**
 * Verdicts: a sign, a word and a colour, never the colour alone.
 * @module
 */
import type { ReactNode } from "react";
import { AlertIcon, ArrowIcon, CheckIcon, CrossIcon, DotIcon, HalfIcon } from "./icons.tsx";

export type Tone = "allowed" | "dropped" | "mixed" | "audited" | "error" | "quiet";

const VERDICTS: Readonly<Record<string, readonly [Tone, string]>> = {
  FORWARDED: ["allowed", "forwarded"],
  DROPPED: ["dropped", "dropped"],
  AUDIT: ["audited", "audited"],
  ERROR: ["error", "error"],
  REDIRECTED: ["allowed", "redirected"],
  TRACED: ["quiet", "traced"],
  TRANSLATED: ["quiet", "translated"],
  allowed: ["allowed", "allowed"],
  dropped: ["dropped", "dropped"],
  mixed: ["mixed", "some dropped"],
  audited: ["audited", "audited"],
  error: ["error", "in trouble"],
};
const SIGNS: Readonly<Record<Tone, () => ReactNode>> = {
  allowed: CheckIcon,
  dropped: CrossIcon,
  mixed: CrossIcon,
  audited: HalfIcon,
  error: AlertIcon,
  quiet: DotIcon,
};

/** Tone and word of a verdict, of a flow (`DROPPED`) or an edge (`mixed`). */
export function verdictWords(verdict: string): readonly [Tone, string] {
  return VERDICTS[verdict] ?? ["quiet", verdict.toLowerCase()];
}

export function VerdictBadge({ verdict, trouble = "" }: { verdict: string; trouble?: string }) {
  const [tone, word] = trouble !== "" ? ["error" as const, trouble] : verdictWords(verdict);
  return <Badge tone={tone}>{word}</Badge>;
}

export function Badge({ tone, children }: { tone: Tone; children: ReactNode }) {
  const Sign = SIGNS[tone];
  return (
    <span className={`badge tone-${tone}`}>
      <Sign />
      {children}
    </span>
  );
}

/** "ingress" and "egress" as an arrow and the word. */
export function Direction({ of }: { of: string }) {
  if (of === "") return <span className="soft">–</span>;
  return (
    <span className={`direction direction-${of}`}>
      <ArrowIcon />
      {of}
    </span>
  );
}
