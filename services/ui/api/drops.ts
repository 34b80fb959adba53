/** Drops by their causes, and explanations. Types alone. @module */
import type { FlowPolicy, FlowRow } from "./flows.ts";
import type { Command, Completeness } from "./session.ts";

/** Drops that have one reason behind them. */
export interface DropCause {
  readonly id: string;
  /** Card ids (workloads), and their names for people. */
  readonly from: string;
  readonly fromName: string;
  readonly to: string;
  readonly toName: string;
  readonly protocol: string;
  readonly port: number;
  /** "POLICY_DENIED". */
  readonly reason: string;
  /** For people: "no policy allows it (default deny)". */
  readonly reasonText: string;
  readonly direction: string;
  /** The policies that denied, or that put the end into default deny. */
  readonly policies: readonly FlowPolicy[];
  readonly count: number;
  readonly firstSeenUnixS: number;
  readonly lastSeenUnixS: number;
  /** Counts of the last 30 steps of `trendStepS` seconds, the oldest first. */
  readonly trend: readonly number[];
  readonly trendStepS: number;
  readonly nodes: readonly string[];
  /** A flow of it, to look at. */
  readonly example: FlowRow;
}

/** All causes, the most frequent first. */
export interface DropReport {
  readonly sinceUnixS: number;
  readonly untilUnixS: number;
  readonly causes: readonly DropCause[];
  /** Drops whose causes there was no room for. */
  readonly foldedDrops: number;
  readonly completeness: Completeness;
}

/** Why a cause is, and what would end it. */
export interface DropExplanation {
  readonly cause: string;
  readonly explanation: Explanation | null;
  /** Why there is none: "this is no matter of policy: ...". */
  readonly reason: string;
  /** What to type. */
  readonly commands: readonly Command[];
}

/** What the policy engine says. */
export interface Explanation {
  readonly allowed: boolean;
  readonly policyRevision: number;
  /** When the policies held that this is about; 0: now. */
  readonly atUnixS: number;
  readonly steps: readonly ExplanationStep[];
}

/** One end's verdict. */
export interface ExplanationStep {
  readonly direction: "egress" | "ingress";
  readonly allowed: boolean;
  readonly reason: string;
  readonly facts: readonly string[];
  /** What to edit; "" where nothing would turn it. */
  readonly change: string;
  readonly alternatives: readonly string[];
  readonly nearMiss: string;
  readonly notes: readonly string[];
  /** A whole policy that allows this and nothing else; "" where none is needed. */
  readonly manifest: string;
  readonly policies: readonly FlowPolicy[];
}
