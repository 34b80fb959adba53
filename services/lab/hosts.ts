/**
 * Names of services and pods, for programs inside the lab: a hosts file per namespace that is mounted over /etc/hosts in
 * `lab exec` and for the commands of pods.
 *
 * @module
 */
import type { Service } from "@weir/proto/loadbalancer";
import type { Topology } from "./topology.ts";

/** What of a lab has a name. */
export interface NamedLab {
  readonly options: { readonly topology: Topology };
  readonly pods: readonly {
    readonly manifest: { readonly name: string; readonly namespace: string };
    readonly ipv4?: string;
    readonly ipv6?: string;
  }[];
  readonly services: readonly Service[];
  readonly namespaces: Iterable<string>;
}

/** Whom a name means where several have it: the lowest counts. */
const RANK = { machine: 0, service: 1, ownPod: 2, defaultService: 3, pod: 4, anyPod: 5 } as const;

interface Named {
  readonly addresses: readonly string[];
  readonly names: readonly [name: string, rank: number][];
}

/**
 * The file's text, as programs in `namespace` see it: services as the cluster's DNS has them (SERVICE in their own
 * namespace, SERVICE.NAMESPACE and longer in every one), and what a lab has beyond that, where no service has the name:
 * pods as NAME and NAME.NAMESPACE, services of "default" as NAME, nodes, the outside host.
 */
export function hostsText(lab: NamedLab, namespace = "default"): string {
  const owners: Named[] = [];
  const add = (addresses: (string | undefined)[], names: Named["names"]) => {
    const known = addresses.filter((address) => address !== undefined && /[.:]/.test(address));
    if (known.length > 0) owners.push({ addresses: known as string[], names });
  };
  const { nodes, outside } = lab.options.topology;
  for (const node of nodes) add([node.ipv4, node.ipv6], [[node.name, RANK.machine]]);
  add([outside.ipv4, outside.ipv6], [["outside", RANK.machine]]);
  for (const pod of lab.pods) {
    const { name, namespace: its } = pod.manifest;
    const others = lab.pods.filter((other) => other !== pod && other.manifest.name === name);
    const rank = its === namespace
      ? RANK.ownPod
      : its === "default"
      ? RANK.pod
      : others.length === 0
      ? RANK.anyPod
      : undefined;
    const long: [string, number] = [`${name}.${its}`, RANK.pod];
    add([pod.ipv4, pod.ipv6], rank === undefined ? [long] : [[name, rank], long]);
  }
  for (const { serviceName: name, namespace: its, clusterIps, type } of lab.services) {
    if (type === "HostPort") continue;
    const rank = its === namespace ? RANK.service : its === "default" ? RANK.defaultService : undefined;
    add(clusterIps, [
      ...(rank === undefined ? [] : [[name, rank] as [string, number]]),
      ...[`${name}.${its}`, `${name}.${its}.svc`, `${name}.${its}.svc.cluster.local`]
        .map((each): [string, number] => [each, RANK.service]),
    ]);
  }
  const holders = new Map<string, { rank: number; owner: Named }>();
  for (const owner of owners) {
    for (const [name, rank] of owner.names) {
      const holder = holders.get(name);
      if (holder === undefined || rank < holder.rank) holders.set(name, { rank, owner });
    }
  }
  // A pod has the host's own name; a server that looks it up before it listens would wait for a DNS that is not there.
  const lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", `127.0.1.1 ${Deno.hostname()}`];
  for (const owner of owners) {
    const names = owner.names.map(([name]) => name).filter((name) => holders.get(name)!.owner === owner);
    if (names.length === 0) continue;
    for (const address of owner.addresses) lines.push(`${address} ${names.join(" ")}`);
  }
  return lines.join("\n") + "\n";
}

/** The file that programs in a namespace see; without one, programs on nodes and outside. */
export function hostsPath(path: string, namespace?: string): string {
  return namespace === undefined ? path : `${path}.${namespace}`;
}

/** Writes the files in place: programs have them mounted and would not see others. */
export async function writeHosts(lab: NamedLab, path: string): Promise<void> {
  await Deno.writeTextFile(path, hostsText(lab));
  for (const namespace of lab.namespaces) {
    await Deno.writeTextFile(hostsPath(path, namespace), hostsText(lab, namespace));
  }
}

/** Words that run a command in a pod's namespace with the lab's names. */
export function enterPod(netns: string, hostsFile: string, command: string[]): string[] {
  return [
    "nsenter",
    `--net=/run/netns/${netns}`,
    "--",
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --bind "$0" /etc/hosts && exec "$@"',
    hostsFile,
    ...command,
  ];
}
