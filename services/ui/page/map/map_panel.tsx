/**
 * More about one card or edge: ports, rates, policies at work, the last drops with their why, commands.
 * @module
 */
import { Fragment, useMemo } from "react";
import type { Card, Edge, FlowPage, FlowPolicy } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { navigate, urlOf, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { cardTerms, endTerms } from "../model/commands.ts";
import { filterParameters, type FilterTerm, formatFilter } from "../model/filter_language.ts";
import type { MapState } from "../model/map_state.ts";
import { formatAge, formatCount, formatRate } from "../model/number_format.ts";
import type { VisibleGraph } from "../model/visible_graph.ts";
import { FlowExplanation, PolicyLink, PolicyList } from "../parts/explanation.tsx";
import { ArrowIcon } from "../parts/icons.tsx";
import { ObserveCommands } from "../parts/observe_commands.tsx";
import { Block, Panel } from "../parts/panel.tsx";
import { Empty, Waiting } from "../parts/states.tsx";
import { Badge, VerdictBadge } from "../parts/verdict.tsx";
import { kindText } from "./card_node.tsx";

const close = () => navigate({ selected: "" });

export function MapPanel(
  { state, graph, id }: { state: MapState; graph: VisibleGraph | undefined; id: string },
) {
  const card = state.cards.get(id);
  if (card) return <CardPanel state={state} card={card} />;
  const edges = state.edges.get(id)
    ? [state.edges.get(id)!]
    : graph?.edges.find((edge) => edge.id === id)?.edges;
  if (edges?.length === 1) return <EdgePanel state={state} edge={edges[0]} />;
  if (edges) return <JoinedPanel state={state} id={id} edges={edges} />;
  return (
    <Panel title="Nothing seen of it" over="Map" identity={id} onClose={close}>
      <Empty title="It is not on this map">
        <p>
          <code>{id}</code> has sent or received nothing in the time that is shown.
        </p>
      </Empty>
    </Panel>
  );
}

function CardPanel({ state, card }: { state: MapState; card: Card }) {
  const now = useNow();
  const terms = cardTerms(card);
  const edges = useMemo(() => [...state.edges.values()], [state.edges]);
  const incoming = edges.filter((edge) => edge.to === card.id),
    outgoing = edges.filter((edge) => edge.from === card.id);
  const dropped = card.droppedIn + card.droppedOut;
  return (
    <Panel
      title={card.name}
      over={card.namespace !== "" ? `${kindText(card)} in ${card.namespace}` : kindText(card)}
      badges={dropped > 0 && <Badge tone="dropped">{formatRate(dropped)} dropped</Badge>}
      identity={card.id}
      onClose={close}
    >
      <dl className="facts">
        <dt>In</dt>
        <dd className="number">{formatRate(card.rateIn)}</dd>
        <dt>Out</dt>
        <dd className="number">{formatRate(card.rateOut)}</dd>
        <dt>Last seen</dt>
        <dd>{formatAge(card.lastSeenUnixS, now)}</dd>
        {card.nodes.length > 0 && (
          <>
            <dt>{card.nodes.length === 1 ? "Node" : "Nodes"}</dt>
            <dd>
              {card.nodes.slice(0, 8).join(", ")}
              {card.nodes.length > 8 ? ` and ${card.nodes.length - 8} more` : ""}
            </dd>
          </>
        )}
        {card.identities.length > 0 && (
          <>
            <dt>Identity</dt>
            <dd className="number">{card.identities.slice(0, 8).join(", ")}</dd>
          </>
        )}
      </dl>
      <Block title="Ports">
        {card.ports.length === 0
          ? <p className="soft">Nobody has spoken to it.</p>
          : (
            <ul className="rows number">
              {card.ports.map((port) => (
                <li key={`${port.port}/${port.protocol}`}>
                  <strong>{port.port === 0 ? port.protocol : `${port.port}/${port.protocol}`}</strong>
                  <span className="soft grow">{port.application}</span>
                  {port.dropped > 0 && <Badge tone="dropped">{formatCount(port.dropped)} dropped</Badge>}
                  <span>{formatRate(port.rate)}</span>
                </li>
              ))}
            </ul>
          )}
      </Block>
      <Neighbours title="Comes from" edges={incoming} end="from" state={state} />
      <Neighbours title="Goes to" edges={outgoing} end="to" state={state} />
      {terms.length > 0 && <PolicyBlocks terms={terms} />}
      {card.labels.length > 0 && (
        <Block title="Labels">
          <div className="chips">
            {card.labels.map((label) => <span key={label} className="chip">{label}</span>)}
          </div>
        </Block>
      )}
      {terms.length > 0 && <More terms={terms} />}
    </Panel>
  );
}

function Neighbours({ title, edges, end, state }: {
  title: string;
  edges: readonly Edge[];
  end: "from" | "to";
  state: MapState;
}) {
  if (edges.length === 0) return null;
  const shown = [...edges].sort((a, b) =>
    b.dropRate - a.dropRate || b.rate - a.rate || (a.id < b.id ? -1 : 1)
  ).slice(0, 30);
  return (
    <Block title={`${title} (${edges.length})`}>
      <ul className="rows">
        {shown.map((edge) => (
          <li key={edge.id}>
            <button
              type="button"
              className="button plain small grow left"
              onClick={() => navigate({ selected: edge.id })}
            >
              <span className="cut">{nameOf(state, edge[end])}</span>
              <span className="soft cut">{portsText(edge)}</span>
            </button>
            {edge.verdict !== "allowed" && <VerdictBadge verdict={edge.verdict} />}
            <span className="number soft">{formatRate(edge.rate)}</span>
          </li>
        ))}
      </ul>
      {edges.length > shown.length && <p className="soft">and {edges.length - shown.length} more</p>}
    </Block>
  );
}

function portsText(edge: Edge): string {
  const words = edge.protocols.slice(0, 3).map(({ port, protocol }) =>
    port === 0 ? protocol : `${port}/${protocol}`
  );
  return words.join(", ") + (edge.protocols.length > 3 ? " …" : "");
}

function nameOf(state: MapState, id: string): string {
  const card = state.cards.get(id);
  if (!card) return id;
  return card.namespace === "" || card.kind === "namespace" ? card.name : `${card.namespace}/${card.name}`;
}

function EdgePanel({ state, edge }: { state: MapState; edge: Edge }) {
  const now = useNow();
  const from = state.cards.get(edge.from), to = state.cards.get(edge.to);
  const terms = from && to ? edgeTerms(from, to) : [];
  return (
    <Panel
      title={<Ends state={state} from={edge.from} to={edge.to} />}
      over="Connection"
      badges={<VerdictBadge verdict={edge.verdict} />}
      identity={edge.id}
      onClose={close}
    >
      <dl className="facts">
        <dt>Rate</dt>
        <dd className="number">
          {formatRate(edge.rate)}
          {edge.dropRate > 0 ? `, ${formatRate(edge.dropRate)} dropped` : ""}
        </dd>
        <dt>Flows</dt>
        <dd className="number">
          {formatCount(edge.flows)}: {formatCount(edge.allowed)} allowed, {formatCount(edge.dropped)} dropped
          {edge.audited > 0 ? `, ${formatCount(edge.audited)} audited` : ""}
          {edge.trouble > 0 ? `, ${formatCount(edge.trouble)} in trouble` : ""}
        </dd>
        <dt>First seen</dt>
        <dd>{formatAge(edge.firstSeenUnixS, now)}</dd>
        <dt>Last seen</dt>
        <dd>{formatAge(edge.lastSeenUnixS, now)}</dd>
      </dl>
      {edge.reasons.length > 0 && (
        <Block title="Why flows were dropped">
          <ul className="rows">
            {edge.reasons.map(({ reason, count }) => (
              <li key={reason}>
                <code className="grow">{reason}</code>
                <span className="number">{formatCount(count)}</span>
              </li>
            ))}
          </ul>
        </Block>
      )}
      <Block title="Ports">
        <ul className="rows number">
          {edge.protocols.map((one) => (
            <li key={`${one.port}/${one.protocol}`}>
              <strong>{one.port === 0 ? one.protocol : `${one.port}/${one.protocol}`}</strong>
              <span className="soft grow">{one.application}</span>
              {one.dropped > 0 && <Badge tone="dropped">{formatCount(one.dropped)} dropped</Badge>}
              <span>{formatCount(one.flows)} flows</span>
            </li>
          ))}
        </ul>
      </Block>
      {terms.length > 0 && <PolicyBlocks terms={terms} />}
      {terms.length > 0 && <More terms={terms} />}
    </Panel>
  );
}

/** Both ends, with the node names once: two of them would be one condition twice. */
function edgeTerms(from: Card, to: Card): FilterTerm[] {
  const [a, b] = [endTerms("from", from), endTerms("to", to)];
  return a.length === 0 || b.length === 0 ? [] : [...a, ...b];
}

function Ends({ state, from, to }: { state: MapState; from: string; to: string }) {
  const end = (id: string) =>
    state.cards.has(id)
      ? <a href={urlOf({ selected: id })}>{nameOf(state, id)}</a>
      : <span>{id.replace(/^ns:/, "")}</span>;
  return (
    <span className="ends">
      {end(from)}
      <ArrowIcon />
      <span className="unseen">to</span>
      {end(to)}
    </span>
  );
}

function JoinedPanel({ state, id, edges }: { state: MapState; id: string; edges: readonly Edge[] }) {
  const [from, to] = id.split(">");
  const shown = [...edges].sort((a, b) => b.dropRate - a.dropRate || b.rate - a.rate).slice(0, 60);
  return (
    <Panel
      title={<Ends state={state} from={from} to={to} />}
      over="Connections"
      identity={id}
      onClose={close}
    >
      <Block title={`${edges.length} between them`}>
        <ul className="rows">
          {shown.map((edge) => (
            <li key={edge.id}>
              <button
                type="button"
                className="button plain small grow left"
                onClick={() => navigate({ selected: edge.id })}
              >
                <span className="cut">{nameOf(state, edge.from)} → {nameOf(state, edge.to)}</span>
              </button>
              {edge.verdict !== "allowed" && <VerdictBadge verdict={edge.verdict} />}
              <span className="number soft">{formatRate(edge.rate)}</span>
            </li>
          ))}
        </ul>
      </Block>
    </Panel>
  );
}

const POLICIES_OF = 200;
const DROPS_SHOWN = 5;
const REQUESTS_SHOWN = 8;

/** Policies that decided its last flows, and its last drops. */
function PolicyBlocks({ terms }: { terms: readonly FilterTerm[] }) {
  const { window } = useUrlState();
  const now = useNow();
  const time: [string, string][] = window
    ? [["since", String(window.sinceUnixS)], ["until", String(window.untilUnixS)]]
    : [];
  const parameters = [...filterParameters(terms), ...time];
  const every = window ? 0 : 5000;
  const flows = useAnswer<FlowPage>(apiUrl("flows", [...parameters, ["last", String(POLICIES_OF)]]), every);
  const drops = useAnswer<FlowPage>(
    apiUrl("flows", [...parameters, ["verdict", "DROPPED"], ["last", String(DROPS_SHOWN)]]),
    every,
  );
  const requests = useAnswer<FlowPage>(
    apiUrl("flows", [...parameters, ["type", "l7"], ["last", String(REQUESTS_SHOWN)]]),
    every,
  );
  const policies = useMemo(() => countPolicies(flows.value), [flows.value]);
  const dropped = [...drops.value?.flows ?? []].reverse();
  return (
    <>
      <Block title="Policies at work">
        {flows.error
          ? <p className="soft">{flows.error.message}</p>
          : !flows.value
          ? <Waiting lines={2} />
          : policies.length === 0
          ? <p className="soft">No policy decided any of its last {flows.value.flows.length} flows.</p>
          : (
            <ul className="rows">
              {policies.map(({ policy, count }) => (
                <li key={`${policy.name} ${policy.direction} ${policy.effect} ${policy.path}`}>
                  <span className="grow">
                    <PolicyLink policy={policy} />
                  </span>
                  <Badge tone={policy.effect === "denied" ? "dropped" : "allowed"}>{policy.direction}</Badge>
                  <span className="number soft" title={`of its last ${flows.value!.flows.length} flows`}>
                    {count}
                  </span>
                </li>
              ))}
            </ul>
          )}
      </Block>
      <RequestBlock requests={requests.value?.flows ?? []} now={now} />
      <Block title="Last drops">
        {drops.error
          ? <p className="soft">{drops.error.message}</p>
          : !drops.value
          ? <Waiting lines={2} />
          : dropped.length === 0
          ? <p className="soft">None.</p>
          : (
            <ul className="drop-list">
              {dropped.map((flow, index) => (
                <li key={flow.uuid}>
                  <details open={index === 0}>
                    <summary>
                      <span className="grow cut">
                        {flow.source.pod || flow.source.names[0] || flow.source.ip} →{" "}
                        {flow.destination.pod || flow.destination.names[0] || flow.destination.ip}
                        {flow.destination.port > 0 ? `:${flow.destination.port}` : ""}
                      </span>
                      <span className="soft number">{formatAge(flow.timeUnixS, now)}</span>
                    </summary>
                    <p className="soft">
                      <code>{flow.dropReason || flow.verdict}</code> {flow.direction}
                    </p>
                    <FlowExplanation flow={flow} atUnixS={window ? flow.timeUnixS : undefined} />
                  </details>
                </li>
              ))}
            </ul>
          )}
      </Block>
    </>
  );
}

/** What applications asked for last, the newest first. */
function RequestBlock({ requests, now }: { requests: FlowPage["flows"]; now: number }) {
  if (requests.length === 0) return null;
  return (
    <Block title="Last requests">
      <ul className="drop-list">
        {[...requests].reverse().map((flow) => (
          <li key={flow.uuid}>
            <details>
              <summary>
                <span className="grow cut">{flow.summary || flow.kind}</span>
                <VerdictBadge verdict={flow.verdict} />
                <span className="soft number">{formatAge(flow.timeUnixS, now)}</span>
              </summary>
              <dl className="facts">
                {flow.request.map(({ name, value }) => (
                  <Fragment key={name}>
                    <dt>{name}</dt>
                    <dd>
                      <code>{value}</code>
                    </dd>
                  </Fragment>
                ))}
              </dl>
              <PolicyList policies={flow.policies} />
            </details>
          </li>
        ))}
      </ul>
    </Block>
  );
}

function countPolicies(page: FlowPage | undefined): { policy: FlowPolicy; count: number }[] {
  const found = new Map<string, { policy: FlowPolicy; count: number }>();
  for (const flow of page?.flows ?? []) {
    for (const policy of flow.policies) {
      const key = `${policy.name} ${policy.direction} ${policy.effect} ${policy.path}`;
      const known = found.get(key);
      if (known) known.count++;
      else found.set(key, { policy, count: 1 });
    }
  }
  return [...found.values()].sort((a, b) => b.count - a.count);
}

function More({ terms }: { terms: readonly FilterTerm[] }) {
  return (
    <>
      <ObserveCommands terms={terms} />
      <a className="button" href={urlOf({ page: "flows", filter: formatFilter(terms), selected: "" })}>
        Show its flows
        <ArrowIcon />
      </a>
    </>
  );
}
