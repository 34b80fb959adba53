/** What a metric of Hubble is made of. @module */
import type { CountedFlow } from "./counted_flow.ts";
import type { ContextOptions } from "./context_options.ts";
import type { MetricSpec, SeriesTable } from "./series_table.ts";

/** What a handler is given: the labels of who, its own options, and where series come from. */
export interface HandlerParts {
  readonly context: ContextOptions;
  /** Own options that were given, in lower case. */
  readonly own: ReadonlySet<string>;
  readonly table: (spec: MetricSpec) => SeriesTable;
}

/** One name of `--hubble-metrics`. */
export interface Handler {
  /** Makes the metrics; what comes back counts a flow. */
  readonly make: (parts: HandlerParts) => (flow: CountedFlow) => void;
}

/** A label that traffic can fill with anything. */
export const open = (name: string) => ({ name, isOpen: true });
/** Labels with few values. */
export const closed = (...names: string[]) => names.map((name) => ({ name }));
