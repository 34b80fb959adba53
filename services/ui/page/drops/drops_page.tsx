/**
 * The drops, by their causes: who to whom, why, since when, how often, and what would end it.
 * @module
 */
import { useMemo } from "react";
import type { DropCause, DropExplanation, DropReport } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { navigate, urlOf, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { useShownParameters } from "../data/use_filter.ts";
import { formatFilter } from "../model/filter_language.ts";
import { formatAge, formatCount, formatDateTime, formatDuration } from "../model/number_format.ts";
import { CommandLine } from "../parts/command_line.tsx";
import { Counted } from "../parts/counted.tsx";
import { DataGrid, type GridColumn } from "../parts/data_grid.tsx";
import { ExplanationView, FlowExplanation, PolicyList } from "../parts/explanation.tsx";
import { FilterInput } from "../parts/filter_input.tsx";
import { ArrowIcon, CheckIcon } from "../parts/icons.tsx";
import { ObserveCommands } from "../parts/observe_commands.tsx";
import { Block, Panel } from "../parts/panel.tsx";
import { Sparkline } from "../parts/sparkline.tsx";
import { Empty, Notice, NotYet, StaleNotice, Waiting } from "../parts/states.tsx";
import { Badge } from "../parts/verdict.tsx";
import { flowTerms } from "../flows/flow_detail.tsx";

const EVERY_MS = 3000;
const rowKey = (cause: DropCause) => cause.id;
const open = (cause: DropCause) => navigate({ selected: cause.id });
const portText = ({ port, protocol }: DropCause) => port > 0 ? `${port}/${protocol}` : protocol;

/** The name without its namespace, which stands before it in grey. */
function Name({ text }: { text: string }) {
  const slash = text.indexOf("/");
  return slash < 0 ? <>{text}</> : (
    <>
      <span className="soft">{text.slice(0, slash + 1)}</span>
      {text.slice(slash + 1)}
    </>
  );
}

function Age({ atUnixS }: { atUnixS: number }) {
  return <span title={formatDateTime(atUnixS)}>{formatAge(atUnixS, useNow())}</span>;
}

/** Dropping goes on: the last one came within three steps of the trend. */
function Still({ cause }: { cause: DropCause }) {
  const now = useNow();
  const going = now - cause.lastSeenUnixS < 15;
  return going ? <Badge tone="dropped">now</Badge> : <Badge tone="quiet">over</Badge>;
}

const COLUMNS: readonly GridColumn<DropCause>[] = [
  {
    id: "count",
    header: "Drops",
    width: 84,
    right: true,
    sort: (cause) => cause.count,
    cell: (cause) => <strong>{formatCount(cause.count)}</strong>,
  },
  {
    id: "trend",
    header: "Trend",
    width: 138,
    cell: (cause) => (
      <Sparkline
        values={cause.trend}
        label={`${formatCount(cause.trend.reduce((a, b) => a + b, 0))} in the last ${
          formatDuration(cause.trend.length * cause.trendStepS)
        }`}
      />
    ),
  },
  {
    id: "pair",
    header: "Who to whom",
    width: 240,
    grow: 3,
    sort: (cause) => `${cause.fromName} ${cause.toName}`,
    cell: (cause) => (
      <span className="cause-pair">
        <span className="cut">
          <Name text={cause.fromName} />
        </span>
        <span className="cause-to">
          <ArrowIcon />
          <span className="cut">
            <Name text={cause.toName} />
          </span>
          <span className="number chip">{portText(cause)}</span>
        </span>
      </span>
    ),
  },
  {
    id: "why",
    header: "Why",
    width: 230,
    grow: 4,
    sort: (cause) => cause.reason,
    cell: (cause) => (
      <span className="cause-why" title={cause.reason}>
        <span className="cut">{cause.reasonText || cause.reason}</span>
        <span className="soft cut">
          {cause.direction}
          {cause.policies.length > 0
            ? ` · ${cause.policies.map((policy) => policy.policyName || policy.name).join(", ")}`
            : ""}
        </span>
      </span>
    ),
  },
  { id: "state", header: "State", width: 84, cell: (cause) => <Still cause={cause} /> },
  {
    id: "first",
    header: "First",
    width: 92,
    sort: (cause) => cause.firstSeenUnixS,
    cell: (cause) => <Age atUnixS={cause.firstSeenUnixS} />,
  },
  {
    id: "last",
    header: "Last",
    width: 92,
    sort: (cause) => cause.lastSeenUnixS,
    cell: (cause) => <Age atUnixS={cause.lastSeenUnixS} />,
  },
];

export function DropsPage() {
  const { window, selected, filter } = useUrlState();
  const now = useNow();
  const shown = useShownParameters();
  const report = useAnswer<DropReport>(apiUrl("drops", shown), window ? 0 : EVERY_MS);
  const causes = report.value?.causes ?? NONE;
  const chosen = useMemo(() => causes.find((cause) => cause.id === selected), [causes, selected]);
  const total = causes.reduce((sum, cause) => sum + cause.count, 0) + (report.value?.foldedDrops ?? 0);
  return (
    <>
      <div className="view">
        <div className="tools">
          <h1 className="unseen">Drops</h1>
          <FilterInput
            value={filter}
            placeholder="Filter: to-port=5432"
            onChange={(text) => navigate({ filter: text, selected: "" })}
          />
          {report.value && (
            <span className="soft number">
              {formatCount(total)} drops from {formatCount(causes.length)}{" "}
              {causes.length === 1 ? "cause" : "causes"}
              {!window &&
                `, in the last ${formatDuration(report.value.untilUnixS - report.value.sinceUnixS)}`}
            </span>
          )}
          <span className="grow" />
          <Counted of={report.value} />
          <a
            className="button"
            href={urlOf({ page: "flows", filter: `${filter} verdict=DROPPED`.trim(), selected: "" })}
          >
            Each dropped flow
            <ArrowIcon />
          </a>
        </div>
        {report.value && report.error && (
          <div className="pad">
            <StaleNotice error={report.error} atMs={report.atMs} now={now} />
          </div>
        )}
        {(report.value?.foldedDrops ?? 0) > 0 && (
          <div className="pad">
            <Notice tone="audited">
              <p>
                {formatCount(report.value!.foldedDrops)} more drops have causes that there was no room for.
              </p>
            </Notice>
          </div>
        )}
        {causes.length > 0
          ? (
            <DataGrid
              label="Causes of drops"
              rows={causes}
              columns={COLUMNS}
              rowKey={rowKey}
              rowHeight={54}
              selected={selected}
              onOpen={open}
              initialSort={SORT}
            />
          )
          : report.loading || (report.error && !report.value)
          ? <NotYet answer={report} lines={6} />
          : (
            <Empty
              title={filter === "" ? "Nothing is dropped" : "No drop matches"}
              icon={filter === "" ? <CheckIcon /> : undefined}
            >
              <p>
                {filter !== ""
                  ? "No packet that fits this filter was dropped."
                  : window
                  ? "No packet was dropped in this window."
                  : "No packet was dropped in the last hour, or since the server runs."}
              </p>
            </Empty>
          )}
      </div>
      {chosen && <CausePanel cause={chosen} />}
    </>
  );
}

const NONE: readonly DropCause[] = [];
const SORT = { id: "count", desc: true };

function CausePanel({ cause }: { cause: DropCause }) {
  const now = useNow();
  const shown = useShownParameters();
  const answer = useAnswer<DropExplanation>(apiUrl("drops/explain", [["cause", cause.id], ...shown]));
  const terms = [...flowTerms(cause.example), { name: "verdict", value: "DROPPED", not: false }];
  return (
    <Panel
      over={cause.reason}
      title={
        <span className="ends">
          <a href={urlOf({ page: "map", group: "workload", selected: cause.from })}>{cause.fromName}</a>
          <ArrowIcon />
          <span className="unseen">to</span>
          <a href={urlOf({ page: "map", group: "workload", selected: cause.to })}>{cause.toName}</a>
        </span>
      }
      badges={
        <>
          <Still cause={cause} />
          <span className="chip">{portText(cause)}</span>
          {cause.direction !== "" && <span className="chip">{cause.direction}</span>}
        </>
      }
      identity={cause.id}
      onClose={() => navigate({ selected: "" })}
    >
      <p className="lead">{cause.reasonText || cause.reason}</p>
      <Block title="What would allow it">
        {answer.value
          ? answer.value.explanation ? <ExplanationView explanation={answer.value.explanation} /> : (
            <Notice>
              <p>{answer.value.reason}</p>
            </Notice>
          )
          : answer.error
          ? <FlowExplanation flow={cause.example} />
          : <Waiting lines={4} />}
      </Block>
      {cause.policies.length > 0 && (
        <Block title="Policies behind it">
          <PolicyList policies={cause.policies} />
        </Block>
      )}
      <Block title="How often">
        <Sparkline
          values={cause.trend}
          width={400}
          height={56}
          label={`Drops of the last ${formatDuration(cause.trend.length * cause.trendStepS)}`}
        />
        <dl className="facts">
          <dt>Drops</dt>
          <dd className="number">{formatCount(cause.count)}</dd>
          <dt>First</dt>
          <dd className="number">
            {formatDateTime(cause.firstSeenUnixS)}, {formatAge(cause.firstSeenUnixS, now)}
          </dd>
          <dt>Last</dt>
          <dd className="number">
            {formatDateTime(cause.lastSeenUnixS)}, {formatAge(cause.lastSeenUnixS, now)}
          </dd>
          <dt>Nodes</dt>
          <dd>{cause.nodes.join(", ")}</dd>
        </dl>
      </Block>
      {(answer.value?.commands.length ?? 0) > 0
        ? (
          <Block title="In a terminal">
            {answer.value!.commands.map(({ title, text }) => (
              <div className="block" key={text}>
                <p className="soft">{title}</p>
                <CommandLine text={text} />
              </div>
            ))}
          </Block>
        )
        : <ObserveCommands terms={terms} />}
      <a className="button" href={urlOf({ page: "flows", filter: formatFilter(terms), selected: "" })}>
        Show its flows
        <ArrowIcon />
      </a>
    </Panel>
  );
}
