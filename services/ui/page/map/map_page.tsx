/**
 * The map: who speaks to whom, from left to right.
 * @module
 */
import { ReactFlow, ReactFlowProvider, useReactFlow, useStoreApi } from "@xyflow/react";
import {
  type KeyboardEvent as ReactKeyboardEvent,
  type MouseEvent as ReactMouseEvent,
  useCallback,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { Group, MapSnapshot } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useLivePart } from "../data/live_store.ts";
import { navigate, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { useFilter, useShownParameters } from "../data/use_filter.ts";
import { type MapState, mapStateOf } from "../model/map_state.ts";
import type { Placement } from "../model/placement.ts";
import { type VisibleGraph, visibleGraph } from "../model/visible_graph.ts";
import { Empty, ErrorState, Notice } from "../parts/states.tsx";
import { CardNode, ClosedIslandNode, IslandNode } from "./card_node.tsx";
import { EdgeLayer } from "./edge_layer.tsx";
import type { PaintedEdge } from "./edge_painter.ts";
import { distanceTo } from "./edge_shape.ts";
import { MapPanel } from "./map_panel.tsx";
import { MapStore, MapStoreContext } from "./map_store.ts";
import { Legend, MapTools, ZoomTools } from "./map_tools.tsx";
import { nextCard } from "./card_steps.ts";
import { useMapNodes } from "./use_map_nodes.ts";
import { usePlacement } from "./use_placement.ts";

const NODE_TYPES = { card: CardNode, island: IslandNode, closed: ClosedIslandNode };
const FIT = { padding: 0.08, maxZoom: 1.05, minZoom: 0.04 };
/** Up to so many cards fade; each that does is a layer of its own to the browser. */
const FADED_MAX = 150;
/** A card that was out of sight stands there after some frames. */
const FOCUS_FRAMES_MAX = 60;
/** How near the pointer must be to an edge, pixels on the screen. */
const EDGE_REACH = 7;

export function MapPage() {
  const url = useUrlState();
  const live = useLivePart("map"), stream = useLivePart("stream");
  const shown = useShownParameters();
  const past = useAnswer<MapSnapshot>(url.window ? apiUrl("map", [["group", url.group], ...shown]) : null);
  const pastState = useMemo(() => past.value && mapStateOf(past.value), [past.value]);
  const state = url.window ? pastState : live;
  const error = url.window ? past.error : stream.kind === "broken" && !live ? stream.error : undefined;
  return (
    <ReactFlowProvider>
      {error && !state
        ? (
          <div className="view">
            <ErrorState error={error} again={url.window ? past.again : undefined} />
          </div>
        )
        : <MapView state={state} />}
    </ReactFlowProvider>
  );
}

function MapView({ state }: { state: MapState | undefined }) {
  const url = useUrlState();
  const [store] = useState(() => new MapStore());
  const [tidied, setTidied] = useState(0);
  const [touched, setTouched] = useState(false);
  const graph = useMemo(() => state && visibleGraph(state, url.islands), [state, url.islands]);
  const window = url.window ? `${url.window.sinceUnixS} ${url.window.untilUnixS}` : "";
  const { terms } = useFilter();
  const key = `${url.filter}|${url.group}|${window}|${url.islands.join(" ")}|${graph?.manyCards}|${tidied}`;
  const placed = usePlacement(graph, state?.structure ?? 0, key, !touched);
  const { placement } = placed;

  useEffect(() => {
    store.setView(state && graph && placement ? { state, graph, placement } : undefined);
  }, [store, state, graph, placement]);
  useEffect(() => store.setSelected(url.selected), [store, url.selected]);

  const toggle = useCallback((id: string, closed: boolean) => {
    setTouched(true);
    const others = urlIslands.current.filter((choice) => choice.slice(1) !== id);
    navigate({ islands: [...others, `${closed ? "-" : "+"}${id}`], selected: "" }, { replace: true });
  }, []);
  const urlIslands = useRef(url.islands);
  urlIslands.current = url.islands;
  const open = useCallback((id: string) => {
    setTouched(true);
    navigate({ selected: id === store.selected ? "" : id });
  }, [store]);
  const empty = state !== undefined && state.cards.size === 0;
  return (
    <MapStoreContext.Provider value={store}>
      <div className="view">
        <h1 className="unseen">Map</h1>
        <MapTools
          state={state}
          graph={graph}
          newcomers={placed.newcomers}
          onGroup={(group: Group) => navigate({ group, islands: [], selected: "" })}
          onTidy={() => setTidied((n) => n + 1)}
          onIslands={(islands) => navigate({ islands }, { replace: true })}
          onOpen={open}
        />
        <div className="map" data-ready={placement && !placed.working ? "" : undefined}>
          <Canvas
            store={store}
            graph={graph}
            placement={placement}
            turn={placed.turn}
            onToggle={toggle}
            onOpen={open}
            onTouch={setTouched}
          />
          {!placement && !empty && (
            <div className="map-over" role="status">
              <p className="soft">{state ? "Laying out the map…" : "Waiting for flows…"}</p>
            </div>
          )}
          {empty && (
            <div className="map-over">
              <Empty
                title={terms.length > 0
                  ? "No flow matches"
                  : url.window
                  ? "No flow in this window"
                  : "No flow seen yet"}
              >
                <p>
                  {terms.length > 0
                    ? "No flow fits this filter. As soon as one does, its ends stand here."
                    : url.window
                    ? "Choose another window in the strip above, or go back to live."
                    : "As soon as workloads speak to each other, they stand here."}
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
            </div>
          )}
          {placed.fault !== "" && (
            <div className="map-notice">
              <Notice tone="audited">
                <p>The map is not laid out: {placed.fault}. Cards stand in a row.</p>
              </Notice>
            </div>
          )}
          <Legend />
          <ZoomTools onTidy={() => setTidied((n) => n + 1)} />
        </div>
      </div>
      {state && url.selected !== "" && <MapPanel state={state} graph={graph} id={url.selected} />}
    </MapStoreContext.Provider>
  );
}

interface CanvasProps {
  readonly store: MapStore;
  readonly graph: VisibleGraph | undefined;
  readonly placement: Placement | undefined;
  readonly turn: number;
  readonly onToggle: (id: string, closed: boolean) => void;
  readonly onOpen: (id: string) => void;
  readonly onTouch: (touched: boolean) => void;
}

function Canvas({ store, graph, placement, turn, onToggle, onOpen, onTouch }: CanvasProps) {
  const flow = useReactFlow(), flowStore = useStoreApi();
  const root = useRef<HTMLDivElement>(null);
  const edges = useRef<readonly PaintedEdge[]>([]);
  const { selected } = useUrlState();
  const nodes = useMapNodes(graph, placement, { onToggle, onOpen });
  const setEdges = useCallback((painted: readonly PaintedEdge[]) => void (edges.current = painted), []);

  // A whole layout is shown whole.
  useEffect(() => {
    if (!placement || turn === 0) return;
    const bounds = boundsOf(placement);
    if (bounds) flow.fitBounds(bounds, { padding: FIT.padding, duration: 0 }).then(() => limitZoom(flow));
  }, [turn]);

  // All but the neighbours step back, by one attribute: no card is drawn anew for it.
  useEffect(() => {
    const mark = () => {
      const element = root.current;
      if (!element) return;
      const focused = store.near === undefined ? "" : nodes.length > FADED_MAX ? "many" : "few";
      if ((element.dataset.focused ?? "") !== focused) element.dataset.focused = focused;
    };
    mark();
    return store.subscribe(mark);
  }, [store, nodes.length]);

  // The panel takes room: what it is about stays in sight.
  useEffect(() => {
    if (selected === "" || !placement) return;
    const timer = setTimeout(() => showNode(flow, flowStore.getState(), placement, selected), 60);
    return () => clearTimeout(timer);
  }, [selected, turn]);

  const edgeAt = (event: ReactMouseEvent): string => {
    const { x, y } = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
    const reach = EDGE_REACH / flow.getZoom();
    let best = "", nearest = Infinity;
    for (const { edge, shape } of edges.current) {
      const distance = distanceTo(shape, x, y, reach);
      if (distance < nearest) [best, nearest] = [edge.id, distance];
    }
    return best;
  };
  const onKeyDown = (event: ReactKeyboardEvent) => {
    const card = (event.target as HTMLElement).closest<HTMLElement>("[data-node]");
    if (!card || !placement || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = nextCard(placement.nodes, card.dataset.node!, event.key);
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    showNode(flow, flowStore.getState(), placement, next);
    focusNode(root.current, next, FOCUS_FRAMES_MAX);
  };
  return (
    <div
      className="map-canvas"
      ref={root}
      onKeyDownCapture={onKeyDown}
      onPointerDown={() => onTouch(true)}
      onWheel={() => onTouch(true)}
    >
      <ReactFlow
        nodes={nodes}
        nodeTypes={NODE_TYPES}
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        elementsSelectable={false}
        minZoom={0.04}
        maxZoom={2}
        panOnScroll={false}
        zoomOnDoubleClick={false}
        deleteKeyCode={null}
        selectionKeyCode={null}
        multiSelectionKeyCode={null}
        disableKeyboardA11y
        aria-label="Map of workloads"
        proOptions={{ hideAttribution: true }}
        onNodeMouseEnter={(_, node) => store.setFocus(node.type === "island" ? "" : node.id)}
        onNodeMouseLeave={() => store.setFocus("")}
        onPaneMouseMove={(event) => store.setFocus(edgeAt(event))}
        onPaneMouseLeave={() => store.setFocus("")}
        onPaneClick={(event) => {
          const edge = edgeAt(event);
          if (edge !== "") onOpen(edge);
          else if (store.selected !== "") navigate({ selected: "" });
        }}
      >
        <EdgeLayer onPainted={setEdges} />
      </ReactFlow>
    </div>
  );
}

function boundsOf({ nodes, islands }: Placement) {
  const boxes = [...nodes.values(), ...islands.values()];
  if (boxes.length === 0) return undefined;
  const x = Math.min(...boxes.map((box) => box.x)), y = Math.min(...boxes.map((box) => box.y));
  return {
    x,
    y,
    width: Math.max(...boxes.map((box) => box.x + box.width)) - x,
    height: Math.max(...boxes.map((box) => box.y + box.height)) - y,
  };
}

/** A small map is not blown up. */
function limitZoom(flow: ReturnType<typeof useReactFlow>): void {
  if (flow.getZoom() > FIT.maxZoom) flow.zoomTo(FIT.maxZoom);
}

/** Puts the focus on a node, as soon as it stands in the page. */
function focusNode(root: HTMLElement | null, id: string, framesMax: number): void {
  const element = root?.querySelector<HTMLElement>(`[data-node="${CSS.escape(id)}"]`);
  if (element) element.focus({ preventScroll: true });
  else if (framesMax > 0) requestAnimationFrame(() => focusNode(root, id, framesMax - 1));
}

/** Brings a node into view, without zooming, if it is not. */
function showNode(
  flow: ReturnType<typeof useReactFlow>,
  { width, height, transform: [tx, ty, zoom] }: {
    width: number;
    height: number;
    transform: [number, number, number];
  },
  placement: Placement,
  id: string,
): void {
  const box = placement.nodes.get(id);
  if (!box) return;
  const [left, top] = [box.x * zoom + tx, box.y * zoom + ty];
  const inside = left > 0 && top > 0 && left + box.width * zoom < width && top + box.height * zoom < height;
  if (!inside) flow.setCenter(box.x + box.width / 2, box.y + box.height / 2, { zoom, duration: 120 });
}
