/**
 * Health: first what is wrong and since when, then each node with its services, maps, programs and what it lost.
 * @module
 */
import type { HealthFinding, HealthNode, HealthReport } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { useSession } from "../data/session.ts";
import { useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { formatAge, formatCount, formatShare } from "../model/number_format.ts";
import { CommandLine } from "../parts/command_line.tsx";
import { CheckIcon } from "../parts/icons.tsx";
import { Notice, NotYet, StaleNotice } from "../parts/states.tsx";
import { Badge, type Tone } from "../parts/verdict.tsx";

const EVERY_MS = 4000;
const MAPS_SHOWN = 8;

export function HealthPage() {
  const now = useNow();
  const lab = useSession()?.lab ?? "";
  const { window } = useUrlState();
  const answer = useAnswer<HealthReport>(apiUrl("health"), EVERY_MS);
  const { value: report, error, atMs } = answer;
  if (!report) {
    return (
      <div className="view">
        <NotYet answer={answer} lines={10} />
      </div>
    );
  }
  return (
    <div className="view">
      <div className="page-scroll scroll" tabIndex={0} role="region" aria-label="Health">
        <div className="page-wide">
          <header className="health-head">
            <h1>{report.findings.length === 0 && report.healthy ? "All is well" : headline(report)}</h1>
            <p className="soft number">
              {report.nodes.length} {report.nodes.length === 1 ? "node" : "nodes"},{" "}
              {formatCount(report.counts.endpointsReady)} of {formatCount(report.counts.endpoints)}{" "}
              endpoints ready, {formatCount(report.counts.identities)} identities,{" "}
              {formatCount(report.counts.policies)} policies, {formatCount(report.counts.services)} services
            </p>
          </header>
          {window && (
            <Notice>
              <p>Health is always of now: it has no history.</p>
            </Notice>
          )}
          <StaleNotice error={error} atMs={atMs} now={now} />
          {report.sources.error !== "" && (
            <Notice tone="dropped">
              <p>The page gets no flows: {report.sources.error}</p>
            </Notice>
          )}
          {report.findings.length > 0 && (
            <section className="block" aria-label="What is wrong">
              {report.findings.map((finding) => (
                <Finding
                  key={`${finding.node} ${finding.subject} ${finding.message}`}
                  finding={finding}
                  now={now}
                />
              ))}
            </section>
          )}
          {report.nodes.map((node) => <NodeBox key={node.name} node={node} now={now} />)}
          <FlowSources report={report} />
          <section className="block">
            <h2>In a terminal</h2>
            <CommandLine text={`weir status --verbose${lab !== "" ? ` --lab ${lab}` : ""}`} />
          </section>
        </div>
      </div>
    </div>
  );
}

function headline(report: HealthReport): string {
  const count = report.findings.length;
  return count === 0 ? "Not all is well" : count === 1 ? "One thing is wrong" : `${count} things are wrong`;
}

function Finding({ finding, now }: { finding: HealthFinding; now: number }) {
  return (
    <Notice tone={finding.condition === "degraded" || finding.condition === "stale" ? "audited" : "dropped"}>
      <p>
        <strong>{finding.subject}</strong> {finding.node !== "" && `on ${finding.node} `}
        is {finding.condition}
        {finding.sinceUnixS > 0 && ` since ${formatAge(finding.sinceUnixS, now).replace(" ago", "")}`}:{" "}
        {finding.message}
      </p>
      {finding.effect !== "" && <p>{finding.effect}</p>}
      {finding.remedy !== "" && <p>{finding.remedy}</p>}
    </Notice>
  );
}

function serviceTone(state: string): Tone {
  const low = state.toLowerCase();
  if (/run|ready|ok|up|healthy/.test(low) && !/not|un/.test(low)) return "allowed";
  return /start|wait|stale|degrad/.test(low) ? "audited" : "dropped";
}

function NodeBox({ node, now }: { node: HealthNode; now: number }) {
  const maps = [...node.maps].filter((map) => map.entriesMax > 0)
    .sort((a, b) => b.entries / b.entriesMax - a.entries / a.entriesMax);
  const [shown, rest] = [maps.slice(0, MAPS_SHOWN), maps.slice(MAPS_SHOWN)];
  return (
    <section className="card-box node-box" aria-label={`Node ${node.name}`}>
      <header className="node-head">
        <h2>{node.name}</h2>
        <Badge tone={node.ready ? "allowed" : "dropped"}>{node.ready ? "ready" : "not ready"}</Badge>
        <span className="soft number grow">
          {formatCount(node.endpointsReady)} of {formatCount(node.endpoints)} endpoints ready
          {node.gate !== "" && `, programs judged by the ${node.gate}`}
        </span>
        {node.lostEvents > 0
          ? <Badge tone="audited">{formatCount(node.lostEvents)} events lost</Badge>
          : node.error === "" && <span className="soft">no event lost</span>}
      </header>
      {node.error !== "" && (
        <Notice tone="dropped">
          <p>{node.error}</p>
        </Notice>
      )}
      <div className="node-columns">
        {node.services.length > 0 && (
          <div className="block">
            <h3>Services</h3>
            <ul className="rows">
              {node.services.map((service) => (
                <li key={service.name}>
                  <span className="grow">
                    {service.name}
                    {service.message !== "" && <span className="soft message">{service.message}</span>}
                  </span>
                  {service.restarts > 0 && (
                    <span className="soft number">
                      {service.restarts} {service.restarts === 1 ? "restart" : "restarts"}
                    </span>
                  )}
                  {service.sinceUnixS > 0 && (
                    <span className="soft number" title="In this state since">
                      {formatAge(service.sinceUnixS, now).replace(" ago", "")}
                    </span>
                  )}
                  <Badge tone={serviceTone(service.state)}>{service.state.toLowerCase()}</Badge>
                </li>
              ))}
            </ul>
          </div>
        )}
        {shown.length > 0 && (
          <div className="block">
            <h3>Maps, the fullest first</h3>
            <ul className="rows">
              {shown.map((map) => <MapLine key={map.name} {...map} />)}
            </ul>
            {rest.length > 0 && (
              <details>
                <summary>{rest.length} more</summary>
                <ul className="rows">{rest.map((map) => <MapLine key={map.name} {...map} />)}</ul>
              </details>
            )}
          </div>
        )}
      </div>
      {node.programs.length > 0 && <Programs node={node} />}
    </section>
  );
}

function MapLine({ name, entries, entriesMax }: { name: string; entries: number; entriesMax: number }) {
  const share = entries / entriesMax;
  const tone = share >= 0.9 ? "dropped" : share >= 0.7 ? "audited" : "allowed";
  return (
    <li className={`map-line tone-${tone}`}>
      <code className="cut">{name}</code>
      <meter
        className="meter"
        min={0}
        max={1}
        value={share}
        aria-label={`${name}: ${formatShare(share)} full`}
      />
      <span className="number soft map-count">{formatCount(entries)} of {formatCount(entriesMax)}</span>
      <span className="number map-share">{formatShare(share)}</span>
    </li>
  );
}

function Programs({ node }: { node: HealthNode }) {
  const good = node.programs.every((program) => program.verdict === "accepted" && program.same);
  return (
    <details className="programs" open={!good}>
      <summary>
        <span>
          {node.programs.length}{" "}
          programs{good ? ": all accepted by the verifier, and the kernel runs what was judged" : ""}
        </span>
        {good && <CheckIcon />}
      </summary>
      <div className="scroll" tabIndex={0} role="group" aria-label="Programs">
        <table className="sheet">
          <thead>
            <tr>
              <th>Program</th>
              <th>Attached to</th>
              <th>Verdict</th>
              <th className="right">Visited</th>
              <th className="right">Time</th>
              <th>In the kernel</th>
            </tr>
          </thead>
          <tbody>
            {node.programs.map((program) => (
              <tr key={`${program.object} ${program.name} ${program.attachedTo}`}>
                <td>
                  <code>{program.name}</code>
                </td>
                <td className="soft">{program.attachedTo || "–"}</td>
                <td>
                  <Badge tone={program.verdict === "accepted" ? "allowed" : "dropped"}>
                    {program.verdict || "unknown"}
                  </Badge>
                </td>
                <td className="right number">{formatCount(program.visits)}</td>
                <td className="right number">
                  {(program.timeUs / 1000).toFixed(program.timeUs < 10_000 ? 1 : 0)} ms
                </td>
                <td>{program.same ? "the same bytes" : <Badge tone="dropped">other bytes</Badge>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function FlowSources({ report }: { report: HealthReport }) {
  const { sources, folded } = report;
  return (
    <section className="card-box block" aria-label="Where flows come from">
      <h2>Where this page’s flows come from</h2>
      <ul className="rows">
        {sources.connected.map((node) => (
          <li key={node}>
            <span className="grow">{node}</span>
            <Badge tone="allowed">connected</Badge>
          </li>
        ))}
        {sources.away.map(({ node, reason }) => (
          <li key={node}>
            <span className="grow">
              {node} <span className="soft">{reason}</span>
            </span>
            <Badge tone="dropped">away</Badge>
          </li>
        ))}
        <li>
          <span className="grow">Flows lost on the way here</span>
          <span className="number">{formatCount(sources.lost)}</span>
        </li>
        {folded.map(({ limit, count }) => (
          <li key={limit}>
            <span className="grow">Limit reached: {limit}</span>
            <span className="number">{formatCount(count)} times</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
