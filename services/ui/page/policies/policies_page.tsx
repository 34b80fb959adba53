/**
 * The policies in force, what they decide, and each one with its rules beside its text.
 * @module
 */
import { useMemo } from "react";
import type { PolicyReport, PolicyRow } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { navigate, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { formatAge, formatCount, formatDateTime, formatDuration } from "../model/number_format.ts";
import { CommandLine } from "../parts/command_line.tsx";
import { DataGrid, type GridColumn } from "../parts/data_grid.tsx";
import { Empty, Notice, NotYet, StaleNotice } from "../parts/states.tsx";
import { Badge } from "../parts/verdict.tsx";
import { PolicyPage } from "./policy_page.tsx";

const EVERY_MS = 4000;
const rowKey = (policy: PolicyRow) => policy.name;
const open = (policy: PolicyRow) => navigate({ policy: policy.name });

function LastHit({ atUnixS }: { atUnixS: number }) {
  const now = useNow();
  return <span title={atUnixS > 0 ? formatDateTime(atUnixS) : undefined}>{formatAge(atUnixS, now)}</span>;
}

const COLUMNS: readonly GridColumn<PolicyRow>[] = [
  {
    id: "name",
    header: "Policy",
    width: 240,
    grow: 3,
    sort: (policy) => policy.name,
    cell: (policy) => (
      <span className="cause-why">
        <span className="cut">
          {policy.namespace !== "" && <span className="soft">{policy.namespace}/</span>}
          <strong>{policy.policyName || policy.name}</strong>
        </span>
        <span className="soft cut">{policy.kind}{policy.file !== "" ? ` · ${policy.file}` : ""}</span>
      </span>
    ),
  },
  {
    id: "state",
    header: "State",
    width: 130,
    sort: (policy) => policy.fault !== "" ? 2 : policy.warnings.length > 0 ? 1 : 0,
    cell: (policy) =>
      policy.fault !== ""
        ? <Badge tone="dropped">not in force</Badge>
        : policy.warnings.length > 0
        ? (
          <Badge tone="audited">
            {policy.warnings.length} warning{policy.warnings.length === 1 ? "" : "s"}
          </Badge>
        )
        : <Badge tone="allowed">in force</Badge>,
  },
  {
    id: "endpoints",
    header: "Selects",
    width: 110,
    right: true,
    sort: (policy) => policy.endpoints,
    cell: (policy) =>
      policy.endpoints === 0 ? <span className="soft">nobody</span> : formatCount(policy.endpoints),
  },
  {
    id: "rules",
    header: "Rules",
    width: 80,
    right: true,
    sort: (policy) => policy.rules,
    cell: (policy) => policy.rules,
  },
  {
    id: "hits",
    header: "Decided",
    width: 110,
    right: true,
    sort: (policy) => policy.hits,
    cell: (policy) => formatCount(policy.hits),
  },
  {
    id: "denied",
    header: "Denied",
    width: 110,
    right: true,
    sort: (policy) => policy.denied,
    cell: (policy) =>
      policy.denied > 0
        ? <Badge tone="dropped">{formatCount(policy.denied)}</Badge>
        : <span className="soft">0</span>,
  },
  {
    id: "last",
    header: "Last hit",
    width: 110,
    sort: (policy) => policy.lastHitUnixS,
    cell: (policy) => <LastHit atUnixS={policy.lastHitUnixS} />,
  },
];
const SORT = { id: "hits", desc: true };

export function PoliciesPage() {
  const { policy, window } = useUrlState();
  return policy !== "" ? <PolicyPage name={policy} /> : <PolicyTable past={window !== null} />;
}

function PolicyTable({ past }: { past: boolean }) {
  const now = useNow();
  const { window } = useUrlState();
  const report = useAnswer<PolicyReport>(
    apiUrl(
      "policies",
      window ? [["since", String(window.sinceUnixS)], ["until", String(window.untilUnixS)]] : [],
    ),
    past ? 0 : EVERY_MS,
  );
  const policies = report.value?.policies ?? NONE;
  const unused = useMemo(() => policies.filter((policy) => policy.endpoints === 0).length, [policies]);
  return (
    <div className="view">
      <div className="tools">
        <h1>Policies</h1>
        {report.value && (
          <span className="soft number">
            {formatCount(policies.length)} at revision {report.value.revision}
            {unused > 0 ? `, ${unused} of which select nobody` : ""}; hits of{" "}
            {report.value.hitsOf || `the last ${formatDuration(now - report.value.hitsSinceUnixS)}`}
          </span>
        )}
      </div>
      {report.value && report.error && (
        <div className="pad">
          <StaleNotice error={report.error} atMs={report.atMs} now={now} />
        </div>
      )}
      {(report.value?.nodesBehind ?? []).map(({ node, error, sinceUnixS }) => (
        <div className="pad" key={node}>
          <Notice tone="dropped">
            <p>
              {node} does not have the newest policies since {formatAge(sinceUnixS, now)}
            </p>
            <p>{error}</p>
          </Notice>
        </div>
      ))}
      {policies.length > 0
        ? (
          <DataGrid
            label="Policies"
            rows={policies}
            columns={COLUMNS}
            rowKey={rowKey}
            rowHeight={54}
            onOpen={open}
            initialSort={SORT}
          />
        )
        : report.loading || (report.error && !report.value)
        ? <NotYet answer={report} lines={6} />
        : (
          <Empty title="No policy">
            <p>Everybody may speak to everybody. A policy begins with</p>
            <CommandLine text="weir policy apply -f policy.yaml" />
          </Empty>
        )}
    </div>
  );
}

const NONE: readonly PolicyRow[] = [];
