/**
 * What no policy for the host can cut off: DHCP, the tunnel and the nodes' probes, which every node has, and what the node was told of (connections of SSH that
 * are open, the control plane, the API server). The programs look here when policy has said no (lib/failsafe.h).
 *
 * @module
 */
import { IpAddress, ProblemError, protocolName } from "@weir/common";
import {
  type Failsafe,
  FAILSAFE_DHCP,
  FAILSAFE_ESTABLISHED,
  FAILSAFE_HEALTH,
  FAILSAFE_NODES,
  FAILSAFE_TUNNEL,
  FailsafeKey,
  FAILSAFES_MAX,
} from "@weir/maps";
import { FAILSAFES } from "@weir/proto/numbers";
import type { Init } from "@weir/proto";
import type { FailsafeRow, NodeConfig, NodeFailsafe } from "@weir/proto/datapath";
import { hex, mapped, unmapped } from "../kernel/addresses.ts";
import { PROBE_PORT } from "../probes/packet.ts";
import type { Kernel } from "../kernel/kernel.ts";

const TCP = 6, UDP = 17;
const DHCP_CLIENT = 68, DHCP_SERVER = 67, DHCP6_CLIENT = 546, DHCP6_SERVER = 547;
const ANYBODY = new Uint8Array(16);

type Row = readonly [key: FailsafeKey, value: Failsafe];

/** The list in the kernel. */
export class FailsafeStore {
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Makes weir_failsafe follow; counts of rows that stay go on. Repeatable. @throws {ProblemError} FAILSAFE_INVALID, before anything is written */
  apply(config: NodeConfig, tunnelPort: number): void {
    const map = this.#kernel.typed("weir_failsafe");
    const wanted = new Map<string, Row>();
    for (const row of [...ofEveryNode(tunnelPort), ...config.failsafes.map(ofConfig)]) {
      wanted.set(hex(FailsafeKey.encode(row[0])), row);
    }
    if (wanted.size > FAILSAFES_MAX) {
      throw invalid(`${wanted.size} rows`, `at most ${FAILSAFES_MAX}`);
    }
    for (const [key] of map.entries()) if (!wanted.has(hex(FailsafeKey.encode(key)))) map.delete(key);
    for (const [key, value] of wanted.values()) {
      const there = map.get(key);
      const isSame = there && there.kind === value.kind && there.flags === value.flags &&
        there.portSource === value.portSource;
      if (!isSame) map.put(key, value);
    }
  }

  /** The list as it is now. */
  rows(): Init<FailsafeRow>[] {
    return this.#kernel.typed("weir_failsafe").entries().map(([key, value]) => ({
      kind: FAILSAFES.find(({ number }) => number === value.kind)?.text ?? `${value.kind}`,
      direction: key.egress ? "egress" : "ingress",
      protocol: protocolName(key.protocol),
      port: key.port,
      who: value.flags & FAILSAFE_ESTABLISHED
        ? "established connections"
        : value.flags & FAILSAFE_NODES
        ? "nodes"
        : key.address.some((byte) => byte !== 0)
        ? unmapped(key.address)
        : "anybody",
      passed: Number(value.passed),
    })).sort((a, b) =>
      a.kind.localeCompare(b.kind) || a.direction.localeCompare(b.direction) || a.port - b.port
    );
  }
}

function row(
  kind: number,
  [protocol, egress, port]: readonly [protocol: number, egress: boolean, port: number],
  { address = ANYBODY, flags = 0, portSource = 0 }: {
    address?: Uint8Array<ArrayBuffer>;
    flags?: number;
    portSource?: number;
  } = {},
): Row {
  return [
    { address, port, protocol, egress: egress ? 1 : 0 },
    { passed: 0n, kind, flags, portSource },
  ];
}

function* ofEveryNode(tunnelPort: number): Generator<Row> {
  for (const [client, server] of [[DHCP_CLIENT, DHCP_SERVER], [DHCP6_CLIENT, DHCP6_SERVER]]) {
    yield row(FAILSAFE_DHCP, [UDP, true, server], { portSource: client });
    yield row(FAILSAFE_DHCP, [UDP, false, client], { portSource: server });
  }
  for (const egress of [true, false]) {
    yield row(FAILSAFE_HEALTH, [UDP, egress, PROBE_PORT], { flags: FAILSAFE_NODES });
    if (tunnelPort === 0) continue;
    yield row(FAILSAFE_TUNNEL, [UDP, egress, tunnelPort], { flags: FAILSAFE_NODES });
  }
}

function ofConfig({ kind, egress, protocol, port, address, nodes, established }: NodeFailsafe): Row {
  const number = FAILSAFES.find(({ text }) => text === kind)?.number;
  const known = { tcp: TCP, udp: UDP }[protocol.toLowerCase()];
  if (number === undefined) {
    throw invalid(`kind ${kind}`, FAILSAFES.map(({ text }) => text).join(", "));
  }
  if (known === undefined) throw invalid(`protocol ${protocol}`, "tcp or udp");
  if (!(Number.isInteger(port) && port >= 1 && port <= 65_535)) throw invalid(`port ${port}`, "1 to 65535");
  if (address !== "" && IpAddress.tryParse(address) === undefined) {
    throw invalid(`address ${address}`, "an address");
  }
  return row(number, [known, egress, port], {
    address: address === "" ? ANYBODY : mapped(address),
    flags: (nodes ? FAILSAFE_NODES : 0) | (established ? FAILSAFE_ESTABLISHED : 0),
  });
}

function invalid(found: string, expected: string): ProblemError {
  return new ProblemError("FAILSAFE_INVALID", {
    status: 422,
    detail: `Cannot take the fail-safe list of the host: it has ${found}`,
    found,
    expected,
  });
}
