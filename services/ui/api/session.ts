/** What all pages say: the session, how complete answers are, sources, time, names. Types alone. @module */

/** An error. */
export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly title?: string;
  readonly detail: string;
  readonly action?: string;
}

/** What the page is told first. */
export interface Session {
  readonly version: string;
  readonly cluster: string;
  /** "demo" of a lab; "" of the host's own Weir. */
  readonly lab: string;
  readonly nodes: readonly string[];
  /** Since when the server counts what it shows as "now". */
  readonly sinceUnixS: number;
  readonly nowUnixS: number;
  /** Windows of the past can be asked for; else `historyReason` says why not. */
  readonly history: boolean;
  readonly historyReason: string;
  readonly historySinceUnixS: number;
  readonly limits: MapLimits;
}

/** Named maxima of what one map shows. */
export interface MapLimits {
  readonly cardsMax: number;
  readonly edgesMax: number;
  readonly portsPerCardMax: number;
  readonly causesMax: number;
}

/** How much of what happened is in an answer. */
export interface Completeness {
  /** Flows that there were, as far as is known. */
  readonly seen: number;
  /** Flows that this answer is made of. */
  readonly shown: number;
  readonly lost: number;
  /** 0 to 1; below 1 only a part was kept, on purpose. */
  readonly sampled: number;
  /** For people: "12,480 flows, 100 %". */
  readonly text: string;
}

/** Where flows come from, and how that is. */
export interface Sources {
  /** "" while the relay answers. */
  readonly error: string;
  readonly connected: readonly string[];
  readonly away: readonly { readonly node: string; readonly reason: string }[];
  /** Events that the kernel's rings or readers lost since the server runs. */
  readonly lost: number;
}

/** Flows and drops over time; in a difference only the buckets that became other. */
export interface TimeStrip {
  /** Seconds per bucket. */
  readonly stepS: number;
  /** Sums do not hold what the filter asks: these are all flows. */
  readonly ofAll?: boolean;
  readonly buckets: readonly TimeBucket[];
}

/** One bucket of the strip. */
export interface TimeBucket {
  readonly atUnixS: number;
  readonly flows: number;
  readonly dropped: number;
  readonly audited: number;
  readonly trouble: number;
  readonly lost: number;
}

/** A command to copy. */
export interface Command {
  readonly title: string;
  readonly text: string;
}

/** Words for completion, at most 2,000 of each. */
export interface Names {
  readonly namespaces: readonly string[];
  /** "shop/cart". */
  readonly pods: readonly string[];
  readonly workloads: readonly string[];
  readonly labels: readonly string[];
  readonly nodes: readonly string[];
  readonly verdicts: readonly string[];
  readonly dropReasons: readonly string[];
  readonly types: readonly string[];
  readonly protocols: readonly string[];
  /** Names of the filter's parameters: "from-pod", "not-verdict", ... */
  readonly parameters: readonly string[];
}
