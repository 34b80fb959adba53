/**
 * The L7 proxy of the node in the kernel: addresses of handles that are local to it, who may connect to them, and where the proxy
 * listens. Refused where an address of a handle would be somebody's. Somebody may come later, to addresses that handles have: then who was
 * there first stays, connections are judged as before, and what is wrong is said for as long as it is so.
 *
 * @module
 */
import { type Prefix, ProblemError } from "@weir/common";
import type { Config } from "@weir/maps";
import {
  deleteRoute,
  findDevice,
  listAddresses,
  listLocalRoutes,
  listRoutes,
  type NetlinkSocket,
  putRoute,
  type Route,
  ROUTE_PROTOCOL,
} from "@weir/net";
import type { NodeConfig, RemoteNode } from "@weir/proto/datapath";
import { hex, parsePrefix, unmapped } from "../kernel/addresses.ts";
import { cgroupId } from "../kernel/cgroup.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { refuseTakenPorts } from "./proxy_ports.ts";

const PORT_DEFAULT = 15001, SOCKETS_MAX = 64;
/** The number of a handle has 24 bits, 16 of which are its place in the table. */
const V4_BITS_MIN = 8, V4_BITS_MAX = 16, V6_BITS = 64;
/** That programs ask the routing tables about, as nobody's (bpf/lib/local.h). */
const NOBODY = "255.255.255.254/32";

/** What the programs' record says of handles. */
export type HandleConfig = Pick<
  Config,
  "handleIpv4Be" | "handleMaskIpv4" | "handleIpv6" | "proxyUid" | "proxyPort" | "proxySockets" | "proxyCgroup"
>;
/** Nothing goes to a proxy. */
export const NO_HANDLES: HandleConfig = {
  handleIpv4Be: 0,
  handleMaskIpv4: 0,
  handleIpv6: 0n,
  proxyUid: 0,
  proxyPort: 0,
  proxySockets: 0,
  proxyCgroup: 0n,
};

/** Prefixes that somebody has, and who. */
export type Taken = readonly (readonly [prefix: string, whose: string])[];

interface Prefixes {
  v4?: Prefix;
  v6?: Prefix;
}

/** Prefixes of a configuration. @throws {ProblemError} PROXY_INVALID */
function prefixesOf({ proxy }: NodeConfig): Prefixes {
  const [v4, v6] = [proxy?.prefixV4, proxy?.prefixV6].map((text) => text ? parsePrefix(text) : undefined);
  const refuse = (found: string, expected: string) =>
    new ProblemError("PROXY_INVALID", {
      status: 422,
      detail: `Cannot give handles addresses of ${found}`,
      found,
      expected,
    });
  if (v4 && (v4.address.bytes.length !== 4 || v4.length < V4_BITS_MIN || v4.length > V4_BITS_MAX)) {
    throw refuse(v4.text, `an IPv4 prefix of ${V4_BITS_MIN} to ${V4_BITS_MAX} bits`);
  }
  if (v6 && (v6.address.bytes.length !== 16 || v6.length !== V6_BITS)) {
    throw refuse(v6.text, `an IPv6 prefix of ${V6_BITS} bits`);
  }
  return { v4, v6 };
}

/** What the record is to say, but for the control group. Pure. @throws {ProblemError} PROXY_INVALID */
export function handleConfig(config: NodeConfig): HandleConfig {
  const { v4, v6 } = prefixesOf(config);
  if (config.proxy === undefined) return NO_HANDLES;
  const { uid, port, sockets } = config.proxy, proxyPort = port || PORT_DEFAULT;
  if (sockets > SOCKETS_MAX || proxyPort + Math.max(sockets, 1) > 65_536) {
    throw new ProblemError("PROXY_INVALID", {
      status: 422,
      detail: `Cannot have ${sockets} sockets for datagrams at the ports from ${proxyPort} on`,
      found: sockets,
      expected: `at most ${SOCKETS_MAX}, and a port for each`,
    });
  }
  return {
    handleIpv4Be: v4 === undefined ? 0 : new DataView(v4.address.bytes.slice().buffer).getUint32(0),
    handleMaskIpv4: v4 === undefined ? 0 : 2 ** (32 - v4.length) - 1,
    handleIpv6: v6 === undefined ? 0n : new DataView(v6.address.bytes.slice().buffer).getBigUint64(0, true),
    proxyUid: uid,
    proxyPort,
    proxySockets: sockets,
    proxyCgroup: 0n,
  };
}

/** Who has an address that a handle would have, or has already (`areThere`): PROXY_PREFIX_TAKEN. Pure. */
export function handleConflict(
  config: NodeConfig,
  taken: Taken,
  { areThere = false }: { areThere?: boolean } = {},
): ProblemError | undefined {
  const { v4, v6 } = prefixesOf(config);
  for (const own of [v4, v6].filter((prefix) => prefix !== undefined)) {
    for (const [text, whose] of [...taken, [NOBODY, "the programs"]]) {
      if (!overlap(own, parsePrefix(text))) continue;
      return new ProblemError("PROXY_PREFIX_TAKEN", {
        status: 409,
        detail: areThere
          ? `Handles keep the addresses of ${own.text}, and ${whose} has ${text} since: nobody reaches that`
          : `Cannot give handles addresses of ${own.text}: ${whose} has ${text}`,
        found: text,
        expected: "a prefix that nobody has",
        action: `Set another proxy.${own === v4 ? "prefix_v4" : "prefix_v6"} for the node`,
      });
    }
  }
  return undefined;
}

function overlap(a: Prefix, b: Prefix): boolean {
  if (a.address.bytes.length !== b.address.bytes.length || b.length === 0) return false;
  const bits = Math.min(a.length, b.length);
  for (let at = 0; at < bits; at++) {
    const mask = 128 >> (at & 7);
    if ((a.address.bytes[at >> 3] & mask) !== (b.address.bytes[at >> 3] & mask)) return false;
  }
  return true;
}

/** The proxy's handles in the kernel: the record's fields, and local routes on the loopback device. */
export class HandlePrefixes {
  /** What the record says: what the process before wrote, until {@link apply}. */
  #config: HandleConfig = NO_HANDLES;
  readonly #kernel: Kernel;
  readonly #socket: NetlinkSocket;
  readonly #cgroup: string;

  /** @param parts proxyCgroup: path of the control group of the proxy's processes; absent: they have none */
  constructor(
    { kernel, socket, proxyCgroup = "" }: { kernel: Kernel; socket: NetlinkSocket; proxyCgroup?: string },
  ) {
    this.#kernel = kernel;
    this.#socket = socket;
    this.#cgroup = proxyCgroup;
    const before = kernel.config.get(0);
    if (before === undefined) return;
    const { handleIpv4Be, handleMaskIpv4, handleIpv6, proxyUid, proxyPort, proxySockets } = before;
    this.#config = {
      handleIpv4Be,
      handleMaskIpv4,
      handleIpv6,
      proxyUid,
      proxyPort,
      proxySockets,
      proxyCgroup: before.proxyCgroup,
    };
    // Its processes are in another group than those of the agent before, and connect as soon as they are told whose a connection is.
    const now = { ...this.#config };
    if (now.proxyPort !== 0 && this.#setCgroup(now) === undefined) this.#write(now);
  }

  /** Fields of the record. */
  get config(): HandleConfig {
    return this.#config;
  }

  /**
   * Gives handles their addresses, or takes them away. Repeatable: what others have changed since is noticed.
   * @throws {ProblemError} PROXY_INVALID; PROXY_PORT_TAKEN; PROXY_PREFIX_TAKEN, CGROUP_NOT_FOUND: where handles have these addresses already all stays as it is, else
   * there is no proxy, and what L7 rules allow is refused
   */
  apply(config: NodeConfig, remotes: readonly RemoteNode[]): void {
    let trouble: ProblemError | undefined;
    try {
      const handles = handleConfig(config);
      if (config.proxy !== undefined) {
        const areThere = this.#hasAddresses(handles);
        trouble = this.#setCgroup(handles);
        if (trouble !== undefined && handles.proxyCgroup === 0n) throw trouble;
        trouble ??= handleConflict(config, this.#taken(config, remotes), { areThere });
        if (trouble !== undefined && !areThere) throw trouble;
        // Who is sent to an address must find it there.
        this.#route(Object.values(prefixesOf(config)).filter((prefix) => prefix !== undefined));
        refuseTakenPorts(handles);
      }
      this.#write(handles);
      // Since the record says so nobody else binds one; somebody may have just before.
      if (config.proxy !== undefined) refuseTakenPorts(handles);
      if (config.proxy === undefined) this.#route([]);
    } catch (error) {
      this.#write(NO_HANDLES);
      this.#route([]);
      throw error;
    }
    if (trouble !== undefined) throw trouble;
  }

  /** Where it is gone the number of before stays: nobody is in it. @returns what is wrong */
  #setCgroup(handles: HandleConfig): ProblemError | undefined {
    handles.proxyCgroup = 0n;
    if (this.#cgroup === "") return undefined;
    try {
      handles.proxyCgroup = cgroupId(this.#cgroup);
      return undefined;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      handles.proxyCgroup = this.#config.proxyCgroup;
      return error;
    }
  }

  /** Handles have these addresses now. */
  #hasAddresses({ handleIpv4Be, handleMaskIpv4, handleIpv6 }: HandleConfig): boolean {
    const now = this.#config;
    return now.proxyPort !== 0 && now.handleIpv4Be === handleIpv4Be &&
      now.handleMaskIpv4 === handleMaskIpv4 && now.handleIpv6 === handleIpv6;
  }

  #write(handles: HandleConfig): void {
    this.#config = handles;
    const record = this.#kernel.config.get(0);
    if (record !== undefined) this.#kernel.config.put(0, { ...record, ...handles });
  }

  /** Makes these the local prefixes of handles. */
  #route(prefixes: readonly Prefix[]): void {
    const loopback = findDevice(this.#socket, "lo");
    if (loopback === undefined) return;
    const wanted = prefixes.map((prefix): Route => ({
      destination: prefix.address.bytes,
      prefixLength: prefix.length,
      ifindex: loopback.ifindex,
      local: true,
    }));
    const keys = new Set(wanted.map(keyOf)), there = new Set<string>();
    for (const route of listLocalRoutes(this.#socket)) {
      if (keys.has(keyOf(route))) there.add(keyOf(route));
      else deleteRoute(this.#socket, route);
    }
    for (const route of wanted) if (!there.has(keyOf(route))) putRoute(this.#socket, route);
  }

  /** Prefixes in which no handle may have its address, and whose they are. Default routes are nobody's. */
  #taken(config: NodeConfig, remotes: readonly RemoteNode[]): Taken {
    const frontends = this.#kernel.typed("weir_frontends").entries().map(([{ address }]) =>
      unmapped(address)
    );
    const taken: [string, string][] = [
      [config.podCidrV4, "this node's pods"],
      [config.podCidrV6, "this node's pods"],
      ...[config.ipv4, config.ipv6, config.gatewayV4, config.gatewayV6].map((own): [string, string] => [
        own,
        "this node",
      ]),
      ...listAddresses(this.#socket).map(({ bytes }): [string, string] => [addressText(bytes), "this node"]),
      ...remotes.flatMap(({ name, podCidrV4, podCidrV6, ipv4, ipv6 }) =>
        [podCidrV4, podCidrV6, ipv4, ipv6].map((theirs): [string, string] => [theirs, `node ${name}`])
      ),
      ...[...new Set(frontends)].map((address): [string, string] => [address, "a service"]),
      ...listRoutes(this.#socket)
        .filter(({ protocol, prefixLength }) => protocol !== ROUTE_PROTOCOL && prefixLength > 0)
        .map(({ destination, prefixLength }): [string, string] => [
          `${addressText(destination)}/${prefixLength}`,
          "a route of the host",
        ]),
    ];
    // "::": every address of this node, of a NodePort.
    return taken.filter(([text]) => text !== "" && text !== "::" && text !== "0.0.0.0");
  }
}

function keyOf({ destination, prefixLength }: Route): string {
  return `${hex(destination)}/${prefixLength}`;
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return Array.from({ length: 8 }, (_, at) => view.getUint16(at * 2).toString(16)).join(":");
}
