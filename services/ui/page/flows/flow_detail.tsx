/**
 * All about one flow: its ends, the policies behind the verdict, what would turn it.
 * @module
 */
import { Fragment } from "react";
import type { FlowEnd, FlowRow } from "../../api.ts";
import { navigate, urlOf, useUrlState } from "../data/url_store.ts";
import type { FilterTerm } from "../model/filter_language.ts";
import { formatFilter, readFilter } from "../model/filter_language.ts";
import { formatClock, formatDateTime } from "../model/number_format.ts";
import { endName, EndText } from "../parts/ends.tsx";
import { FlowExplanation, PolicyList } from "../parts/explanation.tsx";
import { ArrowIcon } from "../parts/icons.tsx";
import { ObserveCommands } from "../parts/observe_commands.tsx";
import { Block, Panel } from "../parts/panel.tsx";
import { Badge, VerdictBadge } from "../parts/verdict.tsx";

/** Conditions that name one end. */
function ownTerms(side: "from" | "to", end: FlowEnd): FilterTerm[] {
  if (end.pod !== "") return [{ name: `${side}-pod`, value: `${end.namespace}/${end.pod}`, not: false }];
  return end.ip === "" ? [] : [{ name: `${side}-ip`, value: end.ip, not: false }];
}

/** Conditions for flows like this one. */
export function flowTerms(flow: FlowRow): FilterTerm[] {
  const terms = [...ownTerms("from", flow.source), ...ownTerms("to", flow.destination)];
  if (flow.destination.port > 0) {
    terms.push({ name: "to-port", value: String(flow.destination.port), not: false });
  }
  if (flow.protocol !== "") terms.push({ name: "protocol", value: flow.protocol.toLowerCase(), not: false });
  return terms;
}

export function FlowDetail({ flow }: { flow: FlowRow }) {
  const { window, filter } = useUrlState();
  const add = (terms: FilterTerm[]) =>
    urlOf({ filter: formatFilter([...readFilter(filter).terms, ...terms]), selected: "" });
  return (
    <Panel
      over={<span className="number">{`${formatDateTime(flow.timeUnixS)} on ${flow.node}`}</span>}
      title={
        <span className="ends">
          <EndText end={flow.source} />
          <ArrowIcon />
          <span className="unseen">to</span>
          <EndText end={flow.destination} />
        </span>
      }
      badges={
        <>
          <VerdictBadge verdict={flow.verdict} />
          {flow.trouble !== "" && <Badge tone="error">{flow.trouble}</Badge>}
          {flow.direction !== "" && <span className="chip">{flow.direction}</span>}
          {flow.reply === true && <span className="chip">reply</span>}
        </>
      }
      identity={flow.uuid}
      onClose={() => navigate({ selected: "" })}
    >
      <dl className="facts">
        <dt>What</dt>
        <dd>{flow.summary || flow.kind}</dd>
        {flow.request.map(({ name, value }) => (
          <Fragment key={name}>
            <dt>{name}</dt>
            <dd>
              <code>{value}</code>
            </dd>
          </Fragment>
        ))}
        {flow.dropReason !== "" && (
          <>
            <dt>Reason</dt>
            <dd>
              <code>{flow.dropReason}</code>
            </dd>
          </>
        )}
        <dt>Seen as</dt>
        <dd>{flow.kind} at {formatClock(flow.timeUnixS, true)}</dd>
      </dl>
      {flow.policies.length > 0 && (
        <Block title="Policies behind it">
          <PolicyList policies={flow.policies} />
        </Block>
      )}
      <Block title={flow.verdict === "DROPPED" ? "Why, and what would allow it" : "Why"}>
        <FlowExplanation flow={flow} atUnixS={window ? flow.timeUnixS : undefined} />
      </Block>
      <End title="From" end={flow.source} protocol={flow.protocol} />
      <End title="To" end={flow.destination} protocol={flow.protocol} />
      <Block title="Filter for">
        <div className="chips">
          <a className="button small" href={add(flowTerms(flow))}>this connection</a>
          {ownTerms("from", flow.source).length > 0 && (
            <a className="button small" href={add(ownTerms("from", flow.source))}>
              from {endName(flow.source)}
            </a>
          )}
          {ownTerms("to", flow.destination).length > 0 && (
            <a className="button small" href={add(ownTerms("to", flow.destination))}>
              to {endName(flow.destination)}
            </a>
          )}
        </div>
      </Block>
      <ObserveCommands terms={flowTerms(flow)} />
    </Panel>
  );
}

function End({ title, end, protocol }: { title: string; end: FlowEnd; protocol: string }) {
  return (
    <Block title={title}>
      <dl className="facts">
        {end.pod !== "" && (
          <>
            <dt>Pod</dt>
            <dd>{end.namespace}/{end.pod}</dd>
          </>
        )}
        {end.workload !== "" && (
          <>
            <dt>Workload</dt>
            <dd>
              <a href={urlOf({ page: "map", selected: end.card, group: "workload" })}>
                {end.workloadKind} {end.workload}
              </a>
            </dd>
          </>
        )}
        <dt>Address</dt>
        <dd className="number">{end.ip}{end.port > 0 ? `, port ${end.port}/${protocol}` : ""}</dd>
        {end.service !== "" && (
          <>
            <dt>Service</dt>
            <dd>{end.service}</dd>
          </>
        )}
        {end.names.length > 0 && (
          <>
            <dt>DNS names</dt>
            <dd>{end.names.join(", ")}</dd>
          </>
        )}
        <dt>Identity</dt>
        <dd className="number">{end.identity}</dd>
      </dl>
      {end.labels.length > 0 && (
        <div className="chips">
          {end.labels.map((label) => <span key={label} className="chip">{label}</span>)}
        </div>
      )}
    </Block>
  );
}
