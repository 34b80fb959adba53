/**
 * Lays a map out with ELK, in its worker.
 * @module
 */
import ElkConstructor from "elkjs/lib/elk-api.js";
import {
  type ElkGraph,
  islandGraphs,
  outerGraph,
  type Placement,
  placementOf,
  placeNewcomers,
} from "../model/placement.ts";
import type { VisibleGraph } from "../model/visible_graph.ts";

/** Longest wait for a layout; then boxes stand in a row, and the map says so. */
const DEADLINE_MS = 20_000;

interface Elk {
  layout(graph: ElkGraph): Promise<ElkGraph>;
  terminateWorker(): void;
}
let elk: Elk | undefined;

function start(): Elk {
  const path = document.querySelector<HTMLMetaElement>('meta[name="asset:layout_worker"]')?.content;
  if (path === undefined) throw new Error("The layout's worker is not among the page's files");
  const Constructor = ElkConstructor as unknown as new (options: { workerFactory: () => Worker }) => Elk;
  return new Constructor({ workerFactory: () => new Worker(new URL(path, document.baseURI)) });
}

/** Starts the worker before there is anything to place: its file is large. */
export function warmLayout(): void {
  try {
    elk ??= start();
  } catch { /* said where a layout is asked for */ }
}

/** A placement, and whether it is the makeshift one. */
export interface LayoutResult {
  readonly placement: Placement;
  readonly fault: string;
}

/** Places the whole graph anew. */
export async function layoutGraph(graph: VisibleGraph): Promise<LayoutResult> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const worker = elk ??= start();
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("The layout took too long")), DEADLINE_MS);
    });
    const work = async () => {
      const islands = await Promise.all(islandGraphs(graph).map((island) => worker.layout(island)));
      return placementOf(await worker.layout(outerGraph(graph, islands)), islands);
    };
    return { placement: await Promise.race([work(), late]), fault: "" };
  } catch (error) {
    elk?.terminateWorker();
    elk = undefined;
    const nothing: Placement = { nodes: new Map(), islands: new Map() };
    return {
      placement: placeNewcomers(nothing, graph),
      fault: error instanceof Error ? error.message : String(error),
    };
  } finally {
    clearTimeout(timer);
  }
}
