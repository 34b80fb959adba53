/**
 * What a check finds: each kind of finding has one id, for people to look up and for programs to filter by.
 * @module
 */

/** `error`: it cannot be applied. `warning`: it does something else than it seems to. `note`: it is worth a look. */
export type Severity = "error" | "warning" | "note";

/** Kinds of findings: how bad, and what it is. */
export const CHECKS = {
  "fault": { severity: "error", title: "A manifest that cannot be read" },
  "no-effect": {
    severity: "warning",
    title: "A part of a policy that has another effect than it seems, or none",
  },
  "selects-nobody": { severity: "warning", title: "A policy that selects no pod of the inventory" },
  "peer-nobody": { severity: "warning", title: "A peer that means no pod of the inventory" },
  "peer-elsewhere": { severity: "note", title: "A peer in a namespace that the inventory does not know" },
  "object-missing": { severity: "warning", title: "A CIDR group or service that is not there" },
  "port-name-unknown": { severity: "warning", title: "A port name that no container declares" },
  "port-unserved": { severity: "warning", title: "A port that no container declares" },
  "denied-allow": { severity: "warning", title: "An allow that a deny covers wholly" },
  "bypassed-l7": { severity: "warning", title: "L7 rules that an allow without them covers" },
  "covered-rule": { severity: "note", title: "A rule that another one covers wholly" },
  "cidr-cluster": {
    severity: "warning",
    title: "A CIDR that covers addresses of the cluster, and does not count for them",
  },
  "closes-dns": { severity: "warning", title: "Egress that closes DNS" },
  "denies-dns": { severity: "warning", title: "A deny that hits DNS" },
  "denies-api-server": { severity: "warning", title: "A deny that hits the API server" },
} as const satisfies Readonly<Record<string, { severity: Severity; title: string }>>;

export type CheckId = keyof typeof CHECKS;

/** One finding. */
export interface Finding {
  readonly id: CheckId;
  readonly severity: Severity;
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1; 0: the line as a whole. */
  readonly column: number;
  /** The policy that it is about; "" where none could be read. */
  readonly policy: string;
  /** `spec.ingress[0]` */
  readonly path: string;
  /** One sentence, without a full stop. */
  readonly says: string;
  /** What to do about it. */
  readonly action: string;
}

/** Where a finding stands, and what it says. */
export type FindingFacts = Omit<Finding, "severity" | "column" | "policy" | "file"> & {
  readonly policy: { readonly name: string; readonly file: string };
};

/** A finding about a policy. */
export function finding({ policy: { name, file }, ...facts }: FindingFacts): Finding {
  return { ...facts, severity: CHECKS[facts.id].severity, column: 0, policy: name, file };
}

const ORDER: readonly Severity[] = ["error", "warning", "note"];

/** What is worst first, then by file and line. */
export function sortFindings(findings: Iterable<Finding>): Finding[] {
  return [...findings].sort((a, b) =>
    ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity) ||
    (a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line)
  );
}
