/**
 * kube-proxy's rules in a router of their own: loaded by iptables-restore or nft, as kube-proxy does.
 * @module
 */
import {
  addressOf,
  iptablesAll,
  iptablesChange,
  type KubeService,
  nftablesAll,
  nftablesChange,
  otherBackends,
} from "./kube_rules.ts";
import { inside, must, type Places, SERVER_PORT, SERVER_PORTS } from "./namespaces.ts";
import type { ChangeCost, Path } from "./path.ts";

/** Which program takes the rules. */
export type KubeKind = "iptables-legacy" | "iptables-nft" | "nftables";

/** A path, and what its rules cost to load. */
export interface KubePath extends Path {
  loadMs: number;
  rules: number;
}

const countRules = (text: string) => text.match(/^(-A|add rule|add element) /gm)?.length ?? 0;

/** Loads `count` services with five backends each; the last one leads to the server. */
export async function kubePath(places: Places, kind: KubeKind, count: number): Promise<KubePath> {
  const { client, router, serverAddress } = await places.triple(`${kind[0]}${kind.at(-1)}${count}`);
  const services: KubeService[] = Array.from({ length: count }, (_, i) => ({
    number: i + 1,
    backends: i + 1 < count
      ? otherBackends(i + 1, SERVER_PORTS)
      : Array.from({ length: SERVER_PORTS }, (_, k) => `${serverAddress}:${SERVER_PORT + k}`),
  }));
  const [program, ...words] = kind === "nftables" ? ["nft", "-f", "-"] : [`${kind}-restore`, "--noflush"];
  const apply = async (text: string) => {
    const begun = performance.now();
    const [command, ...args] = [...inside(router), program, ...words];
    await must(command, args, text);
    return performance.now() - begun;
  };
  const all = kind === "nftables" ? nftablesAll(services) : iptablesAll(services);
  const loadMs = await apply(all);
  const probed = services[count - 1];
  const full = probed.backends;
  const change = async (): Promise<ChangeCost> => {
    const gone = probed.backends.length === full.length ? full.slice(-1) : [];
    probed.backends = gone.length > 0 ? full.slice(0, -1) : full;
    const text = kind === "nftables" ? nftablesChange(probed, gone) : iptablesChange(services, probed, gone);
    return { ms: await apply(text), writes: countRules(text) };
  };
  return {
    name: kind,
    client,
    address: addressOf(count),
    port: 80,
    samples: [],
    changes: [],
    change,
    loadMs,
    rules: countRules(all),
  };
}

/** The same three namespaces without any rule. */
export async function routedPath(places: Places): Promise<Path> {
  const { client, serverAddress } = await places.triple("r");
  return {
    name: "routing, no service",
    client,
    address: serverAddress,
    port: SERVER_PORT,
    samples: [],
    changes: [],
  };
}
