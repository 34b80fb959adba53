/** The ways between nodes as `weir status --verbose` shows them. Pure. @module */
import type { NodePath, Probes } from "@weir/proto/datapath";
import { age, table } from "./output.ts";

/** The worst are shown. */
const ROWS_MAX = 60;
const STATES: readonly NodePath["state"][] = ["UNREACHABLE", "LOSSY", "NOT_PROBING", "UNKNOWN", "OK"];

/** Lines about one node. */
export function wayLines(node: string, { paths, intervalS, error }: Probes, nowUnixS: number): string[] {
  const lines: string[] = [];
  if (error !== "") lines.push(`${node}: the ways to other nodes are not probed: ${error}`);
  if (paths.length === 0) return lines;
  const rows = [...paths].sort((a, b) => badness(a) - badness(b)).slice(0, ROWS_MAX);
  lines.push(
    `${node}: ways to other nodes, probed every ${Math.round(intervalS)} s`,
    table(
      ["  TO", "WAY", "STATE", "SINCE", "LATENCY MIN/AVG", "LOSS OUT/IN", "MTU"],
      rows.map((path) => [
        `  ${path.node}`,
        `${path.kind === "POD" ? "pods" : "underlay"} ${path.family}`,
        path.state.toLowerCase().replaceAll("_", " "),
        age(path.stateSinceUnixS, nowUnixS),
        path.latencyMinMs === undefined ? "-" : `${ms(path.latencyMinMs)}/${ms(path.latencyAvgMs ?? 0)} ms`,
        path.judged === 0 ? "-" : `${part(path.lossOut ?? path.loss)}/${part(path.lossIn)}`,
        mtuText(path),
      ]),
    ),
  );
  if (paths.length > ROWS_MAX) lines.push(`  and ${paths.length - ROWS_MAX} more`);
  return lines;
}

function badness({ state, mtu, mtuWanted }: NodePath): number {
  return 2 * STATES.indexOf(state) + (mtu !== undefined && mtu < mtuWanted ? 0 : 1);
}

function ms(value: number): string {
  return value < 10 ? value.toFixed(2) : value.toFixed(0);
}

function part(value: number | undefined): string {
  return value === undefined ? "-" : `${Math.round(100 * value)} %`;
}

function mtuText({ mtu, mtuWanted, mtuSearching }: NodePath): string {
  if (mtu === undefined) return "-";
  return mtu >= mtuWanted ? `${mtu}` : `${mtuSearching ? "at least " : ""}${mtu} of ${mtuWanted}`;
}
