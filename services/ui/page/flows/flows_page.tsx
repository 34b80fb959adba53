/**
 * The flows: live, or those of a window.
 * @module
 */
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { FlowPage, FlowRow } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { navigate, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { useFilter } from "../data/use_filter.ts";
import { formatCount } from "../model/number_format.ts";
import { CopyButton } from "../parts/command_line.tsx";
import { DataGrid } from "../parts/data_grid.tsx";
import { FilterInput } from "../parts/filter_input.tsx";
import { ColumnsIcon, PauseIcon, PlayIcon } from "../parts/icons.tsx";
import { Menu } from "../parts/menu.tsx";
import { Empty, ErrorState, Waiting } from "../parts/states.tsx";
import { observeCommand } from "../model/commands.ts";
import { useSession } from "../data/session.ts";
import { FLOW_COLUMNS, FLOW_COLUMNS_DEFAULT } from "./flow_columns.tsx";
import { FlowDetail } from "./flow_detail.tsx";
import { useFlowFeed } from "./flow_feed.ts";

/** Rows of a window that are asked for at once. */
const PAST_MAX = 2000;
const rowKey = (row: FlowRow) => row.uuid;
const open = (row: FlowRow) => navigate({ selected: row.uuid });
const tone = (row: FlowRow) => row.verdict === "DROPPED" ? "row-dropped" : "";

export function FlowsPage() {
  const { window, filter, columns, selected } = useUrlState();
  const { terms, parameters } = useFilter();
  const lab = useSession()?.lab ?? "";
  const [paused, setPaused] = useState(false);
  const [top, setTop] = useState(true);
  const feed = useFlowFeed(window ? null : parameters, paused || !top || selected !== "");
  const past = useAnswer<FlowPage>(
    window
      ? apiUrl("flows", [
        ...parameters,
        ["since", String(window.sinceUnixS)],
        ["until", String(window.untilUnixS)],
        ["last", String(PAST_MAX)],
      ])
      : null,
  );
  const pastRows = useMemo(() => [...past.value?.flows ?? []].reverse(), [past.value]);
  const rows = window ? pastRows : feed.rows;
  // A row stays open when newer ones push it out.
  const kept = useRef<FlowRow | undefined>(undefined);
  const chosen = useMemo(() => rows.find((row) => row.uuid === selected), [rows, selected]);
  if (chosen) kept.current = chosen;
  const detail = chosen ?? (kept.current?.uuid === selected ? kept.current : undefined);
  const shown = columns.length > 0 ? columns : FLOW_COLUMNS_DEFAULT;
  const toggle = useCallback((id: string) => {
    const next = FLOW_COLUMNS.map((column) => column.id).filter((each) =>
      shown.includes(each) ? each !== id : each === id
    );
    navigate({ columns: next.length === 0 ? ["time"] : next }, { replace: true });
  }, [shown]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "p" || event.ctrlKey || event.metaKey || event.altKey) return;
      if ((event.target as HTMLElement).closest("input, textarea, select")) return;
      setPaused((old) => !old);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const error = window
    ? past.error
    : feed.stream.kind === "broken" && rows.length === 0
    ? feed.stream.error
    : undefined;
  const loading = window ? past.loading : feed.stream.kind === "connecting" && rows.length === 0;
  const standing = paused || !top || selected !== "";
  const command = observeCommand("weir", terms, { window, lab });
  return (
    <>
      <div className="view">
        <h1 className="unseen">Flows</h1>
        <div className="tools">
          <FilterInput value={filter} onChange={(text) => navigate({ filter: text, selected: "" })} />
          {command && <CopyButton text={command} label="Copy this as a weir command" />}
          {!window && (
            <button
              type="button"
              className="button"
              aria-pressed={paused}
              title="Pause or resume (p)"
              onClick={() => setPaused(!paused)}
            >
              {paused ? <PlayIcon /> : <PauseIcon />}
              {paused ? "Resume" : "Pause"}
            </button>
          )}
          <Menu label="Columns" icon={<ColumnsIcon />}>
            {FLOW_COLUMNS.map(({ id, header }) => (
              <label key={id}>
                <input type="checkbox" checked={shown.includes(id)} onChange={() => toggle(id)} />
                {id === "source_port" ? "From port" : id === "port" ? "To port" : header}
              </label>
            ))}
          </Menu>
          <span className="soft number tools-count">
            {formatCount(rows.length)} {rows.length === 1 ? "flow" : "flows"}
            {window && past.value?.more ? ", the newest of more" : ""}
            {!window && feed.lost > 0 ? `, ${formatCount(feed.lost)} left out` : ""}
          </span>
        </div>
        {!window && standing && feed.held > 0 && (
          <button
            type="button"
            className="held"
            onClick={() => {
              setPaused(false);
              if (selected !== "") navigate({ selected: "" });
              document.querySelector(".grid")?.scrollTo(0, 0);
            }}
          >
            {formatCount(feed.held)} new {feed.held === 1 ? "flow" : "flows"}: show
          </button>
        )}
        {error
          ? <ErrorState error={error} again={window ? past.again : undefined} />
          : rows.length > 0
          ? (
            <DataGrid
              label="Flows"
              rows={rows}
              columns={FLOW_COLUMNS}
              rowKey={rowKey}
              shown={shown}
              selected={selected}
              rowTone={tone}
              onOpen={open}
              onTop={setTop}
            />
          )
          : loading
          ? (
            <div className="pad">
              <Waiting lines={8} />
            </div>
          )
          : (
            <Empty
              title={terms.length > 0 ? "No flow matches" : window ? "No flow in this window" : "No flow yet"}
            >
              <p>
                {terms.length > 0
                  ? "None of the flows that are held fits this filter. New ones that do stand here at once."
                  : "As soon as something speaks, it stands here."}
              </p>
              {terms.length > 0 && (
                <button
                  type="button"
                  className="button"
                  onClick={() => navigate({ filter: "" })}
                >
                  Clear filter
                </button>
              )}
            </Empty>
          )}
      </div>
      {detail && selected !== "" && <FlowDetail flow={detail} />}
    </>
  );
}
