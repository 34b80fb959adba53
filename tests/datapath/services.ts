/** Services in a test node's maps, written in the order in which the datapath service writes them. @module */
import { createMap, MapType, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import type { TestNode } from "./node.ts";
import { address, TCP } from "./packet.ts";

const BPF_F_INNER_MAP = 1 << 12;

export interface BackendSpec {
  id: number;
  address: string;
  port: number;
  /** Default TCP. */
  protocol?: number;
  /** Default BACKEND_ACTIVE. */
  state?: number;
  service?: number;
}
export interface FrontendSpec {
  /** "0.0.0.0" or "::": every address of the node, in that family. */
  address: string;
  /** 0 with protocol 0: every other port. */
  port: number;
  /** Default TCP. */
  protocol?: number;
  service?: number;
  /** Slots of selections; default 0, nobody. */
  internal?: number;
  external?: number;
  flags?: number;
  affinityTimeout?: number;
}

export function setBackend(node: TestNode, spec: BackendSpec): void {
  const record = abi.Backend.encode({
    address: address(spec.address),
    portBe: spec.port,
    protocol: spec.protocol ?? TCP,
    state: spec.state ?? abi.BACKEND_ACTIVE,
    service: spec.service ?? 0,
  });
  node.map("weir_backends").update(u32(spec.id), record);
}

/** A selection of backends, each as likely as it occurs. */
export function setSelection(node: TestNode, slot: number, backends: number[], header = 0): void {
  using inner = createMap({
    type: MapType.ARRAY,
    name: `selection_${slot}`,
    keySize: 4,
    valueSize: 4,
    entriesMax: backends.length + 1,
    flags: BPF_F_INNER_MAP,
  });
  backends.forEach((id, i) => inner.update(u32(i + 1), u32(id)));
  inner.update(u32(0), u32((backends.length | header) >>> 0));
  node.map("weir_selections").update(u32(slot), u32(inner.fd));
}

export function setFrontend(node: TestNode, spec: FrontendSpec): void {
  node.map("weir_frontends").update(
    frontendKey(spec),
    abi.Frontend.encode({
      selections: [spec.internal ?? 0, spec.external ?? 0],
      service: spec.service ?? 0,
      flags: spec.flags ?? 0,
      affinityTimeout: spec.affinityTimeout ?? 0,
      seed: 1,
    }),
  );
  revise(node);
}

export function deleteFrontend(node: TestNode, spec: FrontendSpec): void {
  node.map("weir_frontends").delete(frontendKey(spec));
  revise(node);
}

/** After each change of a frontend. */
function revise(node: TestNode): void {
  const state = node.map("weir_state"),
    { frontendsRevision, ...rest } = abi.State.decode(state.lookup(u32(0))!);
  state.update(u32(0), abi.State.encode({ ...rest, frontendsRevision: frontendsRevision + 1 }));
}

/** What happened to a service, over all CPUs. */
export function serviceCounters(node: TestNode, service: number): abi.ServiceCounters {
  const total: abi.ServiceCounters = { connections: 0n, refused: 0n, packets: 0n, bytes: 0n };
  for (const cpu of node.map("weir_service_counters").lookupPerCpu(u32(service))!) {
    const value = abi.ServiceCounters.decode(cpu);
    for (const name of Object.keys(total) as (keyof abi.ServiceCounters)[]) total[name] += value[name];
  }
  return total;
}

function frontendKey(spec: FrontendSpec): Uint8Array<ArrayBuffer> {
  return abi.FrontendKey.encode({
    address: address(spec.address),
    portBe: spec.port,
    protocol: spec.protocol ?? TCP,
  });
}
