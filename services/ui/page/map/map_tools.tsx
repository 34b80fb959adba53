/**
 * What stands around the map: grouping, finding, islands; zoom; the legend.
 * @module
 */
import { useReactFlow } from "@xyflow/react";
import { useId, useMemo, useState } from "react";
import type { Group } from "../../api.ts";
import { useNames } from "../data/session.ts";
import { navigate, useUrlState } from "../data/url_store.ts";
import type { MapState } from "../model/map_state.ts";
import { formatCount } from "../model/number_format.ts";
import type { VisibleGraph } from "../model/visible_graph.ts";
import { Counted } from "../parts/counted.tsx";
import { FilterInput } from "../parts/filter_input.tsx";
import { FitIcon, MinusIcon, PlusIcon, SearchIcon, TidyIcon } from "../parts/icons.tsx";

export function MapTools({ state, graph, newcomers, onGroup, onTidy, onIslands, onOpen }: {
  state: MapState | undefined;
  graph: VisibleGraph | undefined;
  newcomers: number;
  onGroup: (group: Group) => void;
  onTidy: () => void;
  onIslands: (islands: string[]) => void;
  onOpen: (id: string) => void;
}) {
  const { group, filter } = useUrlState();
  const names = useNames();
  const keys = useMemo(() => {
    const found = new Set(names.labels.map((label) => label.replace(/=.*$/s, "")));
    if (group.startsWith("label:")) found.add(group.slice(6));
    return [...found].sort();
  }, [names.labels, group]);
  const islands = [...graph?.islands.values() ?? []];
  const anyOpen = islands.some((island) => !island.closed);
  const folded = (state?.foldedCards ?? 0) + (state?.foldedEdges ?? 0);
  return (
    <div className="tools">
      <FilterInput
        value={filter}
        placeholder="Filter: verdict=DROPPED"
        onChange={(text) => navigate({ filter: text, selected: "" })}
      />
      <label className="tool-label">
        Group by
        <select
          className="field"
          value={group}
          onChange={(event) => onGroup(event.currentTarget.value as Group)}
        >
          <option value="workload">workload</option>
          <option value="namespace">namespace</option>
          <option value="node">node</option>
          {keys.length > 0 && (
            <optgroup label="label">
              {keys.map((key) => <option key={key} value={`label:${key}`}>{key}</option>)}
            </optgroup>
          )}
        </select>
      </label>
      <Find state={state} onOpen={onOpen} />
      {islands.length > 1 && (
        <button
          type="button"
          className="button"
          onClick={() => onIslands(islands.map((island) => `${anyOpen ? "-" : "+"}${island.id}`))}
        >
          {anyOpen ? "Close all namespaces" : "Open all namespaces"}
        </button>
      )}
      {newcomers > 0 && (
        <button type="button" className="button chosen" onClick={onTidy}>
          <TidyIcon />
          {newcomers} new: lay out again
        </button>
      )}
      <span className="grow" />
      {folded > 0 && (
        <span className="soft">
          {formatCount(state!.foldedCards)} cards and {formatCount(state!.foldedEdges)} edges are in “other”
        </span>
      )}
      <Counted of={state} />
      <span className="soft number" role="status" aria-live="off">
        {state ? `${counted(state.cards.size, "card")}, ${counted(state.edges.size, "edge")}` : ""}
      </span>
    </div>
  );
}

const counted = (count: number, what: string) => `${formatCount(count)} ${what}${count === 1 ? "" : "s"}`;

const FOUND_MAX = 10;

/** Finds a card by its name, and opens it. */
function Find({ state, onOpen }: { state: MapState | undefined; onOpen: (id: string) => void }) {
  const [text, setText] = useState("");
  const [active, setActive] = useState(0);
  const id = useId();
  const found = useMemo(() => {
    const low = text.trim().toLowerCase();
    if (low === "" || !state) return [];
    return [...state.cards.values()].filter((card) =>
      `${card.namespace}/${card.name}`.toLowerCase().includes(low)
    )
      .sort((a, b) => a.name.length - b.name.length).slice(0, FOUND_MAX);
  }, [text, state]);
  const choose = (index: number) => {
    if (!found[index]) return;
    onOpen(found[index].id);
    setText("");
  };
  return (
    <div className="filter find">
      <SearchIcon />
      <input
        className="field"
        role="combobox"
        aria-label="Find a card"
        aria-expanded={found.length > 0}
        aria-controls={`${id}-found`}
        aria-autocomplete="list"
        aria-activedescendant={found.length > 0 ? `${id}-${active}` : undefined}
        placeholder="Find a card"
        spellCheck={false}
        autoComplete="off"
        maxLength={200}
        data-filter
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          setActive(0);
        }}
        onBlur={() => setText("")}
        onKeyDown={(event) => {
          if (event.key === "Enter") choose(active);
          else if (event.key === "ArrowDown") setActive((at) => Math.min(found.length - 1, at + 1));
          else if (event.key === "ArrowUp") setActive((at) => Math.max(0, at - 1));
          else if (event.key === "Escape" && text !== "") setText("");
          else return;
          event.preventDefault();
        }}
      />
      <div
        className="options"
        id={`${id}-found`}
        role="listbox"
        aria-label="Cards"
        hidden={found.length === 0}
      >
        {found.map((card, index) => (
          <div
            key={card.id}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === active}
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => choose(index)}
          >
            <span className="cut">{card.name}</span>
            <small>{card.namespace || card.kind}</small>
          </div>
        ))}
      </div>
    </div>
  );
}

export function ZoomTools({ onTidy }: { onTidy: () => void }) {
  const flow = useReactFlow();
  const buttons = [
    ["Zoom in", PlusIcon, () => flow.zoomIn({ duration: 120 })],
    ["Zoom out", MinusIcon, () => flow.zoomOut({ duration: 120 })],
    ["Show the whole map", FitIcon, () => flow.fitView({ padding: 0.08, maxZoom: 1.05, duration: 160 })],
    ["Lay out again", TidyIcon, onTidy],
  ] as const;
  return (
    <div className="map-zoom" role="group" aria-label="View">
      {buttons.map(([label, Icon, act]) => (
        <button
          key={label}
          type="button"
          className="button square"
          aria-label={label}
          title={label}
          onClick={() => act()}
        >
          <Icon />
        </button>
      ))}
    </div>
  );
}

const LINES = [
  ["allowed", "allowed", ""],
  ["dropped", "dropped", "7 5"],
  ["mixed", "some dropped", ""],
  ["audited", "audited", "2 4"],
  ["error", "in trouble", "9 4 2 4"],
] as const;

export function Legend() {
  return (
    <ul className="map-legend" aria-label="Lines of the map">
      {LINES.map(([tone, word, dash]) => (
        <li key={tone} className={`tone-${tone}`}>
          <svg width="26" height="8" aria-hidden="true">
            <line x1="0" x2="26" y1="4" y2="4" strokeDasharray={dash || undefined} />
          </svg>
          {word}
        </li>
      ))}
    </ul>
  );
}
