/**
 * A card of the map, and the head of an island.
 * @module
 */
import { type NodeProps, type ReactFlowState, useStore } from "@xyflow/react";
import { memo } from "react";
import type { Card, CardKind } from "../../api.ts";
import { formatCount, formatRate } from "../model/number_format.ts";
import { CARD_HEAD, CARD_WIDTH, PORTS_SHOWN_MAX } from "../model/placement.ts";
import {
  AlertIcon,
  BoxIcon,
  ChevronDownIcon,
  ChevronRightIcon,
  CrossIcon,
  GlobeIcon,
  LayersIcon,
  NameIcon,
  ServerIcon,
  TagIcon,
} from "../parts/icons.tsx";
import { hasDrops, useCard, useIslandText, useNear, useSelected } from "./map_store.ts";

/** Below this zoom a card is its name. */
const PORTS_ZOOM = 0.42;

const ICONS: Readonly<Record<CardKind, typeof BoxIcon>> = {
  "workload": BoxIcon,
  "namespace": LayersIcon,
  "label": TagIcon,
  "node": ServerIcon,
  "host": ServerIcon,
  "remote-node": ServerIcon,
  "world": GlobeIcon,
  "cidr": GlobeIcon,
  "dns": NameIcon,
  "service": LayersIcon,
  "kube-apiserver": ServerIcon,
  "unknown": AlertIcon,
  "other": LayersIcon,
};
const KINDS: Readonly<Record<CardKind, string>> = {
  "workload": "Workload",
  "namespace": "Namespace",
  "label": "Label",
  "node": "Node",
  "host": "This node",
  "remote-node": "Other nodes",
  "world": "Outside",
  "cidr": "Outside",
  "dns": "DNS name",
  "service": "Service",
  "kube-apiserver": "API server",
  "unknown": "Not known",
  "other": "More, in one card",
};

/** Words for workloads that are none of Kubernetes. */
const WORKLOADS: Readonly<Record<string, string>> = { "": "Workload", "Endpoint": "Endpoint" };

export function KindIcon({ kind }: { kind: CardKind }) {
  const Icon = ICONS[kind] ?? BoxIcon;
  return <Icon />;
}

/** "Deployment · 3 pods". */
export function kindText(card: Card): string {
  const kind = card.kind === "workload"
    ? WORKLOADS[card.workloadKind] ?? card.workloadKind
    : KINDS[card.kind] ?? card.kind;
  return card.pods > 1 ? `${kind} · ${card.pods} pods` : kind;
}

/** Whether what is on a card can be read: it is large enough, and in sight. Of a thousand cards some become so at once. */
function isReadable(
  { transform: [tx, ty, zoom], width, height }: Pick<ReactFlowState, "transform" | "width" | "height">,
  { positionAbsoluteX: x, positionAbsoluteY: y, width: w = CARD_WIDTH, height: h = CARD_HEAD }: NodeProps,
): boolean {
  return zoom >= PORTS_ZOOM && x * zoom + tx < width && (x + w) * zoom + tx > 0 && y * zoom + ty < height &&
    (y + h) * zoom + ty > 0;
}

export const CardNode = memo(function CardNode(props: NodeProps) {
  const { id, data } = props;
  const { rows, onOpen } = data as unknown as CardNodeData;
  const ports = useStore((state) => isReadable(state, props));
  const card = useCard(id, ports);
  const selected = useSelected(id), near = useNear(id);
  if (!card) return null;
  const dropped = hasDrops(card);
  return (
    <button
      type="button"
      className={`map-card kind-${card.kind}${dropped ? " has-drops" : ""}${near ? " near" : ""}`}
      aria-pressed={selected}
      data-node={id}
      onClick={() => onOpen(id)}
    >
      <span className="map-card-head">
        <KindIcon kind={card.kind} />
        <span className="grow">
          <span className="map-card-name cut">{card.name}</span>
          {ports && <span className="map-card-kind cut">{kindText(card)}</span>}
        </span>
        {dropped && (
          <span className="map-card-drops tone-dropped">
            <CrossIcon />
            <span className="unseen">dropped</span>
            {ports && formatRate(card.droppedIn + card.droppedOut)}
          </span>
        )}
      </span>
      {ports && rows > 0 && <Ports card={card} rows={rows} />}
    </button>
  );
});

export interface CardNodeData {
  /** Lines for ports that the card had room for when it was placed. */
  readonly rows: number;
  readonly onOpen: (id: string) => void;
}

function Ports({ card, rows }: { card: Card; rows: number }) {
  const shown = card.ports.slice(0, Math.min(rows, PORTS_SHOWN_MAX));
  const more = card.ports.length - shown.length;
  return (
    <span className="map-card-ports">
      {shown.map((port, i) => (
        <span className="map-card-port" key={`${port.port}/${port.protocol}`}>
          <span className="number">{port.port === 0 ? port.protocol : port.port}</span>
          <span className="soft cut grow">
            {port.port === 0 ? "" : port.application || port.protocol}
            {i === shown.length - 1 && more > 0 ? ` +${more} more` : ""}
          </span>
          {port.dropped > 0 && (
            <span className="toned tone-dropped" title={`${formatCount(port.dropped)} dropped`}>
              <CrossIcon />
            </span>
          )}
          <span className="number soft">{port.rate > 0 ? formatRate(port.rate) : ""}</span>
        </span>
      ))}
    </span>
  );
}

export interface IslandNodeData {
  readonly onToggle: (id: string, closed: boolean) => void;
}

/** The head of an open island: its name, and the button that closes it. */
export const IslandNode = memo(function IslandNode({ id, data }: NodeProps) {
  const { onToggle } = data as unknown as IslandNodeData;
  const island = useIslandText(id);
  return (
    <div className="map-island-head">
      <button
        type="button"
        aria-expanded="true"
        title="Close this namespace"
        onClick={() => onToggle(id, true)}
      >
        <ChevronDownIcon />
        <span className="cut">{island.name}</span>
        <span className="soft number">{island.cards}</span>
      </button>
    </div>
  );
});

/** A closed island: one box for all its cards. */
export const ClosedIslandNode = memo(function ClosedIslandNode({ id, data }: NodeProps) {
  const { onToggle } = data as unknown as IslandNodeData;
  const island = useIslandText(id), near = useNear(id);
  return (
    <button
      type="button"
      className={`map-card map-closed${island.drops ? " has-drops" : ""}${near ? " near" : ""}`}
      data-node={id}
      aria-expanded="false"
      title="Open this namespace"
      onClick={() => onToggle(id, false)}
    >
      <span className="map-card-head">
        <ChevronRightIcon />
        <span className="grow">
          <span className="map-card-name cut">{island.name}</span>
          <span className="map-card-kind cut">
            {island.cards} {island.cards === 1 ? "workload" : "workloads"}
          </span>
        </span>
        {island.drops && (
          <span className="map-card-drops tone-dropped">
            <CrossIcon />
            drops
          </span>
        )}
      </span>
    </button>
  );
});
