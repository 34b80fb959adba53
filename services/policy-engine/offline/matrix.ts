/**
 * Who reaches whom, by manifests alone: every pair of workloads, the node, the world, and the prefixes and names that policies mean.
 * @module
 */
import { type End, EndNumbers, ENDS_OUTSIDE, isSubjectEnd } from "./end.ts";
import type { Inventory } from "./inventory.ts";
import { OfflineCluster } from "./offline_cluster.ts";
import { joinRanges, type PortRange } from "./port_range.ts";
import { type Segment, segmentsBetween } from "./reach.ts";

/** What one end may open to another. */
export interface MatrixCell {
  readonly from: End;
  readonly to: End;
  /** Ports that are let through; of those that were asked about, when some were. */
  readonly ports: readonly PortRange[];
  /** Of these, where L7 rules judge each request. */
  readonly judged: readonly PortRange[];
}

/** All pairs with a workload at one end at least. */
export interface Matrix {
  readonly ends: readonly End[];
  readonly cells: readonly MatrixCell[];
}

/** More ends than a matrix of pairs can have. */
export class MatrixError extends Error {
  override readonly name = "MatrixError";
}

/** Most ends: their pairs have to be judged, and to be read. */
export const MATRIX_ENDS_MAX = 1000;

/**
 * @param asked ports that are of interest; empty: all
 * @throws {MatrixError} too many ends
 */
export function matrixOf(inventory: Inventory, asked: readonly PortRange[] = []): Matrix {
  const { workloads, policies } = inventory, numbers = new EndNumbers();
  if (workloads.length > MATRIX_ENDS_MAX) {
    throw new MatrixError(`${workloads.length} workloads, want at most ${MATRIX_ENDS_MAX}`);
  }
  const subjects = workloads.map((workload) => numbers.workload(workload));
  const cluster = new OfflineCluster({ policies, ends: subjects });
  const ends = [...subjects, ...ENDS_OUTSIDE, ...cluster.outside()];
  const cells: MatrixCell[] = [];
  for (const from of ends) {
    for (const to of ends) {
      if (!isSubjectEnd(from) && !isSubjectEnd(to)) continue;
      const segments = segmentsBetween(cluster, from, to).filter(({ allowed }) => allowed);
      cells.push({
        from,
        to,
        ports: within(segments, asked),
        judged: within(segments.filter(({ isJudged }) => isJudged), asked),
      });
    }
  }
  return { ends, cells };
}

/** The parts of segments that were asked about. */
function within(segments: readonly Segment[], asked: readonly PortRange[]): PortRange[] {
  const ranges = segments.map(({ protocol, first, last }) => ({ protocol, first, last }));
  if (asked.length === 0) return joinRanges(ranges);
  return joinRanges(
    asked.flatMap((range) =>
      ranges.filter(({ protocol, first, last }) =>
        protocol === range.protocol && first <= range.last && range.first <= last
      ).map(({ protocol, first, last }) => ({
        protocol,
        first: Math.max(first, range.first),
        last: Math.min(last, range.last),
      }))
    ),
  );
}
