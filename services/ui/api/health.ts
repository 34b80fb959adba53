/** Health. Types alone. @module */
import type { Sources } from "./session.ts";

/** Something that is wrong, as `weir status` says it. */
export interface HealthFinding {
  readonly condition: "hung" | "away" | "partitioned" | "stale" | "degraded";
  readonly node: string;
  readonly subject: string;
  readonly sinceUnixS: number;
  readonly message: string;
  readonly effect: string;
  readonly remedy: string;
}

/** One node. */
export interface HealthNode {
  readonly name: string;
  readonly ready: boolean;
  /** Why nothing is known of it; "". */
  readonly error: string;
  readonly services: readonly HealthService[];
  readonly endpoints: number;
  readonly endpointsReady: number;
  readonly lostEvents: number;
  readonly maps: readonly HealthMap[];
  readonly programs: readonly HealthProgram[];
  /** "verifier" or "structural"; "" unknown. */
  readonly gate: string;
}

/** One service of a node. */
export interface HealthService {
  readonly name: string;
  readonly state: string;
  readonly sinceUnixS: number;
  readonly restarts: number;
  readonly message: string;
}

/** How full a map is. */
export interface HealthMap {
  readonly name: string;
  readonly entries: number;
  readonly entriesMax: number;
}

/** What the verifier said of a program. */
export interface HealthProgram {
  readonly name: string;
  readonly object: string;
  readonly attachedTo: string;
  /** "accepted", ... */
  readonly verdict: string;
  readonly verifier: string;
  /** Instructions that the verifier visited, and the time it took. */
  readonly visits: number;
  readonly timeUs: number;
  /** The kernel runs the bytes that were judged. */
  readonly same: boolean;
  readonly hash: string;
}

/** All of the health page. */
export interface HealthReport {
  readonly healthy: boolean;
  readonly atUnixS: number;
  readonly findings: readonly HealthFinding[];
  readonly nodes: readonly HealthNode[];
  readonly counts: {
    readonly identities: number;
    readonly policies: number;
    readonly services: number;
    readonly endpoints: number;
    readonly endpointsReady: number;
  };
  /** Where the page's flows come from. */
  readonly sources: Sources;
  /** Limits that were reached, by name, and how often. */
  readonly folded: readonly { readonly limit: string; readonly count: number }[];
}
