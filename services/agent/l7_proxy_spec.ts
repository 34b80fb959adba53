/**
 * How the L7 proxy is started: it listens at the handles' port and connects to handles, which the datapath turns to the real servers. It may
 * run no program, call no library, and connect to no IPv4 address but a handle's. Its control group holds it to handles altogether, and keeps
 * everybody else from them.
 * @module
 */
import { Prefix } from "@weir/common";
import { DATAGRAM } from "@weir/proto/numbers";
import type { AgentConfig } from "./config.ts";
import { l7RecordsSocketOf, type Layout, namesSocketOf, readSocketOf, stateOf } from "./layout.ts";
import type { SpecParts } from "./service_spec.ts";

/** Every address of IPv6: Deno has words for prefixes of IPv4 only (2.9.6). */
export const EVERY_ADDRESS = "::/0";

/** Names of the proxy's processes: "l7-proxy", "l7-proxy-2". */
export function l7ProxyNames({ noL7Proxy, l7ProxyWorkers }: AgentConfig): string[] {
  if (noL7Proxy) return [];
  return Array.from({ length: l7ProxyWorkers }, (_, at) => at === 0 ? "l7-proxy" : `l7-proxy-${at + 1}`);
}

/** Each of its processes, and whom it speaks to. */
export function l7ProxySpecs(config: AgentConfig, layout: Layout): { spec: SpecParts; peers: string[] }[] {
  return l7ProxyNames(config).map((name, at) => specOf(name, at, config, layout));
}

function specOf(
  name: string,
  at: number,
  config: AgentConfig,
  layout: Layout,
): { spec: SpecParts; peers: string[] } {
  const { l7HandlePrefixV4: v4, l7HandlePrefixV6: v6, l7ProxyPort: port, l7DnsDenial } = config;
  const datapath = `unix:${readSocketOf(layout, "datapath")}`, records = `unix:${l7RecordsSocketOf(layout)}`;
  const names = `unix:${namesSocketOf(layout)}`;
  return {
    spec: {
      name,
      role: "node",
      entry: "services/l7-proxy/main.ts",
      privileged: false,
      hasState: true,
      cgroup: layout.proxyCgroup,
      permissions: [
        "--allow-env=WEIR_*",
        "--allow-sys=hostname",
        // Datagrams, and a port that processes share: Deno 2.9.6 has them behind this.
        "--unstable-net",
        // With handles of IPv6 it may speak to every address, of which those of IPv4 are taken away again.
        ...(v6 === "" ? [] : [`--deny-net=${prefixesBeside(v4).join(",")}`]),
      ],
      args: [
        "--state",
        stateOf(layout, name),
        "--port",
        `${port}`,
        // The datapath divides flows of datagrams among these.
        "--datagram-port",
        `${port + at}`,
        ...(config.l7ProxyWorkers > 1 ? ["--shared-port"] : []),
        `--handle-prefix-v4=${v4}`,
        `--handle-prefix-v6=${v6}`,
        "--datapath",
        datapath,
        "--flow-exporter",
        records,
        "--names",
        names,
        "--dns-denial",
        l7DnsDenial,
      ],
    },
    peers: [
      datapath,
      records,
      names,
      ...(v6 === ""
        ? [
          ...[port, DATAGRAM.CLIENT_PORT, DATAGRAM.SERVER_PORT].map((one) => `https://${v4}:${one}`),
          `http://[::]:${port}`,
          `http://0.0.0.0:${port}`,
          ...(at === 0 ? [] : [`http://[::]:${port + at}`, `http://0.0.0.0:${port + at}`]),
        ]
        : [EVERY_ADDRESS]),
    ],
  };
}

/** What the datapath is told of it, by the endpoint manager. */
export function proxyArgs(config: AgentConfig, { uid }: Layout): string[] {
  return [
    "--proxy-port",
    `${config.l7ProxyPort}`,
    "--proxy-uid",
    `${uid}`,
    `--proxy-prefix-v4=${config.l7HandlePrefixV4}`,
    `--proxy-prefix-v6=${config.l7HandlePrefixV6}`,
  ];
}

/** The prefixes that hold every IPv4 address outside of this one; all where it is empty. */
export function prefixesBeside(text: string): string[] {
  if (text === "") return ["0.0.0.0/0"];
  const { address, length } = Prefix.parse(text), bits = address.toBigInt();
  return Array.from({ length }, (_, at) => {
    const other = bits ^ (1n << BigInt(31 - at));
    return Prefix.of(address.add(other - bits), at + 1).text;
  });
}
