/**
 * Columns of the flows' table.
 * @module
 */
import type { FlowRow } from "../../api.ts";
import { formatClock } from "../model/number_format.ts";
import type { GridColumn } from "../parts/data_grid.tsx";
import { EndText } from "../parts/ends.tsx";
import { Direction, VerdictBadge } from "../parts/verdict.tsx";

export const FLOW_COLUMNS: readonly GridColumn<FlowRow>[] = [
  {
    id: "time",
    header: "Time",
    width: 112,
    cell: (flow) => <span className="number">{formatClock(flow.timeUnixS, true)}</span>,
  },
  {
    id: "verdict",
    header: "Verdict",
    width: 118,
    cell: (flow) => <VerdictBadge verdict={flow.verdict} trouble={flow.trouble} />,
  },
  { id: "source", header: "From", width: 190, grow: 2, cell: (flow) => <EndText end={flow.source} /> },
  { id: "source_port", header: "Port", width: 66, right: true, cell: (flow) => flow.source.port || "" },
  {
    id: "destination",
    header: "To",
    width: 190,
    grow: 2,
    cell: (flow) => <EndText end={flow.destination} />,
  },
  {
    id: "port",
    header: "Port",
    width: 92,
    cell: (flow) => (
      <span className="number">
        {flow.destination.port > 0 ? flow.destination.port : ""}
        <span className="soft">{flow.destination.port > 0 ? `/${flow.protocol}` : flow.protocol}</span>
      </span>
    ),
  },
  { id: "direction", header: "Direction", width: 100, cell: (flow) => <Direction of={flow.direction} /> },
  {
    id: "summary",
    header: "What",
    width: 250,
    grow: 3,
    cell: (flow) => <span className="soft">{flow.dropReason !== "" ? flow.dropReason : flow.summary}</span>,
  },
  {
    id: "policy",
    header: "Policy",
    width: 120,
    grow: 1,
    cell: (flow) =>
      flow.policies.length === 0
        ? ""
        : flow.policies.map((policy) => policy.policyName || policy.name).filter((name, i, all) =>
          all.indexOf(name) === i
        )
          .join(", "),
  },
  { id: "node", header: "Node", width: 96, cell: (flow) => <span className="soft">{flow.node}</span> },
  { id: "kind", header: "Seen as", width: 140, cell: (flow) => <span className="soft">{flow.kind}</span> },
  {
    id: "identity",
    header: "Identities",
    width: 130,
    cell: (flow) => (
      <span className="number soft">{`${flow.source.identity} → ${flow.destination.identity}`}</span>
    ),
  },
];

export const FLOW_COLUMNS_DEFAULT: readonly string[] = [
  "time",
  "verdict",
  "source",
  "destination",
  "port",
  "direction",
  "summary",
  "policy",
];
