/** What the simulator tells its workers, and they it: JSON. @module */

/** What one worker plays. */
export interface WorkerLoad {
  /** Paths of sockets. */
  allocator: string;
  engine: string;
  /** Numbers of its nodes. */
  nodes: number[];
  /** How many of them keep a whole mirror with the product's client instead of sums. */
  mirrors: number;
  /** One stream per node and service, or one per collection as older nodes have. */
  isJoint: boolean;
  /** Each pod asks for its identity; otherwise each worker asks once for each label set. */
  allocatesEach: boolean;
  heartbeatMs: number;
  /** Nodes that begin at once. */
  atOnce: number;
  /** The first so many nodes register and announce pods; the others only watch, acknowledge and send no heartbeats. */
  announcing: number;
  pods: number;
  labelSets: number;
  seed: number;
}

/** What a worker tells of all its nodes at a moment. */
export interface WorkerState {
  kind: "state";
  begun: number;
  /** Nodes by what they have of the ipcache: "count sum". */
  ipcache: Record<string, number>;
  /** Newest revision that the node which is furthest behind has been told. */
  revision: number;
  bytes: number;
  reads: number;
  acknowledgements: number;
  /** Streams that were opened again. */
  reopened: number;
}

/** What went wrong at a worker so far, and how often. It is tried again. */
export interface WorkerTrouble {
  kind: "failure" | "cut";
  what: string;
  count: number;
}
